"""Signals of a firewall: none that can be caught ends it but in order (docs/ports.md, The end)."""

from __future__ import annotations

import os
import signal

import pytest

from dataplane.live.process.signals import Signals

STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGPWR, signal.SIGXCPU}
#: What ends a process at once, stops it for a while, or never does anything to it.
OTHERS = {"KILL", "STOP", "ABRT", "BUS", "FPE", "ILL", "SEGV", "SYS", "TRAP", "TSTP", "TTIN", "TTOU"}


def _name(number: int) -> str:
    return signal.Signals(number).name.removeprefix("SIG") if number in set(signal.Signals) else str(number)


@pytest.mark.parametrize("number", [n for n in sorted(signal.valid_signals()) if _name(n) not in OTHERS])
def test_each_signal_stops_it_in_order_reloads_it_or_is_ignored(number: int) -> None:
    """SIGTERM and its like are the end, SIGHUP a reload, all else nothing."""
    told: list[int] = []
    before = signal.getsignal(number)
    with Signals() as signals:
        signals.tell(lambda: told.append(1))
        os.kill(os.getpid(), number)
        assert signals.stop == (number in STOPPING)
        assert signals.take_reload() == (number == signal.SIGHUP)
        assert len(told) == 1 + (number in STOPPING or number == signal.SIGHUP)
    assert signal.getsignal(number) == before
