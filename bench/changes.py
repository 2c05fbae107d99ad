"""What a policy costs to read, compile and change, against its number of rules; in Python and C, no packet running.

.venv/bin/python bench/changes.py
"""

from __future__ import annotations

import itertools
import json
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
from dataplane.policy.write import document
from dataplane.store.sqlite import SqliteStore
from dataplane.verdict import Names

RULES, QUICK = (100, 1000, 10_000, 100_000), (100, 10_000, 100_000)
#: Changes of one rule that are timed together take so many seconds, or are one.
SECONDS = 0.3
#: Changes that are kept one by one.
CHANGES = 9
#: So many rules all over a document are others when it is read again.
SCATTERED, SCATTERED_QUICK = (1, 10, 100, 1000), (10, 1000)


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


def prepared(loaded: Policy) -> tuple[float, float]:
    """Milliseconds that a live firewall takes for what changes go on from, and those of its first change then."""
    plane, changes = Plane(loaded, seed=1), changes_of(loaded.n_rules - 2)
    ahead, _ = timed(plane.prepare)
    first, _ = timed(lambda: plane.apply(next(changes)))
    return ahead * 1e3, first * 1e3


def read_again(plane: Plane, scattered: int) -> Iterator[tuple[str, float]]:
    """Milliseconds of each part of a reload of a document in which so many rules all over it are others."""
    before = plane.policy
    written = document(before)
    rules = [rule for rule in written["security_groups"][0]["security_group_rules"] if "multiport" in rule]
    for place in range(scattered):
        rules[place * len(rules) // scattered]["multiport"] = str(20_000 + (place + scattered) % 10_000)
    text = json.dumps(written)
    seconds, read = timed(lambda: Policy.parse(text))
    yield "read and checked", seconds * 1e3
    seconds, policy = timed(lambda: plane.changed({"apply_policy": read}))
    yield "compared", seconds * 1e3
    seconds, _ = timed(lambda: plane.replace(policy))
    yield "in force", seconds * 1e3


def together(plane: Plane, scattered: int, changes: Iterator[dict[str, Any]]) -> tuple[float, float]:
    """Milliseconds that so many changes of one rule take to be made, and to be in force, as one."""
    batch = [next(changes) for _ in range(scattered)]
    made, policy = timed(lambda: plane.changed(*batch))
    seconds, _ = timed(lambda: plane.replace(policy))
    return made * 1e3, seconds * 1e3


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
    """Rows by rules: reading, compiling, a change of one rule in force, the size of the table, and many changes.

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
            ahead, first = prepared(Policy.load(file))
            add("what a live firewall makes before its first change", "ms", n, ahead)
            add("the first change of one rule of a live firewall, until it is in force", "ms", n, first)
            loaded = Policy.load(policy_of_groups(n))
            _, later = in_force(loaded)
            add("one rule of groups of 100 changes, until it is in force", "ms", n, later)
            add("one rule of groups of 100 changes, until it is in a SQLite store", "ms", n, kept(loaded))
    most = max(rules or (QUICK if run.quick else RULES))
    return [
        Row(work, "dataplane", unit, values, at=at, along="rules")
        for (work, unit), places in found.items()
        for at, values in places.items()
    ] + scattered(run, most)


def scattered(run: Run, rules: int) -> list[Row]:
    """Rows by how many rules of one group are others, all over it, at the same time."""
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(run.rounds):
        plane, changes = Plane(Policy.load(policy(rules)), seed=1), changes_of(rules)
        plane.prepare()
        for n in (n for n in (SCATTERED_QUICK if run.quick else SCATTERED) if n <= rules // 2):
            for work, took in read_again(plane, n):
                found.setdefault((f"{rules:,} rules are read again, some are others: {work}", n), []).append(took)
            made, force = together(plane, n, changes)
            found.setdefault((f"changes of one rule of {rules:,}, as one: made", n), []).append(made)
            found.setdefault((f"changes of one rule of {rules:,}, as one: in force", n), []).append(force)
    return [Row(work, "dataplane", "ms", values, at=at, along="changes") for (work, at), values in found.items()]


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    quick: Annotated[bool, typer.Option(help="Fewer places.")] = False,
) -> None:
    """Prints the curves."""
    show("Changes", measure(Run(quick=quick, rounds=rounds)))


if __name__ == "__main__":
    typer.run(main)
