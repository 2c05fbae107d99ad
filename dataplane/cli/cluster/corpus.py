"""`dataplane replay --each --on`: every capture is a piece of work for a worker."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from dataplane.cli.cluster.cut import Cut
from dataplane.cli.cluster.replays import Judged, judged
from dataplane.cli.cluster.workers import Lost, Workers, size_of
from dataplane.cli.interrupt import Interrupt
from dataplane.cli.row import Row
from dataplane.replay import CaptureError

if TYPE_CHECKING:
    from dataplane.cli.joined import CaptureOutputs
    from dataplane.cli.replayed import Asked
    from dataplane.replay.expectations import Expectations


def rows_there(
    workers: Workers,
    asked: Asked,
    captures: Sequence[str],
    expectations: Expectations | None,
    interrupt: Interrupt,
    outputs: CaptureOutputs,
    above: float,
) -> Iterator[tuple[int, Row]]:
    """The rows of captures that workers judge, as they are done."""
    cut = Cut(workers, asked, expectations, interrupt, above)
    shared = workers.shared((asked, expectations))
    sizes = [size_of(capture) for capture in captures]
    large = {position for position, capture in enumerate(captures) if cut.is_large([capture])}
    for together in _together(len(captures), large, in_order=outputs.ordered):
        if together[0] in large:
            capture = captures[together[0]]
            with outputs.of(capture) as names:
                try:
                    summary = cut.replayed([capture], names)
                except CaptureError as error:
                    yield together[0], Row(capture, None, error.strerror, [str(error)])
                    continue
            if summary is not None:
                yield together[0], Row.of(capture, summary, ())
                continue
            if interrupt.status:
                return
        pieces = [[captures[position]] for position in together]
        done = workers.done(
            judged,
            shared,
            pieces,
            interrupt,
            in_order=outputs.ordered,
            sizes=[sizes[position] for position in together],
        )
        for piece, outcome in done:
            yield together[piece], _row(captures[together[piece]], outcome, outputs)
        if interrupt.status:
            return


def _together(captures: int, large: Collection[int], *, in_order: bool) -> Iterator[list[int]]:
    """Positions that are handed out together: a large capture is all workers', one after the other."""
    if not in_order:
        yield from ([position] for position in sorted(large))
    held: list[int] = []
    for position in range(captures):
        if position not in large:
            held.append(position)
        elif in_order:
            if held:
                yield held
            yield [position]
            held = []
    if held:
        yield held


def _row(capture: str, outcome: Judged | Lost, outputs: CaptureOutputs) -> Row:
    if isinstance(outcome, Lost):
        return Row(capture, None, outcome.words, [f"{capture}: {outcome.words}"])
    if outcome.summary is None:
        error = outcome.error
        assert error is not None
        return Row(capture, None, error.strerror, [str(error)])
    with outcome.written() as files:
        outputs.put(capture, files)
    return Row.of(capture, outcome.summary, outcome.failures)
