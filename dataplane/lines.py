"""Records as lines of text, which C makes a batch at a time: the names that they need, and flow records (SPEC 8.2)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.flow import FIELDS
from dataplane.policy.fields import PROTOCOL_NAMES
from dataplane.verdict import Names

# Lines are written while the cache still has them.
BUFFER = 1 << 18


class LineNames:
    """A `struct dp_names` that follows names, each of which `quote` makes ready for the format."""

    def __init__(self, names: Names, quote: Callable[[str], str], captures: Sequence[str] = ()) -> None:
        self.c = ffi.new("struct dp_names *")
        self._names = names
        self._quote = quote
        self._captures = captures
        self._known = -1
        self._kept: tuple[Any, ...] = ()

    def learn(self) -> Any:
        """The names as they are now."""
        if self._names.version == self._known:
            return self.c
        self._known = self._names.version
        text = bytearray()
        lists = (
            self._names.instances,
            [rule[0] if rule else "" for rule in self._names.rules],
            [rule[1] if rule else "" for rule in self._names.rules],
            self._captures,
        )
        protocols = [*(PROTOCOL_NAMES.get(number, number) for number in range(lib.DP_NAMED_ARP)), "arp"]
        offsets = [self.append(text, words) for words in (*lists, protocols)]
        self._kept = (ffi.new("char[]", bytes(text)), *offsets)
        c = self.c
        c.text, c.zone_offset, c.rule_offset, c.group_offset, c.capture_offset, c.protocol_offset = self._kept
        c.n_zones, c.n_rules = len(self._names.instances), len(self._names.rules)
        c.n_captures = len(self._captures)
        return c

    def append(self, text: bytearray, words: Sequence[str | int]) -> Any:
        """Adds words to a text; where each begins, and the last ends."""
        offsets = [len(text)]
        for word in words:
            text += (self._quote(word) if isinstance(word, str) else str(word)).encode(errors="surrogateescape")
            offsets.append(len(text))
        return ffi.new("uint32_t[]", offsets)


def csv_quote(word: str) -> str:
    """A word as a field of CSV."""
    if any(c in word for c in ',"\r\n'):
        return '"' + word.replace('"', '""') + '"'
    return word


class FlowFormat(NamedTuple):
    """A form of flow records: its number in C, how names are written in it, what stands at the begin of a file, and by
    which beginnings a file of it is known.
    """

    number: int
    quote: Callable[[str], str]
    begins: tuple[bytes, ...]
    header: bytes = b""


def _as_word(word: str) -> str:
    """A name where fields end at spaces."""
    return re.sub(r"\s", "_", word) or "-"


_VPC = (
    b"version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action"
    b" log-status"
)
_CSV = ",".join(FIELDS).encode()

#: By the words of ``--flow-format``.
FLOW_FORMATS = {
    "json": FlowFormat(lib.DP_TEXT_JSON, json.dumps, (b'{"instance": ',)),
    "csv": FlowFormat(lib.DP_TEXT_CSV, csv_quote, (_CSV,), _CSV + b"\n"),
    "aws": FlowFormat(lib.DP_TEXT_AWS, _as_word, (_VPC[:19], b"2 "), _VPC + b"\n"),
    "huawei": FlowFormat(lib.DP_TEXT_HUAWEI, _as_word, (b"1 ",)),
}


class FlowLines:
    """Flow records as lines of one format, handed to `write` some at a time, with how many records they are."""

    def __init__(self, names: Names, form: FlowFormat, write: Callable[[bytes, int], object]) -> None:
        self._form = form
        self._names = LineNames(names, form.quote)
        self._write = write
        self._buffer = ffi.new("char[]", BUFFER)

    def put(self, flows: Any, n: int) -> None:
        """Writes the first `n` of an array of `struct dp_flow_record`."""
        names = self._names.learn()
        used = ffi.new("uint64_t *")
        done = 0
        while done < n:
            wrote = check(
                lib.dp_flow_records_text(flows + done, n - done, self._form.number, names, self._buffer, BUFFER, used),
                "writing flows",
            )
            self._write(bytes(ffi.buffer(self._buffer, used[0])), wrote)
            done += wrote
