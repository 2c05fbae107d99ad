"""How packets and flows are written for people (SPEC 8): PROTOCOL SRC[:PORT] > DST[:PORT] [TYPE[/CODE]]."""

from __future__ import annotations

from typing import Any

from dataplane.policy import icmp
from dataplane.policy.addresses import address_text
from dataplane.policy.fields import PROTOCOL_NUMBERS, PROTOCOLS_WITH_PORTS
from dataplane.terminal import host_port

PROTOCOLS = PROTOCOL_NUMBERS | {"igmp": 2, "esp": 50, "ah": 51}
NAMES = {number: name for name, number in PROTOCOLS.items()}
PORTED = frozenset(PROTOCOL_NUMBERS[name] for name in PROTOCOLS_WITH_PORTS)


def address_in(field: Any, family: int) -> str:
    """An address of a C structure as text: 16 bytes, of which IPv4 uses the first four."""
    return address_text(bytes(field)[: 4 if family == 4 else 16])


def icmp_words(protocol: str, kind: int, code: int) -> str:
    """A type and code: names where there are some, and no code where it is 0 and has none."""
    kinds = {number: name for name, number in reversed(icmp.type_names(protocol).items())}
    codes = {number: name for name, number in reversed(icmp.code_names(protocol, kind).items())}
    text = kinds.get(kind, str(kind))
    return f"{text}/{codes.get(code, code)}" if code or code in codes else text


def has_ports(flow: Any) -> bool:
    """Whether the ports of a `struct dp_flow` were read, which may be 0: not those of a later fragment, say."""
    return bool(flow.transport) and flow.protocol in PORTED


def ends_words(flow: Any) -> str:
    """Both sides of a `struct dp_flow` of IP or ARP."""
    ports = (flow.source_port, flow.destination_port) if has_ports(flow) else (None, None)
    source, destination = address_in(flow.source, flow.family), address_in(flow.destination, flow.family)
    return f"{host_port(source, ports[0])} > {host_port(destination, ports[1])}"


def flow_words(flow: Any) -> str:
    """A `struct dp_flow` of a packet of IP or ARP in the same notation, without FLAGS; ``no IP`` for all else."""
    if not flow.family:
        return "no IP"
    if flow.arp:
        return f"arp {ends_words(flow)}"
    name = NAMES.get(flow.protocol, str(flow.protocol))
    text = f"{name} {ends_words(flow)}"
    return f"{text} {icmp_words(name, flow.icmp_type, flow.icmp_code)}" if flow.icmp else text
