"""The Grafana dashboard asks for metrics that there are, with labels that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dataplane._core import ffi
from dataplane.live.metrics import FirewallCollector
from dataplane.live.operations import Operations

from .scene import filled
from .served import NoPorts, service_of

DASHBOARD = json.loads((Path(__file__).parents[3] / "grafana" / "dataplane.json").read_text())
METRIC = re.compile(r"\b(dataplane_\w+)(?:\{([^}]*)\})?")

#: What Prometheus adds to all metrics, and how it renames what is in its way.
ADDED = {"instance": "exported_instance"}


def expressions(part: Any = DASHBOARD) -> Iterator[str]:
    """Every query in the dashboard."""
    if isinstance(part, dict):
        yield from (part[key] for key in ("expr", "definition") if key in part)
        for value in part.values():
            yield from expressions(value)
    elif isinstance(part, list):
        for value in part:
            yield from expressions(value)


def labels_by_metric(tmp_path: Path) -> dict[str, set[str]]:
    """The labels of each sample that a scrape brings, by its name."""
    firewall = filled()
    ports: object = NoPorts()
    operations = Operations(firewall, ports)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as control:
        found: dict[str, set[str]] = {}
        for family in FirewallCollector(operations, service_of(operations, control), control).collect():
            names = getattr(family, "_labelnames", ())
            ends = {"counter": ("_total",), "histogram": ("_bucket", "_count")}.get(family.type, ("",))
            for end in ends:
                labels = {*names, "le"} if end == "_bucket" else set(names)
                found[family.name + end] = {ADDED.get(label, label) for label in labels} | ADDED.keys()
    return found


def test_every_query_asks_for_what_there_is(tmp_path: Path) -> None:
    known = labels_by_metric(tmp_path)
    queries = list(expressions())
    assert len(queries) > 15
    for query in queries:
        asked = METRIC.findall(query)
        assert asked, query
        for name, selectors in asked:
            assert name in known, query
            assert set(re.findall(r"(\w+)\s*[=!]", selectors)) <= known[name], query
        grouped = re.search(r"by \(([\w, ]+)\)", query)
        if grouped:
            assert set(grouped[1].split(", ")) <= known[asked[0][0]], query


def test_every_fate_of_a_connection_has_a_series() -> None:
    """Those that C counts: a new one is not forgotten."""
    fates = {name for name, _ in ffi.typeof("struct dp_counters").fields if name.startswith("connections_")}
    asked = {name for query in expressions() for name, _ in METRIC.findall(query)}
    assert len(fates) >= 5
    assert {f"dataplane_{name}_total" for name in fates} <= asked


def test_panels_lie_side_by_side() -> None:
    """Each has a title, a text that explains it, and a place of its own."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"]
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
