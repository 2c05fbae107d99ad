"""Whose packet it is where several instances hold an address (SPEC 7, first point)."""

from __future__ import annotations

import struct

from dataplane import DataPlane, Policy
from tests.property.frames import datagram, error, ethernet, icmp, packed, packet, tcp

VIP, VIP6, CLIENT, CLIENT6 = "10.0.0.100", "fd00::100", "192.0.2.9", "2001:db8::9"
A, B, ROUTER, BROADCAST = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:ff:01", "ff:ff:ff:ff:ff:ff"
OPEN = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: in4, direction: ingress}
      - {id: in6, direction: ingress, ethertype: IPv6}
      - {id: out4, direction: egress}
      - {id: out6, direction: egress, ethertype: IPv6}
"""
PAIR = f"""{OPEN}
instances:
  - {{id: a, addresses: [10.0.0.1], mac: "{A}", allowed_address_pairs: [{VIP}, "{VIP6}"], security_groups: [sg]}}
  - {{id: b, addresses: [10.0.0.2], mac: "{B}", allowed_address_pairs: [10.0.0.0/24, "{VIP6}"], security_groups: [sg]}}
"""
TWINS = f"""{OPEN}
instances:
  - {{id: a, vpc: one, addresses: [10.0.0.1, "fd00::1"], mac: "{A}", security_groups: [sg]}}
  - {{id: b, vpc: two, addresses: [10.0.0.1, "fd00::1"], mac: "{B}", security_groups: [sg]}}
  - {{id: c, vpc: one, addresses: [10.0.0.7], security_groups: [sg]}}
"""


def owner(firewall: DataPlane, frame: bytes) -> list[tuple[str, str]]:
    """At which instances, and in which direction, a frame is checked."""
    return [(check.instance, check.direction) for check in firewall.process(frame, time=1).checks]


def to_vip(destination_mac: str = ROUTER, port: int = 53, six: bool = False) -> bytes:
    ends = (CLIENT6, VIP6) if six else (CLIENT, VIP)
    return ethernet(ROUTER, destination_mac, packet(*ends, 17, datagram(*ends, 17, (4000, port))))


def from_vip(source_mac: str, six: bool = False) -> bytes:
    ends = (VIP6, CLIENT6) if six else (VIP, CLIENT)
    return ethernet(source_mac, ROUTER, packet(*ends, 17, datagram(*ends, 17, (4000, 53))))


def arp(sender: str, frame_mac: str, target: str = VIP, address: str = VIP) -> bytes:
    """An ARP announcement; `sender` is the hardware address in it."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + bytes.fromhex(sender.replace(":", "")) + packed(address)
    return ethernet(frame_mac, BROADCAST, body + bytes(6) + packed(target), ethertype=0x0806)


def advertisement(source_mac: str, option: str | None = None, hop_limit: int = 255, target: str = VIP6) -> bytes:
    """An unsolicited neighbour advertisement, from a link-local address."""
    rest = b"\x20\0\0\0" + packed(target)
    if option:
        rest += bytes([2, 1]) + bytes.fromhex(option.replace(":", ""))
    body = icmp("fe80::5", "ff02::1", 136, 0, rest)
    return ethernet(source_mac, "33:33:00:00:00:01", packet("fe80::5", "ff02::1", 58, body, hop_limit))


def test_the_mac_decides_and_without_it_the_first_of_the_policy() -> None:
    """SPEC 7: the MAC decides where two instances hold an address; nothing was seen yet."""
    firewall = DataPlane(Policy.parse(PAIR), seed=1)
    assert owner(firewall, to_vip()) == [("a", "ingress")]
    assert owner(firewall, to_vip(B)) == [("b", "ingress")]
    assert owner(firewall, to_vip()) == [("a", "ingress")]


def test_a_virtual_ip_goes_with_its_last_sender() -> None:
    """SPEC 7: the last sender known by MAC; one with a strange MAC moves nothing, nor does being addressed."""
    firewall = DataPlane(Policy.parse(PAIR), seed=1)
    assert owner(firewall, from_vip(B)) == [("b", "egress")]
    assert owner(firewall, to_vip()) == [("b", "ingress")]
    assert owner(firewall, from_vip(ROUTER)) == [("b", "egress")]
    assert owner(firewall, to_vip(A)) == [("a", "ingress")]
    assert owner(firewall, to_vip()) == [("b", "ingress")]
    assert owner(firewall, from_vip(A)) == [("a", "egress")]
    assert owner(firewall, to_vip()) == [("a", "ingress")]


def test_a_virtual_ip_goes_with_a_gratuitous_arp() -> None:
    """SPEC 7: the hardware address in it tells, or else the frame's; packets of one batch see it in their order."""
    firewall = DataPlane(Policy.parse(PAIR), seed=1)
    frames = [to_vip(), arp(B, B), to_vip(), arp(A, ROUTER), to_vip(), arp(ROUTER, B), to_vip(), arp(ROUTER, ROUTER)]
    frames.append(to_vip())
    verdicts = firewall.process_batch(frames, [1] * len(frames))
    assert [v.checks[0].instance for v in verdicts[::2]] == ["a", "b", "a", "b", "b"]
    assert [v.checks[0].reason for v in verdicts[1::2]] == ["control"] * 4


def test_an_arp_for_something_else_also_tells_the_sender() -> None:
    """SPEC 7: who asks as the virtual IP has it."""
    firewall = DataPlane(Policy.parse(PAIR), seed=1)
    assert owner(firewall, arp(B, B, target="10.0.0.254")) == [("b", "egress"), ("b", "ingress")]
    assert owner(firewall, to_vip()) == [("b", "ingress")]


def test_a_virtual_ip_goes_with_a_neighbour_advertisement() -> None:
    """SPEC 7: by its option, or else by the frame's MAC; one that is not well-formed moves nothing."""
    firewall = DataPlane(Policy.parse(PAIR), seed=1)
    assert owner(firewall, to_vip(six=True)) == [("a", "ingress")]
    assert owner(firewall, advertisement(ROUTER, option=B)) == []
    assert owner(firewall, to_vip(six=True)) == [("b", "ingress")]
    owner(firewall, advertisement(A, hop_limit=64))
    assert owner(firewall, to_vip(six=True)) == [("b", "ingress")]
    owner(firewall, advertisement(A, target="fd00::999"))
    assert owner(firewall, to_vip(six=True)) == [("b", "ingress")]
    owner(firewall, advertisement(A))
    assert owner(firewall, to_vip(six=True)) == [("a", "ingress")]


def test_an_owner_that_holds_it_no_more_has_lost_it() -> None:
    """SPEC 7: only who holds an address can be its owner."""
    firewall = DataPlane(Policy.parse(PAIR), seed=1)
    owner(firewall, from_vip(B))
    third = f"  - {{id: c, addresses: [10.0.1.3], allowed_address_pairs: [{VIP}], security_groups: [sg]}}\n"
    firewall.replace(Policy.parse(PAIR.replace("10.0.0.0/24", "10.0.9.0/24") + third))
    assert owner(firewall, to_vip()) == [("a", "ingress")]
    firewall.replace(Policy.parse(PAIR))
    assert owner(firewall, to_vip()) == [("b", "ingress")]


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first() -> None:
    """CONTRIBUTING, Habits: every table has a bound; 4096 addresses are remembered."""
    pairs = PAIR.replace(f"allowed_address_pairs: [{VIP},", "allowed_address_pairs: [10.1.0.0/16,")
    firewall = DataPlane(Policy.parse(pairs.replace("10.0.0.0/24", "10.1.0.0/16")), seed=1)
    addresses = [f"10.1.{n >> 8}.{n & 255}" for n in range(1, 4098)]
    frames = [arp(B, B, target=address, address=address) for address in addresses]
    firewall.process_batch(frames[:4096] + frames[:1] + frames[4096:], [1] * 4098)
    asked = [ethernet(ROUTER, ROUTER, packet(CLIENT, address, 47, b"GRE ")) for address in addresses]
    found = [v.checks[0].instance for v in firewall.process_batch(asked, [1] * len(asked))]
    assert [n for n, name in enumerate(found) if name == "a"] == [1]


def test_networks_that_share_addresses_have_an_owner_in_each_vlan() -> None:
    """SPEC 4.7: VLANs tell the networks apart; a virtual IP is in one network, whatever the tags."""
    firewall = DataPlane(Policy.parse(TWINS), seed=1)
    hello = packet("10.0.0.1", CLIENT, 17, datagram("10.0.0.1", CLIENT, 17, (4000, 53)))
    asked = packet(CLIENT, "10.0.0.1", 17, datagram(CLIENT, "10.0.0.1", 17, (4000, 80)))
    assert owner(firewall, ethernet(A, ROUTER, hello, vlan=7)) == [("a", "egress")]
    assert owner(firewall, ethernet(B, ROUTER, hello, vlan=8)) == [("b", "egress")]
    assert owner(firewall, ethernet(ROUTER, ROUTER, asked, vlan=7)) == [("a", "ingress")]
    assert owner(firewall, ethernet(ROUTER, ROUTER, asked, vlan=8)) == [("b", "ingress")]
    assert owner(firewall, ethernet(ROUTER, ROUTER, asked, vlan=9)) == [("a", "ingress")]
    pair = DataPlane(Policy.parse(PAIR), seed=1)
    owner(pair, ethernet(B, ROUTER, hello.replace(packed("10.0.0.1"), packed(VIP)), vlan=7))
    assert owner(pair, to_vip()) == [("b", "ingress")]


def reasons(firewall: DataPlane, *frames: bytes) -> list[str]:
    return [v.checks[0].reason for v in firewall.process_batch(frames, [1_000_000_000] * len(frames))]


def segment(six: bool, vlan: int, flags: int = 2, instance: str = "10.0.0.1") -> bytes:
    """A client's SYN, or RST with flags 4."""
    ends = (CLIENT6, "fd00::1") if six else (CLIENT, instance)
    return ethernet(
        ROUTER, ROUTER, packet(*ends, 6, tcp(*ends, (4000, 80), flags, 2 if flags == 4 else 1, 0)), vlan=vlan
    )


def test_flows_of_two_networks_never_mix() -> None:
    """SPEC 4.7: the VLAN is part of the key when two networks share addresses: IPv4, IPv6, ICMP errors."""
    for six in (False, True):
        firewall = DataPlane(Policy.parse(TWINS), seed=1)
        assert reasons(firewall, segment(six, 7), segment(six, 8), segment(six, 0), segment(six, 7)) == ["rule"] * 3 + [
            "connection"
        ]
        assert reasons(firewall, segment(six, 7, 4), segment(six, 9, 4), segment(six, 8, 2)) == [
            "connection",
            "invalid",
            "connection",
        ]
        listed = list(firewall.connections.filter(instance="a"))
        assert len(listed) == 3
        assert {(c.local, c.remote) for c in listed} == {("fd00::1", CLIENT6) if six else ("10.0.0.1", CLIENT)}
        ends = ("fd00::1", CLIENT6) if six else ("10.0.0.1", CLIENT)
        quoted = packet(*ends, 6, tcp(*ends, (80, 4000), 16, 2, 2))
        body = error(ends[1], ends[0], 1 if six else 3, 3, quoted)
        message = packet(ends[1], ends[0], 58 if six else 1, body)
        frames = [ethernet(ROUTER, ROUTER, message, vlan=vlan) for vlan in (8, 9)]
        assert reasons(firewall, *frames) == ["related", "invalid"]


def test_a_tagged_ipv4_key_is_never_that_of_an_ipv6_one() -> None:
    """SPEC 4.7: keys never mix IPv4 with IPv6; an address range filter still finds a tagged connection."""
    twins = TWINS.replace('"fd00::1"', '"a00:1::"')
    firewall = DataPlane(Policy.parse(twins), seed=1)
    six = ("c000:209::", "a00:1::")
    ipv6 = ethernet(ROUTER, ROUTER, packet(*six, 6, tcp(*six, (4000, 80), 2, 1, 1)), vlan=7)
    assert reasons(firewall, segment(False, 7), ipv6, segment(False, 7), ipv6) == [
        "rule",
        "rule",
        "connection",
        "connection",
    ]
    assert [c.remote for c in firewall.connections.filter(address="192.0.2.0/24")] == [CLIENT]
    assert [c.local for c in firewall.connections.filter(address="a00::/16")] == ["a00:1::"]


def test_asymmetric_tags_do_not_matter_to_all_others() -> None:
    """SPEC 4.7: for an instance whose addresses are its own alone, tags are skipped."""
    firewall = DataPlane(Policy.parse(TWINS), seed=1)
    frames = [segment(False, vlan, instance="10.0.0.7") for vlan in (7, 0, 8)]
    assert reasons(firewall, *frames) == ["rule", "connection", "connection"]


def test_a_tagged_connection_is_cut_and_revoked_like_any_other() -> None:
    """SPEC 5.2, 5.4: changes reach connections whose key has a VLAN."""
    ruled = TWINS.replace("{id: in4, direction: ingress}", "{id: in4, direction: ingress, remote_group_id: peers}")
    peers = "  - {id: peers, security_group_rules: [{id: peers-out, direction: egress}]}\n"
    ruled = ruled.replace("instances:", peers + "instances:")
    peer = f"  - {{id: peer, vpc: three, addresses: [{CLIENT}], security_groups: [peers]}}\n"
    firewall = DataPlane(Policy.parse(ruled + peer), seed=1)
    ends = (CLIENT, "10.0.0.1")
    frame = ethernet(ROUTER, A, packet(*ends, 17, datagram(*ends, 17, (4000, 53))), vlan=7)
    assert firewall.process(frame, time=1).allowed
    assert [c.disconnected for c in firewall.connections.filter(instance="a")] == [False]
    assert firewall.replace(Policy.parse(ruled), time_ns=2_000_000_000).revoked == 1
    assert [c.disconnected for c in firewall.connections.filter(instance="a")] == [True]
    assert firewall.process(frame, time=3).checks[0].reason == "disconnected"


def test_a_virtual_mac_tells_its_holder() -> None:
    """SPEC 2: the virtual MAC of an address pair; where several have it, whoever was last seen with its own."""
    virtual = "00:00:5e:00:01:07"
    with_mac = f'{{ip: {VIP}, mac: "{virtual}"}}'
    one = DataPlane(Policy.parse(PAIR.replace("[10.0.0.0/24,", f"[{with_mac},")))
    assert owner(one, to_vip(virtual)) == [("b", "ingress")]
    assert owner(one, from_vip(virtual)) == [("b", "egress")]
    assert owner(one, to_vip()) == [("b", "ingress")]
    both = DataPlane(Policy.parse(PAIR.replace("[10.0.0.0/24,", f"[{with_mac},").replace(f"[{VIP},", f"[{with_mac},")))
    assert owner(both, to_vip(virtual)) == [("a", "ingress")]
    owner(both, arp(B, B))
    assert owner(both, to_vip(virtual)) == [("b", "ingress")]


VMAC, GROUP, GROUP6 = "00:00:5e:00:01:07", "224.0.0.18", "ff02::12"
VIRTUAL = PAIR.replace(f"[{VIP}, ", f'[{{ip: {VIP}, mac: "{VMAC}"}}, ').replace(
    "[10.0.0.0/24, ", f'[{{ip: {VIP}, mac: "{VMAC}"}}, '
)


def vrrp(source: str, mac: str, *addresses: str, priority: int = 100) -> bytes:
    """An advertisement of VRRP version 3 (RFC 9568, 5.2)."""
    body = bytes([0x31, 7, priority, len(addresses)]) + bytes(4) + b"".join(map(packed, addresses))
    to = GROUP6 if ":" in source else GROUP
    return ethernet(mac, "01:00:5e:00:00:12", packet(source, to, 112, body, 255))


def carp(source: str, mac: str, skew: int = 0, base: int = 1) -> bytes:
    """An advertisement of CARP, as OpenBSD's ip_carp.h has it: the addresses are only in its hash."""
    body = bytes([0x21, 7, skew, 7, 0, base]) + bytes(30)
    return ethernet(mac, "01:00:5e:00:00:12", packet(source, GROUP, 112, body, 255))


def test_what_is_refused_as_it_leaves_moves_nothing() -> None:
    """SPEC 7, 4.8: nobody has seen it; nor what is no control traffic but looks so, by ARP or otherwise."""
    closed = PAIR.replace("direction: egress}", "direction: egress, protocol: tcp}")
    firewall = DataPlane(Policy.parse(closed), seed=1)
    assert firewall.process(from_vip(B), time=1).verdict == "deny"
    assert owner(firewall, to_vip()) == [("a", "ingress")]
    stray = packet(VIP, CLIENT, 6, tcp(VIP, CLIENT, (4000, 80), 16, 5, 5))
    assert firewall.process(ethernet(B, ROUTER, stray), time=1).checks[0].state == "invalid"
    assert owner(firewall, to_vip()) == [("a", "ingress")]
    padded = arp(B, B, target="192.0.2.254") + bytes(60)
    assert firewall.process(padded, time=1).checks[0].state == "invalid"
    assert owner(firewall, to_vip()) == [("a", "ingress")]
    owner(firewall, arp(B, B, target="192.0.2.254"))
    assert owner(firewall, to_vip()) == [("b", "ingress")]


def test_nobody_speaks_for_another_instance() -> None:
    """SPEC 7: as live, where such frames are spoofed; a frame of somebody who is no instance may tell."""
    third = f'  - {{id: c, addresses: [10.0.0.3, "fd00::3"], mac: "{ROUTER}", security_groups: [sg]}}\n'
    for frame_mac in (A, ROUTER):
        firewall = DataPlane(Policy.parse(PAIR + third), seed=1)
        owner(firewall, arp(B, frame_mac))
        assert owner(firewall, to_vip()) == [("a", "ingress")], frame_mac
        owner(firewall, advertisement(frame_mac, option=B))
        assert owner(firewall, to_vip(six=True)) == [("a", "ingress")], frame_mac
    firewall = DataPlane(Policy.parse(PAIR + third), seed=1)
    owner(firewall, vrrp("10.0.0.2", A, VIP))
    assert owner(firewall, to_vip()) == [("a", "ingress")]
    by_another = icmp(
        "fd00::3", "ff02::1", 136, 0, b"\x20\0\0\0" + packed(VIP6) + b"\2\1" + bytes.fromhex(B.replace(":", ""))
    )
    owner(
        firewall, ethernet("02:00:00:00:77:01", "33:33:00:00:00:01", packet("fd00::3", "ff02::1", 58, by_another, 255))
    )
    assert owner(firewall, to_vip(six=True)) == [("a", "ingress")]
    owner(firewall, arp(B, "02:00:00:00:77:01"))
    assert owner(firewall, to_vip()) == [("b", "ingress")]


def test_a_virtual_ip_goes_with_vrrp() -> None:
    """SPEC 7: who advertises it has it, by an address of its own; not who resigns, nor what it may not hold."""
    firewall = DataPlane(Policy.parse(PAIR), seed=1)
    owner(firewall, vrrp("10.0.0.2", B, VIP, priority=0))
    assert owner(firewall, to_vip()) == [("a", "ingress")]
    owner(firewall, vrrp("10.0.0.2", B, "10.0.0.1", VIP))
    assert owner(firewall, to_vip()) == [("b", "ingress")]
    owner(firewall, vrrp("192.0.2.7", ROUTER, VIP))
    assert owner(firewall, to_vip()) == [("b", "ingress")]
    owner(firewall, vrrp("10.0.0.1", A, VIP)[:-2])
    owner(firewall, vrrp("10.0.0.1", A))
    assert owner(firewall, to_vip()) == [("b", "ingress")]
    owner(firewall, vrrp("10.0.0.1", A, VIP))
    assert owner(firewall, to_vip()) == [("a", "ingress")]
    link_local = "fe80::ff:fe00:b"
    assert owner(firewall, vrrp(link_local, B, link_local, VIP6)) == [("b", "egress")]
    assert owner(firewall, to_vip(six=True)) == [("b", "ingress")]


def test_a_virtual_ip_goes_with_the_virtual_mac_of_who_advertises() -> None:
    """SPEC 2: CARP names no address, and the MAC that both have tells nothing of the packets that it sends."""
    firewall = DataPlane(Policy.parse(VIRTUAL), seed=1)
    for announce in (from_vip(VMAC), arp(VMAC, VMAC), to_vip(VMAC)):
        assert owner(firewall, announce)[0][0] == "a"
    owner(firewall, carp("10.0.0.2", VMAC))
    for announce in (from_vip(VMAC), arp(VMAC, VMAC), to_vip(VMAC), to_vip()):
        assert owner(firewall, announce)[0][0] == "b"
    owner(firewall, carp("10.0.0.1", VMAC, skew=255, base=255))
    assert owner(firewall, to_vip()) == [("b", "ingress")]
    owner(firewall, vrrp("10.0.0.1", VMAC, priority=200))
    assert owner(firewall, to_vip()) == [("a", "ingress")]


def test_a_virtual_mac_tells_only_its_own_addresses() -> None:
    """SPEC 2: the MAC goes with the pair's address; the other virtual IPs of its holder are not known by it."""
    one = PAIR.replace("[10.0.0.0/24, ", f'[{VIP}, {{ip: 10.0.0.101, mac: "{VMAC}"}}, ')
    firewall = DataPlane(Policy.parse(one), seed=1)
    assert owner(firewall, from_vip(VMAC)) == [("a", "egress")]
    assert owner(firewall, to_vip(VMAC)) == [("a", "ingress")]
    firewall = DataPlane(Policy.parse(one.replace("10.0.0.101", VIP).replace(f"[{VIP}, {{", "[{")), seed=1)
    assert owner(firewall, to_vip(VMAC)) == [("b", "ingress")]
    assert owner(firewall, from_vip(VMAC)) == [("b", "egress")]
    assert owner(firewall, to_vip()) == [("b", "ingress")]
