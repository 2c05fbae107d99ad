"""Control traffic in the reference model: what SPEC 4.8 says of ARP, neighbour discovery, MLD and DHCP."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

from .packet_model import Packet

#: The longest ARP message with padding up to the least Ethernet frame, and the frame check sequence behind it.
PADDED = 28 + 18 + 4
#: What a host says in its options of neighbour discovery, and what a router does.
HOST_OPTIONS = {1, 2, 13, 14, 33}
ROUTER_OPTIONS = HOST_OPTIONS | {3, 4, 5, 7, 8, 11, 12, 24, 25, 26, 31, 34, 35, 36, 37, 38}


def control_traffic(packet: Packet, direction: str) -> bool | None:
    """SPEC 4.8 but for DHCP: True for what no rule judges, False for what must not pass as such."""
    if packet.arp_mac is not None:
        return packet.body[6:8] in (b"\0\1", b"\0\2") and len(packet.body) <= PADDED
    if packet.family != 6 or packet.icmp is None or packet.icmp.type not in (130, 131, 132, 143, *range(133, 138)):
        return None
    kind, body, to = packet.icmp.type, packet.icmp.body, IPv6Address(packet.destination.packed)
    source = IPv6Address(packet.source.packed)
    if packet.trailer > PADDED - 28 or len(body) > 1500 or not _plain(packet) or packet.icmp.code != 0:
        return False
    if kind in (130, 131, 132, 143):
        if packet.hop_limit != 1 or not to.is_multicast or not (source.is_link_local or not int(source)):
            return False
        return _report_fits(body) if kind == 143 else _listener_fits(kind, body)
    least = {133: 8, 134: 16, 135: 24, 136: 24, 137: 40}[kind]
    if packet.hop_limit != 255 or len(body) < least or (direction == "egress" and kind in (134, 137)):
        return False
    options = list(discovery_options(body[least:]))
    router, total = kind in (134, 137), len(body) - least
    if sum(map(len, options)) != total or (total > 64 and not router):
        return False
    for option in options:
        if option[0] not in (ROUTER_OPTIONS if router else HOST_OPTIONS) or (option[0] in (1, 2) and len(option) != 8):
            return False
        if option[0] == 1 and not int(source):
            return False
    target = IPv6Address(body[8:24]) if kind >= 135 else to
    if kind == 133:
        return to.is_multicast or to.is_link_local
    if kind == 134:
        return source.is_link_local
    if kind == 137:
        about = IPv6Address(body[24:40])
        return source.is_link_local and not about.is_multicast and (target.is_link_local or target == about)
    if target.is_multicast:
        return False
    if kind == 136:
        return not (to.is_multicast and body[4] & 0x40)
    if not int(source) and to.packed[:13] != IPv6Address("ff02::1:ff00:0").packed[:13]:
        return False
    return to.is_multicast or to.is_link_local or to == target


def _plain(packet: Packet) -> bool:
    """No extension header, or one hop-by-hop header of eight bytes (router alert)."""
    return not packet.between or (len(packet.between) == 9 and packet.between[0] == 0)


def _listener_fits(kind: int, body: bytes) -> bool:
    if len(body) < 24 or not (body[8] == 0xFF or (kind == 130 and not any(body[8:24]))):
        return False
    if len(body) == 24:
        return True
    return kind == 130 and len(body) >= 28 and len(body) == 28 + 16 * int.from_bytes(body[26:28], "big")


def _report_fits(report: bytes) -> bool:
    """Whether an MLDv2 report has the records that it counts, and nothing else (RFC 3810, 5.2)."""
    count, rest = int.from_bytes(report[6:8], "big"), report[8:]
    for _ in range(count):
        if len(rest) < 20 or rest[0] not in range(1, 7) or rest[1] or rest[4] != 0xFF:
            return False
        size = 20 + int.from_bytes(rest[2:4], "big") * 16
        if size > len(rest):
            return False
        rest = rest[size:]
    return not rest


def dhcp_message(packet: Packet, asks: bool) -> bool:
    """Whether a datagram is a message of DHCP or DHCPv6 in this direction, and nothing besides (SPEC 4.8)."""
    payload = packet.body[8:]
    said = int.from_bytes(packet.body[4:6], "big")
    if said != len(packet.body) or said > 1480 or packet.trailer > PADDED - 28:
        return False
    if packet.family == 4:
        return len(payload) >= 240 and payload[0] == (1 if asks else 2) and payload[236:240] == b"\x63\x82\x53\x63"
    types = {1, 3, 4, 5, 6, 8, 9, 11, 14, 20} if asks else {2, 7, 10, 15, 21}
    if len(payload) < 4 or payload[0] not in types or not _plain(packet):
        return False
    rest = payload[4:]
    while rest:
        size = 4 + int.from_bytes(rest[2:4], "big")
        if len(rest) < 4 or size > len(rest):
            return False
        rest = rest[size:]
    return True


def transaction(packet: Packet) -> tuple[int, bytes]:
    """Family and identifier of a DHCP exchange."""
    return packet.family, packet.body[12:16] if packet.family == 4 else packet.body[9:12]


def discovery_options(options: bytes) -> Iterator[bytes]:
    """Neighbour discovery options, up to the first that does not fit."""
    while len(options) >= 2 and 0 < options[1] * 8 <= len(options):
        yield options[: options[1] * 8]
        options = options[options[1] * 8 :]
