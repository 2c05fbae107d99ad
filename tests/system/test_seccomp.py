"""The running firewall's filter of system calls: in force for all threads, and no call is missed."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from dataplane import DataPlane, Policy
from dataplane.live import state

from .guarded import PROGRAMS, WORLD, Guarded, four, guarded, pings
from .network import needs_root_and, until

pytest.importorskip("pyseccomp")
pytestmark = needs_root_and(*PROGRAMS)

POLICY = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: ping, direction: ingress, protocol: icmp}
      - {id: out, direction: egress}
instances:
"""


def seccomp_of(task: Path) -> tuple[int, int, int]:
    """Mode, number of filters, and whether privileges can be gained."""
    fields = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
    return int(fields["Seccomp"]), int(fields["Seccomp_filters"]), int(fields["NoNewPrivs"])


def threads_of(pid: int) -> list[tuple[int, int, int]]:
    """The same of all threads of a process, but for those that end meanwhile."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(seccomp_of(task))
    return found


def test_the_filter_is_in_force_and_everything_works(tmp_path: Path) -> None:
    """Ports made and taken out, state, metrics, captures, events, and the end."""
    with guarded(tmp_path) as net:
        first = net.instance("a", 1)
        net.write(POLICY + first)
        net.start("--workers", "2", "--state", str(tmp_path / "state"), "--metrics", "127.0.0.1:9477")
        net.address("a", 1)
        status = net.ask("status")
        assert status["refused_system_calls"] > 50
        assert "system calls are forbidden to it" in net.ctl("status")
        filters = seccomp_of(Path("/proc/self"))[1] + 1
        threads = threads_of(status["pid"])
        assert len(threads) >= 4  # the event loop, control, two workers
        assert set(threads) == {(2, filters, 1)}
        assert pings(net.world, four(1))
        _ports_come_and_go(net, first)
        net.ctl("rule", "update", "ping", "icmp_type=echo-request")
        assert "dataplane_connections" in net.fw.run("curl", "-s", "http://127.0.0.1:9477/metrics").stdout
        assert "saved in" in net.ctl("save")
        _streams(net, tmp_path / "capture.pcapng")
        assert set(threads_of(status["pid"])) == {(2, filters, 1)}
        assert net.stop() == 0
        assert "Traceback" not in net.log.read_text()
        assert state.read(tmp_path / "state")


def _ports_come_and_go(net: Guarded, first: str) -> None:
    """A new TAP in a namespace of its own; one that exists there cannot be taken, as without the filter."""
    net.reload(POLICY + first + net.instance("b", 2))
    net.address("b", 2)
    assert pings(net.world, four(2))
    net.guest("c").ip("tuntap", "add", "eth-c", "mode", "tap")
    refused = net.reload(POLICY + first + net.instance("c", 3), status=1)
    assert "setting up interface eth-c failed: File exists" in refused
    net.reload(POLICY + first)
    until(lambda: "eth-b" not in net.guest("b").ip("-brief", "link"), "the TAP is gone")
    net.fw.ip("link", "delete", "up0")
    net.net.wire(net.fw, "up0", net.world, "eth0")
    net.world.ip("address", "add", f"{four(WORLD)}/24", "dev", "eth0")
    until(lambda: pings(net.world, four(1), count=1), "the uplink is served again")


def _streams(net: Guarded, path: Path) -> None:
    """A capture, and drops as they come."""
    net.world.start("ping", "-i", "0.1", four(1))
    net.ctl("capture", str(path), "--count", "4")
    assert DataPlane(Policy.parse(POLICY + net.instance("a", 1))).replay(path).packets == 4
    net.world.start("sh", "-c", f"while sleep 0.1; do nc -z -w 1 {four(1)} 22; done")
    assert "no-rule-matched" in net.ctl("drops", "--count", "1")


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs all the same, and says so."""
    (tmp_path / "pyseccomp.py").write_text('raise RuntimeError("Unable to find libseccomp")')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with guarded(tmp_path) as net:
        net.write(POLICY + net.instance("a", 1))
        net.start()
        net.address("a", 1)
        assert pings(net.world, four(1))
        assert "system calls are not filtered: libseccomp is not installed" in net.log.read_text()
        assert "system calls are not filtered: libseccomp is not installed" in net.ctl("status")
        assert net.ask("status")["refused_system_calls"] == 0
