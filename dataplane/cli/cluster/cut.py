"""Captures that are cut by instance, so that several workers judge one connection table's worth of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from dataplane.cli.cluster.parted import are_large, judged_there, parts_there, say_whole
from dataplane.outputs import OutputError
from dataplane.policy.schedule import scheduled
from dataplane.replay.joining import JoinedReplay, PartCaptures
from dataplane.replay.outputs import Outputs
from dataplane.replay.parts import JudgedPart, judge_part, reason_of_policies

if TYPE_CHECKING:
    from dataplane.cli.cluster.workers import Workers
    from dataplane.cli.interrupt import Interrupt
    from dataplane.cli.replayed import Asked
    from dataplane.replay import Summary
    from dataplane.replay.expectations import Expectations


class Cut:
    """How captures are judged in parts: those that are larger than `above` MiB, together, where it can be exact."""

    def __init__(
        self, workers: Workers, asked: Asked, expectations: Expectations | None, interrupt: Interrupt, above: float
    ) -> None:
        self._workers = workers
        self._asked = asked
        self._interrupt = interrupt
        self._above = above
        policies = [asked.policy, *(later for _, later in scheduled(asked.policy, asked.changes))]
        self._reason = reason_of_policies(policies, at=asked.at)
        if expectations:
            self._reason = "expectations are held against all packets"
        for option, name in asked.outputs.items():
            if name and option not in _CUT:
                self._reason = f"--{option} is written of all packets together"

    def is_large(self, captures: Sequence[str]) -> bool:
        """Whether captures are worth being cut."""
        return are_large(captures, self._above)

    def replayed(self, captures: Sequence[str], outputs: Mapping[str, str | None]) -> Summary | None:
        """Has captures judged in parts; None, and nothing is written, where they have to be judged as a whole, or where
        Ctrl-C came.

        Raises as `replayed`.
        """
        started = time.perf_counter()
        reason, part_of, asked = self._reason, None, self._asked
        if not reason:
            part_of, reason = parts_there(self._workers, asked.policy, captures, asked.part, self._interrupt)
        if part_of:
            parts = judged_there(self._workers, _part, (asked, list(captures)), part_of, self._interrupt)
            if parts is None:
                return None
            joined = JoinedReplay(asked.policy, parts, asked.changes)
            reason = joined.inexact
            if not reason:
                return self._joined(joined, parts, captures, outputs, started)
        say_whole(captures, reason)
        return None

    def _joined(
        self,
        joined: JoinedReplay,
        parts: Sequence[JudgedPart],
        captures: Sequence[str],
        names: Mapping[str, str | None],
        started: float,
    ) -> Summary | None:
        with ExitStack() as stack:
            outputs = Outputs(
                joined.plane,
                PartCaptures(captures, parts[0].interfaces),  # type: ignore[arg-type]
                verdicts=names["verdicts"],
                frames={},
                chosen=self._asked.chosen,
            )
            stack.callback(outputs.discard)

            def write(records: Any, flows: Any, seen: Any, n: int) -> None:
                if self._interrupt.status:
                    raise _InterruptedError
                if outputs:
                    outputs.write(records, flows, seen, n)

            try:
                summary = joined.run(write, elapsed=time.perf_counter() - started, top=self._asked.top)
                outputs.keep()
            except _InterruptedError:
                return None
            except OSError as error:
                raise OutputError(f"{error.filename}: {error.strerror}: the verdicts could not be written") from None
        return summary


class _InterruptedError(Exception):
    """Ctrl-C came while parts were joined."""


#: What can be written of captures that are cut.
_CUT = ("verdicts",)


def _part(shared: tuple[tuple[Asked, Sequence[str]], Sequence[int]], mine: int) -> JudgedPart:
    (asked, captures), part_of = shared
    whole = asked.outputs["verdicts"] is not None
    return judge_part(asked.policy, captures, asked.changes, asked.part, part_of, mine, whole=whole)
