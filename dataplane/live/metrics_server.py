"""The server of metrics: HTTP for whoever scrapes, bounded in clients, bytes and time.

Connections are read and written by the event loop, so that one costs a descriptor and no thread; what a request says
and what is answered is the standard library's (wsgiref) and prometheus-client's. Whoever is silent gives way: when all
places are taken, the longest open connection without a whole request is ended for the next one, else the longest open.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler

from dataplane.live.bounded_log import BoundedLog

CLIENTS_MAX = 16
HEAD_BYTES = 8192
REQUEST_SECONDS = 10.0
ANSWER_SECONDS = 30.0

_ENDS = (b"\r\n\r\n", b"\n\n")
_TOO_LARGE = b"HTTP/1.0 431 Request Header Fields Too Large\r\nContent-Length: 0\r\n\r\n"
#: Pause after the system had no descriptor or memory for a connection.
_PAUSE_SECONDS = 1.0

_ENVIRON = {"SERVER_NAME": "", "SERVER_PORT": "", "SCRIPT_NAME": ""}
#: What a client still sends when its answer is there is read for so long, or the system would take the answer back.
_LINGER_SECONDS = 1.0

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

log = logging.getLogger("dataplane")


class _Place:
    """A connection that is served."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.has_asked = False
        self.task: asyncio.Task[None] | None = None


class ScrapeServer:
    """Serves a WSGI application at a listening socket that does not block, a request a connection."""

    def __init__(self, app: App) -> None:
        self._app = app
        # One answer is made at a time: what is waited for is the control thread.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._log = BoundedLog(log)
        self._places: list[_Place] = []
        self._accepting: asyncio.Task[None] | None = None

    def start(self, listening: socket.socket) -> None:
        """Begins to serve, in the running event loop."""
        self._accepting = asyncio.create_task(self._accept(listening))

    async def close(self) -> None:
        """Ends the server and all connections; an answer that is being made is not waited for."""
        tasks = [place.task for place in self._places if place.task]
        if self._accepting:
            tasks.append(self._accepting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # One that was cancelled before it began has closed nothing.
        for place in self._places:
            place.connection.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError:
                # No descriptor, no memory, or a client that was gone at once.
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            connection.setblocking(False)
            if len(self._places) >= CLIENTS_MAX:
                await self._make_room()
            place = _Place(connection)
            self._places.append(place)
            place.task = asyncio.create_task(self._serve(place))

    async def _make_room(self) -> None:
        leaving = next((place for place in self._places if not place.has_asked), self._places[0])
        if leaving.task:
            leaving.task.cancel()
            await asyncio.gather(leaving.task, return_exceptions=True)
        if leaving in self._places:
            self._places.remove(leaving)
            leaving.connection.close()

    async def _serve(self, place: _Place) -> None:
        loop = asyncio.get_running_loop()
        with place.connection as connection, contextlib.suppress(OSError, TimeoutError):
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    head = await _head(loop, connection)
                if not head:
                    return
                place.has_asked = True
                answer = _TOO_LARGE
                if len(head) <= HEAD_BYTES:
                    answer = await loop.run_in_executor(self._thread, _answer, self._app, head, self._log)
                async with asyncio.timeout(ANSWER_SECONDS):
                    await loop.sock_sendall(connection, answer)
                connection.shutdown(socket.SHUT_WR)
                async with asyncio.timeout(_LINGER_SECONDS):
                    while await loop.sock_recv(connection, 4096):
                        pass
            finally:
                with contextlib.suppress(ValueError):
                    self._places.remove(place)


async def _head(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
    """A request up to its empty line; more than HEAD_BYTES where that does not come, nothing where the client left."""
    head = b""
    while len(head) <= HEAD_BYTES and not any(end in head for end in _ENDS):
        data = await loop.sock_recv(connection, 4096)
        if not data:
            return b""
        head += data
    return head


class _Handler(WSGIRequestHandler):
    """One request that is there already, answered into memory."""

    def __init__(self, app: App, head: bytes) -> None:
        # Not that of the library, which would read and write a socket at once.
        self.rfile = io.BufferedReader(io.BytesIO(head))
        self.wfile = self.answer = io.BytesIO()
        self.client_address = ("", 0)
        self.server: Any = SimpleNamespace(base_environ=_ENVIRON, get_app=lambda: app)
        self.errors = io.StringIO()

    def get_stderr(self) -> Any:
        return self.errors

    def log_message(self, *arguments: Any) -> None:
        """Requests are not logged: their number is the clients' choice."""


def _answer(app: App, head: bytes, log: BoundedLog) -> bytes:
    handler = _Handler(app, head)
    handler.handle()
    said = handler.errors.getvalue().strip()
    if said:
        log.say(logging.WARNING, "metrics", f"metrics could not be read: {said.splitlines()[-1]}")
    return handler.answer.getvalue()
