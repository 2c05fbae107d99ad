"""Connections of a firewall kept by another one, which can take over: the one replicates, the other stands by.

What has come or changed is found by looking at the table in steps that are bounded, a few times a second, so that no
thread that moves packets does anything for it; what was deleted is told one by one. It goes over TLS, with certificates
on both sides.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataplane.control.tls import TlsError, Validity, own_certificate, trusted, validity

if TYPE_CHECKING:
    from dataplane.live.firewall import Firewall
    from dataplane.live.replication.sender import Sender
    from dataplane.live.replication.standby import Standby

#: A standby has so many connections at a time, with those of which it is not known yet who they are.
CONNECTIONS_MAX = 8

Do = Callable[..., Awaitable[Any]]


class ReplicationError(Exception):
    """An option of replication cannot be meant: one sentence that says why."""


@dataclass(frozen=True, slots=True)
class ReplicationOptions:
    """Where a firewall replicates to, or listens as a standby: one of the two, ``host:port``.

    `certificate` and `private_key` are its own, `authorities` those that sign, or are, the peer's; files in PEM.
    """

    peer: str | None
    listen: str | None
    certificate: Path
    private_key: Path | None
    authorities: Path

    @property
    def option(self) -> str:
        """The option that names the place, and the place."""
        return f"--replicate-to {self.peer}" if self.peer else f"--standby-listen {self.listen}"

    @property
    def place(self) -> tuple[str, int]:
        """The place in two parts. Raises ReplicationError."""
        host, _, port = (self.peer or self.listen or "").rpartition(":")
        if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
            raise ReplicationError(f"{self.option}: an address and a port are needed, as in 192.0.2.1:9478")
        return host.strip("[]"), int(port)

    def context(self) -> ssl.SSLContext:
        """What TLS is spoken with: the peer shows a certificate too. Raises ReplicationError."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if self.peer else ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        # Who has a certificate of these authorities is the peer, whatever address it has at the time.
        made.check_hostname = False
        made.verify_mode = ssl.CERT_REQUIRED
        names = "--replication-cert", "--replication-key"
        try:
            own_certificate(made, names, self.certificate, self.private_key)
            trusted(made, "--replication-ca", self.authorities)
        except TlsError as error:
            raise ReplicationError(str(error)) from None
        return made


@dataclass(frozen=True, slots=True)
class Replication:
    """What is needed for it, open until the end; `listening` is a standby's, `certificate` how long its own holds."""

    place: tuple[str, int]
    context: ssl.SSLContext
    listening: socket.socket | None
    certificate: Validity | None = None

    @classmethod
    def open(cls, options: ReplicationOptions) -> Replication:
        """Reads the files, and opens a standby's place. Raises ReplicationError."""
        place, context = options.place, options.context()
        try:
            certificate = validity("--replication-cert", options.certificate)
        except TlsError as error:
            raise ReplicationError(str(error)) from None
        return cls(place, context, None if options.peer else _listening(options.option, place), certificate)

    def __enter__(self) -> Replication:
        return self

    def __exit__(self, *_: object) -> None:
        if self.listening:
            self.listening.close()

    def begun(self, firewall: Firewall, do: Do) -> Sender | Standby:
        """This firewall's side of it; `do` runs something in the control thread."""
        from dataplane.live.replication.sender import Sender
        from dataplane.live.replication.standby import Standby

        if self.listening:
            return Standby(firewall, do, self.listening, self.context, self.certificate)
        return Sender(firewall, do, self.place, self.context, self.certificate)


def _listening(option: str, place: tuple[str, int]) -> socket.socket:
    """A socket that listens at a place. Raises ReplicationError."""
    try:
        family, _, _, _, where = socket.getaddrinfo(*place, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        made = socket.create_server(where[:2], family=family, backlog=8)
    except (OSError, UnicodeError) as error:
        reason: object = getattr(error, "strerror", None) or error
        if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
            reason = os.strerror(error.errno)
        raise ReplicationError(f"{option}: {reason}: give an address of this host and a free port") from None
    made.setblocking(False)
    return made
