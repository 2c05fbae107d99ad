"""Cases run (SPEC 8.6): each in a plane of its own, and what failed told with why (SPEC 8.3)."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from dataplane.insight import sentences
from dataplane.insight.cases import BrokenCase, Case
from dataplane.insight.explain import as_capture, explain
from dataplane.insight.replayed_packet import Replayed
from dataplane.plane import Plane
from dataplane.policy.mistakes import ChangeError, PolicyError
from dataplane.policy.schedule import scheduled
from dataplane.replay import CaptureError, Captures, Replay
from dataplane.replay.expectations import Expectations, Failure

#: Packets of one case whose verdict is explained.
EXPLAINED = 3
_UNWRAPPED = 1 << 16


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a case: its `outcome` is passed, failed, or error where it could not be run to its end.

    `told` says what came instead of what was expected, and why; `status` is the exit status that it leads to, `seconds`
    how long it took.
    """

    name: str
    outcome: str
    told: str
    status: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"name": self.name, "outcome": self.outcome, "message": self.told, "seconds": round(self.seconds, 6)}


def run_case(case: Case | BrokenCase) -> Result:
    """Runs one case."""
    started = time.perf_counter()
    if isinstance(case, BrokenCase):
        return Result(case.name, "error", case.why, case.status, 0.0)
    try:
        outcome, told, status = _run(case)
    except (PolicyError, ChangeError) as error:
        outcome, told, status = "error", str(error), 2
    except CaptureError as error:
        outcome, told, status = "error", str(error), 3
    return Result(case.name, outcome, told, status, time.perf_counter() - started)


def _run(case: Case) -> tuple[str, str, int]:
    in_force = [case.policy, *(later for _, later in scheduled(case.policy, case.changes))]
    expectations = Expectations(case.expectations, in_force)
    with _captures(case) as paths:
        with Captures(paths) as captures:
            run = Replay(Plane(case.policy), captures, changes=case.changes, observers=[expectations])
            summary = run.run(top=0)
        failures = expectations.finish()
        faults = [f"{capture.name}: {capture.words}" for capture in summary.faults]
        told = [*faults, *([_told(expectations, failures)] if failures else [])]
        told += _why(Replayed(case.policy, paths, case.changes), failures)
    if faults:
        return "error", "\n".join(told), 3
    return ("failed", "\n".join(told), 1) if failures else ("passed", "", 0)


@contextmanager
def _captures(case: Case) -> Iterator[list[str]]:
    """What is replayed, by paths that can be read more than once."""
    if not case.packets:
        yield list(case.captures)
        return
    with as_capture(case.packets, case.times_ns) as path:
        yield [path]


def _told(expectations: Expectations, failures: list[Failure]) -> str:
    text = io.StringIO()
    expectations.print_failures(failures, Console(file=text, width=_UNWRAPPED, color_system=None))
    return text.getvalue().rstrip("\n")


def _why(replayed: Replayed, failures: list[Failure]) -> Iterator[str]:
    """Why the first packets that are not as expected got their verdicts."""
    packets = dict.fromkeys(m.packet for failure in failures for m in failure.mismatches if m.differences)
    for packet in list(packets)[:EXPLAINED]:
        explanation = explain(replayed, packet, with_remedies=False)
        judged = explanation.judged
        yield f"why packet {packet} ({judged.words}):"
        yield f"  {sentences.headline(explanation)}"
        for check in explanation.checks:
            for sentence in sentences.near_misses(check):
                yield f"  near miss: {sentence}"
            if check.connection:
                yield f"  connection: {sentences.history_words(check.connection, packet, judged.first_ns)}"
