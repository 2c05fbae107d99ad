"""Packets written as in SPEC 8: read, written again, and made into frames that the engine takes for what they say."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from dataplane import DataPlane, Policy, Verdict
from dataplane.insight.packet_bytes import ip_packet
from dataplane.insight.packet_text import PacketTextError, parse_packet

OPEN = """
security_groups:
  - id: open
    security_group_rules:
      - {id: in, direction: ingress}
      - {id: in6, direction: ingress, ethertype: IPv6}
      - {id: out, direction: egress}
      - {id: out6, direction: egress, ethertype: IPv6}
instances: [{id: i, addresses: [192.168.0.10, "2001:db8::2", "fe80::2"], security_groups: [open]}]
conntrack: {verify_checksums: true}
"""


def judged(text: str) -> Verdict:
    return DataPlane(Policy.parse(OPEN), seed=0).process(ip_packet(parse_packet(text)), time=0, link="raw")


def test_the_examples_of_the_specification() -> None:
    """SPEC 8: `PROTOCOL SRC[:PORT] > DST[:PORT] [FLAGS|TYPE[/CODE]]`."""
    tcp = IP(ip_packet(parse_packet("tcp 10.0.0.5:4000 > 192.168.0.10:22 S")))
    assert (tcp.src, tcp.dst, tcp[TCP].sport, tcp[TCP].dport) == ("10.0.0.5", "192.168.0.10", 4000, 22)
    assert tcp[TCP].flags == "S"
    icmp = IP(ip_packet(parse_packet("icmp 10.0.0.5 > 192.168.0.10 echo-request id 7")))
    assert (icmp[ICMP].type, icmp[ICMP].code, icmp[ICMP].id) == (8, 0, 7)
    udp = IPv6(ip_packet(parse_packet("udp [2001:db8::1]:53 > [2001:db8::2]:4000")))
    assert (udp.src, udp.dst, udp[UDP].sport, udp[UDP].dport) == ("2001:db8::1", "2001:db8::2", 53, 4000)


def test_what_is_left_out() -> None:
    """Without FLAGS a SYN, without TYPE an echo-request."""
    assert IP(ip_packet(parse_packet("tcp 10.0.0.5:1 > 10.0.0.6:2")))[TCP].flags == "S"
    assert ICMPv6EchoRequest in IPv6(ip_packet(parse_packet("icmpv6 ::1 > ::2")))


@pytest.mark.parametrize(
    "text",
    [
        "tcp 10.0.0.5:4000 > 192.168.0.10:22 SA",
        "tcp [2001:db8::1]:4000 > [2001:db8::2]:22 FPA",
        "tcp 10.0.0.5:4000 > 192.168.0.10:22 none",
        "icmp 10.0.0.5 > 192.168.0.10 destination-unreachable/port-unreachable",
        "icmp 10.0.0.5 > 192.168.0.10 200/3",
        "icmpv6 2001:db8::1 > 2001:db8::2 echo-request id 7",
        "gre 10.0.0.5 > 192.168.0.10",
        "89 10.0.0.5 > 192.168.0.10",
        "sctp 10.0.0.5:1 > 192.168.0.10:65535",
    ],
)
def test_a_packet_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_packet(text)) == text


@pytest.mark.parametrize(
    "protocol", ["tcp", "udp", "sctp", "dccp", "udplite", "icmp", "icmpv6", "gre", "esp", "ah", "igmp", "200"]
)
def test_every_protocol_is_a_good_packet(protocol: str) -> None:
    """Lengths and checksums are right: the rules are asked, under verify_checksums too."""
    source, to = ("2001:db8::1", "2001:db8::2") if protocol == "icmpv6" else ("10.0.0.5", "192.168.0.10")
    ported = protocol in ("tcp", "udp", "sctp", "dccp", "udplite")
    text = f"{protocol} {source}:1 > {to}:2" if ported else f"{protocol} {source} > {to}"
    assert [check.reason for check in judged(text).checks] == ["rule"]


@pytest.mark.parametrize(
    ("text", "reason", "cause"),
    [
        ("icmpv6 fe80::2 > ff02::1:ff00:1 neighbour-solicitation", "control", None),
        ("icmpv6 fe80::2 > ff02::2 router-solicitation", "control", None),
        ("icmpv6 fe80::1 > fe80::2 router-advertisement", "control", None),
        ("udp 192.168.0.10:68 > 255.255.255.255:67", "control", None),
        ("udp [fe80::2]:546 > [ff02::1:2]:547", "control", None),
        ("udp 192.168.0.10:67 > 10.0.0.5:68", "invalid", "dhcp-server"),
        ("icmp 10.0.0.5 > 192.168.0.10 time-exceeded", "invalid", "icmp-unrelated"),
        ("icmp 10.0.0.5 > 192.168.0.10 echo-reply", "invalid", "icmp-unsolicited"),
        ("tcp 10.0.0.5:1 > 192.168.0.10:2 SF", "invalid", "tcp-flags"),
        ("tcp 10.0.0.5:1 > 192.168.0.10:2 A", "invalid", "tcp-no-connection"),
    ],
)
def test_control_traffic_and_errors_are_well_formed(text: str, reason: str, cause: str | None) -> None:
    """SPEC 4.8, 4.5, 4.4: what is said of them is about what they are, not about how they were made."""
    assert [(check.reason, check.cause) for check in judged(text).checks] == [(reason, cause)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # What a shell leaves of a packet without quotes, of which it has made a redirection.
        ("tcp 1.1.1.1:1", "in quotes, as 'tcp "),
        ("", "column 1: the text ends where a protocol should follow"),
        ("tcpp 1.1.1.1:1 > 2.2.2.2:2", 'column 1: protocol "tcpp" is not known: .* did you mean tcp'),
        ("tcp 1.1.1.300:1 > 2.2.2.2:2", 'column 5: "1.1.1.300" is no address: write the source as'),
        ("tcp 1.1.1.1 > 2.2.2.2:2", 'column 5: the source "1.1.1.1" has no port: write it behind the address'),
        ("gre 1.1.1.1:3 > 2.2.2.2", "column 5: the source .* has a port, which this protocol has not"),
        ("tcp 1.1.1.1:1 > 2.2.2.2:99999", 'column 17: port "99999" of the destination is not allowed: 0..65535'),
        ("tcp 1.1.1.1:1 2.2.2.2:2", 'column 15: "2.2.2.2:2" stands where ">" is needed'),
        ("tcp 1.1.1.1:1 >", "column 16: the text ends where the destination should follow"),
        ("tcp 1.1.1.1:1 > [::1]:2", "two families"),
        ("icmp ::1 > ::2", "column 1: icmp belongs to IPv4, .* write icmpv6"),
        ("icmpv6 1.1.1.1 > 2.2.2.2", "write icmp$"),
        ("44 ::1 > ::2", "column 1: 44 is IPv6's fragment header"),
        ("tcp 1.1.1.1:1 > 2.2.2.2:2 XY", 'column 27: flags "XY" are not known'),
        ("udp 1.1.1.1:1 > 2.2.2.2:2 S", 'column 27: "S" is one word too many'),
        ("icmp 1.1.1.1 > 2.2.2.2 echo-reqest", "column 24: type .* did you mean echo-request"),
        ("icmp 1.1.1.1 > 2.2.2.2 8/300", 'column 26: code "300" is not known'),
        ("icmp 1.1.1.1 > 2.2.2.2 8 id x", 'column 29: identifier "x" is not allowed'),
        ("tcp 1.1.1.1:¹ > 2.2.2.2:2", 'port "¹"'),
    ],
)
def test_a_mistake_is_told_with_place_and_remedy(text: str, message: str) -> None:
    with pytest.raises(PacketTextError, match=message):
        parse_packet(text)
