"""What a service manager is told (sd_notify): a datagram to the socket that it names in the environment."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress


def notify(**state: str | int) -> bool:
    """Tells the manager, as in ``notify(READY=1, STATUS="4 ports")``; whether there is one that wants to know.

    sd_notify(3) has the names. A manager that does not listen is no reason to stop: it is not told then.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    # A name that begins with @ is in the abstract namespace, whose names begin with a zero byte.
    address = "\0" + path[1:] if path.startswith("@") else path
    message = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in state.items())
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
        to.sendto(message.encode(), address)
        return True
    return False


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """In what time the manager wants a sign of life from this process (sd_watchdog_enabled(3)); None: it wants none."""
    wanted, by = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (wanted.isascii() and wanted.isdecimal()) or int(wanted) == 0 or by not in ("", str(os.getpid())):
        return None
    return int(wanted) / 1e6


class Reloading:
    """Tells the manager when a reload begins, and that it is over when the last one is that goes on (sd_notify(3)).

    By the time of the clock that is told with its begin (``Type=notify-reload``), the manager knows which reload it is.
    """

    def __init__(self) -> None:
        self._going_on = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self._going_on += 1
        notify(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
        try:
            yield
        finally:
            self._going_on -= 1
            if not self._going_on:
                notify(READY=1)
