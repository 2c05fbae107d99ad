"""Where the API is served: sockets, certificates and keys, opened while there are the rights to; behind them uvicorn.

All of it runs in the event loop of who starts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from dataplane.control.keys import KEYS_FILE, Keys, KeysError
from dataplane.control.listener import Listener
from dataplane.control.rest import CLIENTS_MAX, CLIENTS_OF_ONE_MAX
from dataplane.control.rest.connection import Connection, Unreadable, full_answer
from dataplane.control.rest.gate import HEAD_BYTES, App
from dataplane.control.tls import TlsError, Validity, own_certificate, validity
from dataplane.control.unix import ControlError, control_socket
from dataplane.terminal import host_port

_STOP_SECONDS = 2


class ApiPlaceError(Exception):
    """The API cannot be served: one sentence that says why, and what to do. `invalid` where an option is wrong."""

    def __init__(self, sentence: str, *, invalid: bool = False) -> None:
        super().__init__(sentence)
        self.invalid = invalid


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """Where the API is served: each place is ``host:port``, or the path of a Unix socket.

    `option` is what people call the places by. A Unix socket is for root alone, or also for the members of `group`.
    """

    places: tuple[str, ...]
    keys: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    group: str | None = None
    option: str = "--api"


class ApiServers:
    """The places that the API is served at."""

    def __init__(
        self, keys: Keys | None, context: ssl.SSLContext | None = None, certificate: Validity | None = None
    ) -> None:
        self.keys = keys
        self._context = context
        #: How long what it shows holds.
        self.certificate = certificate
        self._sockets: list[socket.socket] = []
        self._paths: list[Path] = []
        self._servers: list[_Server] = []
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def open(cls, options: ApiOptions) -> ApiServers:
        """Opens all places, or none. Raises ApiPlaceError."""
        keys = _keys(options)
        made = cls(keys, *_context(options))
        try:
            for place in options.places:
                made._listen(place, options)
        except BaseException:
            made.discard()
            raise
        return made

    @property
    def names(self) -> list[str]:
        """The places, as they came about."""
        return [_name(listening) for listening in self._sockets]

    def _listen(self, place: str, options: ApiOptions) -> None:
        if is_path(place):
            path = Path(place).absolute()
            try:
                self._sockets.append(control_socket(path, options.group, option=options.option))
            except ControlError as error:
                raise ApiPlaceError(str(error)) from None
            self._paths.append(path)
        else:
            self._sockets.append(_listening(place, options.option))

    async def start(self, app: App) -> None:
        """Begins to serve, in the running event loop."""
        for listening in self._sockets:
            is_unix = listening.family == socket.AF_UNIX
            server = _Server(app, listening, None if is_unix else self._context)
            self._servers.append(server)
            self._tasks.append(asyncio.create_task(server.serve()))
        while not all(server.started or task.done() for server, task in zip(self._servers, self._tasks, strict=True)):
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        """Ends all connections, and gives the places up."""
        for server in self._servers:
            server.should_exit = True
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.discard()

    def discard(self) -> None:
        """Closes what was opened, and takes its names away."""
        for listening in self._sockets:
            listening.close()
        for path in self._paths:
            with contextlib.suppress(OSError):
                path.unlink()
        self._paths = []


def is_path(place: str) -> bool:
    """Whether a place is that of a Unix socket."""
    return "/" in place


def _keys(options: ApiOptions) -> Keys | None:
    if options.keys is None and all(map(is_path, options.places)):
        return None
    path = options.keys or Path(KEYS_FILE)
    try:
        return Keys.load(path)
    except KeysError as error:
        needed = "" if options.keys else f" ({options.option} HOST:PORT needs keys; a Unix socket needs none)"
        raise ApiPlaceError(f"--keys {error}{needed}", invalid=True) from None


def _context(options: ApiOptions) -> tuple[ssl.SSLContext | None, Validity | None]:
    if options.certificate is None:
        if options.private_key is not None:
            raise ApiPlaceError(f"--tls-key {options.private_key}: it needs --tls-cert", invalid=True)
        return None, None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        own_certificate(context, ("--tls-cert", "--tls-key"), options.certificate, options.private_key)
        found = validity("--tls-cert", options.certificate)
    except TlsError as error:
        raise ApiPlaceError(str(error), invalid=True) from None
    return context, found


def _listening(place: str, option: str) -> socket.socket:
    host, _, port = place.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ApiPlaceError(
            f"{option} {place}: an address and a port are needed, as in 127.0.0.1:8774, or the path of a Unix socket",
            invalid=True,
        )
    try:
        family, _, _, _, where = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.create_server(where[:2], family=family, backlog=CLIENTS_MAX)
    except (OSError, UnicodeError) as error:
        reason: object = getattr(error, "strerror", None) or error
        if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
            reason = os.strerror(error.errno)
        raise ApiPlaceError(
            f"{option} {place}: the API cannot be served there: {reason}: give an address of this host and a free port",
            invalid=True,
        ) from None
    made.setblocking(False)
    return made


def _name(listening: socket.socket) -> str:
    where: Any = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return str(where)
    return host_port(*where[:2])


class _Server(uvicorn.Server):
    """A server of one place, which leaves the signals to who started it, and the connections to a listener."""

    def __init__(self, app: App, listening: socket.socket, context: ssl.SSLContext | None) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
        config.load()
        super().__init__(config)
        self._unreadable = Unreadable()
        self._listener = Listener(
            listening,
            self._connection,
            most=CLIENTS_MAX,
            most_of_one=CLIENTS_MAX if listening.family == socket.AF_UNIX else CLIENTS_OF_ONE_MAX,
            context=context,
            full=full_answer(),
        )

    def _connection(self, lost: Callable[[], None]) -> Connection:
        return Connection(self.config, self.server_state, self.lifespan.state, lost, self._unreadable)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to take connections."""
        await self.lifespan.startup()
        self.servers = []
        self._listener.start()
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes no more of them, and gives those that there are some time."""
        await self._listener.stop()
        await super().shutdown(sockets)
        await self._listener.close()
