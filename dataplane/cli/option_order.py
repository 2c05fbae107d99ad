"""Options that may stand anywhere on the line, though what takes them is a command above that which is called."""

from __future__ import annotations

from collections.abc import Sequence


def option_first(option: str, words: Sequence[str]) -> list[str]:
    """The words with `option`, and its value, before all others; those behind ``--`` are no options."""
    listed = list(words)
    end = listed.index("--") if "--" in listed else len(listed)
    for at, word in enumerate(listed[:end]):
        if word == option and at + 1 == len(listed):
            return [word]
        if word == option or word.startswith(f"{option}="):
            taken = slice(at, at + (2 if word == option else 1))
            return [*listed[taken], *listed[: taken.start], *listed[taken.stop :]]
    return listed
