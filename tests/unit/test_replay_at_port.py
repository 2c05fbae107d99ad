"""Captures that were taken at ports (SPEC 7, "At a port"): `--at`, and interfaces with the names of the policy's."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from dataplane import DataPlane, Policy, pcapng
from dataplane.insight.diff import diff
from dataplane.policy.schedule import load_changes
from dataplane.replay import Summary
from tests.property.frames import checksum, datagram, ethernet, icmp, packed, packet, query, tcp

A, B, C, ELB, GATEWAY, STRANGE = (f"02:00:00:00:00:{n:02x}" for n in (1, 2, 3, 0x64, 9, 0x77))
VIRTUAL, BROADCAST, ALL_NODES = "00:00:5e:00:01:07", "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"
OUTSIDE = "192.0.2.9"
POLICY = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: web, direction: ingress, protocol: tcp, multiport: "80"}
      - {id: udp, direction: ingress, protocol: udp, multiport: "5000"}
      - {id: out, direction: egress}
instances:
  - {id: a, addresses: [10.0.0.1], mac: "02:00:00:00:00:01", security_groups: [sg], interface: tap-a,
     allowed_address_pairs: [{ip: 10.0.0.50, mac: "00:00:5e:00:01:07"}]}
  - {id: b, addresses: [10.0.0.2], mac: "02:00:00:00:00:02", security_groups: [sg], interface: tap-b}
  - {id: c, addresses: [10.0.0.3], security_groups: [sg], interface: tap-c}
load_balancers:
  - {id: elb, addresses: [10.0.0.100], mac: "02:00:00:00:00:64", backends: [a], transfer_client_ip: true,
     interface: elb0}
uplinks: [{interface: eth0}]
"""
SYN, SYN_ACK, ACK = 2, 0x12, 0x10
ALLOW, DENY, BYPASS = "allow", "deny", "bypass"


def segment(source: str, destination: str, ports: tuple[int, int], flags: int, macs: tuple[str, str]) -> bytes:
    seq, ack = (1, 0) if flags == SYN else (1, 2) if flags == SYN_ACK else (2, 2)
    return ethernet(*macs, packet(source, destination, 6, tcp(source, destination, ports, flags, seq, ack)))


def udp(source: str, destination: str, port: int, macs: tuple[str, str]) -> bytes:
    body = datagram(source, destination, 17, (4000, port), b"x")
    return ethernet(*macs, packet(source, destination, 17, body))


def arp(sender: str, target: str, macs: tuple[str, str], named: str | None = None, operation: int = 1) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    mac = bytes.fromhex((named or macs[0]).replace(":", ""))
    return ethernet(*macs, head + mac + packed(sender) + bytes(6) + packed(target), 0x0806)


#: A frame with the interface at which it was seen, and whether that received it; None where the capture does not tell.
Seen = tuple[bytes, int, bool | None]


def capture(path: Path, frames: list[Seen], *interfaces: tuple[str, str], start: int = 1000) -> Path:
    """A pcapng file; a frame a second."""
    blocks = [pcapng.section("dataplane test"), *(pcapng.interface(*described) for described in interfaces)]
    for second, (frame, number, received) in enumerate(frames, start):
        block = bytearray(pcapng.packet(number, second * 10**9, frame, len(frame), sent=received is False, comment=""))
        if received is None:
            # The flags are the last option but the end.
            block[-12:-8] = bytes(4)
        blocks.append(bytes(block))
    path.write_bytes(b"".join(blocks))
    return path


def pcap(path: Path, frames: list[bytes], start: int = 1000) -> Path:
    """A pcap file, which tells neither interface nor direction."""
    blocks = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    for second, frame in enumerate(frames, start):
        blocks.append(struct.pack("<IIII", second, 0, len(frame), len(frame)) + frame)
    path.write_bytes(b"".join(blocks))
    return path


def replay(tmp_path: Path, *captures: Path, policy: str = POLICY, **options: Any) -> list[dict[str, Any]]:
    records, _ = replayed(tmp_path, *captures, policy=policy, **options)
    return records


def replayed(
    tmp_path: Path, *captures: Path, policy: str = POLICY, **options: Any
) -> tuple[list[dict[str, Any]], Summary]:
    verdicts = tmp_path / "v.jsonl"
    summary = DataPlane(Policy.parse(policy)).replay(*captures, verdicts=verdicts, **options)
    assert not summary.faults
    return [json.loads(line) for line in verdicts.read_text().splitlines()], summary


def told(record: dict[str, Any]) -> tuple[str, ...]:
    """Verdict, then instance, direction, reason and cause of each check."""
    words = [record["verdict"]]
    for check in record["checks"]:
        words += [check["instance"], check["direction"], check["reason"], *([check["cause"]] if check["cause"] else [])]
    return tuple(words)


# ---- at one instance ----


def test_the_port_says_whose_a_frame_is(tmp_path: Path) -> None:
    """SPEC 7: from its MAC is egress, all others ingress; spoofed senders, broadcast, multicast, other EtherTypes."""
    to_a, from_a = (GATEWAY, A), (A, GATEWAY)
    frames = [
        segment(OUTSIDE, "10.0.0.1", (4000, 80), SYN, to_a),
        segment("10.0.0.1", OUTSIDE, (80, 4000), SYN_ACK, from_a),
        segment("10.0.0.77", OUTSIDE, (80, 4000), SYN, from_a),  # an address that it does not have
        udp(OUTSIDE, "10.0.0.255", 5000, (GATEWAY, BROADCAST)),
        udp(OUTSIDE, "224.0.0.5", 5001, (GATEWAY, "01:00:5e:00:00:05")),
        udp("10.0.0.1", "10.0.0.255", 137, (A, BROADCAST)),
        ethernet(A, BROADCAST, bytes(46), 0x88CC),
        ethernet(GATEWAY, BROADCAST, bytes(46), 0x88CC),
        arp(OUTSIDE, "10.0.0.1", (GATEWAY, BROADCAST)),
        arp("10.0.0.2", "10.0.0.9", from_a),  # in another's name
        udp(OUTSIDE, "198.51.100.1", 5000, (GATEWAY, B)),  # to nobody's address, flooded
        segment("10.0.0.1", "10.0.0.1", (4000, 80), SYN, (STRANGE, A)),  # in its own name, from elsewhere
        arp("10.0.0.1", "10.0.0.1", (STRANGE, BROADCAST)),
        udp("10.0.0.2", "10.0.0.1", 5000, (B, A)),  # from an instance next to it
    ]
    records, summary = replayed(tmp_path, pcap(tmp_path / "a.pcap", frames), at="a")
    assert [told(record) for record in records] == [
        (ALLOW, "a", "ingress", "rule"),
        (ALLOW, "a", "egress", "connection"),
        (DENY, "a", "egress", "invalid", "spoofed"),
        (ALLOW, "a", "ingress", "rule"),
        (DENY, "a", "ingress", "no-rule-matched"),
        (ALLOW, "a", "egress", "rule"),
        (DENY, "a", "egress", "no-rule-matched", "not-ip"),
        (DENY, "a", "ingress", "no-rule-matched", "not-ip"),
        (ALLOW, "a", "ingress", "control"),
        (DENY, "a", "egress", "invalid", "spoofed"),
        (ALLOW, "a", "ingress", "rule"),
        (DENY, "a", "ingress", "invalid", "spoofed"),
        (DENY, "a", "ingress", "invalid", "spoofed"),
        (ALLOW, "a", "ingress", "rule"),
    ]
    assert {record["interface"] for record in records} == {None}
    assert summary.packets == len(frames)


def test_an_instance_asks_whether_its_own_addresses_are_free(tmp_path: Path) -> None:
    """SPEC 4.8, RFC 5227, RFC 4862 5.4: from 0.0.0.0 and ::, for what it has; for others' it would deny them these."""
    with_ipv6 = POLICY.replace("addresses: [10.0.0.1]", 'addresses: [10.0.0.1, "fd00::1"]')
    with_ipv6 = with_ipv6.replace("addresses: [10.0.0.2]", 'addresses: [10.0.0.2, "fd00::2"]')

    def solicit(target: str, kind: int = 135) -> bytes:
        group = "ff02::1:ff" + target[-2:].replace(":", "0") + ":1" if kind == 135 else "ff02::16"
        rest = bytes(4) + (packed(target) if kind == 135 else b"")
        body = packet("::", group, 58, icmp("::", group, kind, 0, rest), 255 if kind == 135 else 1)
        return ethernet(A, ALL_NODES, body)

    asked = [
        *(
            (arp("0.0.0.0", to, (A, BROADCAST)), to in ("10.0.0.1", "10.0.0.50"))
            for to in ("10.0.0.1", "10.0.0.50", "10.0.0.2", "10.0.0.100", "10.0.0.77", "169.254.3.4")
        ),
        *(
            (solicit(to), to in ("fd00::1", "fe80::ff:fe00:1"))
            for to in ("fd00::1", "fe80::ff:fe00:1", "fd00::2", "fd00::77", "fe80::ff:fe00:2", "fe80::1")
        ),
        (solicit("", 143), True),
        (arp("0.0.0.0", "10.0.0.1", (A, BROADCAST), operation=2), False),
    ]
    records = replay(tmp_path, pcap(tmp_path / "a.pcap", [frame for frame, _ in asked]), policy=with_ipv6, at="a")
    own, others = (ALLOW, "a", "egress", "control"), (DENY, "a", "egress", "invalid", "spoofed")
    assert [told(record) for record in records] == [own if free else others for _, free in asked]


def test_who_asks_from_outside_whether_an_address_is_free_is_answered(tmp_path: Path) -> None:
    """Who holds it must hear of it."""
    frames = [arp("0.0.0.0", "10.0.0.1", (GATEWAY, BROADCAST))]
    records = replay(tmp_path, pcap(tmp_path / "a.pcap", frames), at="a")
    assert [told(record) for record in records] == [(ALLOW, "a", "ingress", "control")]


def test_an_announcement_of_rarp_leaves_and_none_enters(tmp_path: Path) -> None:
    """SPEC 4.8: live, an instance's own RARP is control traffic."""
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 3)
    frames = [
        ethernet(mac, BROADCAST, head + 2 * (bytes.fromhex(mac.replace(":", "")) + bytes(4)), 0x8035)
        for mac in (A, GATEWAY)
    ]
    assert [told(record) for record in replay(tmp_path, pcap(tmp_path / "a.pcap", frames), at="a")] == [
        (ALLOW, "a", "egress", "control"),
        (DENY, "a", "ingress", "no-rule-matched", "not-ip"),
    ]


@pytest.mark.parametrize(("name", "sent_by_a"), [("tap-a", True), ("vnet0", True), ("ens3", False)])
def test_the_direction_flag_says_what_the_instance_sent(tmp_path: Path, name: str, sent_by_a: bool) -> None:
    """SPEC 7: a frame under another's MAC is egress if pcapng's flag says so. The host's side of an interface receives
    what the instance sends; on the instance's own side, as a frame with its MAC tells, it is the other way."""
    frames: list[Seen] = [
        (segment("10.0.0.1", OUTSIDE, (4000, 80), SYN, (A, GATEWAY)), 0, sent_by_a),
        (udp(OUTSIDE, "10.0.0.1", 5000, (GATEWAY, A)), 0, not sent_by_a),
        (udp("10.0.0.1", OUTSIDE, 5000, (STRANGE, GATEWAY)), 0, sent_by_a),
        (udp("10.0.0.77", OUTSIDE, 5000, (A, GATEWAY)), 0, None),
        (udp(OUTSIDE, "10.0.0.1", 5001, (STRANGE, A)), 0, None),
    ]
    path = capture(tmp_path / "a.pcapng", frames, (name, ""))
    records = replay(tmp_path, path, at="a")
    assert [told(record) for record in records] == [
        (ALLOW, "a", "egress", "rule"),
        (ALLOW, "a", "ingress", "rule"),
        (DENY, "a", "egress", "invalid", "spoofed"),
        (DENY, "a", "egress", "invalid", "spoofed"),
        (DENY, "a", "ingress", "no-rule-matched"),
    ]
    assert {record["interface"] for record in records} == {name}


def test_an_instance_without_a_mac_is_known_by_where_its_address_was(tmp_path: Path) -> None:
    """Where the policy tells no MAC: that of the first frame from one of its own addresses."""
    frames = [
        udp(OUTSIDE, "10.0.0.3", 5000, (GATEWAY, C)),
        arp("10.0.0.3", OUTSIDE, (C, BROADCAST)),
        udp("10.0.0.77", OUTSIDE, 5000, (C, GATEWAY)),  # by its MAC now
        segment("10.0.0.3", OUTSIDE, (4000, 80), SYN, (C, GATEWAY)),
        udp("10.0.0.3", "10.0.0.3", 5000, (GATEWAY, C)),  # in its name, by a MAC that is elsewhere
    ]
    assert [told(record) for record in replay(tmp_path, pcap(tmp_path / "c.pcap", frames), at="c")] == [
        (ALLOW, "c", "ingress", "rule"),
        (ALLOW, "c", "egress", "control"),
        (DENY, "c", "egress", "invalid", "spoofed"),
        (ALLOW, "c", "egress", "rule"),
        (DENY, "c", "ingress", "invalid", "spoofed"),
    ]


def test_an_instance_without_a_mac_is_no_balancer(tmp_path: Path) -> None:
    """SPEC 3.5, anti-spoofing: a balancer without a port is known by its MAC, which is no instance's."""
    portless = POLICY.replace(",\n     interface: elb0", "")
    assert portless != POLICY
    frames: list[Seen] = [(udp("10.0.0.3", "10.0.0.1", 22, (sender, A)), 0, True) for sender in (C, ELB)]
    path = capture(tmp_path / "c.pcapng", frames, ("tap-c", ""), ("tap-a", ""))
    assert [told(record) for record in replay(tmp_path, path, policy=portless)] == [
        (DENY, "c", "egress", "rule", "a", "ingress", "no-rule-matched"),
        (DENY, "c", "egress", "invalid", "spoofed"),
    ]


def test_an_instance_without_a_mac_has_the_link_local_address_of_its_frames(tmp_path: Path) -> None:
    """SPEC 4.8, anti-spoofing: no other, in what it sends, solicits or advertises; least of all another instance's."""
    own, gateways, of_b, every = "fe80::ff:fe00:3", "fe80::ff:fe00:9", "fe80::ff:fe00:2", "ff02::1"
    to_all = (C, ALL_NODES)

    def advert(source: str, target: str) -> bytes:
        option = b"\2\1" + bytes.fromhex(C.replace(":", ""))
        message = icmp(source, every, 136, 0, bytes.fromhex("20000000") + packed(target) + option)
        return ethernet(*to_all, packet(source, every, 58, message, 255))

    frames: list[Seen] = [
        (frame, TAP_C, True)
        for frame in (
            advert(own, own),
            advert(gateways, gateways),
            advert(own, gateways),
            advert("fe80::9", "fe80::9"),  # made from no MAC
            udp(of_b, every, 5000, to_all),
            udp(gateways, every, 5000, to_all),
            udp(own, every, 5000, to_all),
        )
    ]
    policy = POLICY.replace("{id: out, direction: egress}", "{id: out, direction: egress, ethertype: IPv6}")
    spoofed = (DENY, "c", "egress", "invalid", "spoofed")
    assert [
        told(record) for record in replay(tmp_path, capture(tmp_path / "c.pcapng", frames, *ALL), policy=policy)
    ] == [
        (ALLOW, "c", "egress", "control"),
        *[spoofed] * 5,
        (ALLOW, "c", "egress", "rule"),
    ]


def test_an_instance_without_a_mac_names_no_other_than_its_frames(tmp_path: Path) -> None:
    """Anti-spoofing: nobody is told that its addresses are at another's MAC, by ARP or neighbour discovery."""
    own, every = "fe80::ff:fe00:3", "ff02::1"

    def tells(kind: int, mac: str) -> bytes:
        what = bytes.fromhex("20000000") + packed(own) if kind == 136 else bytes(4) + packed("fe80::9")
        option = bytes([2 if kind == 136 else 1, 1]) + bytes.fromhex(mac.replace(":", ""))
        return ethernet(C, ALL_NODES, packet(own, every, 58, icmp(own, every, kind, 0, what + option), 255))

    frames: list[Seen] = [
        (frame, TAP_C, True)
        for named in (C, GATEWAY, A, STRANGE)
        for frame in (
            arp("10.0.0.3", OUTSIDE, (C, BROADCAST), named),
            arp("10.0.0.3", OUTSIDE, (C, BROADCAST), named, operation=2),
            tells(136, named),
            tells(135, named),
        )
    ]
    records = replay(tmp_path, capture(tmp_path / "c.pcapng", frames, *ALL))
    free, spoofed = (ALLOW, "c", "egress", "control"), (DENY, "c", "egress", "invalid", "spoofed")
    assert [told(record) for record in records] == [free] * 4 + [spoofed] * 12


def test_a_virtual_mac_is_who_shows_to_have_it(tmp_path: Path) -> None:
    """VRRP: the holder advertises from its own address; the other one's advertisements come by the same MAC."""

    def advertisement(source: str) -> bytes:
        return ethernet(
            VIRTUAL, "01:00:5e:00:00:12", packet(source, "224.0.0.18", 112, b"\x21\x07\x64\x01" + bytes(8), 255)
        )

    frames = [
        advertisement("10.0.0.9"),
        udp("10.0.0.50", OUTSIDE, 5000, (VIRTUAL, GATEWAY)),
        advertisement("10.0.0.1"),
        udp("10.0.0.50", OUTSIDE, 5000, (VIRTUAL, GATEWAY)),
    ]
    records = replay(tmp_path, pcap(tmp_path / "a.pcap", frames), at="a")
    assert [record["checks"][0]["direction"] for record in records] == ["ingress", "ingress", "egress", "egress"]
    assert [record["verdict"] for record in records[2:]] == [ALLOW, ALLOW]


def test_a_balancer_with_a_port_is_known_by_its_mac(tmp_path: Path) -> None:
    """SPEC 3.5: its packets pass without rules; under its address from elsewhere they are spoofed."""
    frames = [
        segment("203.0.113.1", "10.0.0.1", (4000, 22), SYN, (ELB, A)),
        segment("10.0.0.1", "203.0.113.1", (22, 4000), SYN_ACK, (A, ELB)),
        segment("10.0.0.100", "10.0.0.1", (4000, 22), SYN, (STRANGE, A)),
    ]
    assert [told(record) for record in replay(tmp_path, pcap(tmp_path / "a.pcap", frames), at="a")] == [
        (ALLOW, "a", "ingress", "load-balancer"),
        (ALLOW, "a", "egress", "load-balancer"),
        (DENY, "a", "ingress", "invalid", "spoofed"),
    ]


def test_a_policy_for_replay_needs_no_interface(tmp_path: Path) -> None:
    """SPEC 2: `interface` is for live mode; --at names the instance."""
    policy = (
        POLICY.replace(", interface: tap-a,", ",").replace(", interface: tap-b", "").replace(", interface: tap-c", "")
    )
    frames = [udp("10.0.0.77", OUTSIDE, 5000, (A, GATEWAY)), udp("10.0.0.1", OUTSIDE, 5000, (A, GATEWAY))]
    assert [told(r) for r in replay(tmp_path, pcap(tmp_path / "a.pcap", frames), policy=policy, at="a")] == [
        (DENY, "a", "egress", "invalid", "spoofed"),
        (ALLOW, "a", "egress", "rule"),
    ]


def test_a_client_of_dhcp_is_answered(tmp_path: Path) -> None:
    """SPEC 4.8: answers for 60 s after it asked, and no others."""

    def bootp(operation: int, ports: tuple[int, int], source: str, macs: tuple[str, str]) -> bytes:
        message = bytes([operation, 1, 6, 0]) + bytes(232) + b"\x63\x82\x53\x63\xff"
        return ethernet(
            *macs, packet(source, "255.255.255.255", 17, datagram(source, "255.255.255.255", 17, ports, message))
        )

    answer = bootp(2, (67, 68), "10.0.0.254", (GATEWAY, A))
    frames = [answer, bootp(1, (68, 67), "0.0.0.0", (A, BROADCAST)), answer]
    assert [told(record) for record in replay(tmp_path, pcap(tmp_path / "a.pcap", frames), at="a")] == [
        (DENY, "a", "ingress", "no-rule-matched"),
        (ALLOW, "a", "egress", "control"),
        (ALLOW, "a", "ingress", "control"),
    ]


def test_frames_of_another_port_are_not_of_this_one(tmp_path: Path) -> None:
    """A capture of all ports, seen at one of them."""
    frames: list[Seen] = [
        (udp(OUTSIDE, "10.0.0.1", 5000, (GATEWAY, A)), 1, True),
        (udp(OUTSIDE, "10.0.0.1", 5000, (GATEWAY, A)), 0, False),
        (udp("10.0.0.1", OUTSIDE, 5000, (A, GATEWAY)), 0, True),
    ]
    path = capture(tmp_path / "all.pcapng", frames, ("tap-a", "instance a"), ("eth0", "uplink"))
    assert [told(record) for record in replay(tmp_path, path, at="a")] == [
        (BYPASS,),
        (ALLOW, "a", "ingress", "rule"),
        (ALLOW, "a", "egress", "rule"),
    ]


def test_an_instance_that_leaves_passes_nothing(tmp_path: Path) -> None:
    """As a live port whose instance is gone."""
    without = POLICY.replace(POLICY[POLICY.index("  - {id: a,") : POLICY.index("  - {id: b,")], "").replace(
        "[a]", "[b]"
    )
    (tmp_path / "without.yaml").write_text(without)
    (tmp_path / "changes.yaml").write_text("[{at: 1, apply_policy: without.yaml}]")
    frames = [udp("10.0.0.1", OUTSIDE, 5000, (A, GATEWAY)), udp(OUTSIDE, "10.0.0.1", 5000, (GATEWAY, A))]
    changes = load_changes(tmp_path / "changes.yaml", Policy.parse(POLICY))
    records = replay(tmp_path, pcap(tmp_path / "a.pcap", frames), at="a", changes=changes)
    assert [record["verdict"] for record in records] == [ALLOW, DENY]


def test_what_is_not_ethernet_is_from_the_instance_by_its_address(tmp_path: Path) -> None:
    """Raw IP has no MAC: an address of its own tells; an unsupported link type is `bypass`."""
    packets = [
        packet("10.0.0.1", OUTSIDE, 17, datagram("10.0.0.1", OUTSIDE, 17, (4000, 5000), b"x")),
        packet(OUTSIDE, "10.0.0.9", 17, datagram(OUTSIDE, "10.0.0.9", 17, (4000, 5001), b"x")),
    ]
    path = pcap(tmp_path / "raw.pcap", packets)
    raw = path.read_bytes()
    path.write_bytes(raw[:20] + struct.pack("<I", 101) + raw[24:])
    assert [told(record) for record in replay(tmp_path, path, at="a")] == [
        (ALLOW, "a", "egress", "rule"),
        (DENY, "a", "ingress", "no-rule-matched"),
    ]
    path.write_bytes(raw[:20] + struct.pack("<I", 147) + raw[24:])
    assert [told(record) for record in replay(tmp_path, path, at="a")] == [(BYPASS,), (BYPASS,)]


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("web", "the policy has no instance web: it has a, b, c"),
        ("elb", "elb is a load balancer: captures are replayed at the interface of an instance"),
    ],
)
def test_an_instance_that_the_policy_does_not_have(tmp_path: Path, at: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replay(tmp_path, pcap(tmp_path / "a.pcap", []), at=at)


# ---- by the names of interfaces ----

ALL = (("tap-a", "instance a"), ("tap-b", "instance b"), ("tap-c", "instance c"), ("elb0", ""), ("eth0", "uplink"))
TAP_A, TAP_B, TAP_C, ELB0, ETH0 = range(5)


def test_frames_that_entered_are_judged_as_the_switch_did_and_copies_are_bypass(tmp_path: Path) -> None:
    """SPEC 7: the ingress port's egress check, then ingress at the destination that the switch finds."""
    to_b = segment("10.0.0.1", "10.0.0.2", (4000, 80), SYN, (A, B))
    frames: list[Seen] = [
        (to_b, TAP_A, True),
        (to_b, TAP_B, False),
        (segment("10.0.0.2", "10.0.0.1", (80, 4000), SYN_ACK, (B, A)), TAP_B, True),
        (udp("10.0.0.1", "10.0.0.2", 53, (A, B)), TAP_A, True),
        (udp("10.0.0.2", "10.0.0.9", 53, (A, GATEWAY)), TAP_A, True),  # another's address
        (udp(OUTSIDE, "10.0.0.1", 5000, (GATEWAY, A)), ETH0, True),
        (udp("10.0.0.2", "10.0.0.1", 5000, (GATEWAY, A)), ETH0, True),  # who is here does not come in by an uplink
        (udp("10.0.0.2", "10.0.0.1", 5000, (B, GATEWAY)), ETH0, True),
        (udp("10.0.0.100", "192.0.2.1", 5000, (GATEWAY, STRANGE)), ETH0, True),
        (segment("203.0.113.1", "10.0.0.1", (4000, 22), SYN, (ELB, A)), ELB0, True),
        (ethernet(GATEWAY, BROADCAST, bytes(46), 0x88CC), ETH0, True),
        (ethernet(GATEWAY, A, bytes(46), 0x88CC), ETH0, True),
        (arp("10.0.0.1", "10.0.0.2", (A, BROADCAST)), TAP_A, True),
    ]
    records, summary = replayed(tmp_path, capture(tmp_path / "live.pcapng", frames, *ALL))
    assert [told(record) for record in records] == [
        (ALLOW, "a", "egress", "rule", "b", "ingress", "rule"),
        (BYPASS,),
        (ALLOW, "b", "egress", "connection", "a", "ingress", "connection"),
        (DENY, "a", "egress", "rule", "b", "ingress", "no-rule-matched"),
        (DENY, "a", "egress", "invalid", "spoofed"),
        (ALLOW, "a", "ingress", "rule"),
        (DENY, "a", "ingress", "invalid", "spoofed"),
        (DENY, "b", "egress", "invalid", "spoofed"),
        (DENY,),
        (ALLOW, "a", "ingress", "load-balancer"),
        (BYPASS,),
        (DENY, "a", "ingress", "no-rule-matched", "not-ip"),
        (ALLOW, "a", "egress", "control"),
    ]
    assert [record["interface"] for record in records[:3]] == ["tap-a", "tap-b", "tap-b"]
    assert summary.packets == len(frames)


def test_the_switch_learns_where_an_instance_without_a_mac_is(tmp_path: Path) -> None:
    """A frame for everybody leaves connections where it enters; once the MAC is known, there is one way."""
    ping = ethernet(GATEWAY, C, packet(OUTSIDE, "10.0.0.3", 17, datagram(OUTSIDE, "10.0.0.3", 17, (4000, 5000), b"x")))
    answer = ethernet(
        C, GATEWAY, packet("10.0.0.3", OUTSIDE, 17, datagram("10.0.0.3", OUTSIDE, 17, (5000, 4000), b"y"))
    )
    frames: list[Seen] = [(ping, ETH0, True), (answer, TAP_C, True), (ping, ETH0, True)]
    records = replay(tmp_path, capture(tmp_path / "live.pcapng", frames, *ALL))
    assert [told(record) for record in records] == [
        (BYPASS,),  # for everybody: its sender is asked nothing
        (ALLOW, "c", "egress", "connection"),  # which that frame opened at c
        (ALLOW, "c", "ingress", "connection"),
    ]
    assert records[1]["checks"][0]["opened_by"] == 1
    assert records[1]["checks"][0]["rule"] == "udp"


def test_where_the_direction_is_not_told_the_sender_tells_it(tmp_path: Path) -> None:
    frames: list[Seen] = [
        (udp("10.0.0.1", OUTSIDE, 5000, (A, GATEWAY)), TAP_A, None),
        (udp("10.0.0.1", OUTSIDE, 5000, (A, GATEWAY)), ETH0, None),
        (udp(OUTSIDE, "10.0.0.1", 5000, (GATEWAY, A)), ETH0, None),
        (udp(OUTSIDE, "10.0.0.1", 5000, (GATEWAY, A)), TAP_A, None),
        (udp("203.0.113.1", "10.0.0.1", 22, (ELB, A)), ELB0, None),
        (udp("10.0.0.1", "203.0.113.1", 22, (A, ELB)), ELB0, None),
    ]
    records = replay(tmp_path, capture(tmp_path / "tapped.pcapng", frames, *ALL))
    assert [told(record) for record in records] == [
        (ALLOW, "a", "egress", "rule"),
        (BYPASS,),
        (ALLOW, "a", "ingress", "rule"),
        (BYPASS,),
        (ALLOW, "a", "ingress", "load-balancer"),
        (BYPASS,),
    ]


@pytest.mark.parametrize("port", ["tap-a", "eth0"])
def test_a_capture_at_one_port_has_both_sides_of_a_connection(tmp_path: Path, port: str) -> None:
    """As `ctl capture --port` writes: what left is `bypass`, and the connection goes on by it as it did live."""
    frames = [
        (segment(OUTSIDE, "10.0.0.1", (4000, 80), SYN, (GATEWAY, A)), "eth0"),
        (segment("10.0.0.1", OUTSIDE, (80, 4000), SYN_ACK, (A, GATEWAY)), "tap-a"),
        (segment(OUTSIDE, "10.0.0.1", (4000, 80), ACK, (GATEWAY, A)), "eth0"),
    ]
    seen: list[Seen] = [(frame, 0, entered == port) for frame, entered in frames]
    records, summary = replayed(tmp_path, capture(tmp_path / "live.pcapng", seen, (port, "")))
    assert [told(record) for record in records] == [
        (ALLOW, "a", "ingress" if port == "eth0" else "egress", "rule" if number == 0 else "connection")
        if entered == port
        else (BYPASS,)
        for number, (_, entered) in enumerate(frames)
    ]
    assert summary.connections.by_state == {"ESTABLISHED": 1}
    assert next(rule for rule in summary.rules if rule.rule == "web").packets == 3


def test_a_capture_of_copies_alone_touches_instances(tmp_path: Path) -> None:
    """All of it is `bypass`, and yet it is not from elsewhere: the summary does not say so."""
    frames: list[Seen] = [(udp("10.0.0.1", OUTSIDE, 5000, (A, GATEWAY)), 0, False)]
    records, summary = replayed(tmp_path, capture(tmp_path / "live.pcapng", frames, ("eth0", "")))
    assert [told(record) for record in records] == [(BYPASS,)]
    assert not summary.advice


def test_in_a_capture_at_one_port_an_instance_without_a_mac_is_where_its_address_is(tmp_path: Path) -> None:
    """What left tells where it is: what enters for it then is checked there."""
    frames: list[Seen] = [
        (arp("10.0.0.3", OUTSIDE, (C, GATEWAY), operation=2), 0, False),
        (segment(OUTSIDE, "10.0.0.3", (4000, 80), SYN, (GATEWAY, C)), 0, True),
        (segment("10.0.0.3", OUTSIDE, (80, 4000), SYN_ACK, (C, GATEWAY)), 0, False),
        (segment(OUTSIDE, "10.0.0.3", (4000, 80), ACK, (GATEWAY, C)), 0, True),
        (segment(OUTSIDE, "10.0.0.3", (4000, 22), SYN, (GATEWAY, C)), 0, True),
    ]
    assert [told(record) for record in replay(tmp_path, capture(tmp_path / "live.pcapng", frames, ("eth0", "")))] == [
        (BYPASS,),
        (ALLOW, "c", "ingress", "rule"),
        (BYPASS,),
        (ALLOW, "c", "ingress", "connection"),
        (DENY, "c", "ingress", "no-rule-matched"),
    ]


def test_an_uplink_that_only_the_capture_knows(tmp_path: Path) -> None:
    """`dataplane run --uplink`: `ctl capture` says that such a port is one. Others' words say nothing."""
    frames: list[Seen] = [
        (udp("10.0.0.1", "10.0.0.2", 5000, (GATEWAY, B)), 1, True),
        (udp(OUTSIDE, "10.0.0.2", 5000, (GATEWAY, B)), 1, True),
    ]
    path = capture(tmp_path / "live.pcapng", frames, ("tap-b", "instance b"), ("eth7", "uplink"))
    assert [told(record) for record in replay(tmp_path, path)] == [
        (DENY, "b", "ingress", "invalid", "spoofed"),
        (ALLOW, "b", "ingress", "rule"),
    ]
    path.write_bytes(path.read_bytes().replace(b"dataplane test", b"other software"))
    assert told(replay(tmp_path, path)[0]) == (ALLOW, "a", "egress", "rule", "b", "ingress", "rule")


def test_each_of_two_policies_judges_one_reading_at_its_own_ports(tmp_path: Path) -> None:
    """SPEC 8.4: what they say is what each says alone, where an interface is another's in each, and changes hands."""
    names = {"tap-a": "tap-b", "tap-b": "tap-a"}
    new = re.sub("tap-[ab]", lambda name: names[name[0]], POLICY)
    frames: list[Seen] = [
        (udp("10.0.0.1", "10.0.0.2", 5000, (A, B)), 0, True),
        (udp("10.0.0.1", "10.0.0.2", 5001, (A, B)), 1, None),
        (udp("10.0.0.2", "10.0.0.1", 5000, (B, A)), 1, True),
        (segment("10.0.0.3", "10.0.0.1", (4000, 80), SYN, (C, A)), 2, True),
    ]
    path = capture(tmp_path / "x.pcapng", frames * 2, ("tap-a", ""), ("tap-b", ""), ("tap-c", ""))
    changes = tmp_path / "changes.yaml"
    changes.write_text("[{at: 3.5, update_instance: {id: c, interface: tap-d}}]")
    schedule = load_changes(changes, Policy.parse(POLICY))
    alone = [replay(tmp_path, path, policy=policy, changes=schedule) for policy in (POLICY, new)]
    changed = [n for n, (one, other) in enumerate(zip(*alone, strict=True)) if one["verdict"] != other["verdict"]]
    assert changed
    found = diff(Policy.parse(POLICY), Policy.parse(new), [str(path)], schedule)
    assert (found.same, found.changed) == (len(frames) * 2 - len(changed), len(changed))
    for flow in found.flows:
        first = flow.first_packet - 1
        assert [flow.old.verdict, flow.new.verdict] == [records[first]["verdict"] for records in alone]
        assert first in changed


def test_interfaces_of_other_names_and_captures_without_are_judged_by_addresses(tmp_path: Path) -> None:
    """Mixed: some frames by port, some not, of one pcapng and of a pcap merged with it."""
    spoofed = udp("10.0.0.2", "192.0.2.1", 5000, (A, GATEWAY))
    frames: list[Seen] = [(spoofed, 0, True), (spoofed, 1, True), (ethernet(A, B, bytes(46), 0x88CC), 2, True)]
    first = capture(tmp_path / "x.pcapng", frames, ("tap-a", ""), ("other", ""), ("", ""))
    second = pcap(tmp_path / "y.pcap", [spoofed, ethernet(A, B, bytes(46), 0x88CC)], start=2000)
    records = replay(tmp_path, first, second)
    assert [told(record) for record in records] == [
        (DENY, "a", "egress", "invalid", "spoofed"),
        (ALLOW, "b", "egress", "rule"),
        (BYPASS,),
        (ALLOW, "b", "egress", "rule"),
        (BYPASS,),
    ]
    assert [record["interface"] for record in records] == ["tap-a", "other", 2, None, None]


def test_checksums_are_verified_where_the_capture_does_not_leave_them_to_a_card(tmp_path: Path) -> None:
    """As live, unless the policy says no: in a capture by port each frame has its checksum's state."""
    wrong = bytearray(udp(OUTSIDE, "10.0.0.1", 5000, (GATEWAY, A)))
    wrong[-1] ^= 1
    blocks = [pcapng.section("dataplane test"), *(pcapng.interface(*described) for described in ALL)]
    for second, offloaded in enumerate((False, True)):
        frame = bytes(wrong)
        told_of = {"sent": False, "comment": "", "offloaded": offloaded}
        blocks.append(pcapng.packet(ETH0, second * 10**9, frame, len(frame), **told_of))  # type: ignore[arg-type]
    path = tmp_path / "live.pcapng"
    path.write_bytes(b"".join(blocks))
    checked = [(DENY, "a", "ingress", "malformed", "bad-checksum"), (ALLOW, "a", "ingress", "rule")]
    assert [told(record) for record in replay(tmp_path, path)] == checked
    unchecked = POLICY + "conntrack: {verify_checksums: false}\n"
    assert [told(record)[0] for record in replay(tmp_path, path, policy=unchecked)] == [ALLOW, ALLOW]


def test_fragments_for_everybody_wait_and_go_on(tmp_path: Path) -> None:
    """SPEC 4.6: a later fragment comes first; both get the first's answer, and leave a connection where they enter."""
    body = datagram("10.0.0.1", "10.0.0.3", 17, (4000, 5000), bytes(56))
    pieces = []
    for start, more in ((0, 1), (32, 0)):
        piece = bytearray(packet("10.0.0.1", "10.0.0.3", 17, body[start : start + 32]))
        struct.pack_into("!HH", piece, 4, 7, start // 8 | more << 13)
        struct.pack_into("!H", piece, 10, 0)
        struct.pack_into("!H", piece, 10, checksum(bytes(piece[:20])))
        pieces.append(ethernet(A, C, bytes(piece)))
    answer = packet("10.0.0.3", "10.0.0.1", 17, datagram("10.0.0.3", "10.0.0.1", 17, (5000, 4000), b"x"))
    frames: list[Seen] = [
        (pieces[1], TAP_A, True),
        (pieces[0], TAP_A, True),
        (ethernet(C, A, answer), TAP_C, True),
    ]
    assert [told(record) for record in replay(tmp_path, capture(tmp_path / "live.pcapng", frames, *ALL))] == [
        (ALLOW, "a", "egress", "rule"),
        (ALLOW, "a", "egress", "rule"),
        (ALLOW, "c", "egress", "connection", "a", "ingress", "connection"),
    ]


def test_a_policy_that_comes_gives_interfaces_to_others(tmp_path: Path) -> None:
    """Changes of the replay: what stands behind a name is what the policy of then says."""
    other = POLICY.replace("interface: tap-a", "interface: tap-x").replace("interface: tap-b", "interface: tap-a")
    (tmp_path / "other.yaml").write_text(other)
    (tmp_path / "changes.yaml").write_text("[{at: 1, apply_policy: other.yaml}]")
    frames: list[Seen] = [
        (udp("10.0.0.1", OUTSIDE, 5000, (A, GATEWAY)), TAP_A, True),
        (udp("10.0.0.1", OUTSIDE, 5000, (A, GATEWAY)), TAP_A, True),
        (udp("10.0.0.2", OUTSIDE, 5000, (B, GATEWAY)), TAP_A, True),
    ]
    changes = load_changes(tmp_path / "changes.yaml", Policy.parse(POLICY))
    records = replay(tmp_path, capture(tmp_path / "live.pcapng", frames, *ALL), changes=changes)
    assert [told(record) for record in records] == [
        (ALLOW, "a", "egress", "rule"),
        (DENY, "b", "egress", "invalid", "spoofed"),
        (ALLOW, "b", "egress", "rule"),
    ]


def test_a_plain_ping_by_address_is_as_ever(tmp_path: Path) -> None:
    """Without --at and names nothing changes: other EtherTypes are `bypass`, senders are not looked at."""
    frames = [
        ethernet(STRANGE, GATEWAY, packet("10.0.0.1", OUTSIDE, 1, query("10.0.0.1", OUTSIDE, 8, 1))),
        ethernet(A, BROADCAST, bytes(46), 0x88CC),
    ]
    assert [told(record) for record in replay(tmp_path, pcap(tmp_path / "p.pcap", frames))] == [
        (ALLOW, "a", "egress", "rule"),
        (BYPASS,),
    ]
