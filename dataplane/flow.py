"""Flows as records: a connection of an instance, or a denied flow that never became one (SPEC 8.2), and their names."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Any, NamedTuple

from dataplane._core import ffi, lib
from dataplane.policy.addresses import address_text
from dataplane.policy.fields import PROTOCOL_NAMES, PROTOCOL_NUMBERS
from dataplane.verdict import CONN_STATE_WORDS, FLOW_END_WORDS, ORIGIN_WORDS, REASON_WORDS, VERDICT_WORDS, Names

_WITHOUT_PORTS = (PROTOCOL_NUMBERS["icmp"], PROTOCOL_NUMBERS["icmpv6"])
#: A `struct dp_flow_record`.
_RECORD = Struct("=16s16s2H7BxI3Q7Q2I8BIB3x")
_ID = Struct(f"{lib.DP_COMMUNITY_ID_SIZE}s")
assert _RECORD.size == ffi.sizeof("struct dp_flow_record")


class FlowRecord(NamedTuple):
    """A connection, or a denied flow that never became one (SPEC 8.2), seen from its instance.

    `protocol` is a name, else the number; None, as the addresses, where a frame was no IP. Ports are None where the
    protocol has none. `community_id` is that of version 1 with seed 0. `first` and `last` are nanoseconds. Packets and
    bytes are of what passed into and out of the instance; denied packets are counted apart. `rule` and `reason` say
    what admitted it, or denied the first packet; `state` and `end` are None for a flow that was never admitted. The
    ICMP type and code are those of the packet that opened it, or was denied first. `shadow` is what a shadow says of
    the first of its packets that it judges otherwise, and how many these are.
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
    shadow: dict[str, Any] | None


#: The fields that are public as a record (SPEC 8.2), in their order.
FIELDS = FlowRecord._fields[:22]


def flow_records(array: Any, n: int, names: Names) -> Iterator[FlowRecord]:
    """The first `n` of an array of `struct dp_flow_record` as values."""
    ids = ffi.new("char[]", n * lib.DP_COMMUNITY_ID_SIZE)
    lib.dp_community_ids(array, n, ids)
    records = _RECORD.iter_unpack(ffi.buffer(array, n * _RECORD.size))
    for record, (identifier,) in zip(records, _ID.iter_unpack(ffi.buffer(ids)), strict=False):
        yield _flow_record(record, identifier.rstrip(b"\0").decode() or None, names)


def _flow_record(record: tuple[Any, ...], identifier: str | None, names: Names) -> FlowRecord:
    source, destination, source_port, destination_port, family, protocol, arp, icmp, icmp_type, icmp_code = record[:10]
    transport = record[10]
    first, last, first_packet, packets_in, bytes_in, packets_out, bytes_out, denied, _, shadow, zone, rule = record[
        12:24
    ]
    origin, direction, verdict, reason, state, end = record[24:30]
    if family == 4:
        source, destination = source[:4], destination[:4]
    has_ports = transport and protocol not in _WITHOUT_PORTS
    word: str | int | None = PROTOCOL_NAMES.get(protocol, protocol)
    if arp or not family:
        word = "arp" if arp else None
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
        _shadow(names, shadow, *record[30:]) if shadow else None,
    )


def _shadow(names: Names, packets: int, verdict: int, reason: int, rule: int, checked: int) -> dict[str, Any]:
    named = names.rules[rule]
    return {
        "verdict": VERDICT_WORDS[verdict],
        "reason": REASON_WORDS[reason] if checked else None,
        "rule": named[0] if named else None,
        "packets": packets,
    }


def _address(family: int, address: bytes) -> str | None:
    return address_text(address) if family else None
