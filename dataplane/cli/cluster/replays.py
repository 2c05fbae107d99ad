"""Captures replayed by a worker, and what came of it brought here."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataplane.cli.interrupt import Interrupt
from dataplane.cli.replayed import Asked, replayed
from dataplane.replay import CaptureError, Summary

if TYPE_CHECKING:
    from dataplane.replay.expectations import Expectations, Failure


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of captures: a summary and the expectations that failed, or why they cannot be opened.

    `files` are what was written, by option, compressed.
    """

    summary: Summary | None
    error: CaptureError | None
    failures: Sequence[Failure]
    files: Mapping[str, bytes]

    @contextmanager
    def written(self) -> Iterator[dict[str, str]]:
        """The files by option, here until the end of the context."""
        from zstandard import ZstdDecompressor

        with tempfile.TemporaryDirectory(prefix="dataplane-") as folder:
            paths = {option: os.path.join(folder, option) for option in self.files}
            for option, data in self.files.items():
                with open(paths[option], "wb") as file:
                    for piece in ZstdDecompressor().read_to_iter(data):
                        file.write(piece)
            yield paths


class _Uninterrupted(Interrupt):
    """Of a worker: who has enough of it gives its work up."""

    def ask(self, stop: Callable[[], None]) -> int | None:  # type: ignore[override]
        return None


def judged(shared: tuple[Asked, Expectations | None], captures: Sequence[str]) -> Judged:
    """Replays captures as they were asked for, through a fresh table. Raises as `replayed`, but for captures."""
    asked, expectations = shared
    held = expectations.again() if expectations else None
    with tempfile.TemporaryDirectory(prefix="dataplane-") as folder:
        # What an output is, its ending says.
        outputs = {
            option: name and os.path.join(folder, option + ("" if name == "-" else Path(name).suffix))
            for option, name in asked.outputs.items()
        }
        try:
            summary = replayed(replace(asked, outputs=outputs), captures, held, _Uninterrupted(), _unseen)
        except CaptureError as error:
            return Judged(None, error, (), {})
        files = {option: _compressed(path) for option, path in outputs.items() if path}
    return Judged(summary, None, held.finish() if held else (), files)


def _unseen(_captures: Any) -> None:
    return None


def _compressed(path: str) -> bytes:
    from zstandard import ZstdCompressor

    made = io.BytesIO()
    with open(path, "rb") as file:
        ZstdCompressor(level=1).copy_stream(file, made)
    return made.getvalue()
