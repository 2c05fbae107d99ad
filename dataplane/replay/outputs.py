"""What a replay writes: verdict records, flow records, and captures of its frames (SPEC 7, 8.1, 8.2)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dataplane.outputs import OutputFile
from dataplane.replay.captures import Captures

if TYPE_CHECKING:
    from dataplane.plane import Plane
    from dataplane.replay.chosen import Chosen
    from dataplane.replay.flows import FlowLog, FlowWriter
    from dataplane.replay.parquet import ArrowWriter
    from dataplane.replay.run import Observer
    from dataplane.replay.verdicts import VerdictWriter

#: Captures of frames by the option that names them, and the verdicts of the frames that are in each; None is all.
FRAMES: Mapping[str, frozenset[str] | None] = {
    "annotate": None,
    "allowed": frozenset(["allow"]),
    "denied": frozenset(["deny"]),
}


class Outputs:
    """The writers of a replay, and the files that take their places when all are whole.

    `verdicts` names a file of records a packet, `flows` one of records a flow, in `flow_format` or else as its ending
    says, `frames` captures by the keys of FRAMES; ``-`` is standard output, None is nothing. Of packets, those that are
    `chosen` are written; with `arrow` they are kept in memory too, as `table`; `flow_writer` takes the records of flows
    as well. Raises OSError where one cannot be written, and ModuleNotFoundError as `open_writer`. It is made before the
    plane judges the replay's first packet.
    """

    def __init__(
        self,
        plane: Plane,
        captures: Captures,
        *,
        verdicts: str | None = None,
        flows: str | None = None,
        flow_format: str | None = None,
        frames: Mapping[str, str | None],
        chosen: Chosen | None = None,
        arrow: bool = False,
        flow_writer: FlowWriter | None = None,
    ) -> None:
        self._files: list[OutputFile] = []
        self._writers: list[tuple[str, VerdictWriter]] = []
        self._flow_log: FlowLog | None = None
        self._arrow: ArrowWriter | None = None
        self._chosen = chosen
        self._names = plane.names
        self._packets = 0
        names = plane.names
        try:
            if arrow:
                from dataplane.replay.parquet import ArrowWriter

                self._arrow = ArrowWriter(names, captures)
                self._writers.append(("-", self._arrow))
            if verdicts:
                from dataplane.replay.verdicts import open_writer

                output = self._open(verdicts)
                self._writers.append((verdicts, open_writer(verdicts, names, captures, output)))
            if flows or flow_writer:
                from dataplane.replay.flows import FlowLog, FlowWriters, open_flow_writer

                taking = [flow_writer] if flow_writer else []
                if flows:
                    taking.append(open_flow_writer(flows, names, self._open(flows), flow_format))
                self._flow_log = FlowLog(plane, FlowWriters(taking), name=flows or "-")
            wanted = [(path, FRAMES[key]) for key, path in frames.items() if path]
            if wanted:
                from dataplane.replay.annotate import AnnotatedWriter

                opened = [(output.open() if (output := self._open(path)) else sys.stdout.buffer) for path, _ in wanted]
                files = [(file, verdicts) for file, (_, verdicts) in zip(opened, wanted, strict=True)]
                named = ", ".join(path for path, _ in wanted)
                self._writers.append((named, AnnotatedWriter(captures.handle, names, files)))
        except BaseException:
            self.discard()
            raise

    def __bool__(self) -> bool:
        return bool(self._writers)

    @property
    def observers(self) -> Sequence[Observer]:
        """What looks at each batch beside `write`."""
        return [self._flow_log] if self._flow_log else []

    def _open(self, path: str) -> OutputFile | None:
        if path == "-":
            return None
        self._files.append(OutputFile(path))
        return self._files[-1]

    def write(self, records: Any, flows: Any, seen: Any, n: int) -> None:
        """Writes a batch, or what is chosen of it. Raises OSError with the names of the files that could not be."""
        positions = self._chosen.positions(self._packets + 1, n, records, flows, self._names) if self._chosen else None
        self._packets += n
        for path, writer in self._writers:
            try:
                writer.write(records, flows, seen, n, positions)
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from None

    def flush(self) -> None:
        """Hands over what was written so far. Raises OSError as `write`."""
        for path, writer in self._writers:
            try:
                writer.flush()
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from None

    @property
    def table(self) -> Any:
        """The records as a `pyarrow.Table`, after `keep`; None where they were not asked for."""
        return self._arrow.table() if self._arrow else None

    def keep(self) -> None:
        """Finishes all, and puts the files in their places. Raises OSError as `write`."""
        for path, writer in self._writers:
            try:
                writer.close()
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from None
        self._writers.clear()
        if self._flow_log:
            self._flow_log.finish()
            self._leave()
        for file in self._files:
            file.keep()

    def discard(self) -> None:
        """Leaves what was there before as it was; does nothing after `keep`."""
        with suppress(OSError):
            self._leave()
        for path, writer in self._writers:
            if path != "-":
                with suppress(OSError):
                    writer.close()
        for file in self._files:
            file.discard()

    def _leave(self) -> None:
        """Follows the plane no more."""
        if self._flow_log:
            log, self._flow_log = self._flow_log, None
            log.close()
