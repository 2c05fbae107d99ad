"""What `DataPlane.replay` says is about this replay, whatever the engine did before (SPEC 7)."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dataplane import DataPlane, Policy
from dataplane.replay import Summary
from tests.property.frames import datagram, ethernet, packet

POLICY = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: dns, direction: ingress, protocol: udp, multiport: "53"}
      - {id: web, direction: ingress, protocol: udp, multiport: "80"}
instances: [{id: server, addresses: [10.0.0.1], security_groups: [sg]}]
"""


def udp(source: str, port: int, destination: str = "10.0.0.1") -> bytes:
    body = datagram(source, destination, 17, (4000, port))
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packet(source, destination, 17, body))


def write(path: Path, frames: list[bytes], start: int = 0) -> Path:
    data = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    for n, frame in enumerate(frames, start):
        data += struct.pack("<IIII", n, 0, len(frame), len(frame)) + frame
    path.write_bytes(data)
    return path


@pytest.fixture
def firewall() -> DataPlane:
    return DataPlane(Policy.parse(POLICY), seed=1)


FRAMES = [udp("192.0.2.1", 53), udp("192.0.2.1", 53), udp("192.0.2.2", 54), udp("192.0.2.9", 1, "192.0.2.8"), b"short"]


def figures(summary: Summary) -> dict[str, Any]:
    """A summary without how long it took and what it found and left in the connection table."""
    said = summary.to_dict()
    for name in ("elapsed", "packets_per_second", "captures"):
        del said[name]
    return said


def test_a_second_replay_has_the_figures_of_the_first(firewall: DataPlane, tmp_path: Path) -> None:
    """SPEC 7, the summary: all counts start at 0, with every connection of before over."""
    first = firewall.replay(write(tmp_path / "first", FRAMES))
    second = firewall.replay(write(tmp_path / "second", FRAMES, 10_000))
    again = firewall.replay(tmp_path / "second")
    assert (first.packets, first.connections.opened, len(first.denied_flows)) == (5, 1, 1)
    assert first.time_backwards == 0
    # The connection of the first was still in the table.
    expired = second.connections._replace(expired=second.connections.expired - 1)
    assert figures(replace(second, connections=expired)) == figures(first)
    # The clock of an engine does not go back: to the third all packets but the last come late, and nothing is new.
    assert (again.packets, again.bytes, again.time_backwards) == (5, first.bytes, 4)
    assert (again.connections.opened, again.connections.live) == (0, 1)
    assert {rule.rule: (rule.hits, rule.packets) for rule in again.rules} == {"dns": (0, 2), "web": (0, 0)}
    assert again.denied_flows[0].to_dict() == first.denied_flows[0].to_dict()


def test_the_rate_is_that_of_this_replay(firewall: DataPlane, tmp_path: Path) -> None:
    """SPEC 7: how fast it went."""
    capture = write(tmp_path / "capture", FRAMES)
    for _ in range(3):
        summary = firewall.replay(capture)
        assert summary.packets_per_second == pytest.approx(len(FRAMES) / summary.elapsed)


def test_packets_judged_one_by_one_are_not_counted_either(firewall: DataPlane, tmp_path: Path) -> None:
    """SPEC 7; `Connections` still shows all of the table."""
    for frame in FRAMES[:3]:
        firewall.process(frame, time=0.0)
    summary = firewall.replay(write(tmp_path / "capture", [udp("192.0.2.7", 80), udp("192.0.2.7", 81)]))
    assert {word: traffic.packets for word, traffic in summary.verdicts.items()} == {"allow": 1, "deny": 1, "bypass": 0}
    assert [(r.verdict, r.reason, r.packets) for r in summary.reasons] == [
        ("allow", "rule", 1),
        ("deny", "no-rule-matched", 1),
    ]
    assert {rule.rule: rule.hits for rule in summary.rules} == {"web": 1, "dns": 0}
    assert [(flow.source, flow.packets) for flow in summary.denied_flows] == [("192.0.2.7", 1)]
    assert (summary.connections.opened, summary.connections.live) == (1, 2)


def test_a_rule_that_was_gone_before_is_not_one_that_was_never_hit(firewall: DataPlane, tmp_path: Path) -> None:
    """SPEC 7: rules never hit are those that could have been."""
    firewall.process(FRAMES[0], time=0.0)
    firewall.apply({"delete_rule": {"id": "web"}})
    summary = firewall.replay(write(tmp_path / "capture", [udp("192.0.2.7", 80)]))
    assert [rule for rule, _ in summary.never_hit] == ["dns"]


def test_denied_flows_of_a_flooded_table_are_those_of_this_replay(firewall: DataPlane, tmp_path: Path) -> None:
    """SPEC 7: counts that a flood has made inexact say by how much, and the true one is never above them."""
    flood = [udp(f"198.51.{n // 250}.{n % 250}", 1000 + n % 40000) for n in range(20_000)]
    firewall.process_batch(flood, list(range(len(flood))))
    few = [udp("192.0.2.7", 99)] * 30 + flood[:40]
    summary = firewall.replay(write(tmp_path / "capture", few), top=1000)
    assert sum(flow.packets - flow.overcount for flow in summary.denied_flows) <= len(few)
    found = {(flow.source, flow.destination_port): flow for flow in summary.denied_flows}
    seven = found["192.0.2.7", 99]
    assert seven.packets - seven.overcount == 30
    for n in range(40):
        flow = found[f"198.51.0.{n}", 1000 + n]
        assert flow.packets - flow.overcount <= 1 <= flow.packets
