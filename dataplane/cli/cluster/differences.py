"""`dataplane diff --on`: two policies compared by workers; captures that are large are cut by instance."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import typer

from dataplane.cli.cluster.parted import are_large, judged_there, parts_there, say_whole
from dataplane.cli.cluster.workers import Lost, Workers, refuse_what_passes_once, size_of
from dataplane.cli.compared import AskedDifference, compared
from dataplane.cli.inputs import EXIT_CAPTURE
from dataplane.cli.interrupt import Interrupt
from dataplane.cli.output import refuse
from dataplane.insight.diff import Difference
from dataplane.insight.diff_parts import ComparedPart, compare_part, inexact_difference, joined_difference
from dataplane.policy.schedule import scheduled
from dataplane.replay.parts import reason_of_policies


def compared_there(stack: ExitStack, on: str, asked: AskedDifference, above: float) -> tuple[Difference, bytes | None]:
    """The differences, and the page about them where it is wanted; cut above so many MiB. Raises as `compared`."""
    refuse_what_passes_once(asked.paths)
    interrupt = Interrupt()
    workers = Workers(stack, on, interrupt)
    if are_large(asked.paths, above):
        found = _in_parts(workers, asked, interrupt)
        if found is not None:
            return found, None
        if interrupt.status:
            raise typer.Exit(interrupt.status)
    sizes = [sum(map(size_of, asked.paths))]
    outcomes = workers.done(_compared, workers.shared(asked), [None], interrupt, in_order=True, sizes=sizes)
    for _, outcome in outcomes:
        if isinstance(outcome, Lost):
            refuse(f"{', '.join(asked.paths)}: {outcome.words}", EXIT_CAPTURE)
        whole: tuple[Difference, bytes | None] = outcome
        return whole
    raise typer.Exit(interrupt.status)


def _compared(asked: AskedDifference, _item: None) -> tuple[Difference, bytes | None]:
    return compared(asked)


def _in_parts(workers: Workers, asked: AskedDifference, interrupt: Interrupt) -> Difference | None:
    """The differences as parts say them; None where they have to be told of the whole."""
    policies = [asked.old, asked.new]
    for policy in (asked.old, asked.new):
        policies += [later for _, later in scheduled(policy, asked.changes)]
    reason, part_of = reason_of_policies(policies, at=asked.at), None
    if asked.explained_by is not None:
        reason = "--report is written of all packets together"
    if not reason:
        part_of, reason = parts_there(workers, asked.old, asked.paths, asked.part, interrupt)
    if part_of:
        parts = judged_there(workers, _compared_part, asked, part_of, interrupt)
        if parts is None:
            return None
        reason = inexact_difference(parts)
        if not reason:
            return joined_difference(asked.old, asked.new, asked.changes, parts)
    say_whole(asked.paths, reason)
    return None


def _compared_part(shared: tuple[AskedDifference, Sequence[int]], mine: int) -> ComparedPart:
    asked, part_of = shared
    return compare_part(asked.old, asked.new, asked.paths, asked.changes, asked.part, part_of, mine)
