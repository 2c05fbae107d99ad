"""What stands between Ethernet and IP (SPEC 4.7, 7; docs/semantics.md): a frame is judged by what it carries."""

from __future__ import annotations

import pytest
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, LLC, Dot1AD, Dot1Q, Ether
from scapy.layers.ppp import PPP, PPPoE, PPPoED
from scapy.packet import Packet, Raw

from dataplane import DataPlane, Policy

POLICY = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: dns, direction: ingress, protocol: udp, multiport: "53"}
      - {id: dns6, direction: ingress, ethertype: IPv6, protocol: udp, multiport: "53"}
instances: [{id: server, addresses: [10.0.0.1, "fd00::1"], security_groups: [sg]}]
"""
V4 = IP(src="192.0.2.1", dst="10.0.0.1")
V6 = IPv6(src="2001:db8::1", dst="fd00::1")


def labels(n: int) -> Packet:
    stack = MPLS(label=n, s=1)
    for label in range(1, n):
        stack = MPLS(label=label, s=0) / stack
    return stack


CARRIERS = {
    "nothing": Ether(),
    "VLAN": Ether() / Dot1Q(vlan=5),
    "QinQ": Ether() / Dot1AD(vlan=5) / Dot1Q(vlan=6),
    "MPLS": Ether() / labels(1),
    "eight MPLS labels": Ether() / labels(8),
    "MPLS in a VLAN": Ether() / Dot1Q(vlan=5) / labels(2),
    "PPPoE": Ether() / PPPoE() / PPP(),
    "PPPoE in a VLAN": Ether() / Dot1Q(vlan=5) / PPPoE() / PPP(),
}


@pytest.mark.parametrize(("packet", "rule"), [(V4, "dns"), (V6, "dns6")], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS)
def test_a_frame_is_judged_by_what_it_carries(carrier: Packet, packet: Packet, rule: str) -> None:
    """SPEC 4.7, 7."""
    firewall = DataPlane(Policy.parse(POLICY), seed=1)
    good, bad = (bytes(carrier / packet / UDP(sport=4000, dport=port) / b"x") for port in (53, 54))
    (check,) = firewall.process(good, time=0.0).checks
    assert (check.verdict, check.reason, check.rule) == ("allow", "rule", rule)
    (check,) = firewall.process(bad, time=0.0).checks
    assert (check.verdict, check.reason) == ("deny", "no-rule-matched")


OTHERS = {
    "nine MPLS labels": Ether() / labels(9) / V4,
    "Ethernet over MPLS": Ether() / labels(1) / Raw(bytes(4)) / Ether() / V4,
    "PPPoE discovery": Ether() / PPPoED(code=9) / Raw(bytes(4)),
    "PPP control": Ether() / PPPoE() / PPP(proto=0xC021) / Raw(bytes(8)),
    "LLC": Ether(type=40) / LLC() / Raw(bytes(37)),
}


@pytest.mark.parametrize("frame", OTHERS.values(), ids=OTHERS)
def test_other_frames_are_passed_by(frame: Packet) -> None:
    """SPEC 4.8: other non-IP frames are bypass in replay."""
    verdict = DataPlane(Policy.parse(POLICY), seed=1).process(bytes(frame), time=0.0)
    assert (verdict.verdict, verdict.checks) == ("bypass", ())


def test_arp_in_a_vlan_is_control() -> None:
    """SPEC 4.8."""
    frame = Ether() / Dot1Q(vlan=5) / ARP(psrc="192.0.2.1", pdst="10.0.0.1")
    (check,) = DataPlane(Policy.parse(POLICY), seed=1).process(bytes(frame), time=0.0).checks
    assert (check.verdict, check.reason) == ("allow", "control")
