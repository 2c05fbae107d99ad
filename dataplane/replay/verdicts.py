"""Verdict records written to a file: JSON lines, CSV or Parquet, by the file's ending (SPEC 7).

Lines are made in C, a batch at a time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Protocol

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.outputs import OutputFile
from dataplane.policy.fields import PROTOCOL_NAMES
from dataplane.replay.columns import COLUMNS
from dataplane.verdict import Names

if TYPE_CHECKING:
    from dataplane.replay.captures import Captures

# Lines are written while the cache still has them.
_BUFFER = 1 << 18


class VerdictWriter(Protocol):
    """Takes a replay's records a batch at a time."""

    def write(self, records: Any, flows: Any, seen: Any, n: int) -> None:
        """Writes the first `n` of arrays of `struct dp_record`, `dp_flow` and `dp_seen`.

        Packets are counted on from the batch before.
        """

    def flush(self) -> None:
        """Hands over what was written so far, where the format knows parts."""

    def close(self) -> None:
        """Finishes the file."""


def open_writer(path: str, names: Names, captures: Captures, output: OutputFile | None) -> VerdictWriter:
    """A writer by the ending of `path`: ``.csv``, ``.parquet``, JSON lines for all else and for ``-``.

    `captures` tells where packets were seen, `output` is where it writes; None is standard output.

    Raises OSError where the file cannot be written, ModuleNotFoundError for Parquet without pyarrow.
    """
    ending = Path(path).suffix.lower()
    if ending == ".parquet":
        from dataplane.replay.parquet import ParquetWriter

        return ParquetWriter(output.path if output else path, names, captures.paths, captures.interfaces)
    file = output.open() if output else sys.stdout.buffer
    return TextWriter(file, names, captures, csv=ending == ".csv")


class TextWriter:
    """Records as lines of JSON or CSV."""

    columns: ClassVar[Sequence[str]] = COLUMNS

    def __init__(self, file: BinaryIO, names: Names, captures: Captures | None, *, csv: bool) -> None:
        """Writes to `file`; `captures` is None where the records say nothing of them."""
        self._file = file
        self._names = names
        self._captures = captures.paths if captures else []
        self._new_interfaces = captures.interfaces if captures else None
        self._interfaces = bytearray()
        self._interface_offsets = [0]
        self._format = lib.DP_TEXT_CSV if csv else lib.DP_TEXT_JSON
        self._quote = _csv_quote if csv else json.dumps
        self._buffer = ffi.new("char[]", _BUFFER)
        self._packet = ffi.new("uint64_t *", 1)
        self._known = -1
        self._kept: tuple[Any, ...] = ()
        self._kept_interfaces: tuple[Any, ...] = ()
        self._c_names = ffi.new("struct dp_names *")
        if csv:
            file.write(",".join(self.columns).encode() + b"\n")

    def write(self, records: Any, flows: Any, seen: Any, n: int) -> None:
        """Writes `n` records as lines."""
        self._learn_names()
        self._learn_interfaces()
        used = ffi.new("uint64_t *")
        done = 0
        while done < n:
            wrote = check(
                lib.dp_records_text(
                    records + done,
                    flows + done,
                    seen + done,
                    n - done,
                    self._format,
                    self._c_names,
                    self._packet,
                    self._buffer,
                    _BUFFER,
                    used,
                ),
                "writing verdicts",
            )
            self._file.write(ffi.buffer(self._buffer, used[0]))
            done += wrote

    def flush(self) -> None:
        """Hands over all lines so far."""
        self._file.flush()

    def close(self) -> None:
        """Flushes, and closes the file unless it is standard output."""
        self._file.flush()
        if self._file is not sys.stdout.buffer:
            self._file.close()

    def _learn_names(self) -> None:
        if self._names.version == self._known:
            return
        self._known = self._names.version
        text = bytearray()
        lists = (
            self._names.instances,
            [rule[0] if rule else "" for rule in self._names.rules],
            [rule[1] if rule else "" for rule in self._names.rules],
            self._captures,
        )
        protocols = [*(PROTOCOL_NAMES.get(number, number) for number in range(lib.DP_NAMED_ARP)), "arp"]
        offsets = [self._append(text, words) for words in (*lists, protocols)]
        c_text = ffi.new("char[]", bytes(text))
        self._kept = (c_text, *offsets)
        c = self._c_names
        c.text, c.zone_offset, c.rule_offset, c.group_offset, c.capture_offset, c.protocol_offset = self._kept
        c.n_zones, c.n_rules = len(self._names.instances), len(self._names.rules)
        c.n_captures = len(self._captures)

    def _learn_interfaces(self) -> None:
        known = self._interface_offsets
        new = self._new_interfaces(len(known) - 1) if self._new_interfaces else []
        if not new and self._kept_interfaces:
            return
        known += list(self._append(self._interfaces, new))[1:]
        self._kept_interfaces = (ffi.new("char[]", bytes(self._interfaces)), ffi.new("uint32_t[]", known))
        self._c_names.interface_text, self._c_names.interface_offset = self._kept_interfaces
        self._c_names.n_interfaces = len(known) - 1

    def _append(self, text: bytearray, words: Sequence[str | int]) -> Any:
        offsets = [len(text)]
        for word in words:
            text += (self._quote(word) if isinstance(word, str) else str(word)).encode(errors="surrogateescape")
            offsets.append(len(text))
        return ffi.new("uint32_t[]", offsets)


def _csv_quote(word: str) -> str:
    if any(c in word for c in ',"\r\n'):
        return '"' + word.replace('"', '""') + '"'
    return word
