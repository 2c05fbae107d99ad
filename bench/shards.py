"""What judging a replay on two threads wins, beside what the machine gives to two replays at once.

    .venv/bin/python bench/shards.py --rounds 5

Whole processes are timed from end to end without the start, which is that of a replay of a hundred packets under the
same policy; those of short captures are not, as the start is most of them. Then the same capture is replayed again and
again in one process, through a plane that knows its connections by now. Not pinned: two shards need two processors, and
a machine that other programs use says nothing here, but where the run goes before them (`chrt -f 5`, as root).
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

from dataplane.plane import Plane
from dataplane.policy.model import Policy
from dataplane.replay import Captures, Replay

WORKLOADS = ("zipf", "syn", "mixed")
#: Captures so long that the start is not most of the time.
LONG = ("zipf", "syn")
JOBS = (1, 2)
#: Replays of a capture in one process, the first of which makes the connections.
PASSES = 4
_TIMES = "times as fast"


def seconds(name: str, jobs: int, packets: int | None = None, *, processes: int = 1) -> float:
    """Wall time of a replay, or of as many at once."""
    arguments = ["replay", str(policy(RULES[name])), str(capture(name, packets)), "--jobs", str(jobs), "--json"]
    began = time.perf_counter()
    started = [
        subprocess.Popen([sys.executable, "-m", "dataplane", *arguments], stdout=subprocess.DEVNULL)
        for _ in range(processes)
    ]
    for process in started:
        if process.wait():
            raise RuntimeError(f"{name}: the replay failed")
    return time.perf_counter() - began


def later_passes(name: str, jobs: int, packets: int | None = None) -> float:
    """Wall time of the quickest replay whose connections are known, in nanoseconds a packet."""
    plane, found = Plane(Policy.load(policy(RULES[name])), seed=1, shards=jobs), []
    for _ in range(PASSES):
        with Captures([str(capture(name, packets))]) as opened:
            summary = Replay(plane, opened).run()
        found.append(summary.elapsed / summary.packets * 1e9)
    return min(found[1:])


def measure(run: Run, packets: int | None = None) -> list[Row]:
    """Seconds and nanoseconds of one and of two jobs, and how much faster two are."""
    if len(os.sched_getaffinity(0)) < 2:
        run.skip("two shards", "there is one processor")
        return []
    rows = []
    for name in WORKLOADS:
        whole: dict[int, list[float]] = {jobs: [] for jobs in JOBS}
        later: dict[int, list[float]] = {jobs: [] for jobs in JOBS}
        given = []
        for _ in range(run.rounds):
            for jobs in JOBS:
                later[jobs].append(later_passes(name, jobs, packets))
                if name in LONG:
                    start = seconds(name, jobs, 100)
                    whole[jobs].append(seconds(name, jobs, packets) - start)
            if name in LONG:
                given.append(2 * whole[1][-1] / (seconds(name, 1, packets, processes=2) - seconds(name, 1, 100)))
        rows += _rows(name, "without the start", "s", whole) if name in LONG else []
        rows += _rows(name, "later passes", "ns/packet", later)
        if given:
            rows.append(Row(f"{name}, two replays at once beside one", "--jobs 1", _TIMES, given))
    return rows


def _rows(name: str, what: str, unit: str, found: dict[int, list[float]]) -> list[Row]:
    """What one and two jobs took, and how much faster two are."""
    times = [one / two for one, two in zip(*found.values(), strict=True)]
    return [
        *(Row(f"{name}, {what}", f"--jobs {jobs}", unit, values) for jobs, values in found.items()),
        Row(f"{name}, {what}, two shards beside one", "dataplane replay", _TIMES, times),
    ]


def main(rounds: Annotated[int, typer.Option(min=1)] = 5) -> None:
    """Prints the rows."""
    show("Two shards", measure(Run(rounds=rounds)))


if __name__ == "__main__":
    typer.run(main)
