"""Packets of a replay that belong together with one that was judged: its first fragment, its flow before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dataplane._core import ffi, lib
from dataplane._core.errors import check as raise_on_error
from dataplane.insight.packet_text import ICMP, ICMPV6
from dataplane.insight.replayed_packet import ConnectionHistory, Judged, Replayed
from dataplane.packet_words import PORTED
from dataplane.verdict import Check, check_of

#: What is said of a packet that looks as if a connection should be there.
_WITHOUT_CONNECTION = ("tcp-no-connection", "icmp-unsolicited")


@dataclass(frozen=True, slots=True)
class Earlier:
    """A packet of the same flow before it, its check at the same instance, and what became of its connection."""

    packet: int
    check: Check
    connection: ConnectionHistory | None


def is_later_fragment(flow: Any) -> bool:
    """Whether the rules must have seen more than there is in a packet: its datagram's first fragment (SPEC 4.6)."""
    whole = flow.protocol in PORTED or flow.protocol == (ICMP if flow.family == 4 else ICMPV6)
    return whole and not flow.transport


def first_fragment(replayed: Replayed, judged: Judged, number: int) -> Any:
    """The flow of the first fragment that gave check `number` its answer, the nearest with it; None without."""
    wanted = judged.record.check[number]
    nearest: tuple[int, Any] | None = None
    for packet, record, flow in _of_flow(replayed, judged, ports=False):
        distance = abs(packet - judged.packet)
        if is_later_fragment(flow) or (nearest and nearest[0] <= distance):
            continue
        if any(_answer(record.check[i]) == _answer(wanted) for i in range(record.checks)):
            nearest = distance, flow
    return nearest[1] if nearest else None


def _answer(check: Any) -> tuple[int, ...]:
    return check.zone, check.direction, check.reason, check.rule


def earlier(replayed: Replayed, judged: Judged, number: int, check: Check) -> Earlier | None:
    """The packet before that a connection of this flow should have come from; None where there is none to tell of.

    It is the last one with a connection, else the first one that was denied for want of anything else than one.
    """
    if check.cause not in _WITHOUT_CONNECTION or check.connection:
        return None
    zone = judged.record.check[number].zone
    with_connection: tuple[int, Any] | None = None
    denied: tuple[int, Any] | None = None
    for packet, record, _ in _of_flow(replayed, judged, ports=True):
        for i in range(record.checks if packet < judged.packet else 0):
            # A copy: a part of a record does not keep it alive.
            found = ffi.new("struct dp_check *", record.check[i])
            if found.zone == zone and found.origin:
                with_connection = packet, found
            elif found.zone == zone and not found.cause and denied is None:
                denied = packet, found
    chosen = with_connection or denied
    if chosen is None:
        return None
    packet, found = chosen
    connection = replayed.history(judged.packet, found) if found.origin else None
    return Earlier(packet, check_of(found, judged.names), connection)


def _of_flow(replayed: Replayed, judged: Judged, *, ports: bool) -> Iterator[tuple[int, Any, Any]]:
    """Packets with the same sides, in either direction: number, `struct dp_record` and `struct dp_flow`."""
    found: list[tuple[int, Any, Any]] = []
    sides = {_sides(judged.flow, ports), _sides(judged.flow, ports)[::-1]}
    chosen = ffi.new("struct dp_flow_filter *")
    chosen.family, chosen.port, chosen.protocol = judged.flow.family, -1, judged.flow.protocol
    chosen.address.bits = 32 if judged.flow.family == 4 else 128
    ffi.memmove(chosen.address.address, judged.flow.source, 16)
    indices = ffi.new("uint32_t[]", 0)

    def look(first: int, records: Any, flows: Any, n: int) -> None:
        nonlocal indices
        if len(indices) < n:
            indices = ffi.new("uint32_t[]", n)
        matching = raise_on_error(lib.dp_flows_match(flows, n, chosen, indices), "looking for the flow")
        for i in ffi.unpack(indices, matching):
            if _sides(flows[i], ports) in sides:
                record, flow = ffi.new("struct dp_record *", records[i]), ffi.new("struct dp_flow *", flows[i])
                found.append((first + i, record, flow))

    replayed.scan(judged.packet, look)
    yield from found


_Side = tuple[bytes, int]


def _sides(flow: Any, ports: bool) -> tuple[_Side, _Side]:
    return (
        (bytes(flow.source), flow.source_port if ports else 0),
        (bytes(flow.destination), flow.destination_port if ports else 0),
    )
