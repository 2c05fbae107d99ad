"""The control socket: who may come, what is no request, and who is let go."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import socket
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dataplane.control import requests
from dataplane.control.unix import CLIENTS_MAX, ControlError, ControlServer, control_socket
from dataplane.live.client import ControlClient, RefusedError, UnreachableError

from .served import Served, raw

# ---- requests ----


def test_answers_come_in_order_over_one_connection(served: Served) -> None:
    requests = [b'{"command": "status"}\n', b'{"command": "conntrack", "action": "count"}\n', b'{"command": "x"}\n']
    status, count, unknown = raw(served, *requests)
    assert status["ok"]
    assert status["result"]["instances"] == 2
    assert status["result"]["connections"] == 5
    assert count["result"]["count"] == 5
    assert not unknown["ok"]
    assert "names no command: one of status, " in unknown["error"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"hello\n", "the request is no line of JSON"),
        (b"[" * 100_000 + b"\n", "the request is no line of JSON"),
        (b"[]\n", "names no command"),
        (b'{"command": ["status"]}\n', "names no command"),
        (b'{"command": "status", "verbose": true}\n', "verbose: extra inputs are not permitted"),
        (b'{"command": "reload", "dry_run": []}\n', "dry_run: input should be a valid boolean"),
        (b'{"command": "conntrack", "action": "list", "selection": {"dport": 1}}\n', "selection.dport: extra inputs"),
        (b'{"command": "conntrack", "action": "delete"}\n', "delete needs at least one filter"),
        (b'{"command": "conntrack", "action": "list", "selection": {"state": "X"}}\n', "state 'X' is not known"),
        (b'{"command": "drops", "port": "tap9"}\n', "there is no port tap9: the ports are none"),
        (b'{"command": "change", "change": {"apply_policy": "/etc/passwd"}}\n', "use reload"),
        (b'{"command": "change", "change": {"delete_rule": {"id": "x"}}}\n', '"x" is no rule of this policy'),
    ],
)
def test_a_request_that_is_not_valid_is_refused(served: Served, line: bytes, reason: str) -> None:
    """In one sentence, and the connection goes on."""
    refusal, status = raw(served, line, b'{"command": "status"}\n')
    assert (refusal["ok"], refusal["kind"]) == (False, "refused")
    assert reason in refusal["error"]
    assert status["ok"]


def test_a_request_that_is_too_long_is_refused(served: Served) -> None:
    with pytest.raises(RefusedError, match="longer than 1,048,576 bytes"):
        served.change({"update_address_group": {"id": "list", "ip_set": ["192.0.2.1"] * 100_000}})
    assert served.call("status")["connections"] == 5


def status(path: Path) -> Any:
    with ControlClient(path) as client:
        return client.call("status")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataplane.live.client.ANSWER_SECONDS", 0.3)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("waiting", [0, 1])
def test_a_socket_where_nobody_answers(tmp_path: Path, waiting: int) -> None:
    """Whether the connection is let in and never looked at, or not even let in: it is told, soon, in one sentence."""
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(str(tmp_path / "control"))
        listening.listen(0)
        if waiting:
            first.connect(str(tmp_path / "control"))
        with pytest.raises(UnreachableError, match=r"nobody answers at the control socket within 0\.3 seconds: "):
            status(tmp_path / "control")
        with pytest.raises(ControlError, match="another firewall listens"):
            control_socket(tmp_path / "control")


@pytest.mark.usefixtures("impatient")
def test_a_long_operation_is_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked may take its time, also where another client has to wait for it."""
    reload = served.service.reload

    def slow(*arguments: Any) -> Any:
        time.sleep(1)
        return reload(*arguments)

    monkeypatch.setattr(served.service, "reload", slow)
    with ThreadPoolExecutor(1) as other:
        answer = other.submit(served.call, "reload")
        time.sleep(0.1)
        assert served.call("status")["instances"] == 2
        assert not answer.result()["dry_run"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "ended the connection"),
        (b"220 mail ready\n", "what listens there is no firewall"),
        (b"[1]\n", "what listens there is no firewall"),
        (b'{"ok": true}\n', "what listens there is no firewall"),
        (b'{"result": 7}\n', "what listens there is no firewall"),
        (b'{"ok": false}\n', "what listens there is no firewall"),
        (b'{"ok": false, "error": 1, "kind": 2, "mistakes": 3}\n', "what listens there is no firewall"),
        # A line without end is not waited for.
        (b"x" * (1 << 17), "what listens there is no firewall"),
    ],
)
def test_another_program_at_the_socket(tmp_path: Path, answer: bytes, reason: str) -> None:
    with socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor(1) as server:
        listening.bind(str(tmp_path / "control"))
        listening.listen()

        def serve() -> None:
            with listening.accept()[0] as accepted:
                accepted.recv(1000)
                accepted.sendall(answer)

        served = server.submit(serve)
        with pytest.raises(UnreachableError, match=reason):
            status(tmp_path / "control")
        served.result(60)


def test_a_firewall_that_does_not_know_the_first_question(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of an older version goes on running while the command is new already."""
    monkeypatch.delitem(requests.REQUESTS, "ping")
    assert served.call("status")["instances"] == 2


def test_requests_of_many_clients_are_bounded(served: Served) -> None:
    clients = [ControlClient(served.socket) for _ in range(CLIENTS_MAX)]
    for client in clients:
        client.call("status")
    with pytest.raises(RefusedError, match="64 clients are served already"):
        served.call("status")
    for client in clients:
        client.close()


def test_of_many_who_come_at_once_the_last_is_refused(tmp_path: Path) -> None:
    """Those that are only being let in do not make room for it."""
    service: Any = None

    async def come(clients: list[socket.socket]) -> bytes:
        with control_socket(tmp_path / "control") as listening:
            for client in clients:
                client.connect(str(tmp_path / "control"))
            server = ControlServer(service)
            server.start(listening)
            told = await asyncio.to_thread(clients[-1].recv, 1000)
            for client in clients[:-1]:
                with pytest.raises(BlockingIOError):
                    client.recv(1, socket.MSG_DONTWAIT)
            await server.close()
            return told

    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(CLIENTS_MAX + 1)]
        assert b"64 clients are served already" in asyncio.run(come(clients))


@pytest.mark.parametrize("turns", range(6))
def test_who_is_accepted_while_the_server_ends_is_let_go(tmp_path: Path, turns: int) -> None:
    """However far the event loop is with it: its connection is closed when the server is."""
    service: Any = None

    async def accept_and_end(client: socket.socket) -> None:
        server = ControlServer(service)
        with control_socket(tmp_path / "control") as listening:
            server.start(listening)
            client.connect(str(tmp_path / "control"))
            for _ in range(turns):
                await asyncio.sleep(0)
            await server.close()

    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        asyncio.run(accept_and_end(client))
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


# ---- the socket ----


def test_the_socket_is_for_root_alone(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with control_socket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_socket_may_be_for_a_group_too(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getgid())
    with control_socket(tmp_path / "control", group.gr_name):
        found = (tmp_path / "control").stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, group.gr_gid)
    with pytest.raises(ControlError, match="there is no group no-such-group"):
        control_socket(tmp_path / "other", "no-such-group")


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    control_socket(tmp_path / "control").close()
    with control_socket(tmp_path / "control"), pytest.raises(ControlError, match="another firewall listens"):
        control_socket(tmp_path / "control")


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("precious")
    with pytest.raises(ControlError, match="exists and is no socket"):
        control_socket(tmp_path / "control")
    assert (tmp_path / "control").read_text() == "precious"


def test_without_a_firewall_the_client_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="is the firewall running"):
        ControlClient(tmp_path / "none")
    control_socket(tmp_path / "control").close()
    with pytest.raises(UnreachableError, match="is the firewall running"):
        ControlClient(tmp_path / "control")
