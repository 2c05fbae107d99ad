"""How long packets wait while the firewall is asked and changed, with many connections and rules (pauses.c).

    .venv/bin/python bench/pauses.py --connections 1000000 --rules 100000

One thread judges batches, the other one controls, each on a processor of its own where there are two.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from typing import Annotated

import typer
from rows import Row, Run, show, stop
from workloads import BENCH, BUILD, ROOT

CONNECTIONS, RULES = 1_000_000, 100_000


def program() -> str:
    """pauses.c, linked with the C part as it stands, optimised as in the extension."""
    build = [sys.executable, str(ROOT / "dataplane" / "_core" / "build.py"), "--output", str(BUILD)]
    done = subprocess.run([*build, str(BENCH / "pauses.c")], capture_output=True, text=True, check=False)
    if done.returncode:
        stop(done.stderr)
    return done.stdout.strip()


def measure(run: Run, connections: int = CONNECTIONS, rules: int = RULES) -> list[Row]:
    """Four rows an action: the longest work between two batches, the longest gap, how long it took, gaps over 100 µs.

    Beside the last stands how many the machine alone makes in that time.
    """
    control = min(os.sched_getaffinity(0))
    command = [program(), str(connections), str(rules), str(run.cpu), str(control)]
    found: dict[str, list[list[float]]] = {}
    for _ in range(run.rounds):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            stop(done.stderr)
        for line in done.stdout.splitlines():
            action, *values = line.split("\t")
            found.setdefault(action, []).append([float(value) for value in values])
    rows = []
    for place, what in (
        (1, "longest work between two batches"),
        (2, "longest time between two batches"),
        (0, "in all"),
    ):
        for action, rounds in found.items():
            if (place, action) != (1, "nothing"):
                rows.append(Row(what, action, "µs", [values[place] for values in rounds]))
    idle = sum(gaps for *_, gaps in found["nothing"]) / sum(took for took, *_ in found["nothing"])
    for action, rounds in found.items():
        expected = idle * statistics.median(took for took, *_ in rounds)
        note = "" if action == "nothing" else f"{expected:.1f} by the machine alone"
        rows.append(
            Row("times over 100 µs between two batches", action, "times", [row[-1] for row in rounds], note=note)
        )
    return rows


def main(
    connections: Annotated[int, typer.Option(min=1)] = CONNECTIONS,
    rules: Annotated[int, typer.Option(min=2)] = RULES,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    cpu: Annotated[int | None, typer.Option(help="Where packets are judged; the last processor by default.")] = None,
) -> None:
    """Prints the rows."""
    run = Run(rounds=rounds, **({} if cpu is None else {"cpu": cpu}))
    show(f"Pauses, {connections:,} connections, {rules:,} rules", measure(run, connections, rules))


if __name__ == "__main__":
    typer.run(main)
