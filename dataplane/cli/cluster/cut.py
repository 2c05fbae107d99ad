"""Captures that are cut by instance, so that several workers judge one connection table's worth of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from dataplane.cli.cluster.workers import Lost, Workers, size_of
from dataplane.cli.output import say_aside
from dataplane.outputs import OutputError
from dataplane.policy.schedule import scheduled
from dataplane.replay.joining import JoinedReplay, PartCaptures
from dataplane.replay.outputs import Outputs
from dataplane.replay.parts import Census, JudgedPart, census, judge_part, reason_of_policies

if TYPE_CHECKING:
    from dataplane.cli.interrupt import Interrupt
    from dataplane.cli.replayed import Asked
    from dataplane.replay import Summary
    from dataplane.replay.expectations import Expectations

_MIB = 1 << 20


class Cut:
    """How captures are judged in parts: those that are larger than `above` MiB, together, where it can be exact."""

    def __init__(
        self, workers: Workers, asked: Asked, expectations: Expectations | None, interrupt: Interrupt, above: float
    ) -> None:
        self._workers = workers
        self._asked = asked
        self._interrupt = interrupt
        self._above = above * _MIB
        policies = [asked.policy, *(later for _, later in scheduled(asked.policy, asked.changes))]
        self._reason = reason_of_policies(policies, at=asked.at)
        if expectations:
            self._reason = "expectations are held against all packets"
        for option, name in asked.outputs.items():
            if name and option not in _CUT:
                self._reason = f"--{option} is written of all packets together"

    def is_large(self, captures: Sequence[str]) -> bool:
        """Whether captures are worth being cut."""
        return sum(map(size_of, captures)) > self._above

    def replayed(self, captures: Sequence[str], outputs: Mapping[str, str | None]) -> Summary | None:
        """Has captures judged in parts; None, and nothing is written, where they have to be judged as a whole.

        Raises as `replayed`.
        """
        started = time.perf_counter()
        reason = self._reason
        if not reason:
            found = self._one(_census, list(captures))
            if found is None:
                return None
            reason = found.reason or ("all instances meet" if len(found.groups) < 2 else None)
            part_of = found.parts(self._workers.n)
            if part_of:
                parts = self._judged(captures, part_of)
                if parts is None:
                    return None
                joined = JoinedReplay(self._asked.policy, parts, self._asked.changes)
                reason = joined.inexact
                if not reason:
                    return self._joined(joined, parts, captures, outputs, started)
        if reason:
            say_aside(f"{', '.join(captures)}: judged by one worker: {reason}")
        return None

    def _one(self, work: Any, item: Any) -> Census | None:
        for _, outcome in self._workers.done(
            work, self._workers.shared(self._asked), [item], self._interrupt, in_order=True
        ):
            # Whoever judges the whole says what is wrong with it.
            return None if isinstance(outcome, Lost) else outcome
        return None

    def _judged(self, captures: Sequence[str], part_of: Sequence[int]) -> list[JudgedPart] | None:
        shared = self._workers.shared((self._asked, list(captures), part_of))
        mine = range(max(part_of) + 1)
        parts = dict(self._workers.done(_part, shared, mine, self._interrupt, in_order=True))
        if len(parts) < len(mine) or any(isinstance(part, Lost) for part in parts.values()):
            return None
        return [parts[n] for n in mine]

    def _joined(
        self,
        joined: JoinedReplay,
        parts: Sequence[JudgedPart],
        captures: Sequence[str],
        names: Mapping[str, str | None],
        started: float,
    ) -> Summary:
        with ExitStack() as stack:
            outputs = Outputs(
                joined.plane,
                PartCaptures(captures, parts[0].interfaces),  # type: ignore[arg-type]
                verdicts=names["verdicts"],
                frames={},
                chosen=self._asked.chosen,
            )
            stack.callback(outputs.discard)
            try:
                summary = joined.run(
                    outputs.write if outputs else None, elapsed=time.perf_counter() - started, top=self._asked.top
                )
                outputs.keep()
            except OSError as error:
                raise OutputError(f"{error.filename}: {error.strerror}: the verdicts could not be written") from None
        return summary


#: What can be written of captures that are cut.
_CUT = ("verdicts",)


def _census(asked: Asked, captures: Sequence[str]) -> Census:
    return census(asked.policy, captures, asked.part)


def _part(shared: tuple[Asked, Sequence[str], Sequence[int]], mine: int) -> JudgedPart:
    asked, captures, part_of = shared
    whole = asked.outputs["verdicts"] is not None
    return judge_part(asked.policy, captures, asked.changes, asked.part, part_of, mine, whole=whole)
