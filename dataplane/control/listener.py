"""Connections that are taken at a place which strangers reach: so many at a time, of one address too, TLS included.

All of it runs in one event loop. A connection counts from when it is taken until it has ended, its TLS handshake too.
Where all places are taken, the longest open one that gives way is ended for the next; where none does, the next is
turned away.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine
from ipaddress import IPv6Address
from typing import Protocol, cast

from dataplane.control.tls import why_not_spoken

#: A handshake of TLS, and the end of a connection, take no longer.
HANDSHAKE_SECONDS, SHUTDOWN_SECONDS = 10.0, 2.0
#: Pause after the system had no descriptor or memory for a connection.
_PAUSE_SECONDS = 1.0


class Served(Protocol):
    """What serves a connection."""

    @property
    def gives_way(self) -> bool:
        """Whether it may be ended for another connection: nothing is being done for who is at its other end."""


#: Makes what serves a connection, an asyncio.Protocol, which calls what it is given when the connection is lost.
Serve = Callable[[Callable[[], None]], Served]


class Stream(asyncio.StreamReaderProtocol):
    """Serves a connection that is read and written as a stream; it gives way to others where `gives_way` says so.

    `begun` is called with it and both ends; a coroutine that it returns becomes a task. The reader keeps up to twice
    `limit` bytes.
    """

    def __init__(
        self,
        begun: Callable[[Stream, asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None] | None],
        lost: Callable[[], None],
        *,
        gives_way: bool,
        limit: int = 1 << 16,
    ) -> None:
        super().__init__(asyncio.StreamReader(limit), lambda reader, writer: begun(self, reader, writer))
        self.gives_way = gives_way
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost()


class _Place:
    """A connection that was taken."""

    def __init__(self, connection: socket.socket, origin: str) -> None:
        self.connection, self.origin = connection, origin
        self.served: Served | None = None
        self.transport: asyncio.BaseTransport | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def gives_way(self) -> bool:
        return self.served is not None and self.served.gives_way

    def end(self) -> None:
        """Ends the connection at once."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()
            return
        if self.task:
            self.task.cancel()
        if self.served is None:
            # What begins has not begun.
            self.connection.close()


class Listener:
    """Takes connections at a listening socket: `most` at a time, `most_of_one` of one address.

    `context` is what TLS is spoken with. `full` is sent to who is turned away where no TLS is spoken; `failed` is told
    of handshakes that fail: the address and why.
    """

    def __init__(
        self,
        listening: socket.socket,
        serve: Serve,
        *,
        most: int,
        most_of_one: int,
        context: ssl.SSLContext | None = None,
        full: bytes = b"",
        failed: Callable[[str, str], None] | None = None,
    ) -> None:
        self._listening, self._serve, self._context = listening, serve, context
        self._most, self._most_of_one = most, most_of_one
        self._full, self._failed = full, failed
        self._places: list[_Place] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to take connections, in the running event loop."""
        self._listening.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._listening, self._accept)

    async def stop(self) -> None:
        """Takes no more of them; those that there are go on. Without TLS, each of them is being served then."""
        if self._pause:
            self._pause.cancel()
        if self._loop:
            self._loop.remove_reader(self._listening)
            self._loop = None
        if self._context is None:
            await self._have_begun()

    async def close(self) -> None:
        """Ends all connections too."""
        await self.stop()
        for place in list(self._places):
            place.end()
        await self._have_begun()
        # What is aborted is closed by the event loop.
        await asyncio.sleep(0)

    async def _have_begun(self) -> None:
        await asyncio.gather(*(place.task for place in self._places if place.task), return_exceptions=True)

    def _accept(self) -> None:
        """Takes one; the event loop looks after the others before it takes the next."""
        try:
            connection, peer = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            # No descriptor, or no memory.
            assert self._loop
            self._loop.remove_reader(self._listening)
            self._pause = self._loop.call_later(_PAUSE_SECONDS, self.start)
            return
        connection.setblocking(False)
        place = _Place(connection, origin(connection, peer))
        if not self._make_room(place.origin):
            self._turn_away(connection)
            return
        self._places.append(place)
        place.task = asyncio.create_task(self._begin(place, peer))

    def _make_room(self, found: str) -> bool:
        """Whether there is room for one more connection from somewhere; who gives way for it is ended."""
        of_one = [place for place in self._places if place.origin == found]
        crowd = of_one if len(of_one) >= self._most_of_one else self._places
        if crowd is self._places and len(crowd) < self._most:
            return True
        leaving = next((place for place in crowd if place.gives_way), None)
        if leaving is None:
            return False
        leaving.end()
        self._places.remove(leaving)
        return True

    def _turn_away(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if self._full and self._context is None:
                connection.send(self._full)
                connection.shutdown(socket.SHUT_WR)

    async def _begin(self, place: _Place, peer: object) -> None:
        place.served = self._serve(lambda: self._lost(place))
        try:
            place.transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: cast("asyncio.Protocol", place.served),
                place.connection,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if self._context else None,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS if self._context else None,
            )
        except (OSError, asyncio.CancelledError) as error:
            self._lost(place)
            if self._failed and isinstance(error, OSError):
                self._failed(str(peer[0]) if isinstance(peer, tuple) else "", why_not_spoken(error))

    def _lost(self, place: _Place) -> None:
        with contextlib.suppress(ValueError):
            self._places.remove(place)


def origin(connection: socket.socket, peer: object) -> str:
    """Who is counted as one: an address, of IPv6 its /64, which one machine has all of; all of a Unix socket."""
    if connection.family == socket.AF_INET6 and isinstance(peer, tuple):
        return same_origin(str(peer[0]))
    return str(peer[0]) if isinstance(peer, tuple) else ""


def same_origin(address: str) -> str:
    """An address, of IPv6 its /64; an IPv4 address that is mapped is itself."""
    try:
        found = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(IPv6Address(int(found) >> 64 << 64))
