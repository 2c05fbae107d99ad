"""The API as it is served: a real uvicorn over a firewall without ports, whose table has some connections."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi.dependencies import models
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkvpc.v3.vpc_client import VpcClient

from dataplane.control.rest.app import api
from dataplane.control.rest.server import ApiOptions, ApiServers
from dataplane.control.service import Service
from dataplane.insight.running_firewall import answer_of, question_of
from dataplane.live.event_loop import FAILURES
from dataplane.live.firewall import Firewall
from dataplane.live.operations import Operations
from dataplane.live.simulation import NoPorts
from dataplane.policy import Policy
from dataplane.store import Store
from dataplane.store.file import PolicyFile
from tests.unit.live.scene import POLICY, fill

SECRET = "a secret of some length"
KEYS = f"""
- {{access_key: AK, secret_key: {SECRET}, project: p1}}
- {{access_key: READER, secret_key: {SECRET}, project: p1, read_only: true}}
- {{access_key: OTHER, secret_key: {SECRET}, project: p2}}
- {{access_key: ALL, secret_key: {SECRET}, project: "*"}}
"""


@dataclass(frozen=True)
class Answer:
    """An answer over HTTP."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def code(self) -> str:
        """The API's code of an error."""
        return str(self.body["error_code"])


@dataclass(frozen=True)
class Served:
    """The API at a port of the loopback interface, and at a Unix socket, where nothing is signed."""

    firewall: Firewall
    port: int
    path: Path
    control: ThreadPoolExecutor
    clients: list[VpcClient] = field(default_factory=list)

    def sdk(self, access_key: str = "AK", project: str = "p1", secret: str = SECRET) -> VpcClient:
        """The vendor's client, as it is."""
        credentials = BasicCredentials(access_key, secret, project)
        made: VpcClient = (
            VpcClient.new_builder().with_credentials(credentials).with_endpoint(f"http://127.0.0.1:{self.port}").build()
        )
        self.clients.append(made)
        return made

    def begin_again(self) -> None:
        """Puts the policy of before in force again, with its connections."""
        policy = Policy.parse(POLICY)

        def work() -> None:
            self.firewall.replace(self.firewall.changed({"apply_policy": policy}))
            self.firewall.connections.flush()
            fill(self.firewall)

        self.control.submit(work).result(60)

    def leave(self) -> None:
        """Closes the connections of all clients."""
        for client in self.clients:
            client.get_http_client().close()

    def call(self, method: str, path: str, body: Any = None, project: str = "p1", **headers: str) -> Answer:
        """A request over the Unix socket; a body is JSON, or bytes as they are."""
        connection = http.client.HTTPConnection("localhost", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(60)
        connection.sock.connect(str(self.path))
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        return _answer(connection, method, f"/v3/{project}{path}", data, headers)

    def unsigned(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """A request over TCP with these headers alone."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        return _answer(connection, method, path, body, headers)


def _answer(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> Answer:
    with contextlib.closing(connection):
        given = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        connection.request(method, path, body, given)
        response = connection.getresponse()
        text = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
    is_json = found.get("content-type") == "application/json"
    return Answer(response.status, found, json.loads(text) if is_json else text)


@contextlib.contextmanager
def serving(
    folder: Path, firewall: Firewall, keys: str | None = KEYS, store: Store | None = None, **options: Any
) -> Iterator[Served]:
    """Serves the API over a firewall in a thread of its own until the end."""
    file, path = folder / "keys.yaml", folder / "api.sock"
    places: tuple[str, ...] = (str(path),)
    if keys is not None:
        file.write_text(keys)
        file.chmod(0o600)
        places = ("127.0.0.1:0", *places)
    control = ThreadPoolExecutor(1)
    ports: Any = NoPorts()
    operations = Operations(firewall, ports, state_path=folder / "state")
    service = Service(operations, store or PolicyFile(Path("policy.yaml")), control, failures=FAILURES)
    servers = ApiServers.open(ApiOptions(places, file if keys is not None else None, **options))
    loop, ready, stopping = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        await servers.start(api(service, servers.keys, explanation=(question_of, answer_of)))
        following = asyncio.create_task(service.follow_store())
        ready.set()
        await stopping.wait()
        following.cancel()
        await servers.close()
        await service.close()

    port = int(servers.names[0].rpartition(":")[2]) if keys is not None else 0
    firewall.start()
    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        assert ready.wait(60)
        yield (served := Served(firewall, port, path, control))
        served.leave()
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(60)
        control.shutdown()
        firewall.stop()
        loop.close()
        _forget_app()
        assert not thread.is_alive()


def _forget_app() -> None:
    """FastAPI keeps functions that it has looked at, and these the firewall, which has 100 MB."""
    for found in vars(models).values():
        if hasattr(found, "cache_clear"):
            found.cache_clear()
