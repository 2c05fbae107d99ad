"""Text put together into plain values, with the place of each.

YAML follows its 1.2 core schema: ``12:34:56:00:00:01``, ``on``, ``no`` and dates are text, and only ``true`` and
``false`` are booleans. libyaml splits the text into events; the values are put together here, where duplicate keys,
deep nesting and aliases that multiply can be seen. Of a JSON text, which the json module has read already, only the
places are found.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, NoReturn

from dataplane.policy.mistakes import Location, Mistake, PolicyError, dotted, shown
from dataplane.terminal import printable

DEPTH_MAX = 64
TOO_DEEP = f"mappings and lists are nested more than {DEPTH_MAX} deep"
#: The most values that aliases may add to those written out.
ALIASED_MAX = 100_000

_NUMBER = re.compile(
    r"(?P<int>[-+]?[0-9]+)|(?P<oct>0o[0-7]+)|(?P<hex>0x[0-9a-fA-F]+)"
    r"|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<inf>[-+]?\.(?:inf|Inf|INF))|(?P<nan>\.(?:nan|NaN|NAN))"
)
_READ: dict[str, Callable[[str], int | float]] = {
    "int": int,
    "oct": lambda text: int(text, 8),
    "hex": lambda text: int(text, 16),
    "float": float,
    "inf": lambda text: float(text.replace(".", "")),
    "nan": lambda _: float("nan"),
}
_WORDS = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
#: A number of more digits is text: no field takes one, and reading it takes long.
_DIGITS_MAX = 300

_TAG = "tag:yaml.org,2002:"
_KINDS: dict[str, type | tuple[type, ...]] = {"null": type(None), "bool": bool, "int": int, "float": (int, float)}

#: What ends a line for libyaml (YAML 1.1, 4.1.4).
_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")

_JSON_TOKEN = re.compile(r'[ \t\n\r]*(?:("[^"\\]*(?:\\.[^"\\]*)*")|([{}\[\]:,])|([^\s{}\[\]:,"]+))', re.DOTALL)


class Place:
    """Where a value begins, line and column from 1; for a mapping or list also where its keys and its parts stand."""

    __slots__ = ("column", "keys", "line", "parts", "text")

    def __init__(self, line: int, column: int, text: str | None = None) -> None:
        #: How a value was written that is no text, where that is known.
        self.text = text
        self.line = line
        self.column = column
        self.keys: dict[str, tuple[int, int]] = {}
        self.parts: dict[str | int, Place] = {}


class _Frame:
    """A mapping or list that is being read; `key` is None where a key comes next, or where its value is dropped."""

    __slots__ = ("anchor", "expects_key", "key", "place", "size", "value")

    def __init__(self, value: dict[str, Any] | list[Any], place: Place, anchor: str | None) -> None:
        self.value = value
        self.place = place
        self.anchor = anchor
        self.expects_key = isinstance(value, dict)
        self.key: str | None = None
        self.size = 1


class Composition:
    """Puts values and their places together in the order in which they are read; keys come as values do.

    `value`, `root` and `mistakes` (duplicate keys, keys that are not text) are the result.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.value: Any = None
        self.root = Place(1, 1)
        self.mistakes: list[Mistake] = []
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, Place, int] | None] = {}
        self._aliased = 0

    @property
    def expects_key(self) -> bool:
        """Whether what comes next is a key."""
        return bool(self._stack) and self._stack[-1].expects_key

    def scalar(self, value: Any, line: int, column: int, anchor: str | None = None, text: str | None = None) -> None:
        """A value without parts; `text` is how one was written that is neither text nor null."""
        place = Place(line, column, text)
        if anchor is not None:
            self._anchors[anchor] = (value, place, 1)
        self._put(value, place, 1)

    def open(self, value: dict[str, Any] | list[Any], line: int, column: int, anchor: str | None = None) -> None:
        """A mapping or list begins; `value` is empty and will be filled."""
        if len(self._stack) == DEPTH_MAX:
            self.refuse(line, column, TOO_DEEP)
        if anchor is not None:
            self._anchors[anchor] = None
        self._stack.append(_Frame(value, Place(line, column), anchor))

    def close(self) -> None:
        """The innermost mapping or list ends."""
        frame = self._stack.pop()
        if frame.anchor is not None:
            self._anchors[frame.anchor] = (frame.value, frame.place, frame.size)
        self._put(frame.value, frame.place, frame.size)

    def alias(self, anchor: str, line: int, column: int) -> None:
        """What an anchor names, once more."""
        if anchor not in self._anchors:
            self.refuse(line, column, f"alias *{printable(anchor)} has no anchor before it")
        target = self._anchors[anchor]
        if target is None:
            self.refuse(line, column, f"alias *{printable(anchor)} stands inside of what it refers to")
        self._aliased += target[2]
        if self._aliased > ALIASED_MAX:
            self.refuse(line, column, f"aliases repeat more than {ALIASED_MAX} values")
        self._put(*target)

    def refuse(self, line: int, column: int, message: str) -> NoReturn:
        """Gives up: PolicyError with what was found so far."""
        raise PolicyError([*self.mistakes, Mistake(self.name, line, column, "", message)])

    def _put(self, value: Any, place: Place, size: int) -> None:
        if not self._stack:
            self.value, self.root = value, place
            return
        frame = self._stack[-1]
        frame.size += size
        if isinstance(frame.value, list):
            frame.place.parts[len(frame.value)] = place
            frame.value.append(value)
        elif frame.expects_key:
            frame.expects_key = False
            frame.key = self._key(frame, value, place)
        else:
            if frame.key is not None:
                frame.place.parts[frame.key] = place
                frame.value[frame.key] = value
            frame.expects_key = True
            frame.key = None

    def _key(self, frame: _Frame, key: Any, place: Place) -> str | None:
        """Notes a key; None where its value is to be dropped."""
        if not isinstance(key, str):
            self._mistake(place, f"key {shown(key)} is not text: keys are the names of fields")
            return None
        if key in frame.place.keys:
            line, _ = frame.place.keys[key]
            self._mistake(place, f"key {shown(key)} is given twice: it stands on line {line} already", key)
            return None
        frame.place.keys[key] = (place.line, place.column)
        return key

    def _mistake(self, place: Place, message: str, *key: str) -> None:
        around: list[str | int] = []
        for frame in self._stack[:-1]:
            if isinstance(frame.value, list):
                around.append(len(frame.value))
            elif frame.key is not None:
                around.append(frame.key)
        location: Location = (*around, *key)
        self.mistakes.append(Mistake(self.name, place.line, place.column, dotted(location), message))


def compose_yaml(text: str, name: str) -> Composition:
    """Reads one YAML document. Raises PolicyError for a text that is none, and for what goes beyond the bounds here."""
    import yaml

    composition = Composition(name)
    end = _end(text)
    try:
        parser = yaml.CSafeLoader(text)
        try:
            _feed(parser, composition, end)
        finally:
            parser.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = min((mark.line + 1, mark.column + 1), end) if mark else (1, 1)
        if "nesting depth" in (error.problem or ""):  # libyaml since 0.2.6 looks ahead and stops at 1,000
            composition.refuse(line, column, TOO_DEEP)
        what = _problem(error, text, mark.index if mark else 0)
        composition.refuse(line, column, f"the YAML cannot be read: {what}")
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        composition.refuse(line, column, f"the YAML cannot be read: {printable(str(error.reason))}")
    return composition


#: What libyaml says, by its beginning, and what to do about it.
_REMEDIES = (
    ("mapping values are not allowed", "begin a new line, or quote text in which a colon and a space stand"),
    ("did not find expected ',' or", "write what is missing, or quote the text before it"),
    ("found unexpected end of stream", "end the quoted text with the quote that it begins with"),
    ("did not find expected '-' indicator", "indent the items of a list alike, each behind a -"),
    ("did not find expected key", "indent the keys of a mapping alike, each as KEY: VALUE"),
    ("did not find expected alphabetic or numeric character", "quote text that begins with & or *"),
    ("found unknown escape character", "write two backslashes for one, or use single quotes"),
    (
        "did not find expected <document start>",
        "the document ends before this: take it out, or open what it closes",
    ),
    ("could not find expected ':'", "write KEY: VALUE, with the value behind a colon and a space"),
    ("found character that cannot start any token", "quote text that begins with it"),
)
_COLON_IN_FLOW = ("did not find expected node content", "found unexpected ':'")
_FLOW_WORD = re.compile(r"[^\s,\[\]{}]*")


def _problem(error: Any, text: str, index: int) -> str:
    """What is wrong at a place of a text that is no YAML, and what to do."""
    problem = error.problem or ""
    if text[index : index + 1] == "\t":
        return "a tab cannot stand here: indent with spaces"
    word = _word(text, index)
    if problem.startswith(_COLON_IN_FLOW) and ":" in word:
        return f"text with a colon is quoted within {{}} and []: write {shown(word)}"
    context = f" {error.context}" if error.context else ""
    remedy = next((f": {told}" for begin, told in _REMEDIES if problem.startswith(begin)), "")
    return f"{printable(problem)}{context}{remedy}"


def _word(text: str, index: int) -> str:
    """The word around a place, as flow collections part them."""
    begin = index
    while begin > 0 and _FLOW_WORD.fullmatch(text[begin - 1]) and text[begin - 1 : begin]:
        begin -= 1
    found = _FLOW_WORD.match(text, begin)
    return found[0] if found else ""


def _end(text: str) -> tuple[int, int]:
    """Line and column behind a text. libyaml ends a comment in the last line by one line more."""
    starts = [0, *(found.end() for found in _LINE_END.finditer(text))]
    return len(starts), len(text) - starts[-1] + 1


def _feed(parser: Any, composition: Composition, end: tuple[int, int]) -> None:
    """Hands one document's events to a composition; none of them is behind `end`."""
    import yaml

    documents = 0
    while parser.check_event():
        event = parser.get_event()
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if line > end[0]:
            line, column = end
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event, composition, line, column)
            written = None if value is None or isinstance(value, str) else event.value
            composition.scalar(value, line, column, event.anchor, written)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            kind = "map" if isinstance(event, yaml.MappingStartEvent) else "seq"
            if event.tag not in (None, "!", _TAG + kind):
                composition.refuse(line, column, f"the tag {printable(event.tag)} is not allowed here")
            composition.open({} if kind == "map" else [], line, column, event.anchor)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            composition.close()
        elif isinstance(event, yaml.AliasEvent):
            composition.alias(event.anchor or "", line, column)
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                composition.refuse(line, column, "a second document begins here: one document a file is allowed")


def _scalar(event: Any, composition: Composition, line: int, column: int) -> Any:
    """A scalar event's value by the core schema."""
    if event.tag is None:
        return plain(event.value) if event.implicit[0] else event.value
    if event.tag in ("!", f"{_TAG}str"):
        return event.value
    kind = _KINDS.get(event.tag.removeprefix(_TAG))
    value = plain(event.value)
    if kind is None or not isinstance(value, kind):
        composition.refuse(line, column, f"the tag {printable(event.tag)} is not allowed for {shown(event.value)}")
    return value


def plain(text: str) -> Any:
    """Text without quotes by the core schema of YAML 1.2 (section 10.3.2)."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789" or len(text) > _DIGITS_MAX:
        return text
    found = _NUMBER.fullmatch(text)
    return _READ[found.lastgroup](text) if found and found.lastgroup else text


def compose_json(text: str, name: str) -> Composition:
    """The places of a JSON text that has been read already; values other than keys are left out."""
    composition = Composition(name)
    starts = [0, *(found.end() for found in re.finditer("\n", text))]
    for token in _JSON_TOKEN.finditer(text):
        quoted, mark, bare = token.groups()
        if mark in (":", ","):
            continue
        offset = token.start(token.lastindex or 0)
        line = bisect_right(starts, offset)
        column = offset - starts[line - 1] + 1
        if mark in ("{", "["):
            composition.open({} if mark == "{" else [], line, column)
        elif mark:
            composition.close()
        else:
            key = json.loads(quoted) if quoted and composition.expects_key else None
            composition.scalar(key, line, column, text=None if bare == "null" else bare)
    return composition
