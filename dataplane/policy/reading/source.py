"""A document as it was read: its values, its name, and on demand the place of each value in the text.

A JSON text is read by the json module, which is fast, and gone through a second time for places only when something is
wrong with it; any other text is YAML.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from dataplane.policy.mistakes import Location, Mistake, PolicyError, dotted
from dataplane.policy.reading.composer import TOO_DEEP, Place, compose_json, compose_yaml
from dataplane.policy.reading.file_kinds import capture_told
from dataplane.terminal import printable

#: What is longer is no document, and a device may have no end.
DOCUMENT_BYTES_MAX = 1 << 28
_BLANK = " \t\r\n"


class Source:
    """One document: its name, its value, and the mistakes that reading it brought up."""

    def __init__(self, name: str, text: str, value: Any) -> None:
        self.name = name
        self.value = value
        self.mistakes: list[Mistake] = []
        self._text = text
        self._root: Place | None = None

    @classmethod
    def from_yaml(cls, text: str, name: str) -> Source:
        """A YAML text."""
        composition = compose_yaml(text, name)
        source = cls(name, text, composition.value)
        source.mistakes = composition.mistakes
        source._root = composition.root
        return source

    @classmethod
    def from_json(cls, text: str, name: str) -> Source:
        """A JSON text. Raises JSONDecodeError for one that is none."""
        repeated = False

        def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            nonlocal repeated
            made = dict(pairs)
            if len(made) != len(pairs):
                repeated = True
                made = dict(reversed(pairs))
            return made

        try:
            value = json.loads(text, object_pairs_hook=mapping)
        except RecursionError:
            _refuse(name, 1, 1, TOO_DEEP)
        except json.JSONDecodeError:
            raise
        except ValueError:
            # An integer of thousands of digits: no field takes one, whatever its value.
            value = json.loads(text, object_pairs_hook=mapping, parse_int=float)
        source = cls(name, text, value)
        if repeated:
            source.mistakes = compose_json(text, name).mistakes
        return source

    def written(self, location: Location) -> str | None:
        """How a value that is no text was written; None where that is not known."""
        place: Place | None = self._places()
        for part in location:
            place = place.parts.get(part) if place else None
        return place.text if place else None

    def mistake(self, location: Location, message: str, *, at_key: bool = False) -> Mistake:
        """A mistake at a value, or at its key; where there is no such value, at the nearest one around it."""
        place = self._places()
        position = None
        for depth, part in enumerate(location):
            if at_key and depth == len(location) - 1:
                position = place.keys.get(str(part))
            if part not in place.parts:
                break
            place = place.parts[part]
        line, column = position or (place.line, place.column)
        return Mistake(self.name, line, column, dotted(location), message)

    def line(self, location: Location) -> int:
        """The line, from 1, of a value; of the nearest one around it where there is no such value."""
        place = self._places()
        for part in location:
            if part not in place.parts:
                break
            place = place.parts[part]
        return place.line

    def _places(self) -> Place:
        """The place of the whole document; those of a JSON text are looked for when somebody asks."""
        if self._root is None:
            self._root = compose_json(self._text, self.name).root
        return self._root


def read_file(path: str | Path) -> tuple[bytes, str]:
    """A file's bytes and its name; standard input for ``-``. Raises PolicyError for one that cannot be read."""
    name = "<stdin>" if str(path) == "-" else printable(str(path))
    try:
        return document_bytes(path), name
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise PolicyError([Mistake(name, None, None, "", f"the file cannot be read: {reason}")]) from None


def document_bytes(path: str | Path) -> bytes:
    """The bytes of a document, standard input for ``-``. Raises OSError, also where it is longer than any document."""
    if str(path) == "-":
        import sys

        data = sys.stdin.buffer.read(DOCUMENT_BYTES_MAX + 1)
    else:
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, "it is a directory: name a file in it", str(path))
        if stat.S_ISSOCK(kind):
            raise OSError(errno.ENXIO, "it is a socket: name a file", str(path))
        with open(path, "rb") as file:
            data = file.read(DOCUMENT_BYTES_MAX + 1)
    if len(data) > DOCUMENT_BYTES_MAX:
        text = f"it is longer than {DOCUMENT_BYTES_MAX:,} bytes, which no document is: is it the file that was meant?"
        raise OSError(errno.EFBIG, text, str(path))
    return data


def read(data: str | bytes, name: str) -> Source:
    """Reads a YAML or JSON text; one whose name ends in .json must be JSON. Raises PolicyError where that fails."""
    if isinstance(data, bytes) and (told := capture_told(data)):
        raise PolicyError([Mistake(name, None, None, "", told)])
    text = _decoded(data, name)
    body = text.lstrip(_BLANK)
    must_be_json = name.endswith(".json")
    if must_be_json or body[:1] in ("{", "["):
        try:
            return Source.from_json(text, name)
        except json.JSONDecodeError as error:
            # A YAML text may begin with a brace too, but hardly go on with a quote.
            if must_be_json or body[1:].lstrip(_BLANK)[:1] == '"':
                what = error.msg[:1].lower() + error.msg[1:]
                _refuse(name, error.lineno, error.colno, f"the JSON cannot be read: {what}")
    return Source.from_yaml(text, name)


def _decoded(data: str | bytes, name: str) -> str:
    try:
        if isinstance(data, bytes):
            return data.decode("utf-8-sig")
        data.encode()
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode(errors="replace")
        byte = error.object[error.start]
        _refuse(name, *_position(before), f"the text is not UTF-8: byte 0x{byte:02x} cannot stand here")
    except UnicodeEncodeError as error:
        _refuse(name, *_position(error.object[: error.start]), "half of a surrogate pair cannot stand here")
    return data.removeprefix("\ufeff")


def _position(before: str) -> tuple[int, int]:
    """Line and column of what comes after a text."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _refuse(name: str, line: int, column: int, message: str) -> NoReturn:
    raise PolicyError([Mistake(name, line, column, "", message)])
