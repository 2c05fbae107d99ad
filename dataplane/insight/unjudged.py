"""Which packets no rule ever decides about, whatever the rules say (SPEC 4.5, 4.7, 4.8)."""

from __future__ import annotations

from dataplane.insight.packet_sets import Intervals, merged
from dataplane.policy.fields import PROTOCOL_NUMBERS
from dataplane.policy.icmp import ICMP_TYPES, ICMPV6_TYPES

#: Messages of ICMP that may open a connection. Errors are related or invalid, replies belong to a query, and neighbour
#: discovery and MLD are control traffic.
_QUERIES = {
    "IPv4": (
        "icmp",
        [ICMP_TYPES[name] for name in ("echo-request", "timestamp-request", "info-request", "address-mask-request")],
    ),
    "IPv6": ("icmpv6", [ICMPV6_TYPES["echo-request"]]),
}
#: Extension headers, which are walked to the transport header: no packet is of such a protocol.
_EXTENSION_HEADERS = (0, 43, 44, 51, 60, 135)


def never_judged(ethertype: str) -> Intervals:
    """The selectors of packets that no rule of a family decides about."""
    protocol, queries = _QUERIES[ethertype]
    base = PROTOCOL_NUMBERS[protocol] << 16
    found = [(base | kind << 8, base | kind << 8 | 0xFF) for kind in range(256) if kind not in queries]
    if ethertype == "IPv6":
        found += [(number << 16, number << 16 | 0xFFFF) for number in _EXTENSION_HEADERS]
    return merged(found)
