"""How packets and flows are written for people (SPEC 8): PROTOCOL SRC[:PORT] > DST[:PORT] [TYPE[/CODE]]."""

from __future__ import annotations

import socket
from typing import Any

from dataplane.policy import icmp
from dataplane.policy.fields import PROTOCOL_NUMBERS, PROTOCOLS_WITH_PORTS

PROTOCOLS = PROTOCOL_NUMBERS | {"igmp": 2, "esp": 50, "ah": 51}
NAMES = {number: name for name, number in PROTOCOLS.items()}
PORTED = frozenset(PROTOCOL_NUMBERS[name] for name in PROTOCOLS_WITH_PORTS)


def address_words(address: bytes) -> str:
    """4 or 16 bytes as an address."""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def end_words(address: bytes, port: int | None) -> str:
    """One side of a packet; `port` is None where the protocol has none."""
    text = address_words(address)
    if port is None:
        return text
    return f"[{text}]:{port}" if len(address) == 16 else f"{text}:{port}"


def icmp_words(protocol: str, kind: int, code: int) -> str:
    """A type and code: names where there are some, and no code where it is 0 and has none."""
    kinds = {number: name for name, number in reversed(icmp.type_names(protocol).items())}
    codes = {number: name for name, number in reversed(icmp.code_names(protocol, kind).items())}
    text = kinds.get(kind, str(kind))
    return f"{text}/{codes.get(code, code)}" if code or code in codes else text


def has_ports(flow: Any) -> bool:
    """Whether the ports of a `struct dp_flow` were read, which may be 0: not those of a later fragment, say."""
    return bool(flow.transport) and flow.protocol in PORTED


def flow_words(flow: Any) -> str:
    """A `struct dp_flow` of a packet of IP or ARP in the same notation, without FLAGS; ``no IP`` for all else."""
    size = {4: 4, 6: 16}.get(flow.family)
    if size is None:
        return "no IP"
    source, destination = bytes(flow.source)[:size], bytes(flow.destination)[:size]
    if flow.arp:
        return f"arp {address_words(source)} > {address_words(destination)}"
    name = NAMES.get(flow.protocol, str(flow.protocol))
    ports = (flow.source_port, flow.destination_port) if has_ports(flow) else (None, None)
    text = f"{name} {end_words(source, ports[0])} > {end_words(destination, ports[1])}"
    return f"{text} {icmp_words(name, flow.icmp_type, flow.icmp_code)}" if flow.icmp else text
