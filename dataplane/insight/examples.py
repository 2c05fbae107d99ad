"""Packets as people write them (SPEC 8), and which packet of many serves best as an example."""

from __future__ import annotations

from collections.abc import Container, Iterable
from ipaddress import IPv4Address, IPv6Address

from dataplane.insight.cells import COMMON_REMOTES, COMMON_SELECTORS, Box
from dataplane.policy.fields import PROTOCOL_NAMES, PROTOCOL_NUMBERS, PROTOCOLS_WITH_PORTS
from dataplane.policy.icmp import ICMP_TYPES, ICMPV6_TYPES

#: Who stands for an instance where none has an address of the family.
_LOCAL = {"IPv4": "192.0.2.1", "IPv6": "2001:db8:ffff::1"}
_SOURCE_PORT = 40000
_FIRST = tuple((PROTOCOL_NUMBERS[name], PROTOCOL_NUMBERS[name] << 16 | 1) for name in PROTOCOLS_WITH_PORTS)


def example(box: Box, direction: str, ethertype: str, own: Iterable[str], others: Container[str]) -> str:
    """A packet of a box, to one of an instance's `own` addresses or from it.

    The other side has an address of its own, and if that can be none of the `others`.
    """
    there = _remote(box, ethertype, others)
    here = next((text for text in own if text != there), _LOCAL[ethertype])
    return written(_selector(box), *((there, here) if direction == "ingress" else (here, there)))


def written(selector: int, source: str, destination: str) -> str:
    """``tcp 10.0.0.5:40000 > 192.168.0.10:22 S``: a first packet with this selector."""
    number, rest = selector >> 16, selector & 0xFFFF
    protocol = PROTOCOL_NAMES.get(number, str(number))
    if protocol in PROTOCOLS_WITH_PORTS:
        flags = " S" if protocol == "tcp" else ""
        return f"{protocol} {_end(source)}:{_SOURCE_PORT} > {_end(destination)}:{rest}{flags}"
    if protocol in ("icmp", "icmpv6"):
        kind, code = rest >> 8, rest & 0xFF
        names = {number: name for name, number in (ICMP_TYPES if protocol == "icmp" else ICMPV6_TYPES).items()}
        return f"{protocol} {source} > {destination} {names.get(kind, kind)}{f'/{code}' if code else ''}"
    return f"{protocol} {source} > {destination}"


def _end(address: str) -> str:
    return f"[{address}]" if ":" in address else address


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
    for number, first in _FIRST:
        if max(low, first) <= min(high, number << 16 | 0xFFFF):
            return max(low, first)
    return low
