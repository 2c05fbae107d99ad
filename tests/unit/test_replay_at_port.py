"""Captures that were taken at one instance's port (SPEC 7, "At a port"): `--at`."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from dataplane import Policy
from dataplane.policy.schedule import load_changes
from tests.property.frames import datagram, ethernet, icmp, packed, packet
from tests.support.port_captures import (
    ALL,
    ALL_NODES,
    ALLOW,
    BROADCAST,
    BYPASS,
    DENY,
    ELB,
    GATEWAY,
    OUTSIDE,
    POLICY,
    STRANGE,
    SYN,
    SYN_ACK,
    TAP_C,
    VIRTUAL,
    A,
    B,
    C,
    Seen,
    arp,
    capture,
    pcap,
    replay,
    replayed,
    segment,
    told,
    udp,
)


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
