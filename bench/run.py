"""All benchmarks in one run, written to bench/results.json; a page with plots is made from it.

    make bench
    make bench BENCH="--quick"                  # in less than six minutes
    make bench BENCH="--only engine --only scale"

Each section measures the project and its peers in turn. A section that is left out keeps what results.json had of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import changes
import classifier
import engine
import live
import machine
import page
import pauses
import replay
import scale
import shards
import startup
import typer
from rows import CONSOLE, Row, Run, show, stop
from workloads import BENCH, BUILD, ROOT


def _live(run: Run) -> list[Row]:
    """A quick run has one round of them: setting up and taking down the sides takes most of the time."""
    return live.measure(replace(run, rounds=1), seconds=1) if run.quick else live.measure(run)


#: What is run, in order: the title of a section and what measures it.
SECTIONS: dict[str, tuple[str, Callable[[Run], list[Row]]]] = {
    "startup": ("Start", startup.measure),
    "engine": ("Engine alone", engine.measure),
    "replay": ("Whole processes", replay.measure),
    "scale": ("Scale", scale.measure),
    "classifier": ("Rule tables", classifier.measure),
    "changes": ("Changes", changes.measure),
    "pauses": ("Pauses", pauses.measure),
    "shards": ("Two shards", shards.measure),
    "live": ("Live traffic", _live),
}


def _revision() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def _section(name: str, run: Run) -> dict[str, Any]:
    """Measures one section and shows it."""
    title, measure = SECTIONS[name]
    began, before = time.monotonic(), len(run.skipped)
    rows = measure(run)
    if rows:
        show(title, rows)
    seconds = round(time.monotonic() - began)
    CONSOLE.print(f"{title}: {seconds} s", style="dim")
    return {
        "title": title,
        "taken": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "revision": _revision(),
        "quick": run.quick,
        "rounds": run.rounds,
        "load": round(os.getloadavg()[0], 1),
        "skipped": run.skipped[before:],
        "rows": [row.as_json() for row in rows],
    }


def main(
    quick: Annotated[bool, typer.Option(help="Fewer rounds and places on curves: less than six minutes.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="5, or 3 with --quick, if left out.")] = None,
    only: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(SECTIONS)}.")] = None,
    cpu: Annotated[int | None, typer.Option(help="The processor to run on; the last by default.")] = None,
    results: Annotated[Path, typer.Option(help="The file that is written.")] = BENCH / "results.json",
) -> None:
    """Runs the sections, shows them, and writes results and page."""
    if unknown := [name for name in only or () if name not in SECTIONS]:
        stop(f"There is no section {unknown[0]}; there are {', '.join(SECTIONS)}.")
    run = Run(quick=quick, rounds=rounds or (3 if quick else 5), **({} if cpu is None else {"cpu": cpu}))
    kept = json.loads(results.read_text()) if results.exists() else {}
    description = machine.description()
    if kept.get("machine") != description:
        # Figures of different machines do not belong together.
        kept = {}
    sections = kept.get("sections", {})
    for name in only or SECTIONS:
        affinity = os.sched_getaffinity(0)
        try:
            sections[name] = _section(name, run)
        finally:
            os.sched_setaffinity(0, affinity)
        document = {"machine": description, "sections": {n: sections[n] for n in SECTIONS if n in sections}}
        results.write_text(json.dumps(document, indent=1) + "\n")
    target = BUILD / "page.html"
    page.write(json.loads(results.read_text()), target)
    CONSOLE.print(f"{results} and {target} are written.", highlight=False)
    for sentence in run.skipped:
        print(f"skipped: {sentence}", file=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
