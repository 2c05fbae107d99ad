"""What is wrong with a document or a change, told in words, and the exceptions that carry it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dataplane.terminal import printable

#: Where a value stands in a document: keys of mappings and indices of lists, from the top.
Location = tuple[str | int, ...]

SHOWN_LENGTH = 80
#: The word that was meant is looked for among so many: a document may have thousands of mistakes, each compared anew.
COMPARED_MAX = 500


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake. `line` and `column` count from 1, in characters; both are None where the file has no such place.

    `place` is the dotted path, such as ``security_groups[0].security_group_rules[2].priority``; empty for the whole.
    """

    file: str
    line: int | None
    column: int | None
    place: str
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.message}"


class PolicyError(ValueError):
    """A document that is not valid: all its mistakes in the order in which they stand. `str()` is a line for each."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))


class UnfitError(ValueError):
    """A policy, valid by itself, that cannot be in force where it is to be: a sentence that says why."""


class Conflict(NamedTuple):
    """Values that are allowed each by itself and do not go together; `at_key` where the key is what is wrong."""

    location: Location
    message: str
    at_key: bool = False

    def within(self, place: Location) -> Conflict:
        """The conflict as seen from further out."""
        return Conflict(place + self.location, self.message, self.at_key)


class ChangeError(ValueError):
    """A change that is refused whole (SPEC 5.6), or several of a schedule: sentences that say why.

    `conflicts` are the reasons of one change, with their places in it.
    """

    def __init__(self, message: str, conflicts: Iterable[Conflict] = ()) -> None:
        self.conflicts = tuple(conflicts) or (Conflict((), message),)
        super().__init__(message)


def dotted(location: Location) -> str:
    """``("instances", 0, "mac")`` as ``instances[0].mac``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{printable(part)}" if text else printable(part)
    return text


def shown(value: object) -> str:
    """A value as it is named in a message: as JSON writes it, on one line, cut when it is long."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        if len(value) > SHOWN_LENGTH:
            value = f"{value[:SHOWN_LENGTH]}..."
        text = '"' + printable(value.replace("\\", "\\\\").replace('"', '\\"')) + '"'
    elif isinstance(value, int) and abs(value) >= 10**SHOWN_LENGTH:
        text = "a very large number"
    else:
        text = json.dumps(value) if isinstance(value, int | float | None) else printable(str(value))
    return text


def alternatives(words: Iterable[object]) -> str:
    """``a, b or c``."""
    *most, last = [str(word) for word in words]
    return f"{', '.join(most)} or {last}" if most else last


def nearest(word: object, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known word that was probably meant, if any is at least so like it (`cutoff`, 0..1)."""
    if not isinstance(word, str):
        return None
    from difflib import get_close_matches
    from itertools import islice

    by_lower = {name.lower(): name for name in islice(known, COMPARED_MAX)}
    found = get_close_matches(word.lower()[:SHOWN_LENGTH], by_lower, n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else None


def unknown(kind: str, word: str, known: Mapping[str, object]) -> str:
    """The end of a sentence about an id that nothing in `known` (by id) has: ``is no instance of this policy; ...``.

    A name that exactly one of them has leads to its id; else the id that is most like the word is named.
    """
    named = [item_id for item_id, item in known.items() if getattr(item, "name", None) == word]
    if len(named) == 1:
        article = "an" if kind[0] in "aeiou" else "a"
        return f"is the name of {article} {kind}, whose id is needed here: write {shown(named[0])}"
    near = nearest(word, known)
    hint = f"; did you mean {shown(near)}?" if near is not None else ""
    return f"is no {kind} of this policy{hint}"
