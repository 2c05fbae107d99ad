"""The Unix socket: a thin transport of the service. JSON, a value a line.

A request is an object with the key `command` and that command's arguments. The answer is
``{"ok": true, "result": ...}`` or ``{"ok": false, "kind": ..., "error": ..., "mistakes": [...]}``, where `kind` is
``refused`` (the request, a policy or a change is not valid), or ``failed`` (it could not be carried out).

Commands that go on first answer ``{"ok": true, "stream": "items"}``, then send ``{"item": ...}`` or
``{"items": [...]}`` as often as there is something, and at the end an answer; ``"stream": "pcapng"`` is followed by a
pcapng file until the connection ends, ``"stream": "state", "bytes": BYTES`` by so many in the form of the state file. A
client ends a stream by closing its side for writing.

A request that is followed by more (`requests.Upload`) is first answered ``{"ok": true, "upload": BYTES}``; then the
client sends these bytes, and the answer comes when they are there. One client at a time does so.

The event loop never waits for a client: what one does not read in time is lost to it alone, and a client that reads
nothing at all is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import json
import os
import socket
import stat
from collections.abc import AsyncGenerator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from dataplane.atomic import remedy
from dataplane.control import audit, requests
from dataplane.control.answers import FAILED, REFUSED, Refusal
from dataplane.control.audit import Asker
from dataplane.control.listener import Listener, Stream
from dataplane.terminal import printable

if TYPE_CHECKING:
    from dataplane.control.following import Following
    from dataplane.control.requests import Request, Upload
    from dataplane.control.service import Service

CLIENTS_MAX = 64
#: A longer request is refused.
REQUEST_BYTES = 1 << 20
_IDLE_SECONDS = 60.0
_WRITE_SECONDS = 30.0
_PIECE_BYTES = 1 << 18
#: Made where it is not there, as it is after each boot.
_RUNTIME_FOLDER = Path("/run/dataplane")
#: The longest name of a Unix socket (unix(7)).
_NAME_BYTES = 107


class ControlError(Exception):
    """The control socket cannot be made: one sentence that says why."""


def control_socket(path: Path, group: str | None = None, *, option: str = "--control") -> socket.socket:
    """A listening socket at `path`, for root alone or also for the members of a group.

    One that a firewall left behind is replaced. `option` is what people name the place with. Raises ControlError.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    is_there = False
    try:
        gid = grp.getgrnam(group).gr_gid if group else -1
        _remove_stale(path, option)
        if path.parent == _RUNTIME_FOLDER:
            path.parent.mkdir(parents=True, exist_ok=True)
        before = os.umask(0o177)
        try:
            made.bind(str(path))
        finally:
            os.umask(before)
        is_there = True
        if group:
            os.chown(path, -1, gid)
            path.chmod(0o660)
        made.listen(CLIENTS_MAX)
    except KeyError:
        made.close()
        raise ControlError(f"there is no group {group}: name one of /etc/group with --group") from None
    except OSError as error:
        made.close()
        if is_there:
            path.unlink(missing_ok=True)
        what = "control socket" if option == "--control" else "socket"
        # Python says so by itself, without a number.
        is_long = len(os.fsencode(path)) > _NAME_BYTES
        todo = f"{_NAME_BYTES} bytes are possible: name a shorter one" if is_long else remedy(error)
        raise ControlError(
            f"{option} {printable(str(path))}: the {what} cannot be made: {error.strerror or error}: {todo}"
        ) from None
    except ControlError:
        made.close()
        raise
    return made


def _remove_stale(path: Path, option: str) -> None:
    """Takes away the socket of a firewall that is gone. Raises ControlError when it is not gone, or no socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ControlError(f"{path} exists and is no socket: name another place with {option}")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:
                path.unlink(missing_ok=True)
                return
            # A queue of clients that is full: somebody listens, and is slow.
            if error.errno != errno.EAGAIN:
                raise
    raise ControlError(f"another firewall listens at {path}: stop it, or name another place with {option}")


class ControlServer:
    """Serves the control socket in the running event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._listener: Listener | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._uploading = False

    def start(self, listening: socket.socket) -> None:
        """Begins to serve clients."""
        full = Refusal(FAILED, f"{CLIENTS_MAX} clients are served already: try later")
        self._listener = Listener(
            listening,
            lambda lost: Stream(self._begun, lost, gives_way=False, limit=REQUEST_BYTES),
            most=CLIENTS_MAX,
            most_of_one=CLIENTS_MAX,
            full=_line(_refused(full)),
        )
        self._listener.start()

    async def close(self) -> None:
        """Takes no more clients, and ends those that there are."""
        if self._listener:
            await self._listener.stop()
            for task in self._clients:
                task.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)
            await self._listener.close()

    # ---- one client ----

    def _begun(self, _: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._accepted(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Client(reader, writer)
        try:
            await self._serve(client)
        except (OSError, TimeoutError, asyncio.CancelledError):
            # It is gone, or does not read.
            pass
        finally:
            if client.is_stuck:
                writer.transport.abort()
            else:
                writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve(self, client: _Client) -> None:
        while True:
            try:
                line = await client.line()
            except ValueError:
                sentence = f"the request is longer than {REQUEST_BYTES:,} bytes"
                audit.refused("request", sentence, client.asker)
                await client.send(_refused(Refusal(REFUSED, sentence)))
                return
            if not line:
                return
            try:
                request = requests.parse_request(line)
            except ValueError as error:
                audit.refused(f"request {line.rstrip().decode(errors='replace')}", error, client.asker)
                await client.send(_refused(self._service.refusal(error)))
                continue
            try:
                await client.send(await self._answer(request, client))
            except _StreamEndedError:
                return
            except (OSError, TimeoutError, asyncio.CancelledError):
                raise
            except Exception as error:
                await client.send(_refused(self._service.refusal(error)))

    async def _answer(self, request: Request, client: _Client) -> dict[str, Any]:
        match request:
            case requests.Connections(action="list"):
                return await self._list(self._service.listed(request), client)
            case requests.Flows(action="list"):
                return await self._list(self._service.listed(request), client)
            case requests.Events() | requests.Drops() | requests.Flows():
                async with self._service.following(request) as following:
                    await client.send({"ok": True, "stream": "items"})
                    return _result({"lost": await _forward(client, following)})
            case requests.Connections(action="export"):
                data = await self._service.exported(request)
                await client.send({"ok": True, "stream": "state", "bytes": len(data)})
                for first in range(0, len(data), _PIECE_BYTES):
                    await client.write(data[first : first + _PIECE_BYTES])
                raise _StreamEndedError
            case requests.ApplyPolicy() | requests.ImportConnections():
                return await self._upload(request, client)
            case requests.Capture():
                async with self._service.following(request) as following:
                    await client.send({"ok": True, "stream": "pcapng"})
                    await _forward(client, following)
                raise _StreamEndedError
        return _result(await self._service.answer(request, client.asker))

    async def _upload(self, request: Upload, client: _Client) -> dict[str, Any]:
        """Takes what follows a request, of one client at a time, so that memory is bounded."""
        if self._uploading:
            return _refused(Refusal(FAILED, "another client is sending a document or connections: try again"))
        self._service.expect(request)
        self._uploading = True
        try:
            await client.send({"ok": True, "upload": request.bytes})
            data = await client.data(request.bytes)
            return _result(await self._service.take(request, data, client.asker))
        finally:
            self._uploading = False

    async def _list(self, listing: AsyncGenerator[list[dict[str, Any]]], client: _Client) -> dict[str, Any]:
        listed = 0
        async with contextlib.aclosing(listing) as batches:
            # The first batch says whether the selection is valid, before the stream begins.
            batch = await anext(batches, None)
            await client.send({"ok": True, "stream": "items"})
            while batch is not None:
                if batch:
                    listed += len(batch)
                    await client.send({"items": batch})
                batch = await anext(batches, None)
        return _result({"listed": listed})


async def _forward(client: _Client, following: Following) -> int:
    """Sends what there is until the client has enough of it; returns how many items are lost to it."""
    ended = asyncio.create_task(client.end())
    taking: asyncio.Task[bytes] | None = None
    try:
        while not ended.done():
            taking = asyncio.create_task(following.take())
            await asyncio.wait({ended, taking}, return_when=asyncio.FIRST_COMPLETED)
            if taking.done():
                await client.write(taking.result())
    finally:
        ended.cancel()
        if taking:
            taking.cancel()
    rest, lost = await following.end()
    await client.write(rest)
    return lost


class _Client:
    """One connection of the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.is_stuck = False
        self.asker = Asker.at(writer.get_extra_info("socket"))

    async def line(self) -> bytes:
        """The next line, empty at the end. Raises ValueError for one that is too long, TimeoutError for none."""
        async with asyncio.timeout(_IDLE_SECONDS):
            return await self._reader.readline()

    async def data(self, length: int) -> bytes:
        """So many bytes. Raises TimeoutError where they do not come, OSError where the client ends before."""
        taken = bytearray()
        while len(taken) < length:
            async with asyncio.timeout(_WRITE_SECONDS):
                piece = await self._reader.read(min(length - len(taken), _PIECE_BYTES))
            if not piece:
                raise ConnectionError
            taken += piece
        return bytes(taken)

    async def end(self) -> None:
        """Waits until the client has closed its side; what it sends until then is not looked at."""
        with contextlib.suppress(OSError):
            while await self._reader.read(4096):
                pass

    async def send(self, value: dict[str, Any]) -> None:
        """Sends a value as a line."""
        await self.write(_line(value))

    async def write(self, data: bytes) -> None:
        """Sends bytes. Raises TimeoutError for a client that does not read."""
        if not data:
            return
        self._writer.write(data)
        try:
            async with asyncio.timeout(_WRITE_SECONDS):
                await self._writer.drain()
        except TimeoutError:
            self.is_stuck = True
            raise


def _line(value: Any) -> bytes:
    try:
        return to_json(value, ensure_ascii=True) + b"\n"
    except ValueError:
        # It takes no halves of surrogate pairs, which a file's name may have.
        return json.dumps(value, separators=(",", ":")).encode() + b"\n"


class _StreamEndedError(Exception):
    """The connection was a stream and ends with it."""


def _result(value: Any) -> dict[str, Any]:
    return {"ok": True, "result": value}


def _refused(refusal: Refusal) -> dict[str, Any]:
    return {"ok": False, **asdict(refusal)}
