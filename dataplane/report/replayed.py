"""The page about a replay (``dataplane replay --report``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from datetime import UTC, datetime
from typing import Any

from dataplane.insight.replayed_packet import Replayed
from dataplane.policy import times
from dataplane.policy.model import Policy
from dataplane.replay.run import disconnected_words
from dataplane.replay.summary import AppliedChange, Summary
from dataplane.report.charts import MARKED, Chart, Clock, Mark, bars, over_time, series, time_words
from dataplane.report.flow_table import flows_section
from dataplane.report.flow_tally import FlowTally, Talker
from dataplane.report.page import Card, Column, Page, Section, Table, bytes_words, number_words
from dataplane.report.timeline import Timeline
from dataplane.terminal import counted

#: Bars of a chart.
_BARS = 12
_TALKERS = 100
#: A time from here on is not told to the millisecond.
_LONG_NS = 600 * 1_000_000_000
#: So many packets, in one of so many bars or in fewer, fill no chart.
_MANY, _SPARSE = 100, 20
_VERDICTS = (("allow", "allowed"), ("deny", "denied"), ("bypass", "bypassed"))


class ReplayReport:
    """Sums a replay up while it goes on; `timeline` is an observer of it, `tally` takes its flow records."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.tally = FlowTally(self.timeline)

    def page(self, named: str, policy: Policy, summary: Summary, again: Replayed | None, command: str | None) -> Page:
        """The page, after the replay; `named` is the policy's file.

        `again` is the replay as it can be made once more, for the stories of its flows; None where captures can be
        read once only. `command` explains a packet of it with its number behind; None where none does.
        """
        marks = _marks(summary.changes, self.timeline.first_ns or 0)
        sections = [
            _traffic(self.timeline, marks),
            _connections(self, summary, marks),
            _changes(summary.changes),
            _talkers(self.tally),
            _rules(summary),
            _denied(self, summary),
            flows_section(self.tally, self.timeline.first_ns or 0, summary.changes, again, command),
        ]
        return Page(
            "What a policy did to traffic",
            list(_facts(named, policy, summary, self.timeline)),
            _cards(summary),
            [section for section in sections if section],
            [*summary.advice, *(f"{capture.name}: {capture.words}" for capture in summary.faults)],
        )


def moment(ns: int) -> str:
    """A time since 1970 as people write it, in UTC."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest // 1_000_000:03d} UTC"


def captures_words(names: Sequence[str]) -> str:
    """Captures by name, the first of many."""
    told = ", ".join(names[:5])
    return told if len(names) <= 5 else f"{told} and {len(names) - 5:,} more"


def span_words(timeline: Timeline) -> str:
    """When the packets of a timeline came."""
    if timeline.first_ns is None or timeline.last_ns is None:
        return "no packet"
    span = timeline.last_ns - timeline.first_ns
    words = f"{span / 1e9:.3f} s" if span < _LONG_NS else time_words(span)
    return f"from {moment(timeline.first_ns)}, for {words}"


def summed_words(clock: Clock, rows: Iterable[Sequence[int]]) -> str:
    """What charts over time leave out, and what to do where nearly all of their time is empty."""
    if not clock.buckets:
        return "No packet was read."
    packets = [sum(bucket) for bucket in zip(*rows, strict=True)]
    used = sum(map(bool, packets))
    told = "All packets are summed up in these charts, whatever their number."
    if sum(packets) >= _MANY and used * _SPARSE <= clock.buckets:
        told += (
            f" They came in {counted(used, 'bar')} of {clock.buckets} only: --time FROM..TO reads a part of the time."
        )
    return told


def marks_note(marks: Sequence[Mark]) -> str:
    """What the lines on a chart are."""
    if not marks:
        return ""
    more = f" (the first {MARKED})" if len(marks) > MARKED else ""
    return f" Dotted lines are changes{more}, by their numbers."


def traffic_clock(timeline: Timeline) -> Clock:
    """The axis of a timeline."""
    return Clock(timeline.width_ns, timeline.buckets)


def _facts(named: str, policy: Policy, summary: Summary, timeline: Timeline) -> Iterator[tuple[str, str]]:
    groups, instances = len(policy.security_groups), len(policy.instances)
    yield "Policy", f"{named}: {counted(groups, 'security group')}, {counted(instances, 'instance')}"
    yield "Captures", captures_words([capture.name for capture in summary.captures])
    yield "Time", span_words(timeline)


def _cards(summary: Summary) -> list[Card]:
    cards = [Card(f"packets, {bytes_words(summary.bytes)}", number_words(summary.packets))]
    for word, name in _VERDICTS:
        traffic = summary.verdicts[word]
        if traffic.packets or word != "bypass":
            share = f", {traffic.packets / summary.packets:.1%}" if summary.packets else ""
            cards.append(Card(f"{name}{share}", number_words(traffic.packets), word))
    cards.append(Card("connections opened", number_words(summary.connections.opened)))
    cut = sum(change.result.total for change in summary.changes if change.result)
    if summary.changes:
        cards.append(Card(f"connections cut by {counted(len(summary.changes), 'change')}", number_words(cut)))
    return cards


def _marks(changes: Sequence[AppliedChange], first_ns: int) -> list[Mark]:
    return [
        Mark(number, times.due_ns(applied.change.at, first_ns) - first_ns)
        for number, applied in enumerate(changes, 1)
        if applied.result is not None
    ]


def _traffic(timeline: Timeline, marks: Sequence[Mark]) -> Section:
    clock = traffic_clock(timeline)
    rows = [(name, f"@{word}", timeline.packets(word)) for word, name in _VERDICTS]
    told = f"A bar is {clock.width}.{marks_note(marks)}"
    charts = []
    if clock.buckets:
        rows = [row for row in rows if any(row[2])]
        charts.append(over_time(("traffic-chart", "Packets by verdict", told), clock, rows, marks))
    reasons = [(word, series(number), row) for number, (word, row) in enumerate(timeline.denied().items())]
    if reasons:
        about = ("denied-chart", "Denied packets by reason", told)
        charts.append(over_time(about, clock, reasons, marks))
    return Section("traffic", "Allowed and denied", [summed_words(clock, [row[2] for row in rows])], charts)


def _connections(report: ReplayReport, summary: Summary, marks: Sequence[Mark]) -> Section:
    found = summary.connections
    words = [f"{found.opened:,} opened", f"{found.expired:,} expired", f"{found.live:,} live at the end"]
    words += [f"{found.disconnected:,} disconnected by changes"] if found.disconnected else []
    words += [f"{found.early_drops:,} dropped early to make room"] if found.early_drops else []
    words += [f"{found.table_full:,} denied because the table was full"] if found.table_full else []
    charts = []
    open_ones = report.tally.connections_open()
    if any(open_ones):
        told = f"A connection counts from its first to its last packet.{marks_note(marks)}"
        charts.append(
            over_time(
                ("connections-chart", "Open connections", told),
                traffic_clock(report.timeline),
                [("open", "@allow", open_ones)],
                marks,
                of="connections",
                stacked=False,
            )
        )
    ends = [(word, n) for word, n in sorted(report.tally.ends().items(), key=lambda end: -end[1])]
    columns = [Column("end"), Column("connections", "number")]
    tables = [Table("How connections ended", columns, ends)] if ends else []
    return Section("connections", "Connections", [f"{', '.join(words)}."], charts, tables)


def _changes(changes: Sequence[AppliedChange]) -> Section | None:
    if not changes:
        return None
    columns = [
        Column("no.", "number"),
        Column("at", "word"),
        Column("change"),
        Column("cut", "number"),
        Column("what it cut"),
    ]
    rows = [
        (
            number,
            times.words(applied.change.at),
            applied.change.change.summary,
            applied.result.total if applied.result else None,
            disconnected_words(applied.result),
        )
        for number, applied in enumerate(changes, 1)
    ]
    by_instance: dict[str, int] = {}
    for applied in changes:
        for instance, cut in (applied.result.by_instance if applied.result else {}).items():
            by_instance[instance] = by_instance.get(instance, 0) + cut
    most = sorted(by_instance.items(), key=lambda cut: (-cut[1], cut[0]))
    charts = []
    if most:
        charts.append(
            bars(
                ("cut-chart", "Connections cut, by instance", "By all changes together."),
                [instance for instance, _ in most[:_BARS]],
                [("cut", "@deny", [cut for _, cut in most[:_BARS]])],
                "connections",
            )
        )
    told = ["A change disconnects inbound connections; their packets are denied until their time is over."]
    return Section("changes", "What each change cut", told, charts, [Table("Changes", columns, rows)])


def _talkers(tally: FlowTally) -> Section | None:
    remotes, instances = tally.remotes(_TALKERS), tally.instances(_TALKERS)
    if not remotes:
        return None
    told = ["The addresses on the other side of the instances, and the instances, by packets of their flows."]
    if tally.addresses_given_up:
        told.append("There were more addresses than are counted at a time: some may have more than is shown here.")
    columns = [
        Column("flows", "number"),
        Column("passed", "number"),
        Column("bytes", "bytes"),
        Column("denied", "number"),
    ]
    return Section(
        "talkers",
        "Top talkers",
        told,
        [_talkers_chart(("talkers-chart", "Busiest addresses", "Packets that passed, and that were denied."), remotes)],
        [
            Table("Addresses", [Column("address"), *columns], list(map(astuple, remotes))),
            Table("Instances", [Column("instance"), *columns], list(map(astuple, instances))),
        ],
    )


def _talkers_chart(chart: tuple[str, str, str], talkers: Sequence[Talker]) -> Chart:
    shown = talkers[:_BARS]
    rows = [("passed", "@allow", [t.packets for t in shown]), ("denied", "@deny", [t.denied for t in shown])]
    return bars(chart, [t.name for t in shown], rows, "packets")


def _rules(summary: Summary) -> Section:
    hit = summary.counted_rules
    columns = [Column("rule"), Column("security group"), Column("hits", "number")]
    columns += [Column("packets", "number"), Column("bytes", "bytes")]
    tables = [Table("Rules that decided", columns, hit)] if hit else []
    never = summary.never_hit
    if never:
        tables.append(Table("Rules never hit", [Column("rule"), Column("security group")], never))
    charts = []
    if any(rule.hits for rule in hit):
        shown = hit[:_BARS]
        about = ("rules-chart", "Rules by hits", "A hit is the first packet of a connection, or a packet denied.")
        charts.append(bars(about, [r.rule for r in shown], [("hits", "@allow", [r.hits for r in shown])], "hits"))
    told = [f"{counted(len(hit), 'rule')} decided about packets, {len(never):,} did not."]
    return Section("rules", "Rules by hits", told, charts, tables)


def _denied(report: ReplayReport, summary: Summary) -> Section | None:
    reasons = report.tally.denied_by_reason()
    if not summary.verdicts["deny"].packets:
        return None
    charts, tables = [], []
    if reasons:
        told = "Flows that never became a connection, by the reason of their first packet."
        charts.append(
            bars(
                ("reasons-chart", "Denied flows by reason", told),
                [reason for reason, _, _ in reasons],
                [("flows", "@deny", [flows for _, flows, _ in reasons])],
                "flows",
            )
        )
        columns = [Column("reason"), Column("flows", "number"), Column("packets denied", "number")]
        tables.append(Table("Denied flows by reason", columns, reasons))
    if summary.causes:
        columns = [Column("cause"), Column("packets", "number"), Column("bytes", "bytes")]
        causes = sorted(summary.causes.items(), key=lambda cause: -cause[1].packets)
        tables.append(Table("Why packets were invalid", columns, [(c, t.packets, t.bytes) for c, t in causes]))
    if summary.denied_flows:
        columns = [Column("instance"), Column("flow"), Column("why"), Column("packets", "number")]
        rows = [(f.instance, _denied_words(f), f.cause or f.reason, f.packets) for f in summary.denied_flows]
        tables.append(Table("Flows denied most, source ports taken together", columns, rows))
    return Section("denied", "Denied flows", [], charts, tables)


def _denied_words(flow: Any) -> str:
    port = "" if flow.destination_port is None else f" port {flow.destination_port}"
    return f"{flow.direction} {flow.protocol or 'no IP'} {flow.source or '?'} > {flow.destination or '?'}{port}"
