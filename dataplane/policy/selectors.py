"""A rule's protocol and ports, or ICMP type and code, as ranges of one number: `struct dp_selector` of dp_tables.h."""

from __future__ import annotations

from dataplane.policy import icmp
from dataplane.policy.fields import port_ranges, protocol_number

#: The first and the last number of a range.
Selector = tuple[int, int]

_ALL: tuple[Selector, ...] = ((0, 0xFFFFFF),)


def selectors(
    protocol: str | int | None, multiport: str | None, icmp_type: int | str | None, icmp_code: int | str | None
) -> tuple[Selector, ...]:
    """The ranges that the fields of a valid rule select, in the order of its `multiport`."""
    if protocol is None:
        return _ALL
    base = protocol_number(protocol) << 16
    if multiport is not None:
        if multiport.isdecimal():
            port = base | int(multiport)
            return ((port, port),)
        return tuple([(base | low, base | high) for low, high in port_ranges(multiport)])
    kind = None if icmp_type is None else icmp.type_number(str(protocol), icmp_type)
    if kind is None:
        return ((base, base | 0xFFFF),)
    code = None if icmp_code is None else icmp.code_number(str(protocol), kind, icmp_code)
    base |= kind << 8
    return ((base, base | 0xFF),) if code is None else ((base | code, base | code),)
