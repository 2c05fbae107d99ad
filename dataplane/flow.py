"""Flows as records: a connection of an instance, or a denied flow that never became one (SPEC 8.2), and their names."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from base64 import b64encode
from collections.abc import Iterator
from struct import Struct
from typing import Any, NamedTuple

from dataplane._core import ffi, lib
from dataplane.policy.fields import PROTOCOL_NAMES, PROTOCOL_NUMBERS
from dataplane.verdict import CONN_STATE_WORDS, FLOW_END_WORDS, ORIGIN_WORDS, REASON_WORDS, VERDICT_WORDS, Names

_ICMP, _ICMPV6 = PROTOCOL_NUMBERS["icmp"], PROTOCOL_NUMBERS["icmpv6"]
_COMMUNITY_ID_PORTS = {PROTOCOL_NUMBERS[name] for name in ("tcp", "udp", "sctp")}
#: The reply of a request and the other way round, as the specification of Community ID pairs them.
_COUNTERPARTS = {
    protocol: {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    for protocol, pairs in (
        (_ICMP, ((8, 0), (10, 9), (13, 14), (15, 16), (17, 18))),
        (_ICMPV6, ((128, 129), (130, 131), (133, 134), (135, 136), (139, 140), (144, 145))),
    )
}
#: A `struct dp_flow_record`.
_RECORD = Struct("=16s16s2H6BHI3Q5Q2I6B2x")
assert _RECORD.size == ffi.sizeof("struct dp_flow_record")


class FlowRecord(NamedTuple):
    """A connection, or a denied flow that never became one (SPEC 8.2), seen from its instance.

    `protocol` is a name, else the number; None, as the addresses, where a frame was no IP. Ports are None where the
    protocol has none. `community_id` is that of version 1 with seed 0. `first` and `last` are nanoseconds. Packets and
    bytes are of what passed into and out of the instance; denied packets are counted apart. `rule` and `reason` say
    what admitted it, or denied the first packet; `state` and `end` are None for a flow that was never admitted. The
    ICMP type and code are those of the packet that opened it, or was denied first.
    """

    instance: str
    origin: str
    protocol: str | int | None
    local: str | None
    local_port: int | None
    remote: str | None
    remote_port: int | None
    community_id: str | None
    first: int
    last: int
    first_packet: int
    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int
    packets_denied: int
    verdict: str
    reason: str
    rule: str | None
    security_group: str | None
    state: str | None
    end: str | None
    icmp_type: int | None
    icmp_code: int | None


#: The fields that are public as a record (SPEC 8.2), in their order.
FIELDS = FlowRecord._fields[:22]


def community_id(
    protocol: int, source: bytes, destination: bytes, ports: tuple[int, int] | None, *, one_way: bool = False
) -> str:
    """The Community ID (version 1, seed 0) of a flow, the same for both directions unless it is `one_way`.

    `source` and `destination` are 4 or 16 bytes; `ports` are those of TCP, UDP and SCTP, or what `icmp_ports` gives,
    None for all else.
    """
    low, high = ports or (0, 0)
    if not one_way and (destination, high) < (source, low):
        source, destination, low, high = destination, source, high, low
    data = b"\0\0" + source + destination + bytes((protocol, 0))
    if ports is not None:
        data += low.to_bytes(2) + high.to_bytes(2)
    return "1:" + b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


def icmp_ports(protocol: int, icmp_type: int, icmp_code: int) -> tuple[tuple[int, int], bool]:
    """What stands for the ports of an ICMP message in its Community ID, and whether it is one-way."""
    counterpart = _COUNTERPARTS[protocol].get(icmp_type)
    return ((icmp_type, icmp_code), True) if counterpart is None else ((icmp_type, counterpart), False)


def flow_records(array: Any, n: int, names: Names) -> Iterator[FlowRecord]:
    """The first `n` of an array of `struct dp_flow_record` as values."""
    for record in _RECORD.iter_unpack(ffi.buffer(array, n * _RECORD.size)):
        yield _flow_record(record, names)


def _flow_record(record: tuple[Any, ...], names: Names) -> FlowRecord:
    source, destination, source_port, destination_port, family, protocol, arp, icmp, icmp_type, icmp_code = record[:10]
    first, last, first_packet, packets_in, bytes_in, packets_out, bytes_out, denied, zone, rule = record[12:22]
    origin, direction, verdict, reason, state, end = record[22:]
    if family == 4:
        source, destination = source[:4], destination[:4]
    has_ports = (source_port or destination_port) and protocol not in _COUNTERPARTS
    word: str | int | None = PROTOCOL_NAMES.get(protocol, protocol)
    identifier = None
    if arp or not family:
        word = "arp" if arp else None
    elif icmp:
        ports, one_way = icmp_ports(protocol, icmp_type, icmp_code)
        identifier = community_id(protocol, source, destination, ports, one_way=one_way)
    else:
        known = (source_port, destination_port) if has_ports and protocol in _COMMUNITY_ID_PORTS else None
        identifier = community_id(protocol, source, destination, known)
    here: tuple[str | None, int | None]
    here = _address(family, source), source_port if has_ports else None
    there = _address(family, destination), destination_port if has_ports else None
    if direction == lib.DP_INGRESS:
        here, there = there, here
    named: tuple[str | None, str | None] = names.rules[rule] or (None, None)
    admitted = end != lib.DP_FLOW_NOT_ADMITTED
    return FlowRecord(
        names.instances[zone],
        ORIGIN_WORDS[origin],
        word,
        *here,
        *there,
        identifier,
        first,
        last,
        first_packet,
        packets_in,
        packets_out,
        bytes_in,
        bytes_out,
        denied,
        VERDICT_WORDS[verdict],
        REASON_WORDS[reason],
        *named,
        CONN_STATE_WORDS[state] if admitted else None,
        FLOW_END_WORDS[end] if admitted else None,
        icmp_type if icmp else None,
        icmp_code if icmp else None,
    )


def _address(family: int, address: bytes) -> str | None:
    return socket.inet_ntop(socket.AF_INET if family == 4 else socket.AF_INET6, address) if family else None


def time_text(time_ns: int) -> str:
    """Seconds with 6 digits behind the point, or 9 where microseconds do not tell it all, as in verdict records."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{seconds}.{rest:09}" if rest % 1000 else f"{seconds}.{rest // 1000:06}"


def flow_json(record: FlowRecord) -> str:
    """A record as one line of JSON, in the form of verdict records."""
    fields = [value if type(value) is int else _quoted(value) for value in record[:22]]
    fields[8], fields[9] = time_text(record.first), time_text(record.last)
    return _LINE % tuple(fields)


def _quoted(value: Any) -> str:
    if value is None:
        return "null"
    # Most words have nothing in them that JSON escapes.
    return f'"{value}"' if _PLAIN(value) else json.dumps(value)


_PLAIN = re.compile(r"[ !#-\[\]-~]*").fullmatch
_LINE = "{" + ", ".join(f'"{name}": %s' for name in FIELDS) + "}\n"
#: The fields that are times.
TIMES = ("first", "last")
