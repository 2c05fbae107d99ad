"""A control socket that is served, over a firewall without ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataplane.control.service import Service
from dataplane.control.unix import ControlServer, control_socket
from dataplane.live.client import ControlClient
from dataplane.live.event_loop import FAILURES
from dataplane.live.firewall import Firewall
from dataplane.live.metrics_server import App, ScrapeServer
from dataplane.live.operations import Operations
from dataplane.live.simulation import NoPorts
from dataplane.store.file import PolicyFile

from .scene import POLICY

__all__ = ["NoPorts"]


def service_of(
    operations: Operations, control: ThreadPoolExecutor, policy: Path = Path("policy.yaml"), **options: Any
) -> Service:
    """A service over a firewall whose policy is kept in a file."""
    return Service(operations, PolicyFile(policy), control, failures=FAILURES, **options)


@dataclass(frozen=True)
class Served:
    """A firewall that answers at `socket`; its policy is in `policy`, its state goes to `state`."""

    firewall: Firewall
    operations: Operations
    service: Service
    socket: Path
    policy: Path
    state: Path

    def call(self, command: str, **arguments: Any) -> Any:
        """One request over a connection of its own."""
        with ControlClient(self.socket) as client:
            return client.call(command, **arguments)

    def change(self, change: dict[str, Any], **arguments: Any) -> Any:
        """One change."""
        return self.call("change", change=change, **arguments)


def raw(served: Served, *lines: bytes) -> list[dict[str, Any]]:
    """The answers to lines that are sent as they are."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(served.socket))
        client.sendall(b"".join(lines))
        client.shutdown(socket.SHUT_WR)
        return [json.loads(line) for line in client.makefile("rb")]


@contextlib.contextmanager
def serving(folder: Path, firewall: Firewall) -> Iterator[Served]:
    """Serves a firewall in a thread of its own until the end."""
    policy = folder / "policy.yaml"
    policy.write_text(POLICY)
    control = ThreadPoolExecutor(1)
    ports: Any = NoPorts()
    operations = Operations(firewall, ports, state_path=folder / "state")
    service = service_of(operations, control, policy)
    loop, ready, stopping = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        server = ControlServer(service)
        with control_socket(folder / "control") as listening:
            server.start(listening)
            ready.set()
            await stopping.wait()
            await server.close()
            await service.close()

    firewall.start()
    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        assert ready.wait(60)
        yield Served(firewall, operations, service, folder / "control", policy, folder / "state")
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(60)
        control.shutdown()
        firewall.stop()
        loop.close()
        assert not thread.is_alive()


@contextlib.contextmanager
def scraped(app: App) -> Iterator[int]:
    """Serves an application as metrics are, in a thread of its own; the port."""
    loop, ready, stopping = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)

    async def serve() -> None:
        server = ScrapeServer(app)
        server.start(listening)
        ready.set()
        await stopping.wait()
        await server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        assert ready.wait(60)
        yield listening.getsockname()[1]
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(60)
        loop.close()
        listening.close()
        assert not thread.is_alive()
