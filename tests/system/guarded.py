"""Guests behind a running `dataplane run`: one namespace for the firewall, one for each guest, and one for the world.

Every guest's interface is a TAP that dataplane makes, in the guest's namespace; the world is behind an uplink. Guest
number n has the addresses 10.9.0.n and fd09::n; the world has number 9.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataplane.live.client import ControlClient

from .network import Host, Network, network, standing_in, until

WORLD = 9
PROGRAMS = ("ip", "ping", "curl", "nc", "iperf3", "ss", "sysctl")

#: The begin of a policy whose group `sg` lets everything in and out; instances follow.
OPEN = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: in, direction: ingress}
      - {id: out, direction: egress}
instances:
"""


def four(number: int) -> str:
    """The IPv4 address of a guest."""
    return f"10.9.0.{number}"


def six(number: int) -> str:
    """The IPv6 address of a guest."""
    return f"fd09::{number}"


def mac(number: int) -> str:
    """The MAC of a guest."""
    return f"02:00:00:00:09:{number:02x}"


class Guarded:
    """A firewall with guests. `start` before all else; `policy` texts name no interface and no uplink themselves."""

    def __init__(self, net: Network, folder: Path) -> None:
        self.net = net
        self.fw = net.host("fw")
        self.world = net.host("world")
        self.guests: dict[str, Host] = {}
        self.policy_path = folder / "policy.yaml"
        self.log = folder / "log"
        self._control = folder / "control"
        self._process: subprocess.Popen[bytes] | None = None
        for host in (self.world,):
            _prepare(host)
        net.wire(self.fw, "up0", self.world, "eth0")
        self._address(self.world, "eth0", WORLD)

    # ---- the policy ----

    def guest(self, name: str) -> Host:
        """A guest's namespace, made when it is first asked for."""
        if name not in self.guests:
            self.guests[name] = self.net.host(name)
            _prepare(self.guests[name])
        return self.guests[name]

    def instance(self, name: str, number: int, groups: str = "sg", more: str = "") -> str:
        """The instance of a guest, as a line of the policy."""
        self.guest(name)
        return (
            f"  - {{id: {name}, addresses: [{four(number)}, '{six(number)}'], mac: '{mac(number)}',"
            f" interface: eth-{name}, security_groups: [{groups}],"
            f" tap: {{namespace: {self.guest(name).name}}}{more and ', ' + more}}}\n"
        )

    def write(self, policy: str) -> None:
        """Puts another text into the policy file, at once."""
        fresh = self.policy_path.with_suffix(".new")
        fresh.write_text(f"{policy}\nuplinks: [{{interface: up0}}]\n")
        fresh.rename(self.policy_path)

    def address(self, name: str, number: int) -> None:
        """Gives a guest its addresses."""
        self._address(self.guest(name), f"eth-{name}", number)

    def _address(self, host: Host, interface: str, number: int) -> None:
        host.ip("address", "replace", f"{four(number)}/24", "dev", interface)
        host.ip("address", "replace", f"{six(number)}/64", "dev", interface, "nodad")

    # ---- the firewall ----

    def start(self, *options: str) -> None:
        """Starts `dataplane run` on the policy file, and waits until it runs."""
        command = (sys.executable, "-m", "dataplane", "run", str(self.policy_path), "--control", str(self._control))
        self._process = self.fw.start(*command, *options, output=self.log)
        until(self._runs, "dataplane runs")

    def _runs(self) -> bool:
        assert self._process
        assert self._process.poll() is None, self.log.read_text()
        return "running" in self.log.read_text()

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Stops it; the exit status."""
        assert self._process
        status = self.fw.stop(self._process, how)
        self._process = None
        return status

    def signal(self, number: int) -> None:
        """Sends a signal to it."""
        assert self._process
        self._process.send_signal(number)

    def ctl(self, *words: str, status: int = 0) -> str:
        """`dataplane ctl`; what it prints, or what it says of its failure."""
        command = (sys.executable, "-m", "dataplane", "ctl", "--socket", str(self._control), *words)
        done = self.fw.run(*command)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stderr if status else done.stdout

    def ask(self, *words: str) -> Any:
        """`dataplane ctl` with JSON as the answer."""
        return json.loads(self.ctl(*words, "--output", "json"))

    def asking(self) -> ControlClient:
        """A client of the control socket, for streams."""
        return ControlClient(self._control)

    def reload(self, policy: str, status: int = 0) -> str:
        """Another policy, put in force."""
        self.write(policy)
        return self.ctl("reload", status=status)

    def flush(self) -> None:
        """Forgets all connections."""
        self.ctl("conntrack", "flush")


def _prepare(host: Host) -> None:
    """Addresses are there at once, and nobody calls out for routers."""
    for where in ("default", "all"):
        host.sysctl(f"net.ipv6.conf.{where}.accept_dad", 0)
        host.sysctl(f"net.ipv6.conf.{where}.router_solicitations", 0)


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[Guarded]:
    """A firewall with guests, gone at the end."""
    with network() as net:
        made = Guarded(net, folder)
        try:
            yield made
        finally:
            if made._process:
                made.stop()


# ---- asking from a host ----


def pings(host: Host, to: str, *options: str, count: int = 2) -> bool:
    """Whether all of some pings are answered; one is waited for for half a second."""
    done = host.run("ping", "-n", "-c", str(count), "-i", "0.1", "-W", "0.5", *options, to)
    return f" {count} received" in done.stdout


def connects(host: Host, to: str, port: int, *options: str) -> bool:
    """Whether a TCP connection can be opened within a second."""
    return host.run("nc", "-z", "-w", "1", *options, to, str(port)).returncode == 0


def fetches(host: Host, url: str, *options: str) -> str:
    """What a web server answers; empty when it does not within a second."""
    return host.run("curl", "-s", "-m", "1", "--noproxy", "*", *options, url).stdout


# ---- frames by hand ----

_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_TP_STATUS_VLAN_VALID = 1 << 4


class Tapped:
    """A packet socket of a host: sends frames, and collects those that arrive, with their VLAN tags."""

    def __init__(self, host: Host, interface: str) -> None:
        with standing_in(host):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300)
            self._socket.bind((interface, 0x0003))
        self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._socket.settimeout(0.05)

    def send(self, *frames: bytes) -> None:
        """Sends frames as they are."""
        for frame in frames:
            self._socket.send(frame)

    def seen(self, wanted: bytes, seconds: float = 0.5) -> bool:
        """Whether a frame with these bytes in it arrives."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                if wanted in self._next():
                    return True
        return False

    def _next(self) -> bytes:
        """The next frame that arrives, the tag that the kernel took off put back; empty for one that leaves."""
        data, (auxiliary, *_), _, (_, _, kind, *_) = self._socket.recvmsg(70000, 100)
        if kind == socket.PACKET_OUTGOING:
            return b""
        status, *_, tci, protocol = struct.unpack("IIIHHHH", auxiliary[2][:20])
        tag = struct.pack("!HH", protocol, tci) if status & _TP_STATUS_VLAN_VALID else b""
        return data[:12] + tag + data[12:]

    def close(self) -> None:
        """Closes it."""
        self._socket.close()


@contextlib.contextmanager
def tapped(host: Host, interface: str) -> Iterator[Tapped]:
    """A packet socket of a host's interface."""
    made = Tapped(host, interface)
    try:
        yield made
    finally:
        made.close()


def token() -> bytes:
    """Bytes that no other frame has."""
    return os.urandom(12)
