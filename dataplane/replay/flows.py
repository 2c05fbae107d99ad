"""Flow records of a replay written to a file: JSON lines, CSV or Parquet, by the file's ending (SPEC 8.2).

The packets are gathered by flow in C, a batch at a time; Python sees flows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.lines import FLOW_FORMATS, FlowFormat, FlowLines
from dataplane.outputs import OutputFile, close_output
from dataplane.plane import Plane
from dataplane.verdict import Names

#: Denied flows and ended connections that are kept: up to so many, all flows are written in the order of their first
#: packets.
KEPT = 1 << 18
_BATCH = 4096


class FlowWriter(Protocol):
    """Takes records as they are given out."""

    def write_flows(self, flows: Any, n: int, names: Names) -> None:
        """Writes the first `n` of an array of `struct dp_flow_record`."""

    def close(self) -> None:
        """Finishes the file."""


def _free(_engine: object, log: Any) -> None:
    """Frees a log while the engine that it follows is there."""
    lib.dp_flow_log_free(log)


class FlowLog:
    """Gathers the packets of a replay by flow; an observer of `Replay`, made before its first packet.

    Records go to `writer` once they are given out: ended connections and the denied flows that were silent longest as
    soon as there are more than `kept` of these, all others by `finish`, in the order of their first packets.
    """

    def __init__(self, plane: Plane, writer: FlowWriter, *, name: str = "-", kept: int = KEPT) -> None:
        """Follows `plane`; an OSError of the writer has `name` as its file."""
        out = ffi.new("struct dp_flow_log **")
        check(lib.dp_flow_log_new(plane.handle, kept, out), "making the flow log")
        self._handle: Any = ffi.gc(out[0], partial(_free, plane.handle))
        self._names = plane.names
        self._writer = writer
        self._name = name
        self._array = ffi.new("struct dp_flow_record[]", _BATCH)

    def observe(self, _first_packet: int, n: int, records: Any, flows: Any, names: Names) -> None:
        """Adds a batch of records (`Observer`)."""
        self._names = names
        check(lib.dp_flow_log_add(self._handle, records, flows, n), "gathering flows")
        self._write()

    def finish(self) -> None:
        """Writes all that is left; no more packets come."""
        check(lib.dp_flow_log_finish(self._handle), "gathering flows")
        self._write()

    def close(self) -> None:
        """Leaves the plane and finishes the file."""
        self._handle = None
        with self._named():
            self._writer.close()

    def _write(self) -> None:
        while n := check(lib.dp_flow_log_take(self._handle, self._array, _BATCH), "taking flows"):
            with self._named():
                self._writer.write_flows(self._array, n, self._names)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._name) from None


def open_flow_writer(path: str, names: Names, output: OutputFile | None, form: str | None = None) -> FlowWriter:
    """A writer of a format, or else by the ending of `path`: ``.csv``, ``.parquet``, JSON lines for all else.

    `output` is where it writes; None is standard output. Raises OSError where the file cannot be written,
    ModuleNotFoundError for Parquet without pyarrow.
    """
    ending = Path(path).suffix.lower()
    if form is None and ending == ".parquet":
        from dataplane.replay.parquet import FlowParquetWriter

        return FlowParquetWriter(output.path if output else path)
    file = output.open() if output else sys.stdout.buffer
    return FlowTextWriter(file, names, FLOW_FORMATS[form or ("csv" if ending == ".csv" else "json")])


class FlowWriters:
    """Several that take the same records."""

    def __init__(self, writers: Sequence[FlowWriter]) -> None:
        self._writers = writers

    def write_flows(self, flows: Any, n: int, names: Names) -> None:
        """Has each write the first `n`."""
        for writer in self._writers:
            writer.write_flows(flows, n, names)

    def close(self) -> None:
        """Finishes all."""
        for writer in self._writers:
            writer.close()


class FlowTextWriter:
    """Flow records as lines of a format."""

    def __init__(self, file: BinaryIO, names: Names, form: FlowFormat) -> None:
        self._file = file
        self._lines = FlowLines(names, form, lambda lines, _: file.write(lines))
        file.write(form.header)

    def write_flows(self, flows: Any, n: int, _names: Names) -> None:
        """Writes the first `n`."""
        self._lines.put(flows, n)

    def close(self) -> None:
        """Flushes, and closes the file unless it is standard output."""
        close_output(self._file)
