"""Packets made into real ones, with headers, lengths and checksums as they should be."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from dataplane.insight.packet_text import ICMP, ICMPV6, TCP, UDP, Packet
from dataplane.packet_words import PROTOCOLS


def ip_packet(packet: Packet) -> bytes:
    """The packet from its IP header on, with right lengths and checksums.

    Control traffic (neighbour discovery, MLD, DHCP) is made well-formed, and an ICMP error quotes a packet.
    """
    body, hops = _body(packet)
    if len(packet.source) == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, hops, packet.protocol, 0)
        head += packet.source + packet.destination
        return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + body
    return struct.pack("!IHBB", 6 << 28, len(body), packet.protocol, hops) + packet.source + packet.destination + body


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


#: Where the checksum over the pseudo-header stands, by protocol.
_SUM_AT = {TCP: 16, UDP: 6, PROTOCOLS["udplite"]: 6, PROTOCOLS["dccp"]: 6, ICMPV6: 2}
#: ICMP's queries by type, and how long the message is; ICMPv6 has the echo alone.
_QUERIES = {0: 8, 8: 8, 13: 20, 14: 20, 15: 8, 16: 8, 17: 12, 18: 12}
_HOPS, _DISCOVERY_HOPS, _MLD_HOPS = 64, 255, 1


def _body(packet: Packet) -> tuple[bytes, int]:
    """What stands behind the IP header, and the hop limit."""
    hops = _HOPS
    ports = struct.pack("!HH", packet.source_port, packet.destination_port)
    if packet.protocol == TCP:
        body = ports + struct.pack("!IIBBHHH", packet.sequence, packet.acknowledgement, 0x50, packet.flags, 64240, 0, 0)
    elif packet.protocol in (UDP, PROTOCOLS["udplite"]):
        data = _dhcp(packet)
        body = ports + struct.pack("!HH", 8 + len(data), 0) + data
    elif packet.protocol == PROTOCOLS["dccp"]:
        # A request (RFC 4340, 5.1): header of 20 bytes, long sequence number.
        body = ports + struct.pack("!BBHBBHII", 5, 0, 0, 1, 0, 0, 1, 0)
    elif packet.protocol == PROTOCOLS["sctp"]:
        # An INIT (RFC 9260, 3.3.2); a checksum of 0 says that there is none.
        body = ports + struct.pack("!IIBBHIIHHI", 0, 0, 1, 0, 20, 1, 1500, 1, 1, 1)
    elif packet.is_icmp:
        body, hops = _icmp_message(packet)
    else:
        body = bytes(16)
    at = _SUM_AT.get(packet.protocol)
    if packet.protocol == ICMP and packet.is_icmp:
        body = body[:2] + struct.pack("!H", _checksum(body)) + body[4:]
    elif at is not None:
        form = "!HH" if len(packet.source) == 4 else "!IHH"
        ends = packet.source + packet.destination
        tail = (packet.protocol, len(body)) if len(packet.source) == 4 else (len(body), 0, packet.protocol)
        total = _checksum(ends + struct.pack(form, *tail) + body)
        body = body[:at] + struct.pack("!H", total or 0xFFFF) + body[at + 2 :]
    return body, hops


def _icmp_message(packet: Packet) -> tuple[bytes, int]:
    head = struct.pack("!BBHHH", packet.icmp_type, packet.icmp_code, 0, packet.icmp_id, 0)
    if packet.protocol == ICMP:
        length = _QUERIES.get(packet.icmp_type)
        return (head + _quoted(packet) if length is None else head.ljust(length, b"\0")), _HOPS
    if packet.icmp_type < 128:
        return head + _quoted(packet), _HOPS
    if packet.icmp_type in (130, 131, 132):
        return head + packet.destination, _MLD_HOPS
    if 133 <= packet.icmp_type <= 137:
        # What is asked for by a solicited-node address ends like it (RFC 4291, 2.7.1).
        asked = packet.destination
        asked = b"\xfe\x80" + bytes(11) + asked[13:] if asked[0] == 0xFF else asked
        targets = {135: asked, 136: packet.source, 137: packet.source + packet.destination}
        return head + targets.get(packet.icmp_type, bytes(8) * (packet.icmp_type == 134)), _DISCOVERY_HOPS
    return head, _HOPS


def _quoted(packet: Packet) -> bytes:
    """A packet that an ICMP error could be about: it went from the error's receiver to its sender."""
    quoted = Packet(UDP, packet.destination, packet.source, 1, 1)
    return ip_packet(quoted)


def _dhcp(packet: Packet) -> bytes:
    """What a client of DHCP or DHCPv6 asks, or a server answers, between their ports; nothing elsewhere."""
    ports = packet.source_port, packet.destination_port
    if len(packet.source) == 4 and ports in ((68, 67), (67, 68)):
        asks = ports == (68, 67)
        head = struct.pack("!BBBBI", 1 if asks else 2, 1, 6, 0, 1)
        return head.ljust(236, b"\0") + b"\x63\x82\x53\x63" + bytes([53, 1, 1 if asks else 2, 255])
    if len(packet.source) == 16 and ports[1] in (546, 547):
        return bytes([1 if ports[1] == 547 else 2, 0, 0, 1])
    return b""


def as_capture_bytes(packets: Sequence[Packet], times_ns: Sequence[int]) -> bytes:
    """Packets as a capture: pcap with nanoseconds, LINKTYPE_RAW."""
    data = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 0xFFFF, 101)]
    for packet, time_ns in zip(packets, times_ns, strict=True):
        ip = ip_packet(packet)
        data += [struct.pack("<IIII", *divmod(time_ns, 1_000_000_000), len(ip), len(ip)), ip]
    return b"".join(data)
