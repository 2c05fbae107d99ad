"""A policy learned from captures: the narrowest rules under which all that was answered passes (SPEC 8.7).

What connections there are is asked of the engine: the captures are replayed under a policy that allows everything to
and from the instances, and the flows tell who opened what (dataplane/flow.py). A connection was ANSWERED when packets
of it passed both ways. The rules that these need are then put in force over the same captures, and each answered
connection must come out as it was, packet for packet.

Where captures began in the middle of TCP connections, these are connections only with `tcp_loose`. So the captures are
also replayed with it, and if that brings up answered connections of addresses and ports that no connection had without
it, the policy gets `tcp_loose: true`. Who opened such a connection nobody has seen: the side that is seen first stands
for it, as in the engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from dataplane.flow import FlowRecord, flow_records
from dataplane.insight.learned_rules import Cell, Evidence, Need, learned_rules
from dataplane.plane import Plane
from dataplane.policy.fields import PROTOCOLS_WITH_PORTS
from dataplane.policy.model import Policy
from dataplane.policy.write import document
from dataplane.replay import Captures, Replay, Summary
from dataplane.replay.flows import FlowLog
from dataplane.replay.window import WHOLE, Part
from dataplane.verdict import Names

#: Of what a flow is known by: all but the kind of an ICMP message.
_SIDES = 6
#: How often rules are completed by what the captures show under them.
_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Learned:
    """A learned policy, and what it was learned from.

    `answered` connections were answered; `left_out` were not, and the rules are not made for them, though they may let
    some of them pass. `mid_stream` of the answered were seen from their middle on. `notes` are sentences for people.
    """

    policy: Policy
    document: dict[str, Any]
    summary: Summary
    answered: int
    left_out: int
    mid_stream: int
    rules: int
    notes: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values, with the policy."""
        return {
            "connections": {"answered": self.answered, "unanswered": self.left_out, "mid_stream": self.mid_stream},
            "rules": self.rules,
            "notes": list(self.notes),
            "policy": self.document,
        }


def learn(
    policy: Policy, captures: Sequence[str], *, part: Part = WHOLE, progress: Callable[[], None] | None = None
) -> Learned:
    """Learns rules for the instances of a policy, whose own groups and rules do not matter.

    `captures` are paths, read several times; `part` is what of them is read. Raises CaptureError for one that cannot be
    opened; one that cannot be read to its end is told by `Learned.summary`.
    """
    learning = _Learning(policy, captures, part, progress)
    return learning.learned()


# ---- what is seen ----


class _Flows:
    """What of the flows of one replay matters, as a writer of a flow log: floods leave little here.

    `answered` are all answered connections; `opened` the ends of TCP connections that are `among` those asked for;
    `refused` denied flows whose addresses and ports are among `wanted`, that no rule matched.
    """

    def __init__(self, wanted: Collection[tuple[Any, ...]] = (), among: Collection[tuple[Any, ...]] = ()) -> None:
        self.answered: list[FlowRecord] = []
        self.opened: set[tuple[Any, ...]] = set()
        self.refused: list[FlowRecord] = []
        self.connections = 0
        self.denied_tcp = False
        self._wanted, self._among = wanted, among

    def write_flows(self, flows: Any, n: int, names: Names) -> None:
        for flow in flow_records(flows, n, names):
            if flow.verdict == "allow":
                self.connections += 1
                if self._among and (ends := _ends(flow)) in self._among:
                    self.opened.add(ends)
                if flow.packets_in and flow.packets_out:
                    self.answered.append(flow)
            else:
                self.denied_tcp = self.denied_tcp or flow.protocol == "tcp"
                if flow.reason == "no-rule-matched" and _ends(flow)[:_SIDES] in self._wanted:
                    self.refused.append(flow)

    def close(self) -> None:
        """All is in memory."""


def _ends(flow: FlowRecord) -> tuple[Any, ...]:
    """What a flow is known by, whoever opened it."""
    kind = (flow.icmp_type, flow.icmp_code) if flow.verdict == "allow" else None
    return flow.instance, flow.protocol, flow.local, flow.local_port, flow.remote, flow.remote_port, kind


def _passed(flow: FlowRecord) -> tuple[Any, ...]:
    """A connection with all that passed of it."""
    counts = (flow.packets_in, flow.packets_out, flow.bytes_in, flow.bytes_out)
    return *_ends(flow), flow.origin, flow.last, *counts


def _need(flow: FlowRecord) -> Need:
    inbound = flow.origin == "inbound"
    port = flow.local_port if inbound else flow.remote_port
    cell: Cell = port or None
    if flow.icmp_type is not None and flow.icmp_code is not None:
        cell = flow.icmp_type, flow.icmp_code
    assert flow.remote is not None  # a connection has addresses
    assert flow.protocol is not None
    return Need(
        flow.instance,
        "ingress" if inbound else "egress",
        "IPv6" if ":" in flow.remote else "IPv4",
        None if _is_foreign_icmp(flow) else flow.protocol,
        cell,
        str(ip_address(flow.remote)),
    )


def _is_foreign_icmp(flow: FlowRecord) -> bool:
    """Whether it is the other family's ICMP, which no rule of its own family can name."""
    return flow.protocol == ("icmp" if flow.remote and ":" in flow.remote else "icmpv6")


class _Learning:
    def __init__(
        self, policy: Policy, captures: Sequence[str], part: Part, progress: Callable[[], None] | None
    ) -> None:
        self._policy = policy
        self._captures = captures
        self._part = part
        self._progress = progress
        base = document(policy)
        base.pop("security_groups", None)
        base.pop("address_groups", None)
        self._base = base

    # ---- replays ----

    def _replayed(
        self,
        values: dict[str, Any],
        wanted: Collection[tuple[Any, ...]] = (),
        among: Collection[tuple[Any, ...]] = (),
    ) -> tuple[_Flows, Summary]:
        plane = Plane(Policy.model_validate(values))
        flows = _Flows(wanted, among)
        with Captures(self._captures, part=self._part) as opened:
            log = FlowLog(plane, flows)
            summary = Replay(plane, opened, observers=[log], progress=self._progress).run()
            log.finish()
            log.close()
        return flows, summary

    def _document(self, rules: dict[str, list[dict[str, Any]]], groups: list[dict[str, Any]], *, loose: bool) -> Any:
        """The document with one group for each instance, which has its rules."""
        values = {"region": self._base["region"]} if "region" in self._base else {}
        ids = {instance: f"learned-{instance}"[:255] for instance in rules}
        values["security_groups"] = [
            {"id": ids[instance], "security_group_rules": found} for instance, found in rules.items()
        ]
        if groups:
            values["address_groups"] = groups
        values["instances"] = [
            {**instance, "security_groups": [ids[instance["id"]]]} for instance in self._base.get("instances", ())
        ]
        values |= {name: value for name, value in self._base.items() if name not in values}
        if loose:
            values["conntrack"] = {"tcp_loose": True, **values.get("conntrack", {})}
        return values

    def _open(self, *, loose: bool, among: Collection[tuple[Any, ...]] = ()) -> tuple[_Flows, Summary]:
        """The captures where everything passes."""
        every = [
            {"id": f"{direction}-{ethertype}", "direction": direction, "ethertype": ethertype}
            for direction in ("ingress", "egress")
            for ethertype in ("IPv4", "IPv6")
        ]
        rules: dict[str, list[dict[str, Any]]] = {
            instance.id: [{**rule, "id": f"{instance.id[:200]}-{n}-{rule['id']}"} for rule in every]
            for n, instance in enumerate(self._policy.instances)
        }
        return self._replayed(self._document(rules, [], loose=loose), among=among)

    # ---- learning ----

    def learned(self) -> Learned:
        flows, summary = self._open(loose=False)
        answered = flows.answered
        mid_stream: list[FlowRecord] = []
        loose = self._policy.conntrack.tcp_loose
        if not loose and flows.denied_tcp:
            again, _ = self._open(loose=True)
            mid_stream = self._mid_stream(answered, again.answered)
            loose = bool(mid_stream)
            if loose:
                # With tcp_loose late segments pass too, and count.
                whole = {(*_ends(flow), flow.origin): flow for flow in again.answered}
                answered = [*(whole.get((*_ends(flow), flow.origin), flow) for flow in answered), *mid_stream]
        return self._completed(flows, summary, answered, mid_stream, loose=loose)

    def _mid_stream(self, answered: list[FlowRecord], loosely: list[FlowRecord]) -> list[FlowRecord]:
        """The TCP connections that are answered with `tcp_loose` alone and were never opened without it.

        Only what was answered is kept in memory: who was opened is asked of one more replay.
        """
        found = {_ends(flow) for flow in loosely if flow.protocol == "tcp"} - set(map(_ends, answered))
        if found:
            found -= self._open(loose=False, among=found)[0].opened
        return [flow for flow in loosely if _ends(flow) in found]

    def _completed(
        self,
        flows: _Flows,
        summary: Summary,
        answered: list[FlowRecord],
        mid_stream: list[FlowRecord],
        *,
        loose: bool,
    ) -> Learned:
        """The rules for the answered connections, and for what these turn out to need besides."""
        needs: dict[Need, Evidence] = {}
        for flow in answered:
            needs.setdefault(_need(flow), Evidence()).add(1, flow.first_packet)
        instances = [instance.id for instance in self._policy.instances]
        wanted = {_ends(flow)[:_SIDES] for flow in answered}
        for _ in range(_ROUNDS):
            rules, groups, notes = learned_rules(needs, instances)
            values = self._document(rules, groups, loose=loose)
            under, _summary = self._replayed(values, wanted)
            missing = Counter(map(_passed, answered)) - Counter(map(_passed, under.answered))
            lost = {key[:_SIDES] for key in missing}
            more = [flow for flow in under.refused if _ends(flow)[:_SIDES] in lost and _need(flow) not in needs]
            if not more:
                break
            for flow in more:
                needs.setdefault(_need(flow), Evidence()).add(1, flow.first_packet)
        notes = [*notes, *_sentences(answered, mid_stream, missing)]
        return Learned(
            policy=Policy.model_validate(values),
            document=values,
            summary=summary,
            answered=len(answered),
            left_out=max(flows.connections + len(mid_stream) - len(answered), 0),
            mid_stream=len(mid_stream),
            rules=sum(map(len, rules.values())),
            notes=notes,
        )


def _sentences(
    answered: list[FlowRecord], mid_stream: list[FlowRecord], missing: Counter[tuple[Any, ...]]
) -> Iterable[str]:
    if mid_stream:
        yield (
            f"TCP connections that were seen from their middle on: {len(mid_stream):,}: the policy has tcp_loose: true"
            " for them, and who is seen first stands for who opened them"
        )
    portless = sum(flow.protocol in PROTOCOLS_WITH_PORTS and _need(flow).cell is None for flow in answered)
    if portless:
        yield f"connections to port 0, which no rule can name: {portless:,}: their rules have all ports"
    foreign = sum(map(_is_foreign_icmp, answered))
    if foreign:
        yield (
            f"connections of ICMP in IPv6 or ICMPv6 in IPv4, which no rule can name: {foreign:,}: their rules have all"
            " protocols"
        )
    if missing:
        number = missing.total()
        yield f"answered connections that do not pass as they were seen: {number:,}: look at them with replay --flows"
