"""The frames of the stories are what scapy makes of the same fields, to the byte."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import GRE, Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkCookieAck
from scapy.packet import Packet, Raw

from . import frames
from .packet_model import decode

V4, V6 = ("10.0.0.1", "192.0.2.1"), ("fd00::1", "2001:db8::1")
MACS = "02:00:00:00:00:01", "02:00:00:00:ff:01"


def ip(ends: tuple[str, str], protocol: int, hop_limit: int = 64) -> Packet:
    if ends is V6:
        return IPv6(src=ends[0], dst=ends[1], hlim=hop_limit)
    return IP(src=ends[0], dst=ends[1], ttl=hop_limit, id=1, proto=protocol)


@pytest.mark.parametrize("ends", [V4, V6])
@pytest.mark.parametrize("payload", [b"", b"odd", b"sixteen bytes ok"])
def test_tcp(ends: tuple[str, str], payload: bytes) -> None:
    """RFC 9293, 3.1: ports, numbers, flags, window and checksum."""
    ours = frames.packet(*ends, 6, frames.tcp(*ends, (1024, 22), 0x12, 1000, 5001, payload))
    segment = TCP(sport=1024, dport=22, flags="SA", seq=1000, ack=5001, window=65535)
    assert ours == bytes(ip(ends, 6) / segment / Raw(payload))


@pytest.mark.parametrize("ends", [V4, V6])
@pytest.mark.parametrize("payload", [b"", b"odd"])
def test_udp_in_a_tagged_frame(ends: tuple[str, str], payload: bytes) -> None:
    """RFC 768 and 802.1Q."""
    body = frames.datagram(*ends, 17, (1024, 53), payload)
    ours = frames.ethernet(*MACS, frames.packet(*ends, 17, body), vlan=5)
    theirs = Ether(src=MACS[0], dst=MACS[1]) / Dot1Q(vlan=5) / ip(ends, 17)
    assert ours == bytes(theirs / UDP(sport=1024, dport=53) / Raw(payload))


def test_sctp() -> None:
    """RFC 9260, 3 and appendix A: the checksum is CRC32c."""
    ours = frames.packet(*V4, 132, frames.datagram(*V4, 132, (1024, 22)))
    assert ours == bytes(ip(V4, 132) / SCTP(sport=1024, dport=22, tag=1) / SCTPChunkCookieAck())


def test_gre() -> None:
    """RFC 2784: no optional fields."""
    assert frames.packet(*V4, 47, frames.datagram(*V4, 47, (0, 0))) == bytes(ip(V4, 47) / GRE(proto=0x0800))


@pytest.mark.parametrize(("protocol", "at"), [(33, 6), (136, 6)])
@pytest.mark.parametrize("ends", [V4, V6])
def test_dccp_and_udp_lite_checksums(ends: tuple[str, str], protocol: int, at: int) -> None:
    """RFC 4340, 9 and RFC 3828, 3.1: the sum over the pseudo-header and all of the datagram is zero."""
    body = frames.datagram(*ends, protocol, (1024, 22), b"odd")
    assert body[at : at + 2] != b"\0\0"
    length = len(body).to_bytes(4, "big")
    pseudo = b"".join(map(frames.packed, ends)) + length + bytes([0, 0, 0, protocol])
    assert frames.checksum(pseudo + body) == 0


def test_echo() -> None:
    """RFC 792 and RFC 4443, 4.1."""
    ours = frames.packet(*V4, 1, frames.query(*V4, 8, 7))
    assert ours == bytes(ip(V4, 1) / ICMP(type=8, id=7, seq=1))
    ours = frames.packet(*V6, 58, frames.query(*V6, 128, 7))
    assert ours == bytes(ip(V6, 58) / ICMPv6EchoRequest(id=7, seq=1))


def test_errors() -> None:
    """RFC 792 and RFC 4443, 3.1: the quoted packet follows eight bytes of header."""
    quoted = frames.packet(*V4, 17, frames.datagram(*V4, 17, (1024, 53)))
    ours = frames.packet(*V4[::-1], 1, frames.error(*V4[::-1], 3, 3, quoted))
    assert ours == bytes(ip(V4[::-1], 1) / ICMP(type=3, code=3) / Raw(quoted))
    quoted = frames.packet(*V6, 17, frames.datagram(*V6, 17, (1024, 53)))
    ours = frames.packet(*V6, 58, frames.error(*V6, 1, 4, quoted))
    assert ours == bytes(ip(V6, 58) / ICMPv6DestUnreach(code=4) / Raw(quoted))


def test_extensions() -> None:
    """RFC 2113 and RFC 8200, 4.6."""
    body = frames.datagram(*V4, 17, (1024, 53))
    four = IP(src=V4[0], dst=V4[1], ttl=64, id=1, proto=17, options=[IPOption_Router_Alert()]) / Raw(body)
    assert frames.packet(*V4, 17, body, extension=True) == bytes(four)
    body = frames.datagram(*V6, 17, (1024, 53))
    six = ip(V6, 60) / IPv6ExtHdrDestOpt() / UDP(sport=1024, dport=53)
    assert frames.packet(*V6, 17, body, extension=True) == bytes(six)


@pytest.mark.parametrize("ends", [V4, V6])
@pytest.mark.parametrize("extension", [False, True])
def test_the_model_decodes_what_scapy_makes(ends: tuple[str, str], extension: bool) -> None:
    """SPEC 4.7: options, extension headers and tags are walked to the transport header."""
    segment = TCP(sport=1024, dport=22, flags="FA", seq=7, ack=9) / Raw(b"abc")
    if ends is V6:
        packet = ip(ends, 60) / IPv6ExtHdrDestOpt() / segment if extension else ip(ends, 6) / segment
    else:
        options = [IPOption_Router_Alert()] if extension else []
        packet = IP(src=ends[0], dst=ends[1], options=options) / segment
    seen = decode(bytes(Ether(src=MACS[0], dst=MACS[1]) / Dot1Q(vlan=2) / Dot1Q(vlan=3) / packet))
    assert seen is not None
    assert seen.tcp is not None
    assert (str(seen.source), str(seen.destination), seen.source_mac, seen.destination_mac) == (*ends, *MACS)
    assert (seen.source_port, seen.destination_port) == (1024, 22)
    assert (seen.tcp.flags, seen.tcp.seq, seen.tcp.ack, seen.tcp.length) == (0x11, 7, 9, 3)
