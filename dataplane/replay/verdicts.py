"""Verdict records written to a file: JSON lines, CSV or Parquet, by the file's ending (SPEC 7).

Lines are made in C, a batch at a time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.lines import BUFFER, LineNames, csv_quote
from dataplane.outputs import OutputFile, close_output
from dataplane.replay.columns import COLUMNS
from dataplane.verdict import Names

if TYPE_CHECKING:
    from dataplane.replay.captures import Captures


class VerdictWriter(Protocol):
    """Takes a replay's records a batch at a time."""

    def write(self, records: Any, flows: Any, seen: Any, n: int, positions: Sequence[int] | None = None) -> None:
        """Takes the first `n` of arrays of `struct dp_record`, `dp_flow` and `dp_seen`; writes those at `positions`.

        Without positions all are written. Packets are counted on from the batch before, all of them.
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

    def __init__(self, file: BinaryIO, names: Names, captures: Captures, *, csv: bool) -> None:
        self._file = file
        self._names = LineNames(names, csv_quote if csv else json.dumps, captures.paths)
        self._new_interfaces = captures.interfaces
        self._interfaces = bytearray()
        self._interface_offsets = [0]
        self._format = lib.DP_TEXT_CSV if csv else lib.DP_TEXT_JSON
        self._buffer = ffi.new("char[]", BUFFER)
        self._first = 1
        self._packet = ffi.new("uint64_t *")
        self._kept_interfaces: tuple[Any, ...] = ()
        if csv:
            file.write(",".join(COLUMNS).encode() + b"\n")

    def write(self, records: Any, flows: Any, seen: Any, n: int, positions: Sequence[int] | None = None) -> None:
        """Writes records as lines."""
        names = self._names.learn()
        self._learn_interfaces()
        for start, stop in _runs(range(n) if positions is None else positions):
            self._packet[0] = self._first + start
            self._write(names, records, flows, seen, start, stop)
        self._first += n

    def _write(self, names: Any, records: Any, flows: Any, seen: Any, done: int, n: int) -> None:
        used = ffi.new("uint64_t *")
        while done < n:
            wrote = check(
                lib.dp_records_text(
                    records + done,
                    flows + done,
                    seen + done,
                    n - done,
                    self._format,
                    names,
                    self._packet,
                    self._buffer,
                    BUFFER,
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
        close_output(self._file)

    def _learn_interfaces(self) -> None:
        known = self._interface_offsets
        new = self._new_interfaces(len(known) - 1)
        if not new and self._kept_interfaces:
            return
        known += list(self._names.append(self._interfaces, new))[1:]
        self._kept_interfaces = (ffi.new("char[]", bytes(self._interfaces)), ffi.new("uint32_t[]", known))
        c = self._names.c
        c.interface_text, c.interface_offset = self._kept_interfaces
        c.n_interfaces = len(known) - 1


def _runs(positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Positions in order as runs from a start to a stop."""
    if isinstance(positions, range):
        yield positions.start, positions.stop
        return
    for _, run in groupby(enumerate(positions), lambda placed: placed[1] - placed[0]):
        (_, first), *others = run
        yield first, first + len(others) + 1
