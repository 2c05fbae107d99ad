"""Faults of the fast path that were found: one named case each."""

from __future__ import annotations

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether

from dataplane.plane import Plane
from dataplane.policy import Policy

POLICY = """
security_groups: [{id: shut, security_group_rules: []}]
instances: [{id: one, addresses: [192.168.0.1], security_groups: [shut]}]
"""


def test_a_denied_packet_is_told_with_its_protocol() -> None:
    """Whether a packet was ARP was not set on the fast path: its flow had what a packet before it left in memory."""
    plane = Plane(Policy.parse(POLICY), seed=0)
    link = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    here = IP(src="10.0.0.9", dst="192.168.0.1")
    frames = []
    for port in range(64):
        frames += [
            bytes(link / ARP(psrc="10.0.0.9", pdst="192.168.0.1")),
            bytes(link / here / TCP(sport=port + 1, dport=80, flags="S")),
            bytes(link / here / UDP(sport=port + 1, dport=5353) / bytes(8)),
        ]
    plane.process_batch(frames, times_ns=[10**18 + n for n in range(len(frames))])
    denied = [(flow.flow.arp, flow.flow.protocol, flow.flow.destination_port) for flow in plane.denied(200)]
    assert set(denied) == {(0, 6, 80), (0, 17, 5353)}
