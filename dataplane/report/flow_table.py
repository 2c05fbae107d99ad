"""The table of a replay's flows, each with its story: what its first packet met and why, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dataplane.flow import FlowRecord
from dataplane.insight.replayed_packet import Replayed
from dataplane.policy import times
from dataplane.replay.summary import AppliedChange
from dataplane.report import stories
from dataplane.report.flow_tally import SHOWN, FlowTally
from dataplane.report.page import Column, SearchedTable, Section, bytes_words, fitting
from dataplane.terminal import counted, host_port

#: Changes that are named where any of several may have cut a connection.
_NAMED = 12

_COLUMNS = (
    Column("flow"),
    Column("verdict", "word", choice=True),
    Column("reason", "word", choice=True, spare=True),
    Column("instance", choice=True, spare=True),
    Column("rule", spare=True),
    Column("passed", "number"),
    Column("denied", "number"),
    Column("bytes", "bytes", spare=True),
    Column("first", "seconds", spare=True),
    Column("end", "word", choice=True, spare=True),
)


def flows_section(
    tally: FlowTally,
    first_ns: int,
    changes: Sequence[AppliedChange],
    again: Replayed | None,
    command: str | None,
) -> Section | None:
    """The table of flows, of at most `SHOWN`; None where there are none."""
    found = tally.flows()
    if not found:
        return None
    met = stories.met(again, (flow.first_packet for flow in found)) if again else {}
    table = fitting(SHOWN, lambda most: _flow_table(tally.flows(most), first_ns, changes, met, command))
    told = ["A line opens the story of its flow; times are seconds since the first packet."]
    total = tally.total
    if total > len(table.rows):
        told.append(
            f"Of {total:,} flows these are the {len(table.rows):,} with most packets, half of them never admitted "
            "where there are as many: a page holds no more. `--flows FILE` writes all."
        )
    if again is None:
        told.append("The captures could be read once only: which rules were tried is not told.")
    elif sum(flow.verdict == "deny" for flow in found) > stories.TRIED:
        told.append(f"Which rules were tried is told of the {stories.TRIED:,} flows denied most.")
    return Section("flows", "Flows", told, searched=table)


def _flow_table(
    flows: Sequence[FlowRecord],
    first_ns: int,
    changes: Sequence[AppliedChange],
    met: Mapping[int, stories.Met],
    command: str | None,
) -> SearchedTable:
    # The rules are asked about those denied most.
    never = sorted((flow for flow in flows if flow.verdict == "deny"), key=lambda flow: -flow.packets_denied)
    tried = {id(flow) for flow in never[: stories.TRIED]}
    rows, all_told = [], []
    for flow in flows:
        rows.append(
            (
                flow_words(flow),
                flow.verdict,
                flow.reason,
                flow.instance,
                flow.rule,
                flow.packets_in + flow.packets_out,
                flow.packets_denied,
                flow.bytes_in + flow.bytes_out,
                round((flow.first - first_ns) / 1e9, 6),
                flow.end,
            )
        )
        story = []
        if of_packet := met.get(flow.first_packet):
            direction = "ingress" if flow.origin == "inbound" else "egress"
            first, *more = of_packet.sentences(flow.instance, direction, tried=id(flow) in tried)
            story = [f"first packet: {first}", *more]
        all_told.append([*story, *_story(flow, first_ns, changes)])
    numbers = [flow.first_packet for flow in flows] if command else []
    return SearchedTable("flow-table", "flows", _COLUMNS, rows, all_told, command, numbers)


def flow_words(flow: FlowRecord) -> str:
    """A flow as packets are written (SPEC 8), from who began it."""
    local, remote = host_port(flow.local or "?", flow.local_port), host_port(flow.remote or "?", flow.remote_port)
    source, destination = (remote, local) if flow.origin == "inbound" else (local, remote)
    icmp = "" if flow.icmp_type is None else f" {flow.icmp_type}/{flow.icmp_code}"
    return f"{'no IP' if flow.protocol is None else flow.protocol} {source} > {destination}{icmp}"


def _story(flow: FlowRecord, first_ns: int, changes: Sequence[AppliedChange]) -> Iterator[str]:
    """What a flow's record tells, in sentences."""
    at = f"packet {flow.first_packet:,}, at {(flow.first - first_ns) / 1e9:.6f} s"
    last = f"the last packet at {(flow.last - first_ns) / 1e9:.6f} s"
    passed = flow.packets_in + flow.packets_out
    if flow.verdict == "allow":
        yield f"{flow.origin} connection under {flow.rule or flow.reason}: the first is {at}; {last}"
        yield (
            f"{counted(flow.packets_in, 'packet')} in ({bytes_words(flow.bytes_in)}), {flow.packets_out:,} out"
            f" ({bytes_words(flow.bytes_out)})"
        )
        if flow.packets_denied:
            yield f"{counted(flow.packets_denied, 'packet')} of it denied, beside {passed:,} that passed"
        yield _end_words(flow, first_ns, changes)
    else:
        denied = counted(flow.packets_denied, "packet")
        yield f"{flow.origin}, never admitted: the first is {at}; {last}; {denied} denied"
    if flow.community_id:
        yield f"Community ID {flow.community_id}"


_ENDS = {
    "live": "it lived at the end of the captures",
    "expired": "its timeout passed",
    "closed": "both sides closed it",
    "reset": "it was reset",
    "evicted": "it gave way in a full table",
}


def _end_words(flow: FlowRecord, first_ns: int, changes: Sequence[AppliedChange]) -> str:
    """How a connection ended, and by which change where one alone can have cut it."""
    state = f" ({flow.state})" if flow.state else ""
    if flow.end != "disconnected":
        return f"{_ENDS.get(flow.end or '', flow.end or 'it ended')}{state}"
    able = [
        (number, applied)
        for number, applied in enumerate(changes, 1)
        if applied.result
        and applied.result.by_instance.get(flow.instance)
        and times.due_ns(applied.change.at, first_ns) >= flow.first
    ]
    if len(able) != 1:
        named = " or ".join(f"change {number}" for number, _ in able[:_NAMED]) or "a change of the policy"
        return f"{named} cut it{state}"
    number, applied = able[0]
    return f"change {number} cut it, at {times.words(applied.change.at)}: {applied.change.change.summary}{state}"
