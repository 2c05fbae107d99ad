"""What a service manager is told (sd_notify): a datagram to the socket that it names in the environment."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


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
