"""Faults of learning that were found: one named case each."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from dataplane import DataPlane, Policy
from dataplane.insight.learn import learn
from dataplane.insight.lint import lint
from tests.property import frames

MAC = "02:00:00:00:00:01"


def write(path: Path, packets: list[bytes]) -> str:
    """A capture with a packet a second."""
    with path.open("wb") as file:
        file.write(struct.pack("=IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for second, packet in enumerate(packets):
            frame = frames.ethernet(MAC, MAC, packet)
            file.write(struct.pack("=4I", second, 0, len(frame), len(frame)) + frame)
    return str(path)


@pytest.mark.parametrize(
    ("server", "client", "foreign"), [("10.0.0.1", "192.0.2.1", 58), ("2001:db8::1", "2001:db8:f::1", 1)]
)
def test_the_icmp_of_the_other_family(server: str, client: str, foreign: int, tmp_path: Path) -> None:
    """No rule names it: learning ended in a traceback, for want of a rule that the policy would take (SPEC 2, 8.7)."""
    ports = (4000, 53)
    packets = [
        frames.packet(client, server, foreign, bytes(8)),
        frames.packet(server, client, foreign, bytes(8)),
        frames.packet(client, server, 17, frames.datagram(client, server, 17, ports)),
        frames.packet(server, client, 17, frames.datagram(server, client, 17, ports[::-1])),
    ]
    path = write(tmp_path / "x.pcap", packets)
    learned = learn(Policy.model_validate({"instances": [{"id": "a", "addresses": [server]}]}), [path])
    assert learned.answered == 2
    assert "which no rule can name: 1: their rules have all protocols" in learned.notes[0]
    (rule,) = learned.policy.security_groups[0].security_group_rules
    assert (rule.protocol, rule.description) == (None, "Learned from 2 connections, first packet 1")
    assert not lint(learned.policy)
    assert DataPlane(learned.policy).replay(path).verdicts["allow"].packets == 4
