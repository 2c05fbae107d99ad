"""Real programs in network namespaces, recorded by tcpdump, then replayed: the verdicts fit what the programs did.

Needs root, `ip`, `tcpdump`, `ping`, `nc` and `curl`; everything happens inside namespaces that the test makes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane import DataPlane, Policy

PROGRAMS = ("ip", "tcpdump", "ping", "nc", "curl")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(p) is None for p in PROGRAMS),
    reason=f"needs root and the programs {', '.join(PROGRAMS)}",
)

INSIDE, OUTSIDE = "10.77.0.1", "10.77.0.2"
INSIDE6, OUTSIDE6 = "fd77::1", "fd77::2"

POLICY = f"""
security_groups:
  - id: sg
    security_group_rules:
      - {{id: ping, direction: ingress, protocol: icmp, remote_ip_prefix: {OUTSIDE}/32}}
      - {{id: web, direction: ingress, protocol: tcp, multiport: "8080"}}
      - {{id: out4, direction: egress}}
      - {{id: out6, direction: egress, ethertype: IPv6}}
instances:
  - {{id: inside, addresses: [{INSIDE}, "{INSIDE6}"], security_groups: [sg]}}
"""


def _run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=60)


class Wire:
    """Two namespaces with one veth between them."""

    def __init__(self, name: str) -> None:
        self.inside, self.outside = f"{name}-in", f"{name}-out"

    def program(self, where: str, *command: str) -> subprocess.CompletedProcess[str]:
        return _run("ip", "netns", "exec", where, *command, check=False)

    @contextlib.contextmanager
    def running(self, where: str, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        command = ("ip", "netns", "exec", where, *command)
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=subprocess.PIPE) as process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGINT)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire(f"dp{os.getpid()}")
    try:
        for namespace in (made.inside, made.outside):
            _run("ip", "netns", "add", namespace)
        _run(
            "ip", "link", "add", "v0", "netns", made.inside, "type", "veth", "peer", "name", "v0", "netns", made.outside
        )
        for namespace, four, six in ((made.inside, INSIDE, INSIDE6), (made.outside, OUTSIDE, OUTSIDE6)):
            _run("ip", "-n", namespace, "address", "add", f"{four}/24", "dev", "v0")
            _run("ip", "-n", namespace, "address", "add", f"{six}/64", "dev", "v0", "nodad")
            _run("ip", "-n", namespace, "link", "set", "v0", "up")
        yield made
    finally:
        for namespace in (made.inside, made.outside):
            _run("ip", "netns", "delete", namespace, check=False)


@contextlib.contextmanager
def recorded(wire: Wire, path: Path) -> Iterator[None]:
    with wire.running(wire.inside, "tcpdump", "-i", "v0", "-U", "--immediate-mode", "-w", str(path)) as tcpdump:
        assert tcpdump.stderr
        for line in tcpdump.stderr:
            if b"listening" in line:
                break
        yield
        time.sleep(0.3)


def replayed(path: Path, tmp_path: Path) -> list[dict[str, object]]:
    verdicts = tmp_path / "verdicts.jsonl"
    summary = DataPlane(Policy.parse(POLICY)).replay(path, verdicts=verdicts)
    assert not summary.faults
    return [json.loads(line)["checks"][0] for line in verdicts.read_text().splitlines() if '"checks": [{' in line]


def test_ping_both_ways(wire: Wire, tmp_path: Path) -> None:
    """SPEC 4.5: a ping that a rule allows, and one from inside, each with its replies; ping over IPv6 from outside has
    no rule."""
    capture = tmp_path / "ping.pcap"
    with recorded(wire, capture):
        assert wire.program(wire.outside, "ping", "-c", "3", "-i", "0.2", INSIDE).returncode == 0
        assert wire.program(wire.inside, "ping", "-c", "2", "-i", "0.2", OUTSIDE).returncode == 0
        wire.program(wire.outside, "ping", "-c", "1", INSIDE6)
    checks = replayed(capture, tmp_path)
    reasons = [(c["reason"], c["rule"]) for c in checks if c["reason"] != "control"]
    assert reasons[:10] == [
        ("rule", "ping"),
        *[("connection", "ping")] * 5,
        ("rule", "out4"),
        *[("connection", "out4")] * 3,
    ]
    # The echo request over IPv6 is denied, so its reply was asked for by nobody.
    assert reasons[10:] == [("no-rule-matched", None), ("invalid", None)]


def test_a_web_server(wire: Wire, tmp_path: Path) -> None:
    """SPEC 4.1, 4.4: real TCP from handshake to close has one first packet and nothing invalid; a port without a rule
    is denied."""
    capture = tmp_path / "web.pcap"
    server = ("python3", "-m", "http.server", "8080", "--directory", str(tmp_path))
    (tmp_path / "page").write_bytes(os.urandom(300_000))
    with wire.running(wire.inside, *server), recorded(wire, capture):
        for _ in range(50):
            fetched = wire.program(
                wire.outside, "curl", "-s", "-o", str(tmp_path / "got"), f"http://{INSIDE}:8080/page"
            )
            if fetched.returncode == 0:
                break
            time.sleep(0.1)
        assert (tmp_path / "got").read_bytes() == (tmp_path / "page").read_bytes()
        wire.program(wire.outside, "nc", "-w", "1", INSIDE, "8081")
    checks = [c for c in replayed(capture, tmp_path) if c["reason"] != "control"]
    assert {c["reason"] for c in checks} == {"rule", "connection", "no-rule-matched", "invalid"}
    assert {c["rule"] for c in checks if c["reason"] == "connection"} == {"web"}
    # Invalid is only the server's answer to the SYN that was denied.
    denied = [c for c in checks if c["verdict"] == "deny"]
    assert [c["reason"] for c in denied] == ["no-rule-matched", "invalid"]
