"""The flows that were denied most, as values, and of a plane that has judged before, those of a replay alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dataplane._core import ffi, lib
from dataplane.connection_table import flow_protocol
from dataplane.packet_words import address_in, has_ports
from dataplane.plane import Plane
from dataplane.verdict import CAUSE_WORDS, DIRECTION_WORDS, REASON_WORDS

#: What tells denied flows apart: zone, direction, reason, cause, and the bytes of a `struct dp_flow`.
Key = tuple[int, int, int, int, bytes]

#: More than a plane keeps.
_ALL_DENIED = 1 << 14


class Traffic(NamedTuple):
    """Packets and their bytes on the wire."""

    packets: int
    bytes: int


class DeniedFlow(NamedTuple):
    """Denied packets of one flow, source ports taken together; the true count is at least packets - overcount.

    `consequences` are what came of it, and not among `packets`: packets of both directions, `invalid` because they
    belong to no connection.
    """

    instance: str
    direction: str
    reason: str
    cause: str | None
    protocol: str | None
    source: str | None
    destination: str | None
    destination_port: int | None
    packets: int
    bytes: int
    overcount: int
    consequences: Traffic

    def to_dict(self) -> dict[str, Any]:
        """The flow as JSON values."""
        return {**self._asdict(), "consequences": self.consequences._asdict()}


def denied_before(plane: Plane) -> Mapping[Key, Any]:
    """What a plane has denied up to now, for `denied_flows`."""
    return {_key(flow): flow for flow in plane.denied(_ALL_DENIED)}


def denied_flows(plane: Plane, before: Mapping[Key, Any], top: int) -> list[DeniedFlow]:
    """What a plane has denied since `before`: at most `top` flows, those denied most first."""
    if not before:
        return [_denied(plane, denied) for denied in plane.denied(top)]
    found = []
    for denied in plane.denied(_ALL_DENIED):
        was = before.get(_key(denied))
        if was is not None and was.overcount == denied.overcount:
            # The same counter, still counting.
            for counter in ("count", "consequences"):
                gained, then = getattr(denied, counter), getattr(was, counter)
                gained.packets -= then.packets
                gained.bytes -= then.bytes
            denied.overcount = 0
        elif was is not None:
            # It lost its counter to another flow and took one over again: what it had for certain is not of now.
            certain = was.count.packets - was.overcount
            denied.count.packets -= certain
            denied.overcount -= certain
        if denied.count.packets or denied.consequences.packets:
            found.append(denied)
    found.sort(key=lambda denied: (denied.cause in _UNCONNECTED, -denied.count.packets - denied.consequences.packets))
    return [_denied(plane, denied) for denied in found[:top]]


#: Causes for which a packet is denied because others were, and listed last where these were not seen.
_UNCONNECTED = (lib.DP_CAUSE_TCP_NO_CONNECTION, lib.DP_CAUSE_ICMP_UNSOLICITED)


def _key(denied: Any) -> Key:
    flow = bytes(ffi.buffer(ffi.addressof(denied, "flow")))
    return denied.zone, denied.direction, denied.reason, denied.cause, flow


def _denied(plane: Plane, denied: Any) -> DeniedFlow:
    flow = denied.flow
    return DeniedFlow(
        instance=plane.names.instances[denied.zone],
        direction=DIRECTION_WORDS[denied.direction],
        reason=REASON_WORDS[denied.reason],
        cause=CAUSE_WORDS[denied.cause] if denied.cause else None,
        protocol=flow_protocol(flow) if flow.family else None,
        source=address_in(flow.source, flow.family) if flow.family else None,
        destination=address_in(flow.destination, flow.family) if flow.family else None,
        destination_port=flow.destination_port if has_ports(flow) else None,
        packets=denied.count.packets,
        bytes=denied.count.bytes,
        overcount=denied.overcount,
        consequences=Traffic(denied.consequences.packets, denied.consequences.bytes),
    )
