"""What a policy costs to read, compile and change, against its number of rules; in Python and C, no packet running.

.venv/bin/python bench/changes.py
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rows import Row, Run, show
from workloads import policy, policy_of_groups

from dataplane._core import lib
from dataplane.compiler import Compiler
from dataplane.plane import Plane
from dataplane.policy.changes import apply, parse_change
from dataplane.policy.model import Policy
from dataplane.store.sqlite import SqliteStore
from dataplane.verdict import Names

RULES, QUICK = (100, 1000, 10_000, 100_000), (100, 10_000, 100_000)
#: Changes of one rule that are timed together take so many seconds, or are one.
SECONDS = 0.3
#: Changes that are kept one by one.
CHANGES = 9


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    began = time.perf_counter()
    made = work()
    return time.perf_counter() - began, made


def changes_of(rules: int) -> Iterator[dict[str, Any]]:
    """Changes of one rule to other ports, of rules all over the policy, one after the other."""
    ids = (f"m{n * 7919 % (rules - 2)}" for n in itertools.count())
    for rule, port in zip(ids, itertools.cycle(range(10_000, 11_000)), strict=False):
        yield {"update_rule": {"id": rule, "multiport": str(port)}}


def one_rule(plane: Plane, changes: Iterator[dict[str, Any]]) -> float:
    """Seconds from a change as a document to its being in force."""
    began, made = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < SECONDS or not made:
        plane.apply(next(changes))
        made += 1
    return took / made


def in_force(loaded: Policy) -> tuple[float, float]:
    """Milliseconds of the first change of one rule, which makes what later ones go on from, and of a later one."""
    plane, changes = Plane(loaded, seed=1), changes_of(loaded.n_rules - 2)
    first, _ = timed(lambda: plane.apply(next(changes)))
    return first * 1e3, one_rule(plane, changes) * 1e3


def kept(policy: Policy) -> float:
    """Milliseconds from a policy that has another rule to its being on the disk; the median of several."""
    took = []
    with tempfile.TemporaryDirectory() as folder, closing(SqliteStore(Path(folder) / "policy.db")) as store:
        for number in range(CHANGES + 1):
            seconds, _ = timed(partial(_keep, store, policy, float(number)))
            took.append(seconds * 1e3)
            policy = apply(
                policy, parse_change({"update_rule": {"id": "m7", "multiport": str(10_000 + number)}}, policy)
            )
    # The first one writes all of it.
    return statistics.median(took[1:])


def _keep(store: SqliteStore, policy: Policy, now: float) -> None:
    with store.keeping(policy, now):
        pass


def measure(run: Run, rules: Sequence[int] | None = None) -> list[Row]:
    """Rows by rules: reading, compiling, a change of one rule in force, and the size of the table.

    All rules are in one group, and for the last two rows in groups of 100.
    """
    os.sched_setaffinity(0, {run.cpu})
    found: dict[tuple[str, str], dict[int, list[float]]] = {}

    def add(work: str, unit: str, at: int, value: float) -> None:
        found.setdefault((work, unit), {}).setdefault(at, []).append(value)

    for _ in range(run.rounds):
        for n in rules or (QUICK if run.quick else RULES):
            file = policy(n)
            seconds, loaded = timed(lambda file=file: Policy.load(file))
            add("the document is read", "ms", n, seconds * 1e3)
            compiler = Compiler(Names())
            seconds, compiled = timed(lambda compiler=compiler, loaded=loaded: compiler.compile(loaded))
            add("all rules are compiled", "ms", n, seconds * 1e3)
            table = compiled[0][0].table[lib.DP_INGRESS][0]
            add("compiled table", "bytes/rule", n, lib.dp_rule_table_size(table) / n)
            first, later = in_force(loaded)
            add("the first change of one rule, until it is in force", "ms", n, first)
            add("one rule changes, until it is in force", "ms", n, later)
            loaded = Policy.load(policy_of_groups(n))
            _, later = in_force(loaded)
            add("one rule of groups of 100 changes, until it is in force", "ms", n, later)
            add("one rule of groups of 100 changes, until it is in a SQLite store", "ms", n, kept(loaded))
    return [
        Row(work, "dataplane", unit, values, at=at, along="rules")
        for (work, unit), places in found.items()
        for at, values in places.items()
    ]


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    quick: Annotated[bool, typer.Option(help="Fewer places.")] = False,
) -> None:
    """Prints the curves."""
    show("Changes", measure(Run(quick=quick, rounds=rounds)))


if __name__ == "__main__":
    typer.run(main)
