"""A running firewall between two hosts, with real programs, and TCP connections through it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .network import Host, Network, standing_in, until

ROOT = Path(__file__).resolve().parents[2]
INSIDE, OUTSIDE = "10.66.0.1", "10.66.0.2"
POLICY = f"""
security_groups:
  - id: sg
    security_group_rules:
      - {{id: ping, direction: ingress, protocol: icmp}}
      - {{id: web, direction: ingress, protocol: tcp, multiport: "8080"}}
      - {{id: out, direction: egress}}
instances:
  - {{id: a, addresses: [{INSIDE}], interface: to-a, security_groups: [sg]}}
uplinks:
  - {{interface: to-out}}
"""


class Running:
    """A network with the firewall in it, and what is asked of the firewall."""

    def __init__(self, net: Network, folder: Path) -> None:
        self.net, self.folder = net, folder
        self.fw, self.a, self.out = net.host("fw"), net.host("a"), net.host("out")
        self.policy, self.control, self.state = folder / "policy.yaml", folder / "control", folder / "state"
        self.policy.write_text(POLICY)
        for host, address in ((self.a, INSIDE), (self.out, OUTSIDE)):
            net.wire(self.fw, "to-a" if host is self.a else "to-out", host, "eth0")
            host.ip("address", "add", f"{address}/24", "dev", "eth0")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What the firewall has logged since it was started last."""
        return (self.folder / "log").read_text()

    def start(self, *options: str) -> None:
        """Starts the firewall and waits until it serves."""
        self.process = self.fw.start(
            *(sys.executable, "-m", "dataplane", "run", str(self.policy)),
            *("--control", str(self.control), "--state", str(self.state), *options),
            output=self.folder / "log",
        )
        until(lambda: "running" in self.log or self.process_ended(), "the firewall runs")
        assert not self.process_ended(), self.log

    def process_ended(self) -> bool:
        assert self.process
        return self.process.poll() is not None

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Ends the firewall; its exit status."""
        assert self.process
        return self.fw.stop(self.process, how)

    def ctl(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """`dataplane ctl` as a user calls it."""
        return self.dataplane("ctl", "--socket", str(self.control), *words, status=status)

    def dataplane(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Another command beside the firewall."""
        command = [sys.executable, "-m", "dataplane", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def json(self, *words: str) -> Any:
        """The same, read from its JSON."""
        return json.loads(self.ctl(*words, "-o", "json").stdout)

    @contextlib.contextmanager
    def watching(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A `dataplane ctl` that goes on, ended by Ctrl-C; it has subscribed when this begins."""
        command = [sys.executable, "-m", "dataplane", "ctl", "--socket", str(self.control), *words]
        before = self.fds()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        until(lambda: self.fds() > before, "the client is connected")
        time.sleep(0.2)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)

    def fds(self) -> int:
        """How many sockets the firewall has open: each client is one."""
        assert self.process
        pid = self.process.pid
        return sum("socket" in os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))

    def ping(self, source: Host, target: str, count: int = 1) -> bool:
        return source.run("ping", "-c", str(count), "-i", "0.2", "-W", "1", target).returncode == 0


def listening(host: Host, address: str, port: int) -> socket.socket:
    with standing_in(host):
        return socket.create_server((address, port))


def connected(host: Host, address: str, port: int, seconds: float = 60) -> socket.socket:
    with standing_in(host):
        return socket.create_connection((address, port), timeout=seconds)


class Conversation:
    """A TCP connection into or out of the instance, with its two ends here."""

    def __init__(self, client: Host, server: Host, address: str, port: int) -> None:
        with listening(server, address, port) as door:
            self.client = connected(client, address, port)
            self.server, _ = door.accept()

    def goes_on(self, within: float = 60) -> bool:
        """Whether words still come through, both ways, each within so many seconds."""
        for end in (self.client, self.server):
            end.settimeout(within)
        try:
            for sender, receiver in ((self.client, self.server), (self.server, self.client)):
                sender.sendall(b"word")
                if receiver.recv(100) != b"word":
                    return False
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self.client.close()
        self.server.close()
