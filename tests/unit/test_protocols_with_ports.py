"""Rules with ports for every protocol that has them (SPEC 2, 4.7), judged by the real engine."""

from __future__ import annotations

import pytest

from dataplane import DataPlane, Policy
from tests.property.frames import datagram, ethernet, packet

POLICY = """
security_groups:
  - id: sg
    security_group_rules: [{{id: in, direction: ingress, protocol: {}, multiport: "22,5000-5001"}}]
instances: [{{id: vm, addresses: [10.0.0.1], security_groups: [sg]}}]
"""


def verdict(plane: DataPlane, number: int, port: int) -> tuple[str, str]:
    ends = "192.0.2.9", "10.0.0.1"
    body = packet(*ends, number, datagram(*ends, number, (40000, port)))
    (check,) = plane.process(ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", body), time_ns=0).checks
    return check.verdict, check.reason


@pytest.mark.parametrize(("name", "number"), [("udp", 17), ("sctp", 132), ("dccp", 33), ("udplite", 136)])
def test_the_destination_port_decides(name: str, number: int) -> None:
    for written in (name, str(number)):
        plane = DataPlane(Policy.parse(POLICY.format(written)), seed=1)
        for port, allowed in ((22, True), (23, False), (4999, False), (5000, True), (5001, True), (5002, False)):
            expected = ("allow", "rule") if allowed else ("deny", "no-rule-matched")
            assert verdict(plane, number, port) == expected, (written, port)
    others = {17, 132, 33, 136} - {number}
    assert {verdict(plane, other, 5000) for other in others} == {("deny", "no-rule-matched")}
