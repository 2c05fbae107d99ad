"""Ctrl-C and its like end the reading of captures, not the process: what was seen is still reported."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """What came of the first of these signals; a second one ends the process as if nobody had asked for it."""

    def __init__(self) -> None:
        self.status = 0
        self._wake: int | None = None
        self._stop: Callable[[], None] = lambda: None

    def ask(self, stop: Callable[[], None]) -> int:
        """Has `stop` called by a signal, from now on in place of others. Returns a descriptor to wait with, which is
        readable once one has come.
        """
        self._stop = stop
        if self._wake is not None:
            return self._wake
        self._wake, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._came)
        return self._wake

    def _came(self, number: int, _: FrameType | None) -> None:
        for one in _SIGNALS:
            with suppress(ValueError):
                signal.signal(one, signal.SIG_DFL)
        self.status = 128 + number
        self._stop()
