"""The page with plots, made from results.json: curves on axes of logarithms, and a table of everything else.

    .venv/bin/python bench/page.py                      # bench/results.json to build/bench/page.html

It is built as the pages of `replay --report` are: one file that needs no network.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rows import short
from workloads import BENCH, BUILD

from dataplane.report.charts import Chart, series
from dataplane.report.page import ROWS, Card, Column, Page, Section, Table

#: What stands out at the top: a name, and the section, work, program and unit of the row whose median it is.
CARDS = (
    ("ns a packet, 1,000 connections", "engine", "mixed, later passes", "dataplane, batches of 32", "ns/packet"),
    ("ns a packet, 1M connections", "engine", "zipf, later passes", "dataplane, batches of 32", "ns/packet"),
    ("ns a new connection, 1,000 rules", "engine", "syn, first pass", "dataplane, batches of 32", "ns/packet"),
)
#: What is said of a section, by its name.
TOLD = {
    "startup": ["From the start of a process to its first byte of output, or its end."],
    "engine": [
        "Frames in memory, judged in batches; the first pass makes the connections. The floor reads, parses and keeps "
        "a plain table, without states, rules or a bound."
    ],
    "replay": ["Whole processes. The peers read the same file; none but NFStream keeps connections."],
    "scale": [
        "Packets are made beside the clock. Those of known connections are of any of them, each as likely as the next; "
        "new connections are judged by rules."
    ],
    "classifier": [
        "Sets of rules like those of ClassBench, in the fields that a security group's rule has. Both give the same "
        "answers; librte_acl is asked in bursts of 32, with vectors, a rule table packet by packet."
    ],
    "changes": ["From the document to tables, and from a change of one rule to its being in force, no packet running."],
    "pauses": [
        "A loop judges packets while another thread asks and changes the firewall, which has 1,000,000 connections of "
        "4,096 instances and 100,000 rules. What is done between two batches is bounded; the time between two batches "
        "also holds what else the machine did."
    ],
    "shards": ["A replay judged on one thread and on two, and two replays at once; not pinned."],
    "live": [
        "Two namespaces; whatever forwards runs on processor 0, who sends on processor 1, the kernel where the sender "
        "runs."
    ],
}
COLUMNS = (
    Column("work"),
    Column("program"),
    Column("median", "word"),
    Column("least to most", "word"),
    Column("× the first", "word"),
    Column("note"),
)
#: Of a plot without its legend.
_HEIGHT = 360

Row = dict[str, Any]


def _spread(row: Row) -> str:
    return f"{short(row['least'])} to {short(row['most'])}" if row["rounds"] > 1 else ""


def _table(caption: str, rows: Sequence[Row]) -> Table:
    first: dict[tuple[str, str], Row] = {}
    cells = []
    for row in rows:
        compared = first.setdefault((row["work"], row["unit"]), row)
        ratio = "" if compared is row or not compared["median"] else short(row["median"] / compared["median"])
        words = (row["work"], row["program"], f"{short(row['median'])} {row['unit']}", _spread(row), ratio)
        cells.append((*words, row.get("note", "")))
    return Table(caption, COLUMNS, cells)


def _tables(title: str, rows: Sequence[Row]) -> list[Table]:
    """Tables of whole works, none longer than one that is shown."""
    works: dict[str, list[Row]] = {}
    for row in rows:
        works.setdefault(row["work"], []).append(row)
    tables: list[list[Row]] = []
    for each in works.values():
        if not tables or len(tables[-1]) + len(each) > ROWS:
            tables.append([])
        tables[-1] += each
    return [_table(title if number == 0 else f"{title}, on", part) for number, part in enumerate(tables)]


def _chart(section: str, number: int, along: str, unit: str, rows: Sequence[Row]) -> Chart:
    """One plot: a line for each work and program, with least and most at each place."""
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        lines.setdefault((row["work"], row["program"]), []).append(row)
    alone = len({program for _, program in lines}) == 1
    traces = []
    for position, ((work, program), places) in enumerate(lines.items()):
        middle = [row["median"] for row in places]
        above = [row["most"] - row["median"] for row in places]
        below = [row["median"] - row["least"] for row in places]
        trace = {"type": "scatter", "mode": "lines+markers", "name": work if alone else f"{work}: {program}"}
        trace |= {"x": [row["at"] for row in places], "y": middle, "line": {"color": series(position), "width": 2}}
        spread = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1, "width": 3}
        traces.append(trace | {"error_y": spread | {"color": series(position)}})
    layout = {
        "xaxis": _axis(along, [row["at"] for row in rows], (1,)),
        "yaxis": _axis(unit, [row[bound] for row in rows for bound in ("least", "most")], (1, 2, 5)),
        "showlegend": len(traces) > 1,
        "height": _HEIGHT + 22 * len(traces),
    }
    told = "Both axes are logarithmic; bars reach from the least to the most that was measured."
    return Chart(f"{section}-{number}", f"{unit} against {along}", told, {"data": traces, "layout": layout})


def _axis(title: str, values: Sequence[float], steps: Sequence[int]) -> dict[str, Any]:
    """An axis of logarithms that reaches beyond the values, with a mark at each step of a power of ten."""
    # On both sides by a tenth.
    low, high = math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.1
    marks = [step * 10**power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    words = [f"{mark:,.0f}" if mark >= 1 else f"{mark:g}" for mark in marks]
    ticks = {"tickmode": "array", "tickvals": marks, "ticktext": words}
    return {"type": "log", "range": [low, high], "title": {"text": title}} | ticks


def _charts(section: str, rows: Iterable[Row]) -> list[Chart]:
    plots: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        plots.setdefault((row["along"], row["unit"]), []).append(row)
    return [_chart(section, n, along, unit, each) for n, ((along, unit), each) in enumerate(plots.items(), 1)]


def _section(name: str, found: dict[str, Any]) -> Section:
    told = [*TOLD.get(name, ())]
    told.append(
        f"Taken {found['taken']} UTC at {found['revision']}, in {found['rounds']} round{'s' * (found['rounds'] > 1)}"
        f"{', quick' if found['quick'] else ''}, load {found['load']} at its end."
    )
    told += [f"Left out: {sentence}." for sentence in found["skipped"]]
    curves = [row for row in found["rows"] if "at" in row]
    others = [row for row in found["rows"] if "at" not in row]
    return Section(name, found["title"], told, _charts(name, curves), _tables(found["title"], others))


def _cards(sections: dict[str, Any]) -> list[Card]:
    cards = []
    for name, section, *wanted in CARDS:
        for row in sections.get(section, {"rows": []})["rows"]:
            if [row["work"], row["program"], row["unit"]] == wanted:
                cards.append(Card(name, short(row["median"])))
    return cards


def _facts(machine: dict[str, Any]) -> list[tuple[str, str]]:
    peers = [f"{name} {version}" for name, version in machine["peers"].items() if version]
    facts = {
        "Processor": f"{machine['cpu']}, {machine['cores']} cores",
        "Memory": f"{machine['memory_gb']} GB",
        "Kernel": machine["kernel"],
        "Compiler": machine["compiler"],
        "Python": machine["python"],
        "Peers": ", ".join(peers),
    }
    return [(name, str(value)) for name, value in facts.items()]


def write(results: dict[str, Any], target: Path) -> None:
    """The page of a results.json."""
    sections = results["sections"]
    page = Page(
        "Benchmarks of dataplane",
        _facts(results["machine"]),
        _cards(sections),
        [_section(name, found) for name, found in sections.items()],
        ["Times of different machines and hours do not compare: read the ratios of one section."],
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(page.html())


def main(
    results: Annotated[Path, typer.Option(help="What is read.")] = BENCH / "results.json",
    output: Annotated[Path, typer.Option(help="What is written.")] = BUILD / "page.html",
) -> None:
    """Builds the page."""
    write(json.loads(results.read_text()), output)
    print(output)


if __name__ == "__main__":
    typer.run(main)
