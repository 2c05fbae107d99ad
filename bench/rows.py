"""What a benchmark found: rows of one shape for all of them, shown as a table and written down as JSON."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

CONSOLE = Console(width=140)


@dataclass(frozen=True)
class Row:
    """What `program` took for `work`, in `unit`: a value of each round.

    `at` is the place on a curve, of so many `along` (rules, connections, bytes), None for what is no curve; `note` says
    what people have to know about the row.
    """

    work: str
    program: str
    unit: str
    values: Sequence[float]
    at: float | None = None
    along: str = ""
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def as_json(self) -> dict[str, Any]:
        """Median and spread, to four digits."""
        found = {"median": self.median, "least": min(self.values), "most": max(self.values)}
        row: dict[str, Any] = {"work": self.work, "program": self.program, "unit": self.unit}
        row |= {"at": self.at, "along": self.along} if self.at is not None else {}
        row |= {name: float(f"{value:.4g}") for name, value in found.items()} | {"rounds": len(self.values)}
        return row | ({"note": self.note} if self.note else {})


@dataclass
class Run:
    """How a run of benchmarks is made: shorter, how often, on which processor; and what of it was left out, and why."""

    quick: bool = False
    rounds: int = 5
    cpu: int = field(default_factory=lambda: max(os.sched_getaffinity(0)))
    skipped: list[str] = field(default_factory=list)

    def skip(self, what: str, why: str) -> None:
        """Says aloud that something is left out."""
        self.skipped.append(f"{what}: {why}")
        CONSOLE.print(f"[bold yellow]SKIPPED[/] {what}: {why}", highlight=False)

    def pin(self) -> Callable[[], None]:
        """What a child process does first, so that it stays on the processor of the run."""
        return lambda: os.sched_setaffinity(0, {self.cpu})


def in_turn(rounds: int, sides: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """The values of each side, measured one after the other, again and again."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            found[name].append(measure())
    return found


def short(value: float) -> str:
    """Three digits, without an exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - int(f"{abs(value):e}".partition("e")[2]))
    return f"{value:,.{digits}f}"


def _groups(rows: Iterable[Row]) -> Iterator[tuple[Row, Row]]:
    """Each row with the first of its work, unit and place, which it is compared with."""
    first: dict[tuple[str, str, str, float | None], Row] = {}
    for row in rows:
        yield row, first.setdefault((row.work, row.unit, row.along, row.at), row)


def show(title: str, rows: Sequence[Row]) -> None:
    """Medians with least and most, and the ratio to the first row of the same work."""
    curve = any(row.at is not None for row in rows)
    table = Table(title=f"{title} (load {os.getloadavg()[0]:.1f})", title_justify="left")
    for name in (
        "work",
        *(["along", "at"] if curve else []),
        "program",
        "median",
        "least .. most",
        "ratio",
        "unit",
        "",
    ):
        table.add_column(name, justify="right" if name in ("at", "median", "least .. most", "ratio") else "left")
    before = None
    for row, first in _groups(rows):
        if before is not None and (row.work, row.along) != before:
            table.add_section()
        before = row.work, row.along
        ratio = f"{row.median / first.median:.2f}" if row is not first and first.median else ""
        at = [] if not curve else [row.along, "" if row.at is None else f"{row.at:,.0f}"]
        spread = f"{short(min(row.values))} .. {short(max(row.values))}" if len(row.values) > 1 else ""
        table.add_row(row.work, *at, row.program, short(row.median), spread, ratio, row.unit, row.note)
    CONSOLE.print(table)


def stop(sentence: str) -> None:
    """Ends the program with a sentence."""
    sys.exit(sentence)
