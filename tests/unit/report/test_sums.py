"""What a report sums up while a replay goes on: each packet and flow once, in bounded memory (docs/report.md)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane import DataPlane, Policy
from dataplane._core import ffi, lib
from dataplane.plane import Plane
from dataplane.policy.schedule import load_changes
from dataplane.replay import Captures, Replay, Summary
from dataplane.replay.outputs import Outputs
from dataplane.report import flow_tally
from dataplane.report.replayed import ReplayReport
from dataplane.report.timeline import BUCKETS, Timeline
from dataplane.verdict import REASON_WORDS, VERDICT_WORDS

ROOT = Path(__file__).resolve().parents[3]
CASE = ROOT / "examples" / "ssh-cut"
CAPTURE = str(ROOT / "pcaps" / "ssh-cut.pcap")

# Of any length, and at the very ends of buckets.
TIMES = st.integers(0, 2**63 - 1) | st.integers(0, 10**18) | st.integers(0, 2000).map(lambda number: number * 1_000_000)
PACKETS = st.lists(
    st.tuples(TIMES, st.sampled_from(VERDICT_WORDS), st.sampled_from(REASON_WORDS), st.integers(0, 2)),
    min_size=1,
    max_size=50,
)


@given(PACKETS, st.integers(1, 10))
def test_each_packet_is_in_the_bucket_of_its_time(packets: list[tuple[int, str, str, int]], at_once: int) -> None:
    """Whatever the span, and however few come at a time; one before the first counts as the first."""
    timeline = Timeline()
    for start in range(0, len(packets), at_once):
        part = packets[start : start + at_once]
        records = ffi.new("struct dp_record[]", len(part))
        for record, (time, verdict, reason, checks) in zip(records, part, strict=True):
            record.time_ns, record.verdict, record.checks = time, VERDICT_WORDS.index(verdict), checks
            for i in range(checks):
                record.check[i].reason = REASON_WORDS.index(reason) if i == checks - 1 else lib.DP_REASON_RULE
        timeline.add(records, len(part))
    first = packets[0][0]
    span = max(time for time, *_ in packets) - first
    assert timeline.buckets == max(span, 0) // timeline.width_ns + 1 <= BUCKETS
    assert timeline.width_ns == 1_000_000 or span >= timeline.width_ns * BUCKETS // 2
    for word in VERDICT_WORDS:
        found = Counter(max(time - first, 0) // timeline.width_ns for time, verdict, *_ in packets if verdict == word)
        assert timeline.packets(word) == [found[bucket] for bucket in range(timeline.buckets)]
    denied: dict[str, Counter[int]] = {}
    for time, verdict, reason, checks in packets:
        if verdict == "deny":
            # What is denied without a check is nobody's packet under the name of who is here.
            by = denied.setdefault(reason if checks else "invalid", Counter())
            by[max(time - first, 0) // timeline.width_ns] += 1
    assert timeline.denied() == {
        reason: [found[bucket] for bucket in range(timeline.buckets)] for reason, found in denied.items()
    }


def test_times_of_any_kind_are_counted() -> None:
    """Also those of captures that are damaged: nothing is lost, and the axis has an end."""
    timeline = Timeline()
    records = ffi.new("struct dp_record[]", 3)
    for record, time in zip(records, (5, 2**64 - 1, 0), strict=True):
        record.time_ns, record.verdict = time, lib.DP_ALLOW
    timeline.add(records, 3)
    assert sum(timeline.packets("allow")) == 3
    assert timeline.packets("allow")[0] == 2
    assert timeline.buckets <= BUCKETS


def reported(policy: Policy, capture: str, changes: Any = ()) -> tuple[ReplayReport, Summary]:
    """A report of a replay."""
    report = ReplayReport()
    plane = Plane(policy)
    with Captures([capture]) as captures:
        outputs = Outputs(plane, captures, frames={}, flow_writer=report.tally)
        summary = Replay(plane, captures, changes=changes, observers=[report.timeline, *outputs.observers]).run()
        outputs.keep()
    return report, summary


@pytest.fixture(params=[False, True], ids=["at once", "some at a time"])
def _bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr(flow_tally, "_AT_ONCE", 1)


@pytest.mark.usefixtures("_bounds")
@pytest.mark.parametrize("case", ["ssh-cut", "figure-1", "table-1"])
def test_the_sums_are_those_of_the_flow_records(case: str, tmp_path: Path) -> None:
    """Talkers, reasons, ends and open connections, against the records of `--flows` (SPEC 8.2)."""
    policy = Policy.load(ROOT / "examples" / case / "policy.yaml")
    capture = str(ROOT / "pcaps" / f"{case}.pcap")
    written = ROOT / "examples" / case / "changes.yaml"
    changes = load_changes(written, policy) if written.exists() else []
    DataPlane(policy).replay(capture, changes=changes, flows=tmp_path / "f.jsonl")
    flows = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    report, summary = reported(policy, capture, changes)
    tally = report.tally
    assert tally.total == len(flows) > 3

    def figures(key: str, value: str) -> tuple[int, ...]:
        own = [flow for flow in flows if flow[key] == value]
        passed = sum(flow["packets_in"] + flow["packets_out"] for flow in own)
        size = sum(flow["bytes_in"] + flow["bytes_out"] for flow in own)
        return len(own), passed, size, sum(flow["packets_denied"] for flow in own)

    for key, talkers in (("remote", tally.remotes(1000)), ("instance", tally.instances(1000))):
        assert {t.name: (t.flows, t.packets, t.bytes, t.denied) for t in talkers} == {
            value: figures(key, value) for value in {flow[key] for flow in flows}
        }
        assert [-t.packets - t.denied for t in talkers] == sorted(-t.packets - t.denied for t in talkers)
    assert tally.ends() == Counter(flow["end"] for flow in flows if flow["end"])
    denied = Counter[str]()
    for flow in flows:
        if flow["verdict"] == "deny":
            denied[flow["reason"]] += flow["packets_denied"]
    assert {reason: packets for reason, _, packets in tally.denied_by_reason()} == denied
    timeline = report.timeline
    assert timeline.first_ns is not None
    width, first = timeline.width_ns, timeline.first_ns
    opened = [
        sum(
            (round(f["first"] * 1e9) - first) // width <= bucket
            and (f["end"] == "live" or (round(f["last"] * 1e9) - first) // width >= bucket)
            for f in flows
            if f["verdict"] == "allow"
        )
        for bucket in range(timeline.buckets)
    ]
    assert tally.connections_open() == opened
    for word, traffic in summary.verdicts.items():
        assert sum(timeline.packets(word)) == traffic.packets


def _record(verdict: int, packets: int, first: int) -> dict[str, Any]:
    passed, denied = (packets, 0) if verdict == lib.DP_ALLOW else (0, packets)
    flow = {"family": 4, "source": [10, 0, first >> 8 & 255, first & 255]}
    return {
        "flow": flow,
        "verdict": verdict,
        "passed": [{"packets": passed, "bytes": 0}, {"packets": 0, "bytes": 0}],
        "denied": {"packets": denied, "bytes": 0},
        "first_packet": first,
        "end": lib.DP_FLOW_LIVE if verdict == lib.DP_ALLOW else lib.DP_FLOW_NOT_ADMITTED,
    }


@given(
    st.lists(st.tuples(st.sampled_from([lib.DP_ALLOW, lib.DP_DENY]), st.integers(1, 4)), max_size=60),
    st.integers(1, 7),
    st.integers(1, 9),
)
def test_the_flows_with_most_packets_have_the_rows(flows: list[tuple[int, int]], at_once: int, most: int) -> None:
    """Half of the rows are connections, half are flows never admitted; what one spares the other has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow_tally, "SHOWN", most)
        patch.setattr(flow_tally, "_AT_ONCE", 5)
        timeline = Timeline()
        timeline.first_ns = timeline.last_ns = 0
        tally = flow_tally.FlowTally(timeline)
        policy = Policy.parse(
            "security_groups: [{id: g}]\ninstances: [{id: i, addresses: [10.9.9.9], security_groups: [g]}]"
        )
        plane = Plane(policy)
        numbered = [_record(verdict, packets, first) for first, (verdict, packets) in enumerate(flows, 1)]
        for start in range(0, len(numbered), at_once):
            part = numbered[start : start + at_once]
            tally.write_flows(ffi.new("struct dp_flow_record[]", part), len(part), plane.names)
        found = [flow.first_packet for flow in tally.flows(most)]
    kinds = {
        verdict: sorted((-packets, first) for first, (kind, packets) in enumerate(flows, 1) if kind == verdict)
        for verdict in (lib.DP_ALLOW, lib.DP_DENY)
    }
    allowed = kinds[lib.DP_ALLOW][: max(most // 2, most - len(kinds[lib.DP_DENY]))]
    denied = kinds[lib.DP_DENY][: most - len(allowed)]
    assert found == sorted(first for _, first in allowed + denied)


def test_addresses_beyond_the_bound_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with fewest packets; and it is told."""
    monkeypatch.setattr(flow_tally, "_ADDRESSES", 3)
    monkeypatch.setattr(flow_tally, "_AT_ONCE", 2)
    timeline = Timeline()
    timeline.first_ns = timeline.last_ns = 0
    tally = flow_tally.FlowTally(timeline)
    names = Plane(Policy.load(CASE / "policy.yaml")).names
    for first in range(1, 31):
        record = _record(lib.DP_DENY, first, first)
        tally.write_flows(ffi.new("struct dp_flow_record[]", [record]), 1, names)
    assert [t.name for t in tally.remotes(9)] == ["10.0.0.30", "10.0.0.29", "10.0.0.28"]
    assert tally.addresses_given_up
