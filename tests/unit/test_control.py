"""Control traffic (SPEC 4.8), broadcast and multicast (issue 4.5), through the library."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from dataplane import DataPlane, Policy
from tests.property.frames import datagram, ethernet, icmp, packed, packet

HOST, HOST6, OTHER, OTHER6 = "10.0.0.1", "fd00::1", "10.0.0.53", "fd00::53"
MAC, ROUTER, BROADCAST = "02:00:00:00:00:0a", "02:00:00:00:ff:01", "ff:ff:ff:ff:ff:ff"


def firewall(*rules: str) -> DataPlane:
    """One instance with these rules."""
    listed = "".join(f"      - {{id: r{n}, {rule}}}\n" for n, rule in enumerate(rules))
    return DataPlane(
        Policy.parse(
            f"security_groups:\n  - id: sg\n    security_group_rules:\n{listed or '      []'}\n"
            f'instances: [{{id: host, addresses: [{HOST}, "{HOST6}"], mac: "{MAC}", security_groups: [sg]}}]\n'
        ),
        seed=1,
    )


def said(plane: DataPlane, ip: bytes, mac: str = ROUTER, time: float = 1, ethertype: int | None = None) -> list[str]:
    """Direction and reason of each check."""
    verdict = plane.process(ethernet(MAC, mac, ip, ethertype), time=time)
    return [f"{check.direction} {check.reason}" for check in verdict.checks]


def udp(source: str, destination: str, ports: tuple[int, int]) -> bytes:
    return packet(source, destination, 17, datagram(source, destination, 17, ports, b"hello"))


def icmpv6(source: str, destination: str, kind: int, rest: bytes, hop_limit: int, code: int = 0) -> bytes:
    return packet(source, destination, 58, icmp(source, destination, kind, code, rest), hop_limit)


# ---- neighbour discovery and MLD ----

SOLICIT = bytes(4) + packed(HOST6)
LINK_ADDRESS = b"\x01\x01\x02\0\0\0\0\x01"


@pytest.mark.parametrize(
    ("kind", "rest", "hop_limit", "code", "expected"),
    [
        (135, SOLICIT, 255, 0, "control"),
        (135, SOLICIT + LINK_ADDRESS, 255, 0, "control"),
        (135, SOLICIT + LINK_ADDRESS + b"\x0e\x02" + bytes(14), 255, 0, "control"),
        (135, SOLICIT, 254, 0, "invalid"),
        (135, SOLICIT, 255, 1, "invalid"),
        (135, SOLICIT[:-1], 255, 0, "invalid"),
        (135, SOLICIT + b"\x01\0" + bytes(6), 255, 0, "invalid"),
        (135, SOLICIT + b"\x01\x02" + bytes(6), 255, 0, "invalid"),
        (135, SOLICIT + LINK_ADDRESS + b"\x01", 255, 0, "invalid"),
        (136, SOLICIT, 255, 0, "control"),
        (133, bytes(4), 255, 0, "control"),
        (134, bytes(12), 255, 0, "control"),
        (137, bytes(36), 255, 0, "control"),
        (137, bytes(35), 255, 0, "invalid"),
        (130, bytes(20), 1, 0, "control"),
        (130, bytes(19), 1, 0, "invalid"),
        (131, bytes(20), 1, 0, "control"),
        (132, bytes(20), 64, 0, "control"),
        (143, bytes(4), 1, 0, "control"),
        (143, b"\0\0\0\1", 1, 0, "invalid"),
    ],
)
def test_neighbour_discovery_and_mld_must_be_well_formed(
    kind: int, rest: bytes, hop_limit: int, code: int, expected: str
) -> None:
    """SPEC 4.8, RFC 4861 6.1, 7.1: hop limit 255 (MLD: any), code 0, lengths, options that fit."""
    message = icmpv6(OTHER6, HOST6, kind, rest, hop_limit, code)
    assert said(firewall(), message) == [f"ingress {expected}"]


@pytest.mark.parametrize(("kind", "rest"), [(134, bytes(12)), (137, bytes(36))])
def test_an_instance_sends_no_router_advertisement_and_no_redirect(kind: int, rest: bytes) -> None:
    """SPEC 4.8."""
    plane = firewall("direction: egress", "direction: egress, ethertype: IPv6")
    assert said(plane, icmpv6(HOST6, OTHER6, kind, rest, 255)) == ["egress invalid"]
    assert said(plane, icmpv6(HOST6, OTHER6, 133, bytes(4), 255)) == ["egress control"]


LINK_LAYER = bytes.fromhex("0101aa0004000a04")
NONCE = bytes.fromhex("0e01010203040506")
REDIRECT = bytes(4) + packed(OTHER6) * 2
FIXED = {133: bytes(4), 134: bytes(12), 135: SOLICIT, 136: SOLICIT, 137: REDIRECT}


@pytest.mark.parametrize("kind", FIXED)
@pytest.mark.parametrize(
    ("options", "hop_limit", "expected"),
    [
        (b"", 255, "control"),
        (LINK_LAYER + NONCE, 255, "control"),
        (LINK_LAYER, 64, "invalid"),
        (LINK_LAYER + bytes(8), 255, "invalid"),
        (LINK_LAYER + NONCE[:6], 255, "invalid"),
        (b"\x01\x02" + bytes(6), 255, "invalid"),
        (b"\x01", 255, "invalid"),
    ],
    ids=["no option", "two options", "hop limit", "length 0", "cut", "too long", "one byte"],
)
def test_neighbour_discovery(kind: int, options: bytes, hop_limit: int, expected: str) -> None:
    """RFC 4861, 4.6: options fill the message; each has a length, and it is not 0."""
    message = icmpv6(OTHER6, HOST6, kind, FIXED[kind] + options, hop_limit)
    assert said(firewall(), message) == [f"ingress {expected}"]


@pytest.mark.parametrize(("kind", "rest"), [(135, SOLICIT + LINK_LAYER), (143, struct.pack("!HH", 0, 1) + bytes(20))])
def test_a_message_cut_by_the_snap_length_is_judged_by_what_is_there(tmp_path: Path, kind: int, rest: bytes) -> None:
    """A truncated capture makes nothing invalid."""
    message = icmpv6(HOST6, OTHER6, kind, rest, 1 if kind == 143 else 255)
    frame = ethernet(MAC, ROUTER, message)
    data = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    for captured in range(14 + 40 + 8, len(frame) + 1):
        data += struct.pack("<IIII", 0, 0, captured, len(frame)) + frame[:captured]
    (tmp_path / "cut.pcap").write_bytes(data)
    summary = firewall().replay(tmp_path / "cut.pcap")
    assert summary.verdicts["allow"].packets == summary.packets > 20


RECORD = struct.pack("!BBH", 4, 0, 0) + packed("ff02::fb")
WITH_SOURCES = struct.pack("!BBH", 1, 0, 2) + packed("ff02::fb") + packed(OTHER6) * 2
WITH_DATA = struct.pack("!BBH", 2, 2, 0) + packed("ff02::fb") + bytes(8)


@pytest.mark.parametrize(
    ("records", "body", "expected"),
    [
        (0, b"", "control"),
        (3, RECORD + WITH_SOURCES + WITH_DATA, "control"),
        (1, RECORD + b"more", "control"),
        (2, RECORD, "invalid"),
        (1, RECORD[:19], "invalid"),
        (1, WITH_SOURCES[:-1], "invalid"),
        (1, WITH_DATA[:-8], "invalid"),
        (65535, RECORD, "invalid"),
    ],
    ids=["none", "three", "more behind", "one too few", "cut", "a source cut", "auxiliary data cut", "far too few"],
)
def test_reports_of_multicast_listeners(records: int, body: bytes, expected: str) -> None:
    """RFC 3810, 5.2: as many records as it says, with their sources and auxiliary data."""
    rest = struct.pack("!HH", 0, records) + body
    assert said(firewall(), icmpv6(HOST6, "ff02::16", 143, rest, 1), BROADCAST) == [f"egress {expected}"]


# ---- ARP, DHCP, broadcast and multicast ----


def arp(operation: int = 1, hardware: int = 1, sizes: bytes = b"\6\4") -> bytes:
    head = struct.pack("!HH", hardware, 0x0800) + sizes + struct.pack("!H", operation)
    return head + bytes.fromhex(MAC.replace(":", "")) + packed(HOST) + bytes(6) + packed(OTHER)


def test_arp_is_never_judged_by_rules_if_it_is_well_formed() -> None:
    """SPEC 4.8: without any rule; in what is no ARP of Ethernet and IPv4 there is no instance's address."""
    plane = firewall()
    assert said(plane, arp(), BROADCAST, ethertype=0x0806) == ["egress control"]
    assert said(plane, arp(2), ethertype=0x0806) == ["egress control"]
    for broken in (arp(hardware=7), arp(sizes=b"\x08\4"), arp(sizes=b"\6\x10"), arp()[:27]):
        assert said(plane, broken, ethertype=0x0806) == []


@pytest.mark.parametrize("six", [False, True], ids=["DHCP", "DHCPv6"])
def test_dhcp_passes_for_a_client_and_is_judged_for_a_server(six: bool) -> None:
    """SPEC 4.8: between a client and its server; an instance that serves is judged by the rules, and so is a relay."""
    host, other, multicast = (HOST6, OTHER6, "ff02::1:2") if six else (HOST, OTHER, "255.255.255.255")
    client, server = (546, 547) if six else (68, 67)
    plane = firewall()
    assert said(plane, udp(host, multicast, (client, server)), BROADCAST) == ["egress control"]
    assert said(plane, udp(host, other, (client, server))) == ["egress control"]
    assert said(plane, udp(other, host, (server, client))) == ["ingress control"]
    assert said(plane, udp(other, host, (client, server))) == ["ingress no-rule-matched"]
    assert said(plane, udp(host, other, (server, client))) == ["egress no-rule-matched"]
    assert said(plane, udp(host, other, (server, server))) == ["egress no-rule-matched"]
    ethertype = "IPv6" if six else "IPv4"
    serving = firewall(f'direction: ingress, ethertype: {ethertype}, protocol: udp, multiport: "{server}"')
    assert said(serving, udp(other, host, (client, server))) == ["ingress rule"]
    assert said(serving, udp(host, other, (server, client))) == ["egress connection"]
    assert serving.counters().entries == 1


def test_a_broadcast_has_one_check_at_its_sender() -> None:
    """Issue 4.5: its destination is nobody's address; rules match it by its address like any other."""
    plane = firewall('direction: egress, protocol: udp, multiport: "137,5353", remote_ip_prefix: 224.0.0.0/4')
    assert said(plane, udp(HOST, "224.0.0.251", (5353, 5353)), "01:00:5e:00:00:fb") == ["egress rule"]
    for address in ("255.255.255.255", "10.0.0.255"):
        assert said(plane, udp(HOST, address, (137, 137)), BROADCAST) == ["egress no-rule-matched"]
    assert said(plane, udp(OTHER, "10.0.0.255", (137, 137)), BROADCAST) == []
    everywhere = firewall("direction: egress")
    assert said(everywhere, udp(HOST, "255.255.255.255", (137, 137)), BROADCAST) == ["egress rule"]


def test_an_answer_to_a_broadcast_is_a_new_connection() -> None:
    """Issue 4.5: it comes from an address that nothing was sent to; as in nf_conntrack without a helper."""
    plane = firewall("direction: egress")
    assert said(plane, udp(HOST, "10.0.0.255", (137, 137)), BROADCAST) == ["egress rule"]
    assert said(plane, udp(OTHER, HOST, (137, 137))) == ["ingress no-rule-matched"]
    assert said(plane, udp(HOST, "224.0.0.251", (5353, 5353)), BROADCAST) == ["egress rule"]
    assert said(plane, udp(OTHER, HOST, (5353, 5353))) == ["ingress no-rule-matched"]
    open_for_it = firewall("direction: egress", 'direction: ingress, protocol: udp, multiport: "137"')
    assert said(open_for_it, udp(HOST, "10.0.0.255", (137, 137)), BROADCAST) == ["egress rule"]
    assert said(open_for_it, udp(OTHER, HOST, (137, 137))) == ["ingress rule"]


def test_igmp_is_a_protocol_by_its_number() -> None:
    """SPEC 4.7, 4.8: IGMP is not among what passes without rules; it is tracked by addresses and number."""
    report = packet(HOST, "224.0.0.22", 2, b"\x22\0\0\0\0\0\0\0", 1, extension=True)
    assert said(firewall(), report) == ["egress no-rule-matched"]
    plane = firewall("direction: egress, protocol: 2")
    assert said(plane, report) == ["egress rule"]
    assert said(plane, report) == ["egress connection"]
    assert said(plane, packet(OTHER, HOST, 2, b"\x11\x64\0\0\0\0\0\0", 1)) == ["ingress no-rule-matched"]
