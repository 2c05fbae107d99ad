"""What a replay says at its end, as plain values; `Summary.to_dict` is what `--json` prints.

The counters of a plane run on for as long as it lives: a replay's figures are what they have gained since its start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from dataplane import notebook
from dataplane._core import ffi, lib
from dataplane.counters import record
from dataplane.plane import Plane
from dataplane.policy import times
from dataplane.replay.captures import CaptureStatus
from dataplane.replay.denied_flows import DeniedFlow, Traffic, denied_before, denied_flows
from dataplane.replay.top_talkers import BusyAddress
from dataplane.terminal import counted
from dataplane.update import Disconnected

if TYPE_CHECKING:
    from dataplane.policy.schedule import TimedChange


class ReasonCount(NamedTuple):
    """Checks with one verdict for one reason (a packet between two instances has two checks)."""

    verdict: str
    reason: str
    packets: int
    bytes: int


class RuleCount(NamedTuple):
    """`hits`: first packets that the rule allowed or denied; `packets`, `bytes`: all that passed or fell under it."""

    rule: str
    security_group: str
    hits: int
    packets: int
    bytes: int


class AppliedChange(NamedTuple):
    """A change of the schedule and what it disconnected; None when the captures ended before it."""

    change: TimedChange
    result: Disconnected | None

    def to_dict(self) -> dict[str, Any]:
        """The change as JSON values."""
        return {
            "at": times.written(self.change.at),
            "change": self.change.change.summary,
            "applied": self.result is not None,
            "disconnected": self.result.total if self.result else 0,
            "by_instance": dict(self.result.by_instance) if self.result else {},
            "revoked": self.result.revoked if self.result else 0,
        }


class ConnectionCount(NamedTuple):
    """The connection table: what happened in it during the replay, and what is in it at the end, by state.

    Of the `entries` some may have expired; `live` are the others.
    """

    opened: int
    expired: int
    replaced: int
    disconnected: int
    resynchronised: int
    early_drops: int
    table_full: int
    entries: int
    live: int
    max_entries: int
    table_bytes: int
    by_state: dict[str, int]


class FloodCount(NamedTuple):
    """What a full table did to connections of one kind.

    `dropped_early`: entries that had to make room; `refused`: new connections denied as table-full, of which
    `refused_over_share` because their instance had its share of the table.
    """

    dropped_early: int
    refused: int
    refused_over_share: int


class FragmentCount(NamedTuple):
    """What the bounds of reassembly did: datagrams that gave way to others, and fragments that were denied.

    These waited for their datagram's first and were denied when it gave way (`evicted`), after 30 s (`expired`), or at
    once because there was no room to wait (`refused`). At the end, so many were `waiting`.
    """

    waiting: int
    datagrams_evicted: int
    evicted: int
    expired: int
    refused: int


#: How many rules a notebook shows.
_SHOWN = 10
_REASON_COLUMNS = ("verdict", "reason", "packets", "bytes")
_DENIED_COLUMNS = ("instance", "direction", "reason", "protocol", "source", "destination", "port", "packets")


@dataclass(frozen=True, slots=True, repr=False)
class Summary:
    """All of a replay: counts of packets, checks, rules and connections, and how fast it went.

    `counted_rules` decided about packets of the replay, those with most hits first; all others are in `idle_rules`, as
    (rule id, security group id). `busiest_addresses` are those of the captures where no packet touched an instance.
    """

    captures: Sequence[CaptureStatus]
    packets: int
    bytes: int
    elapsed: float
    verdicts: dict[str, Traffic]
    reasons: Sequence[ReasonCount]
    states: dict[str, Traffic]
    causes: dict[str, Traffic]
    consequences: dict[str, int]
    time_backwards: int
    connections: ConnectionCount
    floods: dict[str, FloodCount]
    fragments: FragmentCount
    flow_records: dict[str, Any]
    shadow: dict[str, int]
    counted_rules: Sequence[RuleCount]
    idle_rules: Sequence[tuple[str, str]]
    denied_flows: Sequence[DeniedFlow]
    changes: Sequence[AppliedChange]
    busiest_addresses: Sequence[BusyAddress]
    advice: Sequence[str]

    def __repr__(self) -> str:
        words = ", ".join(f"{traffic.packets:,} {word}" for word, traffic in self.verdicts.items())
        faults = f"; {len(self.faults):,} captures could not be read to their end" if self.faults else ""
        return f"<Summary of {self.packets:,} packets: {words}; {self.connections.opened:,} connections{faults}>"

    def _repr_html_(self) -> str:
        verdicts = ((word, traffic.packets, traffic.bytes) for word, traffic in self.verdicts.items())
        denied = (
            (
                *(f.instance, f.direction, f.cause or f.reason, f.protocol, f.source, f.destination),
                *(f.destination_port and str(f.destination_port), f.packets),
            )
            for f in self.denied_flows
        )
        parts = [notebook.table("Packets", ("verdict", "packets", "bytes"), verdicts)]
        parts.append(notebook.table("Checks by reason", _REASON_COLUMNS, self.reasons))
        parts.append(notebook.table("Rules", RuleCount._fields, self.counted_rules[:_SHOWN]))
        if self.denied_flows:
            parts.append(notebook.table("Flows denied most", _DENIED_COLUMNS, denied))
        parts += [f"{capture.name}: {capture.words}" for capture in self.faults]
        return "".join(
            part if part.startswith("<table") else notebook.paragraph(part) for part in (*parts, *self.advice)
        )

    @property
    def packets_per_second(self) -> float:
        """Packets judged in a second of real time, reading included."""
        return self.packets / self.elapsed if self.elapsed else 0.0

    @property
    def rules(self) -> list[RuleCount]:
        """All rules, those with most hits first."""
        return [*self.counted_rules, *(RuleCount(*rule, 0, 0, 0) for rule in self.idle_rules)]

    @property
    def never_hit(self) -> list[tuple[str, str]]:
        """Rules that decided about no packet, as (rule id, security group id)."""
        return [*(rule[:2] for rule in self.counted_rules if not rule.hits), *self.idle_rules]

    @property
    def faults(self) -> list[CaptureStatus]:
        """Captures that could not be read to their end."""
        return [capture for capture in self.captures if capture.fault]

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return {
            "captures": [capture.to_dict() for capture in self.captures],
            "packets": self.packets,
            "bytes": self.bytes,
            "elapsed": self.elapsed,
            "packets_per_second": self.packets_per_second,
            "verdicts": {word: traffic._asdict() for word, traffic in self.verdicts.items()},
            "reasons": [reason._asdict() for reason in self.reasons],
            "states": {word: traffic._asdict() for word, traffic in self.states.items()},
            "causes": {word: traffic._asdict() for word, traffic in self.causes.items()},
            "consequences": self.consequences,
            "time_backwards": self.time_backwards,
            "connections": self.connections._asdict(),
            "floods": {word: flood._asdict() for word, flood in self.floods.items()},
            "fragments": self.fragments._asdict(),
            "flow_records": self.flow_records,
            "shadow": self.shadow,
            "rules": [rule._asdict() for rule in self.counted_rules],
            "rules_never_hit": [{"rule": rule, "security_group": group} for rule, group in self.never_hit],
            "denied_flows": [flow.to_dict() for flow in self.denied_flows],
            "changes": [change.to_dict() for change in self.changes],
            "busiest_addresses": [busy._asdict() for busy in self.busiest_addresses],
            "advice": list(self.advice),
        }


class Baseline:
    """The figures of a plane before a replay, which may have judged packets and changed its policy already."""

    def __init__(self, plane: Plane) -> None:
        self.counters = plane.counters()
        self.rules = _rule_figures(plane)
        self.gone = set[tuple[str, str] | None]()
        if plane.replaced:
            groups = plane.policy.security_groups
            in_force = {(rule.id, group.id) for group in groups for rule in group.security_group_rules}
            self.gone = set(plane.names.rules) - in_force
        self.denied = denied_before(plane) if self.counters.verdict[lib.DP_DENY].packets else {}


def summarise(
    plane: Plane,
    before: Baseline,
    captures: Sequence[CaptureStatus],
    changes: Sequence[AppliedChange],
    *,
    elapsed: float,
    top: int,
    busiest: Sequence[BusyAddress] = (),
    left_out_from: int | None = None,
) -> Summary:
    """What the plane has counted since `before`, at the end of a replay of `elapsed` seconds.

    `left_out_from` is the time of the captures' first packet, in nanoseconds, where a window leaves out all of them.
    """
    counted, idle = _rules(plane, before)
    told = record(plane.counters(), before.counters)
    verdicts = _traffics(told["verdicts"])
    reasons = _reasons(told["checks"])
    return Summary(
        captures=captures,
        packets=sum(traffic.packets for traffic in verdicts.values()),
        bytes=sum(traffic.bytes for traffic in verdicts.values()),
        elapsed=elapsed,
        verdicts=verdicts,
        reasons=reasons,
        states=_traffics(told["states"]),
        causes=_traffics(told["causes"]),
        consequences=told["consequences"],
        time_backwards=told["time_backwards"],
        connections=_connections(plane, told["connections"]),
        floods={word: FloodCount(**found) for word, found in told["floods"].items()},
        fragments=FragmentCount(**told["fragments"]),
        flow_records=told["flow_records"],
        shadow=told["shadow"],
        counted_rules=counted,
        idle_rules=idle,
        denied_flows=denied_flows(plane, before.denied, top),
        changes=changes,
        busiest_addresses=busiest,
        advice=[
            *(() if left_out_from is None else [_left_out(left_out_from)]),
            *(() if reasons else _untouched(plane, verdicts, busiest)),
            *_advice(plane, told),
        ],
    )


def _left_out(first_ns: int) -> str:
    """What a replay says of which no packet is in the time that was asked for."""
    first = datetime.fromtimestamp(first_ns // 1_000_000_000, UTC).isoformat().replace("+00:00", "Z")
    return (
        f"No packet is within --time. The captures begin at {first}: seconds count from there, and other times are "
        "written like that one."
    )


#: From so many packets on, and from such a share of all, a cause says something about the captures.
_MANY, _SHARE = 3, 0.05


def _untouched(plane: Plane, verdicts: dict[str, Traffic], busiest: Sequence[BusyAddress]) -> Iterator[str]:
    """What a replay says of which no packet touched an instance."""
    packets = verdicts["bypass"].packets
    if not packets or packets != sum(traffic.packets for traffic in verdicts.values()):
        return
    most = ", ".join(f"{busy.address} ({'at most ' * bool(busy.overcount)}{busy.packets:,})" for busy in busiest)
    addresses = f"the busiest addresses of the captures are {most}" if most else "no packet has an IP address of a host"
    if not plane.policy.instances:
        yield (
            f"The policy has no instances, so nothing was checked: {addresses}. Write one for each that it is to "
            "guard, as in instances: [{id: web-1, addresses: [192.0.2.1], security_groups: [web]}]."
        )
        return
    yield (
        f"No packet is from or to an instance of the policy, so nothing was checked: {addresses}. Compare the "
        "addresses of the policy's instances; --map OLD=NEW judges an address of the captures as one of theirs."
    )


def _advice(plane: Plane, told: dict[str, Any]) -> Iterator[str]:
    """What the figures usually mean, and what to set, a sentence each."""
    settings = plane.policy.conntrack
    packets = sum(found["packets"] for found in told["verdicts"].values())

    def many(cause: str) -> int:
        found = told["causes"].get(cause, {"packets": 0})["packets"] - told["consequences"].get(cause, 0)
        return int(found) if found >= max(_MANY, _SHARE * packets) else 0

    if places := told["connections"]["resynchronised"]:
        yield (
            f"Packets are missing: both sides of a TCP connection went on together outside its window, which was taken "
            f"from there, {counted(places, 'time')}."
        )
    if (found := many("tcp-no-connection")) and not settings.tcp_loose:
        yield (
            f"{found:,} TCP packets belong to no connection that was seen to open (tcp-no-connection): usually the "
            "captures began mid-stream; set conntrack.tcp_loose to true to take up such connections."
        )
    if found := many("tcp-window"):
        yield (
            f"{found:,} TCP packets are outside the window of their connection (tcp-window): usually the captures lost "
            "packets; set conntrack.tcp_be_liberal to true, or capture again with a larger buffer."
        )


def _traffics(told: dict[str, dict[str, int]]) -> dict[str, Traffic]:
    return {word: Traffic(**found) for word, found in told.items()}


def _reasons(told: dict[str, dict[str, dict[str, int]]]) -> list[ReasonCount]:
    found = [
        ReasonCount(verdict, reason, **counted)
        for verdict, reasons in told.items()
        for reason, counted in reasons.items()
    ]
    return sorted(found, key=lambda count: (count.verdict, -count.packets))


def _connections(plane: Plane, told: dict[str, int]) -> ConnectionCount:
    by_state = plane.connections.count_by_state()
    return ConnectionCount(**told, live=sum(by_state.values()), by_state=by_state)


def _rules(plane: Plane, before: Baseline) -> tuple[list[RuleCount], list[tuple[str, str]]]:
    """Rules with packets, those with most hits first, and the names of all others."""
    gained = _rule_figures(plane)
    if any(before.rules):
        was = chain(before.rules, repeat(0))
        gained = [now - then for now, then in zip(gained, was, strict=False)]
    counted, idle = list[RuleCount](), list[tuple[str, str]]()
    figures = zip(plane.names.rules, gained[::3], gained[1::3], gained[2::3], strict=True)
    for rule, hits, packets, size in islice(figures, 1, None):
        if rule is None:
            continue
        if packets:
            counted.append(RuleCount(*rule, hits, packets, size))
        elif rule not in before.gone:
            idle.append(rule)
    return sorted(counted, key=lambda rule: (-rule.hits, -rule.packets)), idle


def _rule_figures(plane: Plane) -> list[int]:
    """Hits, packets and bytes of each rule, one rule number after the other."""
    return memoryview(ffi.buffer(plane.rule_counters())).cast("Q").tolist()


assert ffi.sizeof("struct dp_rule_counter") == 3 * ffi.sizeof("uint64_t")
