"""What the service manager is told while the firewall runs: that it lives, and when a reload begins and is over."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dataplane.control import requests
from dataplane.live.event_loop import EventLoop
from dataplane.live.operations import Operations
from dataplane.live.process.notify import Reloading, watchdog_seconds
from dataplane.policy import PolicyError

from .scene import POLICY, filled
from .served import NoPorts, service_of


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a service manager, which reads what it is told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def told(manager: socket.socket) -> list[dict[str, str]]:
    """All that it was told up to now."""
    found = []
    while True:
        try:
            message = manager.recv(4096).decode()
        except BlockingIOError:
            return found
        found.append(dict(line.split("=", 1) for line in message.splitlines()))


def reload(tmp_path: Path, text: str, **arguments: Any) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    ports: Any = NoPorts()
    with ThreadPoolExecutor(1) as control:
        service = service_of(Operations(filled(), ports), control, tmp_path / "policy.yaml", reloading=Reloading())
        asyncio.run(service.answer(requests.Reload(command="reload", **arguments)))


def test_a_reload_is_told_with_its_time(manager: socket.socket, tmp_path: Path) -> None:
    """sd_notify(3): RELOADING=1 with MONOTONIC_USEC when it begins, READY=1 when the policy is in force."""
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    reload(tmp_path, POLICY)
    begun, ended = told(manager)
    assert begun.keys() == {"RELOADING", "MONOTONIC_USEC"}
    assert before <= int(begun["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert ended == {"READY": "1"}


def test_a_refused_reload_is_over_too(manager: socket.socket, tmp_path: Path) -> None:
    """Or the manager would wait for its end."""
    with pytest.raises(PolicyError):
        reload(tmp_path, "security_groups: [{}]")
    assert [message.get("READY") for message in told(manager)] == [None, "1"]


def test_a_dry_run_is_no_reload(manager: socket.socket, tmp_path: Path) -> None:
    reload(tmp_path, POLICY, dry_run=True)
    assert told(manager) == []


def test_ready_when_the_last_reload_is_over(manager: socket.socket) -> None:
    reloading = Reloading()
    with reloading():
        with reloading():
            pass
        assert [*map(len, told(manager))] == [2, 2]
    assert told(manager) == [{"READY": "1"}]


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_whether_signs_of_life_are_wanted(environ: dict[str, str], seconds: float | None) -> None:
    """sd_watchdog_enabled(3)."""
    assert watchdog_seconds(environ) == seconds


def test_signs_of_life_need_every_worker(manager: socket.socket) -> None:
    """A worker that does not answer holds them back, and with them all that the control thread does."""
    answers, asked = threading.Event(), []

    def worker_counters(number: int) -> None:
        asked.append(number)
        if number == 1:
            answers.wait(10)

    async def watched() -> None:
        with ThreadPoolExecutor(1) as control:
            loop: Any = SimpleNamespace(_firewall=SimpleNamespace(workers=2, worker_counters=worker_counters))
            loop._control = control
            loop._do = lambda work: EventLoop._do(loop, work)
            living = asyncio.create_task(EventLoop._tell_alive(loop, 0.001))
            while asked != [0, 1]:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
            assert told(manager) == []
            answers.set()
            while len(asked) < 6:
                await asyncio.sleep(0.001)
            living.cancel()
            assert {"WATCHDOG": "1"} in told(manager)

    asyncio.run(watched())
