"""`dataplane diff --on`: two policies compared by workers."""

from __future__ import annotations

from contextlib import ExitStack

import typer

from dataplane.cli.cluster.workers import Lost, Workers, refuse_what_passes_once, size_of
from dataplane.cli.compared import AskedDifference, compared
from dataplane.cli.inputs import EXIT_CAPTURE
from dataplane.cli.interrupt import Interrupt
from dataplane.cli.output import refuse
from dataplane.insight.diff import Difference


def compared_there(stack: ExitStack, on: str, asked: AskedDifference) -> tuple[Difference, bytes | None]:
    """The differences, and the page about them where it is wanted. Raises as `compared`."""
    refuse_what_passes_once(asked.paths)
    workers = Workers(stack, on)
    interrupt = Interrupt()
    sizes = [sum(map(size_of, asked.paths))]
    outcomes = workers.done(_compared, workers.shared(asked), [None], interrupt, in_order=True, sizes=sizes)
    for _, outcome in outcomes:
        if isinstance(outcome, Lost):
            refuse(f"{', '.join(asked.paths)}: {outcome.words}", EXIT_CAPTURE)
        found: tuple[Difference, bytes | None] = outcome
        return found
    raise typer.Exit(interrupt.status)


def _compared(asked: AskedDifference, _item: None) -> tuple[Difference, bytes | None]:
    return compared(asked)
