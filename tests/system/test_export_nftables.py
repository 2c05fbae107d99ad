"""SPEC 8.8: what `export nftables` writes, loaded into the kernel, decides about first packets as the engine does."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Packet

from dataplane import DataPlane
from dataplane.interchange.nftables import exported
from dataplane.policy import Policy

from .kernel_filter import PROGRAMS, KernelFilter

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(program) is None for program in PROGRAMS),
    reason=f"needs root and the programs {', '.join(PROGRAMS)}",
)

INSIDE = [f"10.0.0.{n}" for n in range(1, 5)] + [f"fd00::{n}" for n in range(1, 5)]
VIRTUAL = "10.0.0.7"
OUTSIDE = ["198.51.100.1", "198.51.100.200", "192.0.2.9", "fd01::1", "fd02::1"]


class LoadedRules(KernelFilter):
    """A rule set as it was exported, with instances on one side and everybody else on the other."""

    def __init__(self, ruleset: str) -> None:
        self._ruleset = ruleset
        super().__init__((*INSIDE, VIRTUAL), "", {"tcp_established": 600})

    def _set_up(self, inside: tuple[str, ...], rules: str, timeouts: Mapping[str, int]) -> None:
        super()._set_up(inside, rules, timeouts)
        # The exported rules alone decide, in a kernel with its own defaults; loaded twice, they replace themselves.
        Path("/proc/sys/net/netfilter/nf_conntrack_tcp_loose").write_text("1")
        for script in ("delete table inet security_group", self._ruleset, self._ruleset):
            subprocess.run(["nft", "-f", "-"], input=script, check=True, text=True, timeout=60)

    def forwards(self, packet: bytes, from_inside: bool) -> bool:
        """Whether a packet that is written to one side comes out at either."""
        inside, outside = self._devices
        os.write(inside if from_inside else outside, packet)
        addresses = slice(8, 40) if packet[0] >> 4 == 6 else slice(12, 20)
        came_out = [frame[addresses] for device in (inside, outside) for frame in self._frames(device)]
        return packet[addresses] in came_out

    @staticmethod
    def _frames(device: int) -> Iterator[bytes]:
        with suppress(BlockingIOError):
            while True:
                yield os.read(device, 65535)


def some_rule(chance: random.Random) -> dict[str, Any]:
    six = chance.random() < 0.4
    rule: dict[str, Any] = {
        "direction": chance.choice(["ingress", "egress"]),
        "ethertype": "IPv6" if six else "IPv4",
        "priority": chance.randint(1, 3),
        "action": "deny" if chance.random() < 0.3 else "allow",
        "enabled": chance.random() < 0.9,
    }
    match chance.randint(0, 5):
        case 0:
            rule["protocol"] = "tcp"
            rule["multiport"] = chance.choice(["22", "22,80-82", "1-1024", "80,443"])
        case 1:
            rule["protocol"] = "udp"
            rule["multiport"] = chance.choice(["53", "53,123", "1-65535"])
        case 2:
            rule["protocol"] = "icmpv6" if six else "icmp"
            if chance.random() < 0.5:
                rule["icmp_type"] = 128 if six else 8
        case 3:
            rule["protocol"] = chance.choice(["tcp", "udp", 6, 17])
    match chance.randint(0, 4):
        case 0:
            rule["remote_ip_prefix"] = chance.choice(
                ["fd00::/16", "fd01::/64"] if six else ["198.51.100.0/25", "0.0.0.0/0"]
            )
        case 1:
            rule["remote_group_id"] = chance.choice(["a", "b", "c"])
        case 2:
            rule["remote_address_group_id"] = "six" if six else "four"
    return rule


def some_policy(chance: random.Random) -> Policy:
    groups = [
        {"id": g, "security_group_rules": [some_rule(chance) for _ in range(chance.randint(2, 7))]} for g in "abc"
    ]
    instances: list[dict[str, Any]] = [
        {
            "id": f"vm{n}",
            "addresses": [f"10.0.0.{n}", f"fd00::{n}"],
            "security_groups": chance.sample(["a", "b", "c"], chance.randint(1, 3)),
        }
        for n in range(1, 5)
    ]
    instances[0]["allowed_address_pairs"] = ["10.0.0.0/28"]
    return Policy.model_validate(
        {
            "security_groups": groups,
            "address_groups": [
                {"id": "four", "ip_version": 4, "ip_set": ["198.51.100.0/25", "10.0.0.2-10.0.0.3", "198.51.100.1"]},
                {"id": "six", "ip_version": 6, "ip_set": ["fd02::/64", "fd00::2"]},
            ],
            "instances": instances,
            "load_balancers": [
                {"id": "lb", "addresses": ["192.0.2.9"], "backends": ["vm2"], "transfer_client_ip": True}
            ],
        }
    )


def some_packet(chance: random.Random, number: int) -> tuple[Packet, bool]:
    inside, everybody = [*INSIDE, VIRTUAL], [*INSIDE, VIRTUAL, *OUTSIDE]
    source = chance.choice(everybody)
    six = ":" in source
    others = [a for a in everybody if (":" in a) == six and a != source and (source in inside or a in inside)]
    target = chance.choice(others)
    port = chance.choice([22, 53, 80, 81, 443, 1024, 40000])
    inner = chance.choice(
        [
            TCP(sport=10000 + number, dport=port, flags="S"),
            TCP(sport=10000 + number, dport=port, flags="A"),
            UDP(sport=10000 + number, dport=port),
            ICMPv6EchoRequest(id=number) if six else ICMP(type=8, id=number),
        ]
    )
    return (IPv6 if six else IP)(src=source, dst=target) / inner, source in inside


@pytest.mark.parametrize("seed", range(6))
def test_first_packets_are_decided_alike(seed: int) -> None:
    chance = random.Random(seed)
    policy = some_policy(chance)
    ruleset, left_out = exported(policy)
    assert not left_out
    engine = DataPlane(policy, seed=1)
    kernel = LoadedRules(ruleset)
    allowed = 0
    try:
        for number in range(120):
            packet, from_inside = some_packet(chance, number)
            verdict = engine.process(bytes(packet), 1.0 + number / 1000, link="raw")
            forwarded = kernel.forwards(bytes(packet), from_inside)
            assert forwarded == (verdict.verdict != "deny"), f"{packet.summary()}: {verdict}\n{ruleset}"
            allowed += forwarded
    finally:
        kernel.close()
    assert 0 < allowed < 120
