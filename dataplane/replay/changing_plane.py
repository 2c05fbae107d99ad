"""A plane whose policy changes while captures are replayed through it: by a schedule, and as rules expire (SPEC 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dataplane.plane import Plane
from dataplane.policy import expiry, times
from dataplane.replay.ports import PolicyPorts
from dataplane.replay.summary import AppliedChange

if TYPE_CHECKING:
    from dataplane.policy.model import Policy
    from dataplane.policy.schedule import TimedChange

#: A time that no packet has, in nanoseconds.
FOREVER = (1 << 64) - 1


class ChangingPlane:
    """A plane of a replay, which judges as the one at place `which`.

    `changes` is a schedule in order of time; all of it is tried on the plane's policy here. `at` is the instance at
    whose interface the captures were taken. Raises ChangeError and UnknownInstanceError. `made` are the changes so far.
    """

    def __init__(self, plane: Plane, changes: Sequence[TimedChange]) -> None:
        self.plane = plane
        self.made: list[AppliedChange] = []
        self._pending = _schedule(plane.policy, changes)
        self._first_ns = 0
        self._ports: PolicyPorts | None = None

    def judges_in(self, replay: Any, which: int, at: str | None) -> None:
        """Tells a replay what stands behind the policy's interfaces. Raises UnknownInstanceError."""
        self._ports = PolicyPorts(replay, which, self.plane.names, self.plane.policy, at)

    def begin(self, first_ns: int) -> None:
        """The time of the first packet, which the schedule counts from."""
        self._first_ns = first_ns
        self._expire(first_ns)

    def next_due(self) -> int:
        """When the next change is to be made, one of the schedule or one that rules make by their end."""
        due = self._due(self._pending[0][0]) if self._pending else FOREVER
        ends = expiry.next_expiry(self.plane.policy)
        return due if ends is None else min(due, ends.ns)

    def make_due(self, upcoming_ns: int) -> None:
        """Makes the changes that come before a packet of this time."""
        while (due := self.next_due()) <= upcoming_ns and due < FOREVER:
            if self._pending and self._due(self._pending[0][0]) == due:
                change, policy = self._pending.pop(0)
                # What has expired by then is no part of it, whatever the schedule was tried on.
                policy = expiry.without_expired(policy, due)
                self.made.append(AppliedChange(change, self.plane.replace(policy, time_ns=due)))
                if self._ports:
                    self._ports.tell(policy)
            self._expire(due)

    def end(self) -> None:
        """Tells of changes that were not reached."""
        self.made.extend(AppliedChange(change, None) for change, _ in self._pending)

    def _due(self, change: TimedChange) -> int:
        return min(times.due_ns(change.at, self._first_ns), FOREVER)

    def _expire(self, now_ns: int) -> None:
        """Takes out the rules whose time is over."""
        policy = self.plane.policy
        ended = expiry.expired(policy, now_ns)
        if not ended:
            return
        from dataplane.policy.changes.expiry import RulesExpire
        from dataplane.policy.schedule import TimedChange

        change = RulesExpire(rules=tuple(rule.id for rule in ended), now_ns=now_ns)
        at = max(rule.expires_at for rule in ended if rule.expires_at is not None)
        result = self.plane.replace(change.made(policy), time_ns=now_ns)
        self.made.append(AppliedChange(TimedChange(at, change), result))


def _schedule(policy: Policy, changes: Sequence[TimedChange]) -> list[tuple[TimedChange, Policy]]:
    """Each change with the policy that it leads to."""
    if not changes:
        return []
    # Only who makes changes waits for their models to be loaded.
    from dataplane.policy.schedule import scheduled

    return scheduled(policy, changes)
