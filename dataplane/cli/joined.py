"""What captures that are judged each by itself have written: a file for each, or one that takes the records of all."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, BinaryIO

from dataplane.outputs import OutputError, OutputFile

if TYPE_CHECKING:
    from dataplane.replay.parquet import JoinedParquet

#: Stands for a capture's name in that of an output.
NAME = "{}"
#: Options whose records can be joined to one Parquet file.
JOINED = ("verdicts", "flows")


class CaptureOutputs:
    """Where the outputs of each capture go; `named` are their names by option, for each capture.

    A Parquet file without `NAME` in its name is joined of what all captures wrote, in their order. It is in its place
    behind `keep`. Raises OSError where it cannot be written.
    """

    def __init__(
        self,
        stack: ExitStack,
        outputs: Mapping[str, str | None],
        named: Mapping[str, Mapping[str, str | None]],
    ) -> None:
        self._named = named
        self._joined: dict[str, tuple[str, OutputFile, JoinedParquet]] = {}
        joined = {
            option: name for option in JOINED if (name := outputs.get(option)) and name != "-" and NAME not in name
        }
        if not joined:
            return
        from dataplane.replay.parquet import FLOW_SCHEMA, SCHEMA, JoinedParquet

        for option, name in joined.items():
            output = OutputFile(name)
            stack.callback(output.discard)
            parquet = JoinedParquet(output.path, SCHEMA if option == "verdicts" else FLOW_SCHEMA)
            stack.callback(parquet.close)
            self._joined[option] = name, output, parquet

    @property
    def ordered(self) -> bool:
        """Whether something takes all of the captures, one behind the other."""
        return bool(self._joined) or any("-" in names.values() for names in self._named.values())

    @contextmanager
    def of(self, capture: str) -> Iterator[Mapping[str, str | None]]:
        """The files that a capture writes, by option; what it wrote is where it belongs behind the context."""
        if not self._joined:
            yield self._named[capture]
            return
        with tempfile.TemporaryDirectory(prefix="dataplane-") as folder:
            parts = {option: os.path.join(folder, f"{option}.parquet") for option in self._joined}
            yield {**self._named[capture], **parts}
            for option, part in parts.items():
                if os.path.exists(part):
                    self._join(option, part)

    def put(self, capture: str, written: Mapping[str, str]) -> None:
        """Puts files that were written elsewhere, by option, where the capture's belong. Raises OutputError."""
        for option, path in written.items():
            name = self._named[capture][option]
            assert name is not None
            try:
                if option in self._joined:
                    self._join(option, path)
                elif name == "-":
                    sys.stdout.flush()
                    _copy(path, sys.stdout.buffer)
                else:
                    output = OutputFile(name)
                    try:
                        with output.open() as file:
                            _copy(path, file)
                        output.keep()
                    finally:
                        output.discard()
            except OSError as error:
                raise OutputError(f"{name}: {error.strerror}: it could not be written") from None

    def _join(self, option: str, path: str) -> None:
        name, _, parquet = self._joined[option]
        try:
            parquet.add(path)
        except OSError as error:
            raise OutputError(f"{name}: {error.strerror or error}: the {option} could not be written") from None

    def keep(self) -> None:
        """Finishes what is joined."""
        for _, output, parquet in self._joined.values():
            parquet.close()
            output.keep()


def _copy(path: str, file: BinaryIO) -> None:
    with open(path, "rb") as source:
        shutil.copyfileobj(source, file)
