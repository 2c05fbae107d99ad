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


#: What an instance answers DHCPv6 to. Of IPv4 the port from which it comes counts as well, which no rule names.
_DHCPV6_CLIENT = PROTOCOL_NUMBERS["udp"] << 16 | 546


def never_judged(direction: str, ethertype: str, dhcp_server: bool) -> Intervals:
    """The selectors of packets that no rule of a direction and family decides about.

    `dhcp_server` tells whether it is of an instance that may answer DHCP, by its rules.
    """
    protocol, queries = _QUERIES[ethertype]
    base = PROTOCOL_NUMBERS[protocol] << 16
    found = [(base | kind << 8, base | kind << 8 | 0xFF) for kind in range(256) if kind not in queries]
    if ethertype == "IPv6":
        found += [(number << 16, number << 16 | 0xFFFF) for number in _EXTENSION_HEADERS]
        if direction == "egress" and not dhcp_server:
            found.append((_DHCPV6_CLIENT, _DHCPV6_CLIENT))
    return merged(found)
