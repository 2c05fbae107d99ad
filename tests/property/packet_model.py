"""Frames as the model sees them: plain decoding of Ethernet, IP and the transport headers.

It reads whole datagrams only; a fragment (SPEC 4.6) raises `UnmodelledError`. A packet that the model calls malformed
still carries its addresses, because the check at which it is denied is found by them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from .checksum_model import fits, transport_fits

Address = IPv4Address | IPv6Address

ICMP, TCP, UDP, DCCP, GRE, ESP, AH, ICMPV6, SCTP, UDP_LITE = 1, 6, 17, 33, 47, 50, 51, 58, 132, 136
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS, MOBILITY = 0, 43, 44, 60, 135

#: Protocols with ports and the length of their fixed header in bytes (SPEC 4.7).
PORT_HEADER = {TCP: 20, UDP: 8, UDP_LITE: 8, SCTP: 12, DCCP: 12}

#: ICMP queries by family: type of the request -> type of the reply (SPEC 4.5).
QUERIES = {4: {8: 0, 13: 14, 15: 16, 17: 18}, 6: {128: 129}}
#: ICMP errors by family: unreachable, packet too big, time exceeded, parameter problem, source quench (SPEC 4.5).
ERRORS = {4: {3, 4, 11, 12}, 6: {1, 2, 3, 4}}


class UnmodelledError(Exception):
    """The model has no answer for this frame."""


@dataclass(frozen=True)
class Tcp:
    """A segment; `length` is its payload in bytes, without SYN and FIN."""

    flags: int
    seq: int
    ack: int
    length: int


@dataclass(frozen=True)
class Icmp:
    """An ICMP or ICMPv6 message; `quoted` is the packet inside an error, None where it cannot be read."""

    type: int
    code: int
    identifier: int
    quoted: Packet | None
    body: bytes


@dataclass(frozen=True)
class Packet:
    """One IP packet; ports are 0 where the protocol has none. `wrong_sum`: a checksum in it is wrong.

    ARP is one too, between its sender's and target's address, with `arp_mac` the sender's hardware address. `body` is
    all behind the IP header and what stands `between`, IPv6 extension headers, or ARP's whole message with padding;
    `trailer` counts the bytes of the frame behind the IP packet.
    """

    source: Address
    destination: Address
    protocol: int
    hop_limit: int
    source_port: int = 0
    destination_port: int = 0
    tcp: Tcp | None = None
    icmp: Icmp | None = None
    malformed: bool = False
    source_mac: str = ""
    destination_mac: str = ""
    wrong_sum: bool = False
    vlan: int = 0
    arp_mac: str | None = None
    body: bytes = b""
    between: bytes = b""
    trailer: int = 0

    @property
    def family(self) -> int:
        return self.source.version

    @property
    def is_icmp(self) -> bool:
        return self.protocol == (ICMP if self.family == 4 else ICMPV6)


def decode(frame: bytes) -> Packet | None:
    """The IP packet in an Ethernet frame; None for a frame that holds none with readable addresses."""
    if len(frame) < 14:
        return None
    macs = frame[6:12].hex(":"), frame[0:6].hex(":")
    at, vlan = 12, 0
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        vlan = vlan << 12 | int.from_bytes(frame[at + 2 : at + 4], "big") & 0xFFF
        at += 4
    ethertype, data = frame[at : at + 2], frame[at + 2 :]
    packet = None
    if ethertype == b"\x08\x00":
        packet = _decode_ipv4(data, macs, quoted=False)
    if ethertype == b"\x86\xdd":
        packet = _decode_ipv6(data, macs, quoted=False)
    if ethertype == b"\x08\x06" and len(data) >= 28 and data[:6] == b"\0\x01\x08\0\x06\x04":
        ends = ip_address(data[14:18]), ip_address(data[24:28])
        packet = Packet(
            *ends, 0, 0, source_mac=macs[0], destination_mac=macs[1], arp_mac=data[8:14].hex(":"), body=data
        )
    return None if packet is None else replace(packet, vlan=vlan)


def _decode_ipv4(data: bytes, macs: tuple[str, str], quoted: bool) -> Packet | None:
    if len(data) < 20:
        return None
    header, total = (data[0] & 15) * 4, int.from_bytes(data[2:4], "big")
    fragment = int.from_bytes(data[6:8], "big")
    source, destination = ip_address(data[12:16]), ip_address(data[16:20])
    damaged = data[0] >> 4 != 4 or header < 20 or total < header or header > len(data)
    damaged = damaged or (total > len(data) and not quoted)
    if damaged:
        return Packet(
            source, destination, data[9], data[8], malformed=True, source_mac=macs[0], destination_mac=macs[1]
        )
    if fragment & 0x1FFF or (fragment & 0x2000 and not quoted):
        raise UnmodelledError("a fragment")
    packet = _decode_transport(source, destination, data[9], data[8], data[header:total], macs, quoted)
    packet = replace(packet, trailer=len(data) - total)
    return packet if fits(data[:header]) else replace(packet, wrong_sum=True)


def _decode_ipv6(data: bytes, macs: tuple[str, str], quoted: bool) -> Packet | None:
    if len(data) < 40:
        return None
    length, protocol, hop_limit = int.from_bytes(data[4:6], "big"), data[6], data[7]
    source, destination = ip_address(data[8:24]), ip_address(data[24:40])
    broken = Packet(
        source, destination, protocol, hop_limit, malformed=True, source_mac=macs[0], destination_mac=macs[1]
    )
    if data[0] >> 4 != 6 or (length > len(data) - 40 and not quoted):
        return broken
    rest = whole = data[40 : 40 + length]
    first = protocol
    while protocol in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS, AH, MOBILITY):
        if len(rest) < 8:
            return broken
        if protocol == FRAGMENT:
            if int.from_bytes(rest[2:4], "big") & 0xFFF9:
                raise UnmodelledError("a fragment")
            size = 8
        elif protocol == AH:
            size = (rest[1] + 2) * 4
        else:
            size = (rest[1] + 1) * 8
        if len(rest) < size:
            return broken
        protocol, rest = rest[0], rest[size:]
    packet = _decode_transport(source, destination, protocol, hop_limit, rest, macs, quoted)
    between = bytes([first]) + whole[: len(whole) - len(rest)]
    return replace(packet, between=between if len(between) > 1 else b"", trailer=len(data) - 40 - length)


def _decode_transport(
    source: Address,
    destination: Address,
    protocol: int,
    hop_limit: int,
    body: bytes,
    macs: tuple[str, str],
    quoted: bool,
) -> Packet:
    ports, tcp, icmp = (0, 0), None, None
    icmp_here = protocol == (ICMP if source.version == 4 else ICMPV6)
    needed = 8 if icmp_here else PORT_HEADER.get(protocol, 0)
    if quoted:
        # An ICMP error may quote no more than eight bytes beyond the IP header (RFC 792).
        needed = min(needed, 8)
    malformed = len(body) < needed
    if not malformed and protocol in PORT_HEADER:
        ports = struct.unpack_from("!HH", body)
        if protocol == TCP and not quoted:
            offset = (body[12] >> 4) * 4
            malformed = offset < 20 or offset > len(body)
            seq, ack = struct.unpack_from("!II", body, 4)
            tcp = Tcp(body[13], seq, ack, len(body) - offset)
        elif protocol == UDP and not quoted:
            malformed = not 8 <= int.from_bytes(body[4:6], "big") <= len(body)
    elif not malformed and icmp_here:
        inner = None
        if body[0] in ERRORS[source.version] and not quoted:
            inner = _decode_quoted(body[8:], source.version)
        icmp = Icmp(body[0], body[1], int.from_bytes(body[4:6], "big"), inner, body)
    wrong = not (quoted or malformed) and not transport_fits(source.packed, destination.packed, protocol, body)
    return Packet(source, destination, protocol, hop_limit, *ports, tcp, icmp, malformed, *macs, wrong, body=body)


def _decode_quoted(data: bytes, family: int) -> Packet | None:
    try:
        packet = (_decode_ipv4 if family == 4 else _decode_ipv6)(data, ("", ""), quoted=True)
    except UnmodelledError:
        return None
    return None if packet is None or packet.malformed else packet
