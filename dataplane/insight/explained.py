"""A check of a packet with what led to it: what an explanation tells, and what remedies are sought from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane.insight.replayed_packet import ConnectionHistory
    from dataplane.insight.rules_tried import GroupTried, Question
    from dataplane.insight.same_flow import Earlier
    from dataplane.verdict import Check


@dataclass(frozen=True, slots=True)
class ExplainedCheck:
    """A check, the connection that the packet belongs to, and the groups that were tried for it.

    `groups` is empty where the rules were not asked; `question` is what they were asked then. `earlier` is a packet of
    the flow from which a connection should have come, where the want of one is why it was denied.
    """

    check: Check
    connection: ConnectionHistory | None
    groups: tuple[GroupTried, ...]
    question: Question | None
    earlier: Earlier | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values (SPEC 8.3)."""
        check = self.check
        return {
            "instance": check.instance,
            "direction": check.direction,
            "verdict": check.verdict,
            "state": check.state,
            "reason": check.reason,
            "cause": check.cause,
            "rule": check.rule,
            "security_group": check.security_group,
            "connection": self.connection.to_dict() if self.connection else None,
            "groups": [group.to_dict() for group in self.groups],
        }
