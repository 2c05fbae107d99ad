"""DESIGN: every bound has a counter, and every counter a name that people see, in a replay and live alike."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import Metric

from dataplane import DataPlane, Policy
from dataplane._core import ffi
from dataplane.counters import COUNTERS, Counter, record
from dataplane.live.metrics import FirewallCollector
from dataplane.live.operations import Operations
from dataplane.live.records import counters_record
from tests.property.frames import datagram, ethernet, packet
from tests.unit.live.scene import filled
from tests.unit.live.served import NoPorts, service_of

DOCUMENT = (Path(__file__).parents[2] / "docs/control.md").read_text()
POLICY = """
security_groups: [{id: sg, security_group_rules: [{id: in, direction: ingress}]}]
instances: [{id: a, addresses: [10.0.0.1], security_groups: [sg]}]
conntrack: {max_entries: 4}
"""


def _fields(struct: str) -> dict[str, Any]:
    return {name: of.type for name, of in ffi.typeof(f"struct {struct}").fields}


def test_every_field_of_the_core_is_in_the_table() -> None:
    """And every field of its items; none is there twice."""
    told = [(counter.field, counter.part) for counter in COUNTERS]
    expected = []
    for name, of in _fields("dp_counters").items():
        while of.kind == "array":
            of = of.item
        parts = {"struct dp_flood_counter": _fields("dp_flood_counter")}.get(of.cname, {None: None})
        expected += [(name, part) for part in parts]
    assert sorted(told, key=str) == sorted(expected, key=str)


def test_indices_have_a_word_each() -> None:
    for counter in COUNTERS:
        of = _fields("dp_counters")[counter.field]
        for _, words in counter.by:
            assert of.length == len(words) == len(set(words)), counter.field
            of = of.item
        assert counter.is_traffic == (of.cname == "struct dp_counter"), counter.field


def distinct() -> Any:
    """Counters of which each number is another one."""
    counters = ffi.new("struct dp_counters *")
    numbers = ffi.cast("uint64_t *", counters)
    for n in range(ffi.sizeof("struct dp_counters") // 8):
        numbers[n] = 1000 + n
    return counters


def numbers_in(value: Any) -> list[int]:
    if isinstance(value, dict):
        return [found for part in value.values() for found in numbers_in(part)]
    if isinstance(value, list):
        return [found for part in value for found in numbers_in(part)]
    return [value] if isinstance(value, int) else []


def all_numbers() -> list[int]:
    return list(range(1000, 1000 + ffi.sizeof("struct dp_counters") // 8))


def test_a_record_has_every_number_once() -> None:
    assert sorted(numbers_in(record(distinct()))) == all_numbers()
    # Of before, only what is of now stays.
    gauges = [counter.field for counter in COUNTERS if counter.kind == "gauge"]
    left = [number for number in numbers_in(record(distinct(), distinct())) if number]
    assert left == [getattr(distinct(), name) for name in gauges]


class Counting:
    """A firewall that has counted something of each kind."""

    def __init__(self) -> None:
        self._firewall = filled()
        self.ports: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._firewall, name)

    def counters(self) -> Any:
        return distinct()


def test_ctl_counters_has_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    """In JSON, and in the tables for people."""
    from dataplane.cli.ctl.text import print_counters

    firewall: Any = Counting()
    told = counters_record(firewall)
    assert set(all_numbers()) <= set(numbers_in(told))
    assert (told["connections"]["live"], told["connections"]["limit"]) == (distinct().entries, distinct().max_entries)
    print_counters(json.loads(json.dumps(told)))
    shown = {int(word.replace(",", "")) for word in re.findall(r"\b[\d,]+\b", capsys.readouterr().out)}
    assert set(all_numbers()) <= shown


def test_metrics_have_every_number(tmp_path: Path) -> None:
    """Under names that the page has."""
    ports, firewall = NoPorts(), Counting()
    operations = Operations(firewall, ports)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as control:
        found: list[Metric] = list(FirewallCollector(operations, service_of(operations, control), control).collect())
    values = {sample.value for family in found for sample in family.samples}
    assert set(all_numbers()) <= values
    for counter in COUNTERS:
        assert f"`{_documented(counter)}" in DOCUMENT, counter.metric


def _documented(counter: Counter) -> str:
    ending = "_packets_total" if counter.is_traffic else "_total" if counter.kind == "counter" else ""
    return f"{counter.metric}{ending}`"


def test_a_replays_summary_has_every_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = DataPlane(Policy.parse(POLICY))
    capture = tmp_path / "capture.pcap"
    capture.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
    empty, counted = ffi.new("struct dp_counters *"), distinct()
    answers = iter([empty])
    monkeypatch.setattr(engine, "counters", lambda: next(answers, counted))
    told = engine.replay(capture).to_dict()
    assert set(all_numbers()) <= set(numbers_in(told))


def test_what_a_flood_does_is_counted(tmp_path: Path) -> None:
    """SPEC 4.9, 4.3: a full table, by kind, and time that runs backwards."""
    engine = DataPlane(Policy.parse(POLICY))
    for n in range(6):
        body = datagram(f"192.0.2.{n}", "10.0.0.1", 17, (4000, 53))
        frame = ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packet(f"192.0.2.{n}", "10.0.0.1", 17, body))
        engine.process(frame, time=100 - n)
    told = record(engine.counters())
    assert told["floods"]["udp"] == {"dropped_early": 2, "refused": 0, "refused_over_share": 0}
    assert (told["connections"]["early_drops"], told["time_backwards"]) == (2, 5)
    assert told["verdicts"]["allow"]["packets"] == told["states"]["new"]["packets"] == 6
