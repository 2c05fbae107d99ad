"""Flows as records: a connection of an instance, or a denied flow that never became one (SPEC 8.2), and their names."""

from __future__ import annotations

import hashlib
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import lru_cache
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


@lru_cache(1 << 16)
def _address(family: int, address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if family == 4 else socket.AF_INET6, address)


def flow_records(array: Any, n: int, names: Names) -> Iterator[FlowRecord]:
    """The first `n` of an array of `struct dp_flow_record` as values."""
    for record in _RECORD.iter_unpack(ffi.buffer(array, n * _RECORD.size)):
        yield _flow_record(record, names)


def _flow_record(record: tuple[Any, ...], names: Names) -> FlowRecord:
    source, destination, source_port, destination_port, family, protocol, arp, icmp, icmp_type, icmp_code = record[:10]
    first, last, first_packet, packets_in, bytes_in, packets_out, bytes_out, denied, zone, rule = record[12:22]
    origin, direction, verdict, reason, state, end = record[22:]
    named = names.rules[rule] or (None, None)
    word: str | int | None = "arp" if arp else PROTOCOL_NAMES.get(protocol, protocol)
    identifier = None
    sides: tuple[str | None, str | None] = (None, None)
    ports: tuple[int | None, int | None] = (None, None)
    if family:
        size = 4 if family == 4 else 16
        source, destination = source[:size], destination[:size]
        sides = _address(family, source), _address(family, destination)
    else:
        word = None
    if protocol not in _COUNTERPARTS and (source_port or destination_port):
        ports = source_port, destination_port
    if family and not arp:
        if icmp:
            numbers, one_way = icmp_ports(protocol, icmp_type, icmp_code)
            identifier = community_id(protocol, source, destination, numbers, one_way=one_way)
        else:
            known = (
                (source_port, destination_port) if protocol in _COMMUNITY_ID_PORTS and ports[0] is not None else None
            )
            identifier = community_id(protocol, source, destination, known)
    if direction == lib.DP_INGRESS:
        sides, ports = sides[::-1], ports[::-1]
    admitted = end != lib.DP_FLOW_NOT_ADMITTED
    return FlowRecord(
        instance=names.instances[zone],
        origin=ORIGIN_WORDS[origin],
        protocol=word,
        local=sides[0],
        local_port=ports[0],
        remote=sides[1],
        remote_port=ports[1],
        community_id=identifier,
        first=first,
        last=last,
        first_packet=first_packet,
        packets_in=packets_in,
        packets_out=packets_out,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        packets_denied=denied,
        verdict=VERDICT_WORDS[verdict],
        reason=REASON_WORDS[reason],
        rule=named[0],
        security_group=named[1],
        state=CONN_STATE_WORDS[state] if admitted else None,
        end=FLOW_END_WORDS[end] if admitted else None,
        icmp_type=icmp_type if icmp else None,
        icmp_code=icmp_code if icmp else None,
    )


def time_text(time_ns: int) -> str:
    """Seconds with 6 digits behind the point, or 9 where microseconds do not tell it all, as in verdict records."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{seconds}.{rest:09}" if rest % 1000 else f"{seconds}.{rest // 1000:06}"


def flow_json(record: FlowRecord, quote: Callable[[Any], str]) -> str:
    """A record as one line of JSON; `quote` is `json.dumps`, or as good."""
    fields: Iterator[tuple[str, Any]] = zip(FIELDS, record, strict=False)
    return "{" + ", ".join(f'"{k}": {quote(v) if k not in TIMES else time_text(v)}' for k, v in fields) + "}\n"


#: The fields that are times.
TIMES = ("first", "last")
