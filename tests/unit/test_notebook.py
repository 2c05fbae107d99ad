"""What Python and notebooks show of results: `repr` and `_repr_html_`; verdict records as a table."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dataplane import DataPlane, Policy
from tests.property.frames import ethernet, packet, tcp

ROOT = Path(__file__).parents[2]
POLICY = """
security_groups:
  - {id: "<b>sg", security_group_rules: [{id: A01, direction: ingress, protocol: tcp, multiport: "22"}]}
instances: [{id: a, addresses: [10.0.0.1], security_groups: ["<b>sg"]}]
"""


@pytest.fixture
def plane() -> DataPlane:
    return DataPlane(Policy.parse(POLICY))


def syn(port: int) -> bytes:
    segment = tcp("10.0.0.9", "10.0.0.1", (40000, port), 2, 1, 0)
    return ethernet("02:00:00:00:00:09", "02:00:00:00:00:05", packet("10.0.0.9", "10.0.0.1", 6, segment))


class Cells(HTMLParser):
    """The cells of tables, and which tags there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag in ("td", "th", "caption"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


_TAGS = {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}


def test_a_verdict_says_what_was_met(plane: DataPlane) -> None:
    allowed, denied = plane.process(syn(22), time=0), plane.process(syn(23), time=1)
    assert repr(allowed) == ("<Verdict allow rule; ingress a: allow new rule rule=A01 group=<b>sg connection=inbound>")
    assert repr(denied) == "<Verdict deny no-rule-matched; ingress a: deny new no-rule-matched>"
    shown = Cells(allowed._repr_html_())
    assert shown.cells[0] == "allow rule"
    assert {"a", "ingress", "A01", "<b>sg"} <= set(shown.cells)
    assert shown.tags <= _TAGS


def test_connections_say_who_with_whom(plane: DataPlane) -> None:
    plane.process(syn(22), time=0)
    (connection,) = plane.connections
    assert repr(connection) == ("<Connection a inbound tcp 10.0.0.9:40000 > 10.0.0.1:22 SYN_SENT rule=A01 group=<b>sg>")
    assert repr(plane.connections) == "<Connections: 1 live>"
    for shown in (Cells(connection._repr_html_()), Cells(plane.connections._repr_html_())):
        assert {"inbound", "10.0.0.9", "40000", "22", "<b>sg"} <= set(shown.cells)
        assert shown.tags <= _TAGS


def test_a_summary_says_what_became_of_the_packets(plane: DataPlane) -> None:
    summary = plane.replay(ROOT / "pcaps/icmp-30s.pcap")
    packets = summary.packets
    assert re.fullmatch(
        rf"<Summary of {packets} packets: 0 deny, 0 allow, {packets} bypass; 0 connections>", repr(summary)
    )
    shown = Cells(summary._repr_html_())
    assert shown.cells[:5] == ["Packets", "verdict", "packets", "bytes", "deny"]
    assert shown.tags <= _TAGS
    assert "No packet is from or to an instance" in summary._repr_html_()


# ---- tables ----


def _queries() -> dict[str, str]:
    """The queries of the page, by the package that they are for."""
    page = (ROOT / "docs/replay.md").read_text()
    section = page.partition("## Records as a table")[2].partition("\n## ")[0]
    return {code.split()[1]: code for code in re.findall(r"```python\n(import \w+.*?)```", section, re.DOTALL)}


def test_records_are_a_table(tmp_path: Path) -> None:
    """A row for each check, as in Parquet; the summary is in the metadata."""
    pytest.importorskip("pyarrow")
    policy, capture = ROOT / "examples/icmp-30s/policy.yaml", ROOT / "pcaps/icmp-30s.pcap"
    table: Any = DataPlane(Policy.load(policy)).replay(capture, verdicts="arrow")
    lines = tmp_path / "v.jsonl"
    summary = DataPlane(Policy.load(policy)).replay(capture, verdicts=lines)
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    checks = [
        (record["packet"], check["reason"]) for record in written for check in record["checks"] or [{"reason": None}]
    ]
    assert list(zip(table["packet"].to_pylist(), table["reason"].to_pylist(), strict=True)) == checks
    told = json.loads(table.schema.metadata[b"summary"])
    assert told["packets"] == summary.packets
    assert told["verdicts"]["allow"]["packets"] == summary.verdicts["allow"].packets


def test_without_pyarrow_the_message_says_what_to_install(plane: DataPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "dataplane.replay.parquet", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"tables and Parquet files need pyarrow: .*pip install .*parquet"):
        plane.replay(ROOT / "pcaps/icmp-30s.pcap", verdicts="arrow")


@pytest.mark.parametrize("package", ["pandas", "polars", "duckdb"])
def test_the_queries_of_the_page_run(package: str) -> None:
    """Each counts the denied packets by source and port, where the package is there."""
    pytest.importorskip(package)
    table: Any = DataPlane(Policy.load(ROOT / "examples/figure-1/policy.yaml")).replay(
        ROOT / "pcaps/figure-1.pcap", verdicts="arrow"
    )
    names = {"records": table}
    exec(compile(_queries()[package], package, "exec"), names)
    found: Any = names["denied"]
    rows = found.fetchall() if package == "duckdb" else found.to_numpy().tolist()
    denied = [row for row in table.to_pylist() if row["check_verdict"] == "deny"]
    assert sum(row[-1] for row in rows) == len(denied) > 0
