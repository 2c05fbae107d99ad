"""Signals from before the first port is touched until the last is put back: none that can be caught ends the process
in between. SIGTERM and those that mean the same are its end, SIGHUP is a reload, and the others, which ask for nothing
that a firewall does, are ignored. What is left ends it at once: SIGKILL, and faults of the program.

Signals only note what is wanted, and whoever starts or serves looks: nothing is interrupted between a change of an
interface and the note of what it was. During the start that is between two steps, none of which takes long.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

#: From a terminal, a supervisor, a power supply that fails, a limit on processor time.
_STOPPING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGPWR, signal.SIGXCPU})
_FAULTS = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP}
#: What the kernel does on these does not end a process: it is stopped, and goes on, or nothing happens.
_HARMLESS = {
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGSTOP,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGURG,
    signal.SIGWINCH,
}


class StoppedError(Exception):
    """A signal asked for the end before the start was over."""


class Signals:
    """Notes signals while it is entered, in the main thread. A SIGHUP during the start is a reload after it."""

    def __init__(self) -> None:
        self.stop = False
        #: The name of the signal that asked for the end.
        self.stopped_by: str | None = None
        self._reload = False
        self._told: Callable[[], object] = lambda: None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        noted = _STOPPING | {signal.SIGHUP}
        for number in signal.valid_signals() - _FAULTS - _HARMLESS - {signal.SIGKILL}:
            self._before[number] = signal.signal(number, self._note if number in noted else signal.SIG_IGN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def tell(self, told: Callable[[], object]) -> None:
        """From now on `told` is called by each signal, in the main thread, and once now for those of before."""
        self._told = told
        told()

    def take_reload(self) -> bool:
        """Whether a reload is wanted; asked once for each."""
        wanted, self._reload = self._reload, False
        return wanted

    def check(self) -> None:
        """Raises StoppedError when the end is wanted."""
        if self.stop:
            raise StoppedError

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number in _STOPPING:
            self.stop = True
            self.stopped_by = self.stopped_by or signal.Signals(number).name
        else:
            self._reload = True
        self._told()
