"""Why a packet got its verdict (SPEC 8.3): the checks as they were made, the connection's history, the rules that were
tried, and what change of the policy would turn the verdict.

Nothing in here decides about a packet: the verdict is that of a replay, rules are asked in the engine's tables, and a
remedy is told only after it was tried.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dataplane.insight.explained import ExplainedCheck
from dataplane.insight.packet_bytes import as_capture_bytes
from dataplane.insight.packet_text import Packet
from dataplane.insight.remedies import Remedy, remedies
from dataplane.insight.replayed_packet import Judged, Replayed
from dataplane.insight.rules_tried import Question, groups_tried
from dataplane.insight.same_flow import earlier, first_fragment, is_later_fragment
from dataplane.verdict import Check

#: What the rules have decided, or would have if the table had had room.
_ASKED = ("rule", "no-rule-matched", "table-full")


@dataclass(frozen=True, slots=True)
class Explanation:
    """One packet as it was judged, and why.

    `further` is the check that would deny it where no single change suffices, were the one that denied it passed.
    """

    judged: Judged
    checks: tuple[ExplainedCheck, ...]
    remedies: tuple[Remedy, ...]
    further: Check | None = None

    @property
    def verdict(self) -> str:
        """``allow``, ``deny`` or ``bypass``."""
        return self.judged.verdict.verdict

    def to_dict(self) -> dict[str, Any]:
        """As JSON values (SPEC 8.3)."""
        return {
            "verdict": self.verdict,
            "checks": [check.to_dict() for check in self.checks],
            "remedies": [remedy.to_dict() for remedy in self.remedies],
        }


def explain(replayed: Replayed, packet: int, *, with_remedies: bool = True) -> Explanation:
    """Explains the packet with this number. Raises NoSuchPacketError, ChangeError, CaptureError."""
    judged = replayed.judge(packet)
    checks = []
    for number, (check, connection) in enumerate(zip(judged.verdict.checks, judged.connections, strict=True)):
        question = _question(replayed, judged, number, check)
        groups = groups_tried(judged.policy, question) if question else ()
        before = earlier(replayed, judged, number, check)
        checks.append(ExplainedCheck(check, connection, groups, question, before))
    found, further = remedies(replayed, judged, checks) if with_remedies else ([], None)
    return Explanation(judged, tuple(checks), tuple(found), further)


def _question(replayed: Replayed, judged: Judged, number: int, check: Check) -> Question | None:
    """What the rules were asked; None where they were not, or where that is not known any more."""
    if check.reason not in _ASKED or check.cause:
        return None
    flow = judged.flow
    if is_later_fragment(flow):
        flow = first_fragment(replayed, judged, number)
    return Question.of(check.instance, check.direction, flow) if flow else None


# ---- a packet by itself ----


@contextmanager
def as_capture(packets: Sequence[Packet], times_ns: Sequence[int]) -> Iterator[str]:
    """Packets as a capture, by its path for as long as the context lasts."""
    descriptor = os.memfd_create("packets")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(as_capture_bytes(packets, times_ns))
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
