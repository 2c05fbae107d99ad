"""The server of the control socket.

Clients are served by an event loop that never waits for one of them: what reads or changes the firewall runs in the one
control thread, in the order of the requests; what a client does not read in time is lost to it alone, and a client that
reads nothing at all is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import to_json

from dataplane._core.errors import DataPlaneError
from dataplane.live import audit, protocol, state
from dataplane.live.audit import NOBODY, Asker
from dataplane.live.capture import Capture
from dataplane.live.feed import ConnectionEvents, Drops, Feed, Subscription
from dataplane.live.ports import PortError
from dataplane.policy import PolicyError
from dataplane.policy.write import document

if TYPE_CHECKING:
    from dataplane.live.operations import Operations

log = logging.getLogger("dataplane")
T = TypeVar("T")

CLIENTS_MAX = 64
_IDLE_SECONDS = 60.0
_WRITE_SECONDS = 30.0
#: Pause between two readings of a feed of drops, so that a flood of them costs little.
_PAUSE_SECONDS = 0.05


class ControlError(Exception):
    """The control socket cannot be made: one sentence that says why."""


def control_socket(path: Path, group: str | None = None) -> socket.socket:
    """A listening socket at `path`, for root alone or also for the members of a group.

    One that a firewall left behind is replaced. Raises ControlError.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    is_there = False
    try:
        gid = grp.getgrnam(group).gr_gid if group else -1
        _remove_stale(path)
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
        raise ControlError(f"{path}: the control socket cannot be made: {error.strerror or error}") from None
    except ControlError:
        made.close()
        raise
    return made


def _remove_stale(path: Path) -> None:
    """Takes away the socket of a firewall that is gone. Raises ControlError when it is not gone, or no socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ControlError(f"{path} exists and is no socket: name another place with --control")
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
    raise ControlError(f"another firewall listens at {path}: stop it, or name another place with --control")


class ControlServer:
    """Serves the control socket in the running event loop; `control` runs what it is given in the control thread."""

    def __init__(self, operations: Operations, control: Executor) -> None:
        self._operations = operations
        self._firewall = operations.firewall
        self._control = control
        self._feed = Feed(operations.firewall)
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._pump: asyncio.Task[None] | None = None
        self._readers = 0

    async def start(self, listening: socket.socket) -> None:
        """Begins to serve clients."""
        self._server = await asyncio.start_unix_server(self._accepted, sock=listening, limit=protocol.REQUEST_BYTES)

    async def close(self) -> None:
        """Ends all clients and the server."""
        if self._server:
            self._server.close()
        tasks = [*self._clients, *([self._pump] if self._pump else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def do(self, function: Callable[..., T], *arguments: Any) -> T:
        """Runs a function in the control thread."""
        return await asyncio.get_running_loop().run_in_executor(self._control, function, *arguments)

    # ---- one client ----

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._clients.add(task)
        client = _Client(reader, writer)
        try:
            if len(self._clients) > CLIENTS_MAX:
                await client.send(_refusal(protocol.FAILED, f"{CLIENTS_MAX} clients are served already: try later"))
            else:
                await self._serve(client)
        except (OSError, TimeoutError, asyncio.CancelledError):
            # It is gone, or does not read.
            pass
        finally:
            self._clients.discard(task)
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
                sentence = f"the request is longer than {protocol.REQUEST_BYTES:,} bytes"
                audit.refused("request", sentence, client.asker)
                await client.send(_refusal(protocol.REFUSED, sentence))
                return
            if not line:
                return
            try:
                request = protocol.parse_request(line)
            except ValueError as error:
                audit.refused(f"request {line.rstrip().decode(errors='replace')}", error, client.asker)
                await client.send(_failure(error))
                continue
            try:
                await client.send(await self._answer(request, client))
            except _StreamEndedError:
                return
            except (OSError, TimeoutError, asyncio.CancelledError):
                raise
            except Exception as error:
                await client.send(_failure(error))

    async def _answer(self, request: protocol.Request, client: _Client) -> dict[str, Any]:
        operations = self._operations
        match request:
            case protocol.Ping():
                return _result({})
            case protocol.Status():
                return _result(await self.do(operations.status))
            case protocol.Counters():
                return _result(await self.do(operations.counters))
            case protocol.Stations():
                return _result(await self.do(operations.stations))
            case protocol.Reload():
                return _result(await self.do(lambda: operations.reload(dry_run=request.dry_run, asker=client.asker)))
            case protocol.ChangePolicy():
                return _result(
                    await self.do(
                        lambda: operations.change(request.change, dry_run=request.dry_run, asker=client.asker)
                    )
                )
            case protocol.CurrentPolicy():
                # It cannot change, so that writing it keeps nobody else waiting.
                return _result(await asyncio.to_thread(document, operations.firewall.policy))
            case protocol.Save():
                try:
                    return _result(await self.save(client.asker))
                except Exception as error:
                    audit.refused("save of the state", error, client.asker)
                    raise
            case protocol.Connections(action="list"):
                return await self._list(request, client)
            case protocol.Connections():
                return _result(await self.do(self._about_connections, request, client.asker))
            case protocol.Events():
                return await self._stream_items(client, lambda notify: ConnectionEvents(self._firewall, notify))
            case protocol.Drops():
                port = self._port(request.port)
                return await self._stream_items(
                    client, lambda notify: Drops(self._firewall, notify, port=port, rate=request.rate)
                )
            case protocol.Capture():
                await self._capture(client, self._port(request.port))
                raise _StreamEndedError
        raise ValueError(f"command {request.command} is not served")

    def _about_connections(self, request: protocol.Connections, asker: Asker) -> dict[str, Any]:
        if request.action == "count":
            return self._operations.count(request.selection)
        if request.action == "delete" and request.selection.is_empty:
            error = ValueError("delete needs at least one filter: flush deletes all connections")
            audit.refused("deletion of connections", error, asker)
            raise error
        return self._operations.delete(request.selection, asker=asker)

    async def save(self, asker: Asker = NOBODY) -> dict[str, Any]:
        """Writes the state file; the control thread is only needed to read the table."""
        path = self._operations.state_path
        taken = await self.do(self._operations.save)
        assert path
        try:
            await asyncio.to_thread(state.write, path, taken)
        except OSError as error:
            raise _FailedError(f"{path}: the state cannot be written: {error.strerror}") from None
        audit.done("state saved", asker, file=str(path), connections=taken.connections)
        return {"file": str(path), "connections": taken.connections}

    def _port(self, name: str | None) -> int:
        if name is None:
            return -1
        number = self._firewall.port_number(name)
        if number is None:
            known = ", ".join(port.name for port in self._firewall.ports.values())
            raise ValueError(f"there is no port {name}: the ports are {known or 'none'}")
        return number

    # ---- streams ----

    async def _list(self, request: protocol.Connections, client: _Client) -> dict[str, Any]:
        batches = self._operations.connections(request.selection)
        # The first batch says whether the selection is valid, before the stream begins.
        batch = await self.do(next, batches, None)
        await client.send({"ok": True, "stream": "items"})
        listed = 0
        while batch is not None:
            if batch:
                listed += len(batch)
                await client.send({"items": batch})
            batch = await self.do(next, batches, None)
        return _result({"listed": listed})

    async def _stream_items(
        self, client: _Client, make: Callable[[Callable[[], None]], Subscription]
    ) -> dict[str, Any]:
        async with self._subscribed(make) as (subscription, ready):
            await client.send({"ok": True, "stream": "items"})
            await self._forward(client, subscription, ready)
            await self.do(self._feed.look_for_losses)
            return _result({"lost": subscription.lost})

    async def _capture(self, client: _Client, port: int) -> None:
        async with self._subscribed(lambda notify: Capture(self._firewall, notify, port=port)) as (capture, ready):
            await client.send({"ok": True, "stream": "pcapng"})
            await self._forward(client, capture, ready)
            await self.do(self._feed.look_for_losses)
            assert isinstance(capture, Capture)
            await client.write(capture.take() + capture.ending())

    @contextlib.asynccontextmanager
    async def _subscribed(
        self, make: Callable[[Callable[[], None]], Subscription]
    ) -> AsyncIterator[tuple[Subscription, asyncio.Event]]:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()

        def notify() -> None:
            loop.call_soon_threadsafe(ready.set)

        subscription = make(notify)
        await self.do(self._feed.subscribe, subscription)
        self._readers += 1
        if self._pump is None:
            self._pump = asyncio.create_task(self._pump_feed())
        try:
            yield subscription, ready
        finally:
            self._readers -= 1
            self._control.submit(self._feed.unsubscribe, subscription)

    async def _forward(self, client: _Client, subscription: Subscription, ready: asyncio.Event) -> None:
        """Sends what a subscription has until the client has enough of it."""
        ended = asyncio.create_task(client.end())
        try:
            while not ended.done():
                waiting = asyncio.create_task(ready.wait())
                await asyncio.wait({ended, waiting}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                ready.clear()
                await client.write(subscription.take())
        finally:
            ended.cancel()

    async def _pump_feed(self) -> None:
        """Moves items from the workers to the subscriptions as long as there are any."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        fd = self._feed.fd

        def on_readable() -> None:
            loop.remove_reader(fd)
            readable.set()

        try:
            while self._readers:
                readable.clear()
                loop.add_reader(fd, on_readable)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(readable.wait(), 1)
                taken = await self.do(self._feed.pump)
                if taken is None or not self._feed.is_dense:
                    await asyncio.sleep(_PAUSE_SECONDS)
        except DataPlaneError:
            log.exception("the feed cannot be read: events, drops and captures get nothing more")
        finally:
            loop.remove_reader(fd)
            self._pump = None


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

    async def end(self) -> None:
        """Waits until the client has closed its side; what it sends until then is not looked at."""
        with contextlib.suppress(OSError):
            while await self._reader.read(4096):
                pass

    async def send(self, value: dict[str, Any]) -> None:
        """Sends a value as a line."""
        await self.write(_json(value) + b"\n")

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


def _json(value: Any) -> bytes:
    try:
        return to_json(value, ensure_ascii=True)
    except ValueError:
        # It takes no halves of surrogate pairs, which a file's name may have.
        return json.dumps(value, separators=(",", ":")).encode()


class _StreamEndedError(Exception):
    """The connection was a stream and ends with it."""


class _FailedError(Exception):
    """Something could not be carried out: one sentence."""


def _result(value: Any) -> dict[str, Any]:
    return {"ok": True, "result": value}


def _refusal(kind: str, sentence: str, mistakes: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"ok": False, "kind": kind, "error": sentence, "mistakes": mistakes or []}


def _failure(error: Exception) -> dict[str, Any]:
    """What a client is told of an exception."""
    if isinstance(error, PolicyError):
        mistakes = [asdict(mistake) | {"text": str(mistake)} for mistake in error.mistakes]
        sentence = f"the policy is not valid, and the one before stays in force: {len(mistakes)} mistakes"
        return _refusal(protocol.REFUSED, sentence.replace("1 mistakes", "1 mistake"), mistakes)
    # DataPlaneError has subclasses that are ValueErrors too.
    if isinstance(error, DataPlaneError | PortError | _FailedError):
        return _refusal(protocol.FAILED, str(error))
    if isinstance(error, ValueError):
        return _refusal(protocol.REFUSED, str(error))
    log.error("a request failed", exc_info=error)
    return _refusal(protocol.FAILED, "the request failed by a fault of dataplane: its log says more")
