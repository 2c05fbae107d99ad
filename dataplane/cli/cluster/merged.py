"""`dataplane replay --on` of captures that are merged by time: all packets of one instance are one worker's."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

from dataplane.cli.cluster.cut import Cut
from dataplane.cli.cluster.replays import judged
from dataplane.cli.cluster.workers import Lost, Workers, size_of
from dataplane.cli.inputs import EXIT_CAPTURE
from dataplane.cli.joined import CaptureOutputs
from dataplane.cli.output import refuse

if TYPE_CHECKING:
    from dataplane.cli.interrupt import Interrupt
    from dataplane.cli.replayed import Asked
    from dataplane.replay import Summary
    from dataplane.replay.expectations import Expectations, Failure


def replayed_there(
    workers: Workers,
    asked: Asked,
    captures: Sequence[str],
    expectations: Expectations | None,
    interrupt: Interrupt,
    above: float,
) -> tuple[Summary, Sequence[Failure]]:
    """Has captures replayed through one table; ends the command where that is given up. Raises as `replayed`."""
    cut = Cut(workers, asked, expectations, interrupt, above)
    if cut.is_large(captures):
        summary = cut.replayed(captures, asked.outputs)
        if summary is not None:
            return summary, ()
        if interrupt.status:
            raise typer.Exit(interrupt.status)
    together = ", ".join(captures)
    shared = workers.shared((asked, expectations))
    sizes = [sum(map(size_of, captures))]
    for _, outcome in workers.done(judged, shared, [captures], interrupt, in_order=True, sizes=sizes):
        if isinstance(outcome, Lost):
            refuse(f"{together}: {outcome.words}", EXIT_CAPTURE)
        if outcome.summary is None:
            raise outcome.error
        with ExitStack() as stack, outcome.written() as files:
            CaptureOutputs(stack, {}, {together: asked.outputs}).put(together, files)
        return outcome.summary, outcome.failures
    raise typer.Exit(interrupt.status)
