"""What judging a replay on two threads wins: the time from end to end without the start, for one and two jobs.

    .venv/bin/python bench/shards.py --rounds 5

Not pinned: two shards need two processors, and a machine that other programs use says nothing here. The start is that
of a replay of a hundred packets under the same policy.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Annotated

import typer
from rows import Row, Run, show
from workloads import RULES, capture, policy

WORKLOADS = ("zipf", "syn")


def seconds(name: str, jobs: int, packets: int | None = None) -> float:
    """Wall time of a replay."""
    arguments = ["replay", str(policy(RULES[name])), str(capture(name, packets)), "--jobs", str(jobs), "--json"]
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "dataplane", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure(run: Run, packets: int | None = None) -> list[Row]:
    """Seconds of one and of two jobs, and how much faster two are."""
    if len(os.sched_getaffinity(0)) < 2:
        run.skip("two shards", "there is one processor")
        return []
    rows = []
    for name in WORKLOADS:
        found: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(run.rounds):
            for jobs, values in found.items():
                values.append(seconds(name, jobs, packets) - seconds(name, jobs, 100))
        rows += [Row(f"{name}, without the start", f"--jobs {jobs}", "s", values) for jobs, values in found.items()]
        won = [one / two for one, two in zip(*found.values(), strict=True)]
        rows.append(Row(f"{name}, two shards beside one", "dataplane replay", "times as fast", won))
    return rows


def main(rounds: Annotated[int, typer.Option(min=1)] = 5) -> None:
    """Prints the rows."""
    show("Two shards", measure(Run(rounds=rounds)))


if __name__ == "__main__":
    typer.run(main)
