"""Protocols, ports and ICMP types as clouds write them, in the words of our rules."""

from __future__ import annotations

from typing import Any

from dataplane.policy.fields import PORT_MAX, PROTOCOLS_WITH_PORTS
from dataplane.policy.mistakes import shown

#: Names of OpenStack's networking API that our documents have as numbers (IANA), or under another name.
_PROTOCOLS: dict[str, str | int | None] = {
    **dict.fromkeys(("", "-1", "any", "all", "none"), None),
    "ah": 51,
    "egp": 8,
    "esp": 50,
    "igmp": 2,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-frag": 44,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ipv6-route": 43,
    "ospf": 89,
    "pgm": 113,
    "rsvp": 46,
    "vrrp": 112,
    "icmp6": "icmpv6",
    "ipv6-icmp": "icmpv6",
    "udp-lite": "udplite",
    "1": "icmp",
    "6": "tcp",
    "17": "udp",
    "33": "dccp",
    "47": "gre",
    "58": "icmpv6",
    "132": "sctp",
    "136": "udplite",
}


def protocol(written: object, ethertype: str) -> str | int | None:
    """A protocol in our words; None for all. ``icmp`` of an IPv6 rule is ICMPv6, as OpenStack and AWS mean it."""
    word = "" if written is None else str(written).strip().lower()
    known = _PROTOCOLS.get(word, int(word) if word.isdecimal() and word.isascii() else word)
    return "icmpv6" if known == "icmp" and ethertype == "IPv6" else known


def family(written: object) -> str:
    """An ethertype in our words, IPv4 where none is written; else as it is, for our model to refuse."""
    return {"": "IPv4", "ipv4": "IPv4", "ipv6": "IPv6"}.get(str(written or "").lower(), str(written))


def ports_or_type(of: str | int | None, low: Any, high: Any) -> dict[str, Any]:
    """Two numbers that are a range of ports, or, for ICMP, a type and a code; None or -1 is any.

    Raises ValueError with the reason where our rules have no words for it.
    """
    least, most = (_number(low), _number(high))
    if of in ("icmp", "icmpv6"):
        if least is None and most is not None:
            raise ValueError(f"the ICMP code {most} stands without a type")
        return {"icmp_type": least, "icmp_code": most}
    if least is None and most is None:
        return {}
    least, most = (most if least is None else least), (least if most is None else most)
    if least == 0 and most == (PORT_MAX if of in PROTOCOLS_WITH_PORTS else 0):
        return {}
    if of not in PROTOCOLS_WITH_PORTS:
        raise ValueError(f"ports {least}-{most} of {'all protocols' if of is None else f'protocol {of}'}")
    if least == 0:
        raise ValueError(f"ports {least}-{most}: port 0 is none that a rule can name")
    return {"multiport": str(least) if least == most else f"{least}-{most}"}


def _number(written: Any) -> int | None:
    if written in (None, "", -1, "-1"):
        return None
    try:
        return int(written)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{shown(written)} is no port, type or code") from None
