"""Control traffic (SPEC 4.8), broadcast and multicast, through the library."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from dataplane import DataPlane, Policy
from dataplane.conntrack import CONTROL_BURST, CONTROL_RATE
from tests.property.frames import checksum, datagram, ethernet, icmp, packed, packet

HOST, HOST6, OTHER, OTHER6 = "10.0.0.1", "fd00::1", "10.0.0.53", "fd00::53"
MAC, ROUTER, BROADCAST = "02:00:00:00:00:0a", "02:00:00:00:ff:01", "ff:ff:ff:ff:ff:ff"


def policy(*rules: str, more: str = "") -> Policy:
    """One instance with these rules, and `more` fields."""
    listed = "".join(f"      - {{id: r{n}, {rule}}}\n" for n, rule in enumerate(rules))
    return Policy.parse(
        f"security_groups:\n  - id: sg\n    security_group_rules:\n{listed or '      []'}\n"
        f'instances: [{{id: host, addresses: [{HOST}, "{HOST6}"], mac: "{MAC}", security_groups: [sg], {more}}}]\n'
    )


def firewall(*rules: str, more: str = "") -> DataPlane:
    """A data plane with such a policy."""
    return DataPlane(policy(*rules, more=more), seed=1)


def said(plane: DataPlane, ip: bytes, mac: str = ROUTER, time: float = 1, ethertype: int | None = None) -> list[str]:
    """Direction and reason of each check."""
    verdict = plane.process(ethernet(MAC, mac, ip, ethertype), time=time)
    return [f"{check.direction} {check.reason}" for check in verdict.checks]


def udp(source: str, destination: str, ports: tuple[int, int], payload: bytes = b"hello") -> bytes:
    return packet(source, destination, 17, datagram(source, destination, 17, ports, payload))


def icmpv6(source: str, destination: str, kind: int, rest: bytes, hop_limit: int, code: int = 0) -> bytes:
    return packet(source, destination, 58, icmp(source, destination, kind, code, rest), hop_limit)


# ---- neighbour discovery and MLD ----

SOLICIT = bytes(4) + packed(HOST6)
LINK_ADDRESS = b"\x01\x01\x02\0\0\0\0\x01"
NEAR, LOCAL, ROUTERS, REPORTS = "fe80::53", "fe80::1", "ff02::2", "ff02::16"
GROUP = bytes(4) + packed("ff02::fb")
REDIRECT = bytes(4) + packed("fe80::99") + packed(OTHER6)
UNKNOWN = b"\xc8\x01" + bytes(6)


@pytest.mark.parametrize(
    ("kind", "ends", "rest", "hop_limit", "code", "expected"),
    [
        (135, (OTHER6, HOST6), SOLICIT, 255, 0, "control"),
        (135, (OTHER6, HOST6), SOLICIT + LINK_ADDRESS, 255, 0, "control"),
        (135, (OTHER6, HOST6), SOLICIT + LINK_ADDRESS + b"\x0e\x02" + bytes(14), 255, 0, "control"),
        (135, (OTHER6, HOST6), SOLICIT, 254, 0, "invalid"),
        (135, (OTHER6, HOST6), SOLICIT, 255, 1, "invalid"),
        (135, (OTHER6, HOST6), SOLICIT[:-1], 255, 0, "invalid"),
        (135, (OTHER6, HOST6), SOLICIT + b"\x01\0" + bytes(6), 255, 0, "invalid"),
        (135, (OTHER6, HOST6), SOLICIT + b"\x01\x02" + bytes(6), 255, 0, "invalid"),
        (135, (OTHER6, HOST6), SOLICIT + LINK_ADDRESS + b"\x01", 255, 0, "invalid"),
        (135, (OTHER6, HOST6), SOLICIT + UNKNOWN, 255, 0, "invalid"),
        (135, (OTHER6, HOST6), SOLICIT + LINK_ADDRESS * 8, 255, 0, "control"),
        (135, (OTHER6, HOST6), SOLICIT + LINK_ADDRESS * 9, 255, 0, "invalid"),
        (135, (OTHER6, HOST6), bytes(4) + packed("ff02::1"), 255, 0, "invalid"),
        (135, (OTHER6, HOST6), bytes(4) + packed("fd00::99"), 255, 0, "invalid"),
        (135, ("::", HOST6), SOLICIT, 255, 0, "invalid"),
        (136, (OTHER6, HOST6), SOLICIT, 255, 0, "control"),
        (136, (OTHER6, HOST6), SOLICIT + UNKNOWN, 255, 0, "invalid"),
        (136, (OTHER6, HOST6), bytes(4) + packed("ff02::1"), 255, 0, "invalid"),
        (134, (NEAR, HOST6), bytes(12), 255, 0, "control"),
        (134, (NEAR, HOST6), bytes(12) + b"\x05\x01" + bytes(6) + b"\x19\x03" + bytes(22), 255, 0, "control"),
        (134, (NEAR, HOST6), bytes(12) + UNKNOWN, 255, 0, "invalid"),
        (134, (OTHER6, HOST6), bytes(12), 255, 0, "invalid"),
        (134, (NEAR, HOST6), bytes(12), 64, 0, "invalid"),
        (137, (NEAR, HOST6), REDIRECT, 255, 0, "control"),
        (137, (NEAR, HOST6), REDIRECT[:-1], 255, 0, "invalid"),
        (137, (OTHER6, HOST6), REDIRECT, 255, 0, "invalid"),
        (137, (NEAR, HOST6), bytes(4) + packed(HOST6) + packed(OTHER6), 255, 0, "invalid"),
    ],
)
def test_neighbour_discovery_must_be_well_formed(
    kind: int, ends: tuple[str, str], rest: bytes, hop_limit: int, code: int, expected: str
) -> None:
    """SPEC 4.8, RFC 4861 6.1, 7.1, 8.1: hop limit, code, lengths, addresses, and options that are known and fit."""
    assert said(firewall(), icmpv6(*ends, kind, rest, hop_limit, code)) == [f"ingress {expected}"]


@pytest.mark.parametrize(
    ("kind", "to", "rest", "hop_limit", "expected"),
    [
        (133, ROUTERS, bytes(4), 255, "control"),
        (133, NEAR, bytes(4) + LINK_ADDRESS, 255, "control"),
        (133, OTHER6, bytes(4), 255, "invalid"),
        (133, ROUTERS, bytes(4) + UNKNOWN, 255, "invalid"),
        (136, "ff02::1", b"\x40\0\0\0" + packed(HOST6), 255, "invalid"),
        (136, "ff02::1", b"\x20\0\0\0" + packed(HOST6) + b"\2" + LINK_ADDRESS[1:], 255, "control"),
        (130, "ff02::1", bytes(20), 1, "control"),
        (130, "ff02::1", bytes(24), 1, "control"),
        (130, "ff02::1", bytes(22) + b"\0\1" + packed(OTHER6), 1, "control"),
        (130, "ff02::1", bytes(23) + b"\2" + packed(OTHER6), 1, "invalid"),
        (130, "ff02::1", bytes(19), 1, "invalid"),
        (131, "ff02::fb", GROUP, 1, "control"),
        (131, "ff02::fb", GROUP, 64, "invalid"),
        (131, "ff02::fb", GROUP + bytes(1200), 1, "invalid"),
        (131, OTHER6, GROUP, 1, "invalid"),
        (132, ROUTERS, GROUP, 1, "control"),
        (132, ROUTERS, bytes(4) + packed(OTHER6), 1, "invalid"),
        (143, REPORTS, bytes(4), 1, "control"),
        (143, REPORTS, bytes(4) + b"tunnel", 1, "invalid"),
        (143, REPORTS, b"\0\0\0\1", 1, "invalid"),
    ],
)
def test_what_an_instance_says_of_itself_and_its_groups(
    kind: int, to: str, rest: bytes, hop_limit: int, expected: str
) -> None:
    """SPEC 4.8, RFC 4861 7.2.4, RFC 2710, RFC 3810: MLD is of the link alone, to a group."""
    assert said(local(), icmpv6(LOCAL, to, kind, rest, hop_limit), BROADCAST) == [f"egress {expected}"]


def local() -> DataPlane:
    """An instance without rules that has a link-local address."""
    return DataPlane(
        Policy.parse(
            "security_groups: [{id: sg, security_group_rules: []}]\n"
            f'instances: [{{id: host, addresses: ["{LOCAL}"], mac: "{MAC}", security_groups: [sg]}}]\n'
        ),
        seed=1,
    )


@pytest.mark.parametrize("source", [HOST6, OTHER6])
def test_listeners_speak_from_link_local_addresses(source: str) -> None:
    """SPEC 4.8."""
    there = HOST6 if source == OTHER6 else REPORTS
    assert said(firewall(), icmpv6(source, there, 143, bytes(4), 1)) == [
        f"{'egress' if source == HOST6 else 'ingress'} invalid"
    ]


@pytest.mark.parametrize(("kind", "rest"), [(134, bytes(12)), (137, REDIRECT)])
def test_an_instance_sends_no_router_advertisement_and_no_redirect(kind: int, rest: bytes) -> None:
    """SPEC 4.8."""
    plane = firewall("direction: egress", "direction: egress, ethertype: IPv6")
    assert said(plane, icmpv6(HOST6, OTHER6, kind, rest, 255)) == ["egress invalid"]
    assert said(local(), icmpv6(LOCAL, "ff02::1", kind, rest, 255)) == ["egress invalid"]
    assert said(plane, icmpv6(HOST6, ROUTERS, 133, bytes(4), 255)) == ["egress control"]


def test_headers_and_trailers_carry_nothing_past_the_rules() -> None:
    """SPEC 4.8: no fragment header (RFC 6980), no options beside the router alert, no bytes behind the packet."""
    message = icmp(OTHER6, HOST6, 135, 0, SOLICIT)
    plain = packet(OTHER6, HOST6, 58, message, 255)
    alert, large, fragment = (b"\x3a\0\5\2\0\0\1\0", b"\x3a\1\1\x0c" + bytes(12), b"\x3a\0\0\0\0\0\0\1")
    for header, extension, expected in (
        (0, alert, "control"),
        (0, large, "invalid"),
        (60, alert, "invalid"),
        (44, fragment, "invalid"),
    ):
        assert said(firewall(), packet(OTHER6, HOST6, header, extension + message, 255)) == [f"ingress {expected}"]
    session = b"\x11\0\0\1" + struct.pack("!HH", len(plain) + 2, 0x0057) + plain
    for padded, ethertype in ((plain, None), (session, 0x8864)):
        assert said(firewall(), padded + bytes(22), ethertype=ethertype) == ["ingress control"]
        assert said(firewall(), padded + bytes(23), ethertype=ethertype) == ["ingress invalid"]


@pytest.mark.parametrize(
    ("kind", "rest"),
    [(135, SOLICIT + LINK_ADDRESS), (143, struct.pack("!HH", 0, 1) + b"\4\0\0\0" + packed("ff02::fb"))],
)
def test_a_message_cut_by_the_snap_length_is_judged_by_what_is_there(tmp_path: Path, kind: int, rest: bytes) -> None:
    """A truncated capture makes nothing invalid."""
    message = icmpv6(LOCAL, REPORTS, kind, rest, 1 if kind == 143 else 255)
    frame = ethernet(MAC, ROUTER, message)
    data = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    for captured in range(14 + 40 + 8, len(frame) + 1):
        data += struct.pack("<IIII", 0, 0, captured, len(frame)) + frame[:captured]
    (tmp_path / "cut.pcap").write_bytes(data)
    summary = local().replay(tmp_path / "cut.pcap")
    assert summary.verdicts["allow"].packets == summary.packets > 20


RECORD = struct.pack("!BBH", 4, 0, 0) + packed("ff02::fb")
WITH_SOURCES = struct.pack("!BBH", 1, 0, 2) + packed("ff02::fb") + packed(OTHER6) * 2
WITH_DATA = struct.pack("!BBH", 2, 2, 0) + packed("ff02::fb") + bytes(8)


@pytest.mark.parametrize(
    ("records", "body", "expected"),
    [
        (0, b"", "control"),
        (2, RECORD + WITH_SOURCES, "control"),
        (1, RECORD + b"more", "invalid"),
        (2, RECORD, "invalid"),
        (1, RECORD[:19], "invalid"),
        (1, WITH_SOURCES[:-1], "invalid"),
        (1, WITH_DATA, "invalid"),
        (1, b"\x07" + RECORD[1:], "invalid"),
        (65535, RECORD, "invalid"),
    ],
    ids=["none", "two", "more behind", "one too few", "cut", "a source cut", "auxiliary data", "type", "far too few"],
)
def test_reports_of_multicast_listeners(records: int, body: bytes, expected: str) -> None:
    """RFC 3810, 5.2: the records that it says, with their sources, no auxiliary data, and nothing behind them."""
    rest = struct.pack("!HH", 0, records) + body
    assert said(local(), icmpv6(LOCAL, REPORTS, 143, rest, 1), BROADCAST) == [f"egress {expected}"]


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


@pytest.mark.parametrize(
    ("operation", "behind", "expected"),
    [(1, 18, "control"), (2, 22, "control"), (1, 23, "invalid"), (1, 1200, "invalid"), (3, 0, "invalid")],
)
def test_arp_has_one_address_pair_and_padding(operation: int, behind: int, expected: str) -> None:
    """SPEC 4.8: padding to the least frame, and its check sequence; requests and replies."""
    frame = arp(operation) + bytes(behind)
    assert said(firewall("direction: egress"), frame, BROADCAST, ethertype=0x0806) == [f"egress {expected}"]


COOKIE = b"\x63\x82\x53\x63"
BOOTP = {True: bytes([1]) + bytes(235) + COOKIE, False: bytes([2]) + bytes(235) + COOKIE}
DHCPV6 = {True: b"\1abc\0\1\0\1x", False: b"\7abc\0\1\0\1x"}
EVERY_SERVER = {False: "255.255.255.255", True: "ff02::1:2"}


class Dhcp:
    """A firewall, and datagrams on the ports of DHCP or DHCPv6."""

    def __init__(self, six: bool, *rules: str, more: str = "") -> None:
        self.six = six
        self.host, self.server = (HOST6, OTHER6) if six else (HOST, OTHER)
        self.everybody = EVERY_SERVER[six]
        self.ports = (546, 547) if six else (68, 67)
        self.messages = DHCPV6 if six else BOOTP
        self.plane = firewall(*rules, more=more)

    def ask(self, to: str, message: bytes | None = None, time: float = 1, source: str | None = None) -> list[str]:
        source, payload = source or self.host, self.messages[True] if message is None else message
        return said(self.plane, udp(source, to, self.ports, payload), BROADCAST, time)

    def answer(self, message: bytes | None = None, time: float = 1, port: int | None = None) -> list[str]:
        ports = port or self.ports[1], self.ports[0]
        payload = self.messages[False] if message is None else message
        return said(self.plane, udp(self.server, self.host, ports, payload), time=time)


@pytest.mark.parametrize("six", [False, True], ids=["DHCP", "DHCPv6"])
def test_a_client_of_dhcp(six: bool) -> None:
    """SPEC 4.8: it asks everybody, or the server that answered last; answers for 60 s after it asked."""
    d = Dhcp(six)
    assert d.answer() == ["ingress no-rule-matched"]
    assert d.ask(d.server) == ["egress no-rule-matched"]
    assert d.ask(d.everybody, time=10) == ["egress control"]
    assert d.answer(time=69.9) == ["ingress control"]
    assert d.ask(d.server, time=69.9) == ["egress control"]
    assert d.answer(time=129.8) == ["ingress control"]
    assert d.answer(time=129.9) == ["ingress no-rule-matched"]
    assert d.ask("fd00::99" if six else "10.0.0.99", time=130) == ["egress no-rule-matched"]


@pytest.mark.parametrize("six", [False, True], ids=["DHCP", "DHCPv6"])
def test_what_is_no_dhcp_on_its_ports_is_invalid(six: bool) -> None:
    """SPEC 4.8: also where rules allow everything; the operation or type must be that of the direction."""
    ethertype = "IPv6" if six else "IPv4"
    d = Dhcp(six, f"direction: egress, ethertype: {ethertype}", f"direction: ingress, ethertype: {ethertype}")
    assert d.ask(d.everybody) == ["egress control"]
    for asks in (True, False):
        message, other = d.messages[asks], d.messages[not asks]
        wrong = message[:-1] + b"x" if not six else message + b"\0\1\0\7x"
        large = message + (b"\0\1\x05\xb8" + bytes(1464) if six else bytes(1233))
        for broken in (other, wrong, message[:3], b"S" * 1200, b"", large):
            said_of = d.ask(d.everybody, broken) if asks else d.answer(broken)
            assert said_of == [f"{'egress' if asks else 'ingress'} invalid"]
    assert d.ask(d.server, b"S" * 1200) == ["egress invalid"]
    assert said(d.plane, udp(d.host, d.everybody, d.ports, d.messages[True]) + bytes(1200)) == ["egress invalid"]


def test_dhcpv6_answers_come_from_any_port() -> None:
    """SPEC 4.8; what is no answer there is left to the rules."""
    d = Dhcp(True)
    assert d.answer(port=4000) == ["ingress no-rule-matched"]
    assert d.ask(d.everybody) == ["egress control"]
    assert d.answer(port=4000) == ["ingress control"]
    assert d.answer(b"S" * 100, port=4000) == ["ingress no-rule-matched"]


@pytest.mark.parametrize("six", [False, True], ids=["DHCP", "DHCPv6"])
def test_a_client_without_an_address_is_known_by_its_transaction(six: bool) -> None:
    """SPEC 4.8, 7: in a replay what it sends is nobody's; the answer repeats its transaction."""
    d = Dhcp(six)
    nobody = "fe80::77" if six else "0.0.0.0"
    assert d.ask(d.everybody, b"\1abc" if six else None, source=nobody) == []
    other = d.messages[False][:3] + b"\xff" * 5 + d.messages[False][8:] if not six else b"\7xyz"
    assert d.answer(other) == ["ingress no-rule-matched"]
    assert d.answer() == ["ingress control"]
    assert d.answer(time=61) == ["ingress no-rule-matched"]


def test_fragments_of_dhcp_are_none() -> None:
    """SPEC 4.8: nobody gets 60 KB past the rules behind a header."""
    whole = packet(HOST, "255.255.255.255", 17, datagram(HOST, "255.255.255.255", 17, (68, 67), BOOTP[True]))
    first = whole[:6] + b"\x20\0" + whole[8:20] + whole[20 : 20 + 248]
    first = first[:2] + struct.pack("!H", len(first)) + first[4:]
    assert said(firewall("direction: egress"), first, BROADCAST) == ["egress invalid"]


@pytest.mark.parametrize("six", [False, True], ids=["DHCP", "DHCPv6"])
def test_a_server_of_dhcp_must_say_so(six: bool) -> None:
    """SPEC 4.8: what an instance answers is invalid, and with dhcp_server: true for the rules to decide."""
    client, server = (546, 547) if six else (68, 67)
    family = f"ethertype: {'IPv6' if six else 'IPv4'}"
    egress, asked = (
        f"direction: egress, {family}",
        f'direction: ingress, {family}, protocol: udp, multiport: "{server}"',
    )
    d = Dhcp(six, egress)
    to_client = udp(d.host, d.server, (server, client), d.messages[False])
    assert said(d.plane, to_client) == ["egress invalid"]
    assert said(d.plane, udp(d.server, d.host, (client, server), d.messages[True])) == ["ingress no-rule-matched"]
    assert said(d.plane, udp(d.host, d.server, (server, server), b"relayed")) == ["egress rule"]
    assert said(Dhcp(six, more="dhcp_server: true").plane, to_client) == ["egress no-rule-matched"]
    serving = Dhcp(six, asked, more="dhcp_server: true")
    assert said(serving.plane, udp(d.server, d.host, (client, server), d.messages[True])) == ["ingress rule"]
    assert said(serving.plane, to_client) == ["egress connection"]


@pytest.mark.parametrize("six", [False, True], ids=["DHCP", "DHCPv6"])
@pytest.mark.parametrize("port", [68, 547, 1067])
def test_a_server_of_dhcp_answers_from_no_other_port(six: bool, port: int) -> None:
    """SPEC 4.8: clients take an answer from any port, and some of any BOOTP operation; what is no DHCP is for rules."""
    client, family = (546, "IPv6") if six else (68, "IPv4")
    d, more = Dhcp(six, f"direction: egress, ethertype: {family}"), "dhcp_server: true"
    messages = [d.messages[False]] if six else [d.messages[False], d.messages[True], d.messages[False] + bytes(1200)]
    for message in messages:
        for to in (d.server, "ff02::1" if six else "255.255.255.255"):
            answer = udp(d.host, to, (port, client), message)
            assert said(d.plane, answer) == ["egress invalid"]
            assert said(Dhcp(six, f"direction: egress, ethertype: {family}", more=more).plane, answer) == [
                "egress rule"
            ]
    if not six:
        for number, other in enumerate((BOOTP[False][:-1], BOOTP[False][:-1] + b"x", b"S" * 300, b"")):
            assert said(d.plane, udp(HOST, f"10.0.0.{100 + number}", (port, client), other)) == ["egress rule"]


@pytest.mark.parametrize("first", [8, 240, 248])
def test_fragments_hide_no_answer_of_dhcp(first: int) -> None:
    """SPEC 4.6, 4.8: a first fragment that ends before the cookie says not that there is none."""
    whole = packet(HOST, OTHER, 17, datagram(HOST, OTHER, 17, (1067, 68), BOOTP[False] + bytes(300)))
    fragment = whole[:2] + struct.pack("!H", 20 + first) + whole[4:6] + b"\x20\0" + whole[8 : 20 + first]
    fragment = fragment[:10] + bytes(2) + fragment[12:]
    fragment = fragment[:10] + struct.pack("!H", checksum(fragment[:20])) + fragment[12:]
    assert said(firewall("direction: egress"), fragment) == ["egress invalid"]
    assert said(firewall("direction: egress", more="dhcp_server: true"), fragment) == ["egress rule"]


def test_dhcp_server_is_changed_by_a_new_policy() -> None:
    """SPEC 4.8, 5.5: it holds at once, and disconnects nobody."""
    plane = firewall("direction: egress")
    answer = udp(HOST, OTHER, (67, 68), BOOTP[False])
    assert said(plane, answer) == ["egress invalid"]
    assert plane.replace(policy("direction: egress", more="dhcp_server: true")).total == 0
    assert said(plane, answer) == ["egress rule"]
    plane.replace(policy("direction: egress"))
    assert said(plane, answer) == ["egress invalid"]


def test_control_traffic_of_an_instance_is_bounded() -> None:
    """SPEC 4.8: so many at once, so many a second; what comes to it is not, nor what another sends."""
    plane = firewall()
    burst = [ethernet(MAC, BROADCAST, arp(), 0x0806)] * (CONTROL_BURST + 10)
    verdicts = [v.verdict for v in plane.process_batch(burst, times_ns=[10**9] * len(burst))]
    assert verdicts == ["allow"] * CONTROL_BURST + ["deny"] * 10
    check = plane.process(burst[0], time=1).checks[0]
    assert (check.verdict, check.state, check.reason, check.cause) == ("deny", "untracked", "control", "control-rate")
    asked = ethernet(ROUTER, BROADCAST, icmpv6(OTHER6, HOST6, 135, SOLICIT, 255))
    assert plane.process(asked, time=1).verdict == "allow"
    later = [
        v.verdict for v in plane.process_batch(burst[: CONTROL_RATE + 5], times_ns=[2 * 10**9] * (CONTROL_RATE + 5))
    ]
    assert later.count("allow") == CONTROL_RATE


def test_large_control_packets_count_more() -> None:
    """SPEC 4.8: so many a second is no measure of bytes; one that has 1,448 counts as twelve."""
    plane = local()
    sources = struct.pack("!HHBBH", 0, 1, 1, 0, 88) + packed("ff02::fb") + packed(OTHER6) * 88
    report = ethernet(MAC, BROADCAST, icmpv6(LOCAL, REPORTS, 143, sources, 1))
    number = CONTROL_BURST // 12
    verdicts = [v.verdict for v in plane.process_batch([report] * (number + 1), times_ns=[10**9] * (number + 1))]
    assert verdicts == ["allow"] * number + ["deny"]


def test_a_broadcast_has_one_check_at_its_sender() -> None:
    """SPEC 3.2: its destination is nobody's address; rules match it by its address like any other."""
    plane = firewall('direction: egress, protocol: udp, multiport: "137,5353", remote_ip_prefix: 224.0.0.0/4')
    assert said(plane, udp(HOST, "224.0.0.251", (5353, 5353)), "01:00:5e:00:00:fb") == ["egress rule"]
    for address in ("255.255.255.255", "10.0.0.255"):
        assert said(plane, udp(HOST, address, (137, 137)), BROADCAST) == ["egress no-rule-matched"]
    assert said(plane, udp(OTHER, "10.0.0.255", (137, 137)), BROADCAST) == []
    everywhere = firewall("direction: egress")
    assert said(everywhere, udp(HOST, "255.255.255.255", (137, 137)), BROADCAST) == ["egress rule"]


def test_an_answer_to_a_broadcast_is_a_new_connection() -> None:
    """SPEC 4.1: it comes from an address that nothing was sent to; as in nf_conntrack without a helper."""
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
