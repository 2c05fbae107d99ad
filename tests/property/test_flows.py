"""Flow records are what adding up the verdict records of the same packets gives (SPEC 8.2), over random stories."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings

from dataplane import ChangeError, DataPlane, Policy
from dataplane._core import ffi, lib
from dataplane.flow import FlowRecord, flow_records
from dataplane.replay.flows import FlowLog
from dataplane.replay.verdicts import TextWriter
from dataplane.verdict import Names

from .beside_engine import engine_change
from .story import PacketStep, Player, Story
from .strategies import crowded_stories, disrupted_stories, stories, tcp_stories

MANY = os.environ.get("DATAPLANE_PROPERTIES") == "long"
PROFILE = settings(
    max_examples=5000 if MANY else 60,
    deadline=None,
    derandomize=not MANY,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
#: The request of each reply, by protocol.
REQUESTS = {"icmp": {0: 8, 14: 13, 16: 15, 18: 17}, "icmpv6": {129: 128}}


def flow_of(packet: dict[str, Any], check: dict[str, Any]) -> tuple[Any, ...]:
    """What a denied flow is known by: the instance and both sides, whichever way the packet goes."""
    leaves = check["direction"] == "egress"
    source = (packet["source"], packet["source_port"])
    destination = (packet["destination"], packet["destination_port"])
    local, remote = (source, destination) if leaves else (destination, source)
    kind = None
    if packet["icmp_type"] is not None:
        requests = REQUESTS[packet["protocol"]]
        reply = packet["icmp_type"] in requests
        kind = (requests.get(packet["icmp_type"], packet["icmp_type"]), packet["icmp_code"], leaves != reply)
    return check["instance"], packet["protocol"], local, remote, kind


def added_up(packets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The flows of verdict records, in the order of their first packets, without how connections ended."""
    flows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for packet in packets:
        for check in packet["checks"]:
            opens = check["opened_by"] == packet["packet"]
            if check["opened_by"] is not None:
                key: tuple[Any, ...] = (check["instance"], check["connection"], check["opened_by"])
            elif check["verdict"] == "deny":
                key = flow_of(packet, check)
            else:
                continue
            flow = flows.get(key)
            if flow is None:
                flow = flows[key] = {
                    "instance": check["instance"],
                    "origin": check["connection"] or ("inbound" if check["direction"] == "ingress" else "outbound"),
                    "first": packet["time"],
                    "last": packet["time"],
                    "first_packet": packet["packet"],
                    **dict.fromkeys(("packets_in", "packets_out", "bytes_in", "bytes_out", "packets_denied"), 0),
                }
                opens = opens or check["opened_by"] is None
            if opens:
                before = flows.pop(flow_of(packet, check), None) if check["opened_by"] else None
                if before:
                    flow["packets_denied"] += before["packets_denied"]
                    flow |= {name: before[name] for name in ("first", "first_packet")}
                    flow["last"] = max(flow["last"], before["last"])
                _, protocol, local, remote, _ = flow_of(packet, check)
                flow |= {"protocol": protocol, "local": local[0], "local_port": local[1]}
                flow |= {"remote": remote[0], "remote_port": remote[1]}
                flow |= {name: check[name] for name in ("verdict", "reason", "rule", "security_group")}
                flow["admitted"] = check["opened_by"] is not None
            flow["last"] = max(flow["last"], packet["time"])
            if check["verdict"] == "deny":
                flow["packets_denied"] += 1
            else:
                way = "in" if check["direction"] == "ingress" else "out"
                flow[f"packets_{way}"] += 1
                flow[f"bytes_{way}"] += packet["length"]
    return sorted(flows.values(), key=lambda flow: (flow["first_packet"], flow["origin"] == "inbound"))


class Kept:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.flows: list[FlowRecord] = []

    def write_flows(self, flows: Any, n: int, names: Names) -> None:
        self.flows += flow_records(flows, n, names)

    def close(self) -> None:
        pass


class OfStory:
    """Where the packets of a story were seen."""

    paths = ("story",)

    def interfaces(self, _known: int) -> list[str]:
        return []


class Recorded:
    """A story played through an engine whose records go to a flow log, and to text, in the order of their packets."""

    def __init__(self, story: Story, *, kept: int = 1 << 18) -> None:
        self.engine = DataPlane(Policy.parse(json.dumps(story.document)), seed=0)
        self.flows = Kept()
        self.log = FlowLog(self.engine, self.flows, kept=kept)
        self._text = io.BytesIO()
        self._writer = TextWriter(self._text, self.engine.names, OfStory(), csv=False)  # type: ignore[arg-type]
        self._waiting: list[tuple[Any, Any]] = []
        self._first = 0
        with tempfile.TemporaryDirectory() as directory:
            for step in Player(story).play():
                if isinstance(step, PacketStep):
                    self._judge(step.frame, step.time_ns)
                else:
                    self._change(step, Path(directory))
        lib.dp_engine_give_up(self.engine.handle, 2**64 - 1)
        self._pass_on()
        self.log.finish()
        self.log.close()

    def packets(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._text.getvalue().splitlines()]

    def _change(self, step: Any, directory: Path) -> None:
        try:
            self.engine.apply(engine_change(step.change, directory), time_ns=step.time_ns)
        except ChangeError:
            assert step.refused

    def _judge(self, data: bytes, time_ns: int) -> None:
        frame = ffi.new("struct dp_frame *")
        bytes_ = ffi.from_buffer("uint8_t[]", data)
        frame.time_ns, frame.data, frame.captured, frame.length = time_ns, bytes_, len(data), len(data)
        record, flow = ffi.new("struct dp_record[1]"), ffi.new("struct dp_flow[1]")
        assert lib.dp_engine_process(self.engine.handle, frame, 1, record, flow) == 0
        self._waiting.append((record, flow))
        self._pass_on()

    def _pass_on(self) -> None:
        resolution = ffi.new("struct dp_resolution *")
        while lib.dp_engine_resolved(self.engine.handle, resolution, 1):
            self._waiting[resolution.number - self._first][0][0] = resolution.record
        while self._waiting and self._waiting[0][0][0].verdict != lib.DP_WAITING:
            record, flow = self._waiting.pop(0)
            self._first += 1
            self.log.observe(self._first, 1, record, flow, self.engine.names)
            self._writer.write(record, flow, ffi.new("struct dp_seen[1]"), 1)


COMPARED = (
    *("instance", "origin", "protocol", "local", "local_port", "remote", "remote_port", "first_packet"),
    *("packets_in", "packets_out", "bytes_in", "bytes_out", "packets_denied"),
    *("verdict", "reason", "rule", "security_group"),
)


def compare(flows: list[FlowRecord], packets: list[dict[str, Any]]) -> None:
    """That the records of flows are those of packets added up."""
    expected = added_up(packets)
    assert [[getattr(flow, name) for name in COMPARED] for flow in flows] == [
        [flow[name] for name in COMPARED] for flow in expected
    ]
    for flow, other in zip(flows, expected, strict=True):
        assert (flow.end is None, flow.state is None) == (not other["admitted"], not other["admitted"])
        assert [round(time / 1e3) for time in (flow.first, flow.last)] == [
            round(other[name] * 1e6) for name in ("first", "last")
        ]


def check_ends(recorded: Recorded) -> None:
    """That the ends are those that the engine's table and counters tell of."""
    ends = [flow.end for flow in recorded.flows.flows]
    counters = recorded.engine.counters()
    assert len([end for end in ends if end]) == counters.connections_opened
    there = list(recorded.engine.connections)
    living = [c for c in there if not c.disconnected and c.state not in ("TIME_WAIT", "CLOSE")]
    assert ends.count("live") == len(living)
    assert ends.count("evicted") <= counters.early_drops
    assert ends.count("disconnected") >= len(
        [c for c in there if c.disconnected and c.state not in ("TIME_WAIT", "CLOSE")]
    )
    for flow in recorded.flows.flows:
        assert (flow.end == "closed") >= (flow.state == "TIME_WAIT")
        assert (flow.end == "reset") == (flow.state == "CLOSE")


def play(story: Story) -> None:
    recorded = Recorded(story)
    compare(recorded.flows.flows, recorded.packets())
    check_ends(recorded)


@PROFILE
@given(stories())
def test_flows_are_the_verdict_records_added_up(story: Story) -> None:
    """SPEC 8.2: a record for each connection, and for each denied flow that never became one."""
    play(story)


@PROFILE
@given(disrupted_stories())
def test_flows_of_connections_that_changes_cut(story: Story) -> None:
    """SPEC 8.2, `end` disconnected: packets of a disconnected connection are its denied packets."""
    play(story)


@PROFILE
@given(tcp_stories())
def test_flows_of_tcp(story: Story) -> None:
    """SPEC 8.2, `end` closed and reset; a port used again is another connection."""
    play(story)


@PROFILE
@given(crowded_stories())
def test_flows_of_a_full_table(story: Story) -> None:
    """SPEC 8.2, `end` evicted."""
    play(story)


@PROFILE
@given(disrupted_stories())
def test_a_short_memory_loses_no_packet(story: Story) -> None:
    """However few flows are kept, what was given out early and what came later add up to the same."""
    whole, short = Recorded(story), Recorded(story, kept=1)
    names = ("packets_in", "packets_out", "bytes_in", "bytes_out", "packets_denied")
    for instance in {flow.instance for flow in whole.flows.flows}:
        for name in names:
            one, other = (
                sum(getattr(flow, name) for flow in recorded.flows.flows if flow.instance == instance)
                for recorded in (whole, short)
            )
            assert one == other
    assert sorted(_connections(whole)) == sorted(_connections(short))


def _connections(recorded: Recorded) -> Iterator[tuple[Any, ...]]:
    for flow in recorded.flows.flows:
        if flow.end:
            yield flow.instance, flow.origin, flow.end, flow.state, flow.packets_in, flow.packets_out
