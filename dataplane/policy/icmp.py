"""The names of ICMP and ICMPv6 types and codes, as iptables and nftables write them (IANA numbers)."""

from __future__ import annotations

ICMP_TYPES = {
    "echo-reply": 0,
    "destination-unreachable": 3,
    "source-quench": 4,
    "redirect": 5,
    "echo-request": 8,
    "router-advertisement": 9,
    "router-solicitation": 10,
    "time-exceeded": 11,
    "parameter-problem": 12,
    "timestamp-request": 13,
    "timestamp-reply": 14,
    "info-request": 15,
    "info-reply": 16,
    "address-mask-request": 17,
    "address-mask-reply": 18,
}

ICMPV6_TYPES = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo-request": 128,
    "echo-reply": 129,
    "mld-listener-query": 130,
    "mld-listener-report": 131,
    "mld-listener-done": 132,
    "router-solicitation": 133,
    "router-advertisement": 134,
    "neighbour-solicitation": 135,
    "neighbor-solicitation": 135,
    "neighbour-advertisement": 136,
    "neighbor-advertisement": 136,
    "redirect": 137,
}

_TIME_EXCEEDED = {"ttl-exceeded": 0, "ttl-zero-during-transit": 0, "ttl-zero-during-reassembly": 1}

#: Codes by type number.
ICMP_CODES: dict[int, dict[str, int]] = {
    3: {
        "network-unreachable": 0,
        "net-unreachable": 0,
        "host-unreachable": 1,
        "protocol-unreachable": 2,
        "prot-unreachable": 2,
        "port-unreachable": 3,
        "fragmentation-needed": 4,
        "frag-needed": 4,
        "source-route-failed": 5,
        "network-unknown": 6,
        "host-unknown": 7,
        "network-prohibited": 9,
        "net-prohibited": 9,
        "host-prohibited": 10,
        "tos-network-unreachable": 11,
        "tos-host-unreachable": 12,
        "communication-prohibited": 13,
        "admin-prohibited": 13,
        "host-precedence-violation": 14,
        "precedence-cutoff": 15,
    },
    5: {"network-redirect": 0, "host-redirect": 1, "tos-network-redirect": 2, "tos-host-redirect": 3},
    11: _TIME_EXCEEDED,
    12: {"ip-header-bad": 0, "required-option-missing": 1},
}

ICMPV6_CODES: dict[int, dict[str, int]] = {
    1: {
        "no-route": 0,
        "communication-prohibited": 1,
        "admin-prohibited": 1,
        "beyond-scope": 2,
        "address-unreachable": 3,
        "addr-unreachable": 3,
        "port-unreachable": 4,
        "failed-policy": 5,
        "policy-fail": 5,
        "reject-route": 6,
    },
    3: _TIME_EXCEEDED,
    4: {"bad-header": 0, "unknown-header-type": 1, "unknown-option": 2},
}

_TYPES = {"icmp": ICMP_TYPES, "icmpv6": ICMPV6_TYPES}
_CODES = {"icmp": ICMP_CODES, "icmpv6": ICMPV6_CODES}

TYPE_NAMES = frozenset(ICMP_TYPES) | frozenset(ICMPV6_TYPES)
CODE_NAMES = frozenset(name for codes in _CODES.values() for names in codes.values() for name in names)


def type_names(protocol: str) -> dict[str, int]:
    """The types of a protocol, ``icmp`` or ``icmpv6``, by name."""
    return _TYPES[protocol]


def code_names(protocol: str, type_number: int | None) -> dict[str, int]:
    """The codes of a type by name; empty for a type whose codes have none."""
    return _CODES[protocol].get(-1 if type_number is None else type_number, {})


def type_number(protocol: str, value: int | str) -> int | None:
    """A type by number or name; None for a name that the protocol lacks."""
    return value if isinstance(value, int) else _TYPES[protocol].get(value)


def code_number(protocol: str, of_type: int | None, value: int | str) -> int | None:
    """A code by number or name; None for a name that the type lacks."""
    return value if isinstance(value, int) else code_names(protocol, of_type).get(value)
