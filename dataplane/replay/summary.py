"""What a replay says at its end, as plain values; `Summary.to_dict` is what `--json` prints."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dataplane._core import ffi
from dataplane.connections import PROTOCOL_NAMES
from dataplane.engine import Disconnected, Engine
from dataplane.replay.captures import CaptureStatus
from dataplane.verdict import CAUSE_WORDS, DIRECTION_WORDS, FLOOD_WORDS, REASON_WORDS, VERDICT_WORDS

if TYPE_CHECKING:
    from dataplane.policy.changes import TimedChange


@dataclass(frozen=True, slots=True)
class Traffic:
    """Packets and their bytes on the wire."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """Checks with one verdict for one reason (a packet between two instances has two checks)."""

    verdict: str
    reason: str
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class RuleCount:
    """`hits`: first packets that the rule allowed or denied; `packets`, `bytes`: all that passed or fell under it."""

    rule: str
    security_group: str
    hits: int
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class DeniedFlow:
    """Denied packets of one flow, source ports taken together; the true count is at least packets - overcount."""

    instance: str
    direction: str
    reason: str
    protocol: str | None
    source: str | None
    destination: str | None
    destination_port: int | None
    packets: int
    bytes: int
    overcount: int


@dataclass(frozen=True, slots=True)
class AppliedChange:
    """A change of the schedule and what it disconnected; None when the captures ended before it."""

    change: TimedChange
    result: Disconnected | None

    def to_dict(self) -> dict[str, Any]:
        """The change as JSON values."""
        return {
            "at": self.change.at,
            "change": self.change.change.summary,
            "applied": self.result is not None,
            "disconnected": self.result.total if self.result else 0,
            "by_instance": dict(self.result.by_instance) if self.result else {},
            "revoked": self.result.revoked if self.result else 0,
        }


@dataclass(frozen=True, slots=True)
class ConnectionCount:
    """The connection table: what happened in it, and what is in it at the end, by state."""

    opened: int
    expired: int
    replaced: int
    disconnected: int
    early_drops: int
    table_full: int
    live: int
    max_entries: int
    table_bytes: int
    by_state: dict[str, int]


@dataclass(frozen=True, slots=True)
class FloodCount:
    """What a full table did to connections of one kind.

    `dropped_early`: entries that had to make room; `refused`: new connections denied as table-full, of which
    `refused_over_share` because their instance had its share of the table.
    """

    dropped_early: int
    refused: int
    refused_over_share: int


@dataclass(frozen=True, slots=True)
class FragmentCount:
    """What the bounds of reassembly did: datagrams that gave way to others, and fragments that were denied.

    These waited for their datagram's first and were denied when it gave way (`evicted`), after 30 s (`expired`), or at
    once because there was no room to wait (`refused`).
    """

    datagrams_evicted: int
    evicted: int
    expired: int
    refused: int


@dataclass(frozen=True, slots=True)
class Summary:
    """All of a replay: counts of packets, checks, rules and connections, and how fast it went."""

    captures: Sequence[CaptureStatus]
    packets: int
    bytes: int
    elapsed: float
    verdicts: dict[str, Traffic]
    reasons: Sequence[ReasonCount]
    causes: dict[str, Traffic]
    time_backwards: int
    connections: ConnectionCount
    floods: dict[str, FloodCount]
    fragments: FragmentCount
    rules: Sequence[RuleCount]
    denied_flows: Sequence[DeniedFlow]
    changes: Sequence[AppliedChange]

    @property
    def packets_per_second(self) -> float:
        """Packets judged in a second of real time, reading included."""
        return self.packets / self.elapsed if self.elapsed else 0.0

    @property
    def never_hit(self) -> list[RuleCount]:
        """Rules that decided about no packet."""
        return [rule for rule in self.rules if not rule.hits]

    @property
    def faults(self) -> list[CaptureStatus]:
        """Captures that could not be read to their end."""
        return [capture for capture in self.captures if capture.fault]

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return {
            "captures": [asdict(capture) for capture in self.captures],
            "packets": self.packets,
            "bytes": self.bytes,
            "elapsed": self.elapsed,
            "packets_per_second": self.packets_per_second,
            "verdicts": {word: asdict(traffic) for word, traffic in self.verdicts.items()},
            "reasons": [asdict(reason) for reason in self.reasons],
            "causes": {word: asdict(traffic) for word, traffic in self.causes.items()},
            "time_backwards": self.time_backwards,
            "connections": asdict(self.connections),
            "floods": {word: asdict(flood) for word, flood in self.floods.items()},
            "fragments": asdict(self.fragments),
            "rules": [asdict(rule) for rule in self.rules if rule.hits or rule.packets],
            "rules_never_hit": [{"rule": r.rule, "security_group": r.security_group} for r in self.never_hit],
            "denied_flows": [asdict(flow) for flow in self.denied_flows],
            "changes": [change.to_dict() for change in self.changes],
        }


def summarise(
    engine: Engine,
    captures: Sequence[CaptureStatus],
    changes: Sequence[AppliedChange],
    *,
    elapsed: float,
    top: int,
) -> Summary:
    """Reads the engine's counters at the end of a replay of `elapsed` seconds."""
    counters = engine.counters()
    verdicts = {word: _traffic(counters.verdict[v]) for v, word in enumerate(VERDICT_WORDS)}
    return Summary(
        captures=captures,
        packets=sum(traffic.packets for traffic in verdicts.values()),
        bytes=sum(traffic.bytes for traffic in verdicts.values()),
        elapsed=elapsed,
        verdicts=verdicts,
        reasons=_reasons(counters),
        causes={word: _traffic(c) for word, c in zip(CAUSE_WORDS, counters.cause, strict=True) if c.packets},
        time_backwards=counters.time_backwards,
        connections=_connections(engine, counters),
        floods={
            word: FloodCount(flood.dropped_early, flood.refused, flood.refused_over_share)
            for word, flood in zip(FLOOD_WORDS, counters.flood, strict=True)
        },
        fragments=FragmentCount(
            counters.datagrams_evicted,
            counters.fragments_evicted,
            counters.fragments_expired,
            counters.fragments_refused,
        ),
        rules=_rules(engine),
        denied_flows=[_denied(engine, flow) for flow in engine.denied(top)],
        changes=changes,
    )


def _traffic(counter: Any) -> Traffic:
    return Traffic(counter.packets, counter.bytes)


def _reasons(counters: Any) -> list[ReasonCount]:
    found = [
        ReasonCount(verdict, reason, counters.check[v][r].packets, counters.check[v][r].bytes)
        for v, verdict in enumerate(VERDICT_WORDS)
        for r, reason in enumerate(REASON_WORDS)
        if counters.check[v][r].packets
    ]
    return sorted(found, key=lambda count: (count.verdict, -count.packets))


def _connections(engine: Engine, counters: Any) -> ConnectionCount:
    by_state = engine.connections.count_by_state()
    return ConnectionCount(
        opened=counters.connections_opened,
        expired=counters.connections_expired,
        replaced=counters.connections_replaced,
        disconnected=counters.connections_disconnected,
        early_drops=counters.early_drops,
        table_full=counters.table_full,
        live=sum(by_state.values()),
        max_entries=counters.max_entries,
        table_bytes=counters.table_bytes,
        by_state=by_state,
    )


def _rules(engine: Engine) -> list[RuleCount]:
    rules = []
    for named, counter in zip(engine.names.rules, engine.rule_counters(), strict=True):
        if named:
            rules.append(RuleCount(*named, counter.hits, counter.traffic.packets, counter.traffic.bytes))
    return sorted(rules, key=lambda rule: (-rule.hits, -rule.packets))


def _denied(engine: Engine, denied: Any) -> DeniedFlow:
    flow = denied.flow
    size = {4: 4, 6: 16}.get(flow.family)
    kind = socket.AF_INET if size == 4 else socket.AF_INET6
    return DeniedFlow(
        instance=engine.names.instances[denied.zone],
        direction=DIRECTION_WORDS[denied.direction],
        reason=REASON_WORDS[denied.reason],
        protocol=PROTOCOL_NAMES.get(flow.protocol, str(flow.protocol)) if size else None,
        source=socket.inet_ntop(kind, bytes(ffi.buffer(flow.source, size))) if size else None,
        destination=socket.inet_ntop(kind, bytes(ffi.buffer(flow.destination, size))) if size else None,
        destination_port=flow.destination_port or None,
        packets=denied.count.packets,
        bytes=denied.count.bytes,
        overcount=denied.overcount,
    )
