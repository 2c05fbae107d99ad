"""A progress bar over captures, on standard error where that is a terminal.

It is drawn from the first tenth of a second on: what is refused before stands on a line of its own.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from dataplane.replay import Captures
from dataplane.terminal import console

#: How often it is moved, in seconds.
_EVERY = 0.1


class CorpusProgress:
    """One bar over all captures of a command, by the bytes of their files, with the rate and the time that is left."""

    def __init__(self, stack: ExitStack, captures: Sequence[str]) -> None:
        """Shows it until the end of the stack's context."""
        self._done = 0
        self._next = time.monotonic() + _EVERY
        self._update: Callable[[int], None] | None = None
        #: Takes the bar away, and standard output back from it; to be called before what is for people is printed.
        self.end: Callable[[], object] = lambda: None
        if not sys.stderr.isatty():
            return
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        bar = Progress(
            "replaying",
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console(sys.stderr),
            transient=True,
        )
        task = bar.add_task("", total=_size(captures))

        def update(done: int) -> None:
            bar.start()
            bar.update(task, completed=done)

        def end() -> None:
            if bar.live.is_started:
                bar.stop()

        stack.callback(end)
        self._update, self.end = update, end

    def of(self, opened: Captures) -> Callable[[], None] | None:
        """What is called after each batch of some of the captures; those of before are done."""
        update = self._update
        if update is None:
            return None
        before = self._done

        def move() -> None:
            now = time.monotonic()
            if now >= self._next:
                self._next = now + _EVERY
                self._done = before + opened.bytes_read()
                update(self._done)

        self._done = before + (_size(opened.paths) or 0)
        return move


def _size(captures: Sequence[str]) -> int | None:
    """The bytes of files; None where there is something else among them."""
    total = 0
    for capture in captures:
        if capture == "-" or not os.path.isfile(capture):
            return None
        total += os.path.getsize(capture)
    return total
