"""Why packets met what they met, for a table's rows: in the words of `dataplane explain`, of many packets at once.

The captures are read once more, up to the last of these packets.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dataplane._core import ffi
from dataplane.insight import sentences
from dataplane.insight.explained import ExplainedCheck
from dataplane.insight.replayed_packet import NoSuchPacketError, Replayed
from dataplane.insight.rules_tried import GroupTried, Question, groups_tried
from dataplane.insight.same_flow import is_later_fragment
from dataplane.policy.model import Policy
from dataplane.verdict import Names, check_of

#: Of so many packets it is told which rules were tried; of more, only what decided.
TRIED = 500
_ASKED = ("rule", "no-rule-matched", "table-full")


@dataclass(frozen=True, slots=True)
class Met:
    """What one packet met: `struct dp_record` and `struct dp_flow`, the policy in force for it, and its names."""

    record: Any
    flow: Any
    policy: Policy
    names: Names

    def sentences(self, instance: str | None = None, direction: str | None = None, *, tried: bool) -> list[str]:
        """The check at this instance in this direction, or else the one that decided, in sentences.

        With `tried` the rules are asked again, and what each group had to say is told.
        """
        checks = [check_of(self.record.check[i], self.names) for i in range(self.record.checks)]
        own = [check for check in checks if check.instance == instance and check.direction == direction]
        checks = own or checks
        if not checks:
            return ["bypass: neither of its sides is an instance of the policy"]
        check = next((check for check in checks if check.verdict == "deny"), checks[-1])
        question: Question | None = None
        groups: tuple[GroupTried, ...] = ()
        asked = check.reason in _ASKED and not check.cause and not is_later_fragment(self.flow)
        if tried and asked and check.instance in self.policy.instances_by_id:
            question = Question.of(check.instance, check.direction, self.flow)
            groups = groups_tried(self.policy, question)
        explained = ExplainedCheck(check, None, groups, question)
        told = [f"{check.verdict}, {check.direction} at {check.instance}: {sentences.reason_words(explained)}"]
        told += [f"near miss: {sentence}" for sentence in sentences.near_misses(explained)]
        told += [f"tried {group}: {what}" for group, what in sentences.tried_words(explained)]
        return told


def met(replayed: Replayed, packets: Iterable[int]) -> dict[int, Met]:
    """What packets met, by their numbers. Raises as `Replay` does; packets that do not come are left out."""
    wanted = sorted(set(packets))
    if not wanted:
        return {}
    found: dict[int, tuple[Any, Any]] = {}
    first = 1

    def look(records: Any, flows: Any, _seen: Any, n: int) -> None:
        nonlocal first
        for packet in wanted[bisect_left(wanted, first) : bisect_left(wanted, first + n)]:
            at = packet - first
            found[packet] = ffi.new("struct dp_record *", records[at]), ffi.new("struct dp_flow *", flows[at])
        first += n

    try:
        plane = replayed.run(wanted[-1], replayed.policy, replayed.changes, look=look)[0]
    except NoSuchPacketError:
        # The captures were changed meanwhile.
        return {}
    in_force = [(1, replayed.policy), *plane.made]
    return {
        packet: Met(record, flow, _in_force(in_force, packet), plane.names) for packet, (record, flow) in found.items()
    }


def _in_force(made: Sequence[tuple[int, Policy]], packet: int) -> Policy:
    return next(policy for before, policy in reversed(made) if before <= packet)
