"""`dataplane test --on`: every case is a piece of work for a worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import typer

from dataplane.cli.cluster.workers import Lost, Workers
from dataplane.insight.cases import BrokenCase, Case
from dataplane.insight.suite import Result, run_case


def results_there(workers: Workers, cases: Iterable[Case | BrokenCase]) -> Iterator[Result]:
    """What comes of cases that workers run, in their order."""
    listed, interrupt = list(cases), workers.interrupt
    for position, outcome in workers.done(_run, workers.shared(None), listed, interrupt, in_order=True):
        if isinstance(outcome, Lost):
            yield Result(listed[position].name, "error", outcome.words, 3, 0.0)
        else:
            yield outcome
    if interrupt.status:
        raise typer.Exit(interrupt.status)


def _run(_shared: None, case: Case | BrokenCase) -> Result:
    return run_case(case)
