"""A real etcd cluster, on the loopback interface or in namespaces, whose members are killed and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dataplane.store import StoreError
from dataplane.store.etcd.address import parsed
from dataplane.store.etcd.cluster import Cluster

needs_etcd = pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is missing: Debian's etcd-server")

_START_SECONDS = 60


@dataclass(frozen=True)
class Place:
    """Where a member is: address, ports for clients and for the others, and what its program is started with."""

    address: str
    client: int
    peer: int
    within: tuple[str, ...] = ()


class Members:
    """The members of a cluster; each has a folder."""

    def __init__(self, folder: Path, places: Sequence[Place], *options: str, scheme: str = "http") -> None:
        self._folder, self.places, self._options, self._scheme = folder, places, options, scheme
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for number in range(len(places)):
            self.start(number)

    def endpoint(self, number: int) -> str:
        """Where a member is asked."""
        return f"{self.places[number].address}:{self.places[number].client}"

    def url(self, prefix: str = "dataplane", **options: str) -> str:
        """The address of a store."""
        query = "&".join(f"{name.replace('_', '-')}={value}" for name, value in options.items())
        endpoints = ",".join(self.endpoint(number) for number in range(len(self.places)))
        return f"etcd://{endpoints}/{prefix}" + (f"?{query}" if query else "")

    def start(self, number: int) -> None:
        """Starts a member, again too."""
        place = self.places[number]
        client, peer = f"{self._scheme}://{self.endpoint(number)}", f"http://{place.address}:{place.peer}"
        everyone = ",".join(f"m{n}=http://{other.address}:{other.peer}" for n, other in enumerate(self.places))
        command = [
            *place.within,
            *("etcd", "--name", f"m{number}", "--data-dir", str(self._folder / f"m{number}")),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", everyone, "--initial-cluster-state", "new"),
            # Faster than by default: tests wait for elections.
            *("--heartbeat-interval", "50", "--election-timeout", "500", "--logger", "zap", "--log-level", "error"),
            *self._options,
        ]
        # What it says is kept for who looks for a failure.
        with (self._folder / f"m{number}.log").open("ab") as out:
            self._processes[number] = subprocess.Popen(
                command, stdout=out, stderr=out, env=os.environ | {"ETCD_UNSUPPORTED_ARCH": os.uname().machine}
            )

    def await_leader(self, url: str | None = None) -> None:
        """Waits until all members answer; `url` is the address of a store, for what else it says."""
        until = time.monotonic() + _START_SECONDS
        address = parsed(url or self.url())
        for member in address.members:
            with contextlib.closing(Cluster(replace(address, members=(member,)))) as cluster:
                while not _answers(cluster):
                    assert time.monotonic() < until, "etcd does not start: see its log"
                    time.sleep(0.05)

    def kill(self, number: int) -> None:
        """kill -9; what it has is still on its disk."""
        process = self._processes.pop(number)
        # A stopped one too.
        process.kill()
        process.wait(60)

    def stop(self, number: int) -> None:
        """It says nothing any more, and its connections stay."""
        self._processes[number].send_signal(signal.SIGSTOP)

    def go_on(self, number: int) -> None:
        """It does what it has missed."""
        self._processes[number].send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kills all."""
        for number in list(self._processes):
            self.kill(number)


@contextlib.contextmanager
def members(folder: Path, count: int, *options: str, scheme: str = "http", url: str = "") -> Iterator[Members]:
    """A cluster on the loopback interface that answers, until the end; `url` has options of its address."""
    ports = _free_ports(2 * count)
    places = [Place("127.0.0.1", *ports[2 * number : 2 * number + 2]) for number in range(count)]
    made = Members(folder, places, *options, scheme=scheme)
    try:
        made.await_leader(f"{made.url()}?{url}")
        yield made
    finally:
        made.close()


def until(condition: Callable[[], object]) -> None:
    """Waits for what comes true by itself; fails after a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.02)


def _answers(cluster: Cluster) -> bool:
    try:
        cluster.range("anything")
    except StoreError:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens at: by sockets that are closed again."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in sockets]
