"""Which packet of many serves best as an example."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from dataplane.insight.packet_sets import COMMON_REMOTES, COMMON_SELECTORS, Box
from dataplane.insight.packet_text import TCP, Packet
from dataplane.packet_words import PORTED
from dataplane.policy.addresses import packed_address

#: Who stands for an instance where none has an address of the family.
_LOCAL = {"IPv4": "192.0.2.1", "IPv6": "2001:db8:ffff::1"}
_SOURCE_PORT = 40000
_SYN = 0x02


def example(box: Box, direction: str, ethertype: str, own: Iterable[str], others: Container[str]) -> str:
    """A packet of a box in the notation of SPEC 8, to one of an instance's `own` addresses or from it.

    The other side has an address of its own, and if that can be none of the `others`.
    """
    there = _remote(box, ethertype, others)
    here = next((text for text in own if text != there), _LOCAL[ethertype])
    ends = (there, here) if direction == "ingress" else (here, there)
    return str(_packet(_selector(box), *map(packed_address, ends)))


def _packet(selector: int, source: bytes, destination: bytes) -> Packet:
    """A first packet with a selector."""
    number, rest = selector >> 16, selector & 0xFFFF
    packet = Packet(number, source, destination)
    if number in PORTED:
        return replace(packet, source_port=_SOURCE_PORT, destination_port=rest, flags=_SYN if number == TCP else 0)
    return replace(packet, icmp_type=rest >> 8, icmp_code=rest & 0xFF) if packet.is_icmp else packet


def _remote(box: Box, ethertype: str, taken: Container[str]) -> str:
    low, high = box.remote_low, box.remote_high
    kind = IPv4Address if ethertype == "IPv4" else IPv6Address
    # The first address of a network is seldom a host's.
    wanted = (*COMMON_REMOTES, low + 1, low + 2, low, high)
    some = [str(kind(number)) for number in wanted if low <= number <= high]
    return next((text for text in some if text not in taken), some[0])


def _selector(box: Box) -> int:
    low, high = box.selector_low, box.selector_high
    for selector in COMMON_SELECTORS:
        if low <= selector <= high:
            return selector
    for number in (TCP, *sorted(PORTED)):
        first = max(low, number << 16 | 1)
        if first <= min(high, number << 16 | 0xFFFF):
            return first
    return low
