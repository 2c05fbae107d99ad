"""Flows that two policies judge differently, as values (SPEC 8.4); `csrc/difference.h` finds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dataplane.packet_words import flow_words
from dataplane.verdict import REASON_WORDS, VERDICT_WORDS, Names


@dataclass(frozen=True, slots=True)
class Judgement:
    """A packet's verdict under one policy, and the reason and rule of the check that decided; None without one."""

    verdict: str
    reason: str | None
    rule: str | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values (SPEC 8.4)."""
        return {"verdict": self.verdict, "reason": self.reason, "rule": self.rule}


@dataclass(frozen=True, slots=True)
class FlowDifference:
    """Packets of a flow, in both directions, that get another verdict; `old` and `new` are those of the first one."""

    flow: str
    first_packet: int
    packets: int
    old: Judgement
    new: Judgement

    def to_dict(self) -> dict[str, Any]:
        """As JSON values (SPEC 8.4)."""
        return {
            "flow": self.flow,
            "first_packet": self.first_packet,
            "packets": self.packets,
            "old": self.old.to_dict(),
            "new": self.new.to_dict(),
        }


def flow_differences(found: Any, n: int, old: Names, new: Names) -> list[FlowDifference]:
    """The first `n` of an array of `struct dp_flow_difference` as values."""
    return [
        FlowDifference(
            flow_words(found[i].flow),
            found[i].first_packet,
            found[i].packets,
            _judgement(found[i].before, old),
            _judgement(found[i].after, new),
        )
        for i in range(n)
    ]


def _judgement(judgement: Any, names: Names) -> Judgement:
    named = names.rules[judgement.rule]
    return Judgement(
        VERDICT_WORDS[judgement.verdict],
        REASON_WORDS[judgement.reason] if judgement.checked else None,
        named[0] if named else None,
    )
