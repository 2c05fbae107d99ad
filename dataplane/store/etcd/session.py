"""One run of a host: it has its name alone, as long as its lease lasts.

It says where it runs, so that one that has ended without a word is told from one that goes on elsewhere under the same
name: by a mistake, or since a machine was cloned.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dataplane.store import kept
from dataplane.terminal import printable

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Session:
    """A process that speaks for a host: `pid` in a PID `namespace`, which began so many ticks after the `boot`.

    `address` is the one that it asks etcd from; it is there `since` so many seconds since 1970.
    """

    id: str
    address: str
    pid: int
    began: int
    namespace: int
    boot: str
    since: float

    @classmethod
    def of_this_process(cls, members: tuple[tuple[str, int], ...]) -> Session:
        """A new one, of who asks these members."""
        pid = os.getpid()
        boot, namespace = "", 0
        with contextlib.suppress(OSError):
            boot, namespace = _BOOT.read_text(encoding="ascii").strip(), Path("/proc/self/ns/pid").stat().st_ino
        return cls(secrets.token_hex(8), _address(members), pid, _began(pid) or 0, namespace, boot, time.time())

    @classmethod
    def of(cls, body: dict[str, Any]) -> Session:
        """As it is kept. Raises ValueError and its like."""
        name, address, boot = (kept.text(body[part]) for part in ("id", "address", "boot"))
        pid, began, namespace = (kept.integer(body[part]) for part in ("pid", "began", "namespace"))
        return cls(name, address, pid, began, namespace, boot, kept.number(body["since"]))

    def body(self) -> dict[str, Any]:
        """As it is kept."""
        return asdict(self)

    def has_ended(self, here: Session) -> bool:
        """Whether it is certain that its process is gone: it was one of the machine that another one runs on."""
        if not self.boot or (self.boot, self.namespace, self.address) != (here.boot, here.namespace, here.address):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            pass
        began = _began(self.pid)
        return began is not None and began != self.began

    def words(self) -> str:
        """Where it runs, and since when."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.since))
        return printable(f"{self.address}, process {self.pid}, since {since}, boot {self.boot[:8] or 'unknown'}")


def _address(members: tuple[tuple[str, int], ...]) -> str:
    """The address of this machine toward the first member that has a way; nothing is sent for that."""
    for host, port in members:
        with contextlib.suppress(OSError):
            family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind, protocol) as asked:
                asked.connect(place)
                return str(asked.getsockname()[0])
    return "unknown"


def _began(pid: int) -> int | None:
    """When a process began, in ticks since the boot; 0 of one that is dead and was not waited for, None if not told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
