"""A real etcd cluster on the loopback interface, whose members are killed, stopped and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.store import StoreError
from dataplane.store.etcd.address import parsed
from dataplane.store.etcd.cluster import Cluster

needs_etcd = pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is missing: Debian's etcd-server")

_START_SECONDS = 30


class Members:
    """The members of a cluster; each has a folder, and ports for clients and for the others."""

    def __init__(self, folder: Path, count: int, *options: str, scheme: str = "http") -> None:
        self._folder, self._options, self._scheme = folder, options, scheme
        self.ports = _free_ports(2 * count)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._state = "new"
        for number in range(count):
            self.start(number)

    def url(self, prefix: str = "dataplane", *members: int, **options: str) -> str:
        """The address of a store; of all members, unless some are named."""
        chosen = members or range(len(self.ports) // 2)
        places = ",".join(f"127.0.0.1:{self.ports[2 * number]}" for number in chosen)
        query = "&".join(f"{name.replace('_', '-')}={value}" for name, value in options.items())
        return f"etcd://{places}/{prefix}" + (f"?{query}" if query else "")

    def start(self, number: int) -> None:
        """Starts a member, again too."""
        client, peer = self._at(number)
        everyone = ",".join(f"m{n}=http://127.0.0.1:{self.ports[2 * n + 1]}" for n in range(len(self.ports) // 2))
        command = [
            *("etcd", "--name", f"m{number}", "--data-dir", str(self._folder / f"m{number}")),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", everyone, "--initial-cluster-state", self._state),
            # Faster than by default: tests wait for elections.
            *("--heartbeat-interval", "50", "--election-timeout", "500", "--logger", "zap", "--log-level", "error"),
            *self._options,
        ]
        # What it says is kept for who looks for a failure.
        with (self._folder / f"m{number}.log").open("ab") as out:
            self._processes[number] = subprocess.Popen(
                command, stdout=out, stderr=out, env=os.environ | {"ETCD_UNSUPPORTED_ARCH": os.uname().machine}
            )

    def _at(self, number: int) -> tuple[str, str]:
        client, peer = self.ports[2 * number : 2 * number + 2]
        return f"{self._scheme}://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"

    def await_leader(self, url: str | None = None) -> None:
        """Waits until the cluster answers."""
        until = time.monotonic() + _START_SECONDS
        with contextlib.closing(Cluster(parsed(url or self.url()))) as cluster:
            while True:
                try:
                    cluster.range("anything")
                    return
                except StoreError:
                    assert time.monotonic() < until, "etcd does not start: see its log"
                    time.sleep(0.05)

    def kill(self, number: int) -> None:
        """kill -9; what it has is still on its disk."""
        process = self._processes.pop(number)
        # A stopped one too.
        process.kill()
        process.wait(10)

    def stop(self, number: int) -> None:
        """It says nothing any more, and its connections stay: as one that is cut off."""
        self._processes[number].send_signal(signal.SIGSTOP)

    def go_on(self, number: int) -> None:
        """It does what it has missed."""
        self._processes[number].send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kills all."""
        for number in list(self._processes):
            self.kill(number)


@contextlib.contextmanager
def members(folder: Path, count: int, *options: str) -> Iterator[Members]:
    """A cluster that answers, until the end."""
    made = Members(folder, count, *options)
    try:
        made.await_leader()
        yield made
    finally:
        made.close()


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens at: by sockets that are closed again."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in sockets]
