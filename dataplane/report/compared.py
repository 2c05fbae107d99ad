"""The page about two policies over the same captures (``dataplane diff --report``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dataplane.differences import FlowDifference, Judgement
from dataplane.insight.diff import Difference
from dataplane.insight.replayed_packet import Replayed
from dataplane.policy import times
from dataplane.policy.schedule import TimedChange
from dataplane.report import stories
from dataplane.report.charts import Chart, Clock, Mark, bars, over_time
from dataplane.report.page import Card, Column, Page, SearchedTable, Section, Table, fitting, number_words
from dataplane.report.replayed import captures_words, marks_note, span_words, summed_words
from dataplane.report.timeline import Timeline
from dataplane.terminal import counted
from dataplane.verdict import VERDICT_WORDS

#: Rows of the table of flows.
SHOWN = 5000
_BARS = 12
_COLUMNS = (
    Column("flow"),
    Column("packets", "number"),
    Column("old", "word", choice=True),
    Column("new", "word", choice=True),
    Column("old reason", "word", choice=True, spare=True),
    Column("new reason", "word", choice=True, spare=True),
    Column("old rule", spare=True),
    Column("new rule", spare=True),
    Column("first packet", "number", spare=True),
)


class DiffReport:
    """Sums both replays up while they go on: `compare` sees each batch."""

    def __init__(self) -> None:
        self.old, self.new = Timeline(), Timeline()

    def compare(self, records: Sequence[Any], _flows: Any, n: int) -> None:
        """Adds a batch: arrays of `struct dp_record` under the old and the new policy, of the first `n` packets."""
        self.old.add(records[0], n)
        self.new.add(records[1], n)

    def page(
        self,
        named: tuple[str, str],
        found: Difference,
        changes: Sequence[TimedChange],
        replayed: Sequence[Replayed],
        captures: Sequence[str],
        command: str | None,
    ) -> Page:
        """The page, after both.

        `named` are the policies' files, `changes` are made in both, `captures` is how the captures were named.
        `replayed` are the two replays as they can be made once more, and `command` explains a packet under the new
        policy with its number behind; none and None where a capture can be read once only.
        """
        marks = _marks(changes, self.old.first_ns or 0)
        cut = sum(found.disconnected.values())
        cards = [
            Card("packets get the same verdict", number_words(found.same)),
            Card("get another one", number_words(found.changed), "deny" if found.changed else "allow"),
            Card("flows differ", number_words(len(found.flows))),
            Card("connections that the change would cut", number_words(cut)),
        ]
        facts = [("Old policy", named[0]), ("New policy", named[1])]
        facts += [("Captures", captures_words(captures)), ("Time", span_words(self.old))]
        sections = [
            self._traffic(marks),
            _changes(changes),
            _cut(found),
            _flows(found, replayed, command),
        ]
        notes = [f"{capture.name}: {capture.words}" for capture in found.faults]
        return Page("What another policy would do", facts, cards, [s for s in sections if s], notes)

    def _traffic(self, marks: Sequence[Mark]) -> Section:
        clock = Clock(self.old.width_ns, self.old.buckets)
        charts = list[Chart]()
        for word, told in (("deny", "Denied packets"), ("allow", "Allowed packets")):
            rows = [
                ("old policy", "@bypass", self.old.packets(word)),
                ("new policy", f"@{word}", self.new.packets(word)),
            ]
            if clock.buckets and any(any(row) for *_, row in rows):
                about = f"In each {clock.width}, under either policy.{marks_note(marks)}"
                charts.append(
                    over_time(
                        (f"{word}-chart", told, about),
                        clock,
                        rows,
                        marks,
                        of=f"packets per {clock.width}",
                        stacked=False,
                    )
                )
        packets = [self.old.packets(word) for word in VERDICT_WORDS]
        told_all = [summed_words(clock, packets)]
        told_all += ["Where the lines part, the policies differ."] if charts else []
        return Section("traffic", "Denied and allowed", told_all, charts)


def _marks(changes: Sequence[TimedChange], first_ns: int) -> list[Mark]:
    dues = [times.due_ns(change.at, first_ns) - first_ns for change in changes]
    return [Mark(number, due) for number, due in enumerate(dues, 1)]


def _changes(changes: Sequence[TimedChange]) -> Section | None:
    if not changes:
        return None
    rows = [(number, times.words(c.at), c.change.summary) for number, c in enumerate(changes, 1)]
    columns = [Column("no.", "number"), Column("at", "word"), Column("change")]
    return Section("changes", "Changes made in both", tables=[Table("Changes", columns, rows)])


def _cut(found: Difference) -> Section:
    most = sorted(found.disconnected.items(), key=lambda cut: (-cut[1], cut[0]))
    total = sum(found.disconnected.values())
    told = f"Changing to the new policy behind the last packet would cut {counted(total, 'inbound connection')}."
    if not most:
        return Section("cut", "What the change would cut", [told])
    chart = bars(
        ("cut-chart", "Connections cut, by instance", "Inbound connections that live at the end."),
        [instance for instance, _ in most[:_BARS]],
        [("cut", "@deny", [cut for _, cut in most[:_BARS]])],
        "connections",
    )
    columns = [Column("instance"), Column("connections", "number")]
    return Section("cut", "What the change would cut", [told], [chart], [Table("By instance", columns, most)])


def _flows(found: Difference, replayed: Sequence[Replayed], command: str | None) -> Section:
    if not found.flows:
        return Section("flows", "Flows that differ", ["No packet gets another verdict."])
    told = ["A line opens the story of its flow: what each policy said of the first packet that differs."]
    first_packets = [flow.first_packet for flow in found.flows[:SHOWN]]
    met = [stories.met(one, first_packets) for one in replayed] or [{}, {}]
    table = fitting(SHOWN, lambda most: _flow_table(found.flows[:most], met, command))
    if len(found.flows) > len(table.rows):
        told.append(f"Of {len(found.flows):,} flows these are the {len(table.rows):,} with most packets that differ.")
    if found.not_kept:
        told.append(f"{counted(found.not_kept, 'packet')} more are of flows beyond those that are kept.")
    if not replayed:
        told.append("The captures could be read once only: which rules were tried is not told.")
    return Section("flows", "Flows that differ", told, searched=table)


def _flow_table(
    flows: Sequence[FlowDifference], met: Sequence[dict[int, stories.Met]], command: str | None
) -> SearchedTable:
    rows, all_told = [], []
    for number, flow in enumerate(flows):
        rows.append(
            (
                flow.flow,
                flow.packets,
                *(flow.old.verdict, flow.new.verdict, flow.old.reason, flow.new.reason, flow.old.rule, flow.new.rule),
                flow.first_packet,
            )
        )
        all_told.append(_story(flow, met, tried=number < stories.TRIED))
    numbers = [flow.first_packet for flow in flows] if command else []
    return SearchedTable("flow-table", "flows", _COLUMNS, rows, all_told, command, numbers)


def _story(flow: FlowDifference, met: Sequence[dict[int, stories.Met]], *, tried: bool) -> list[str]:
    told = []
    for name, judgement, by_packet in zip(("old", "new"), (flow.old, flow.new), met, strict=True):
        of_packet = by_packet.get(flow.first_packet)
        sentences = of_packet.sentences(tried=tried) if of_packet else [_words(judgement)]
        told += [f"{name} policy: {sentence}" for sentence in sentences]
    return told


def _words(judgement: Judgement) -> str:
    return " ".join(word for word in (judgement.verdict, judgement.reason, judgement.rule) if word)
