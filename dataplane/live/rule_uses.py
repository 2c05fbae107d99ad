"""When each rule was hit last, and since when there is that rule.

A hit is a packet that a rule let pass or denied, those of connections that it has admitted among them. The workers
count them; here is looked from time to time whose count has changed, so that a time is late by as much as that, and no
packet waits for it. A rule that is updated so that it says something else is another rule from then on (SPEC 5.5);
a change that is taken back brings the rules of before with their times.

Times are nanoseconds of the wall clock: they are kept in the state file over restarts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dataplane._core import ffi
from dataplane.policy.structural_sharing import rules_between

if TYPE_CHECKING:
    from dataplane.live.firewall import Firewall
    from dataplane.policy import Policy
    from dataplane.policy.rule import SecurityGroupRule

_COUNTER_WORDS = ffi.sizeof("struct dp_rule_counter") // 8
_PACKETS = (ffi.offsetof("struct dp_rule_counter", "traffic") + ffi.offsetof("struct dp_counter", "packets")) // 8


class SavedUse(NamedTuple):
    """A rule of a group as the state file has it; `last_ns` is None for one that was never hit."""

    rule: str
    security_group: str
    since_ns: int
    last_ns: int | None


@dataclass(slots=True)
class RuleUse:
    """Since when a rule is there, and when it was hit last."""

    since_ns: int
    last_ns: int | None = None

    def is_unused_since(self, then_ns: int) -> bool:
        """Whether it was there at a time already and was not hit since."""
        return self.since_ns <= then_ns and (self.last_ns is None or self.last_ns <= then_ns)


#: Rules that were in force, with their uses, by their ids and those of their groups.
_Lost = dict[tuple[str, str], tuple["SecurityGroupRule", RuleUse]]


class RuleUses:
    """The uses of the rules in force, for the control thread.

    `saved` are those of a `policy` that was in force before.
    """

    #: Of so many changes what they took away is known, until they are taken back.
    _REMEMBERED = 8

    def __init__(self, firewall: Firewall, policy: Policy | None = None, saved: Iterable[SavedUse] = ()) -> None:
        self._firewall = firewall
        self._policy = policy
        self._uses = {(use.rule, use.security_group): RuleUse(use.since_ns, use.last_ns) for use in saved}
        self._follows = False
        # By rule number: the packets that have been seen.
        self._seen: list[int] = []
        self._gone: deque[_Lost] = deque(maxlen=self._REMEMBERED)
        self.look()

    def look(self) -> None:
        """Notes which rules were hit since the last look, and which are new."""
        now_ns = time.time_ns()
        counters = memoryview(ffi.buffer(self._firewall.rule_counters())).cast("B").cast("Q")
        packets = counters[_PACKETS::_COUNTER_WORDS].tolist()
        if packets != self._seen:
            seen = self._seen + [0] * (len(packets) - len(self._seen))
            for named, now, before in zip(self._firewall.names.rules, packets, seen, strict=True):
                # A number that was given out again counts from 0.
                if now and now != before and named and (use := self._uses.get(named)):
                    use.last_ns = now_ns
            self._seen = packets
        if self._policy is not self._firewall.policy:
            self._follow(now_ns)

    def follow(self) -> None:
        """Another policy may be in force."""
        if self._policy is not self._firewall.policy:
            self._follow(time.time_ns())

    def _follow(self, now_ns: int) -> None:
        before, now = self._policy, self._firewall.policy
        if before is None or not self._follows:
            # What is saved may be of any policy.
            was, come = dict(before.rules_by_id if before else ()), dict(now.rules_by_id)
        else:
            was, come = rules_between(before, now)
        lost: _Lost = {}
        for rule_id, (group, rule) in was.items():
            if use := self._uses.pop((rule_id, group.id), None):
                lost[rule_id, group.id] = rule, use
        uses = self._uses if self._follows else {}
        for rule_id, (group, rule) in come.items():
            key = rule_id, group.id
            old, use = lost.get(key, (rule, self._uses.get(key)))
            if old is not rule and old.effect != rule.effect:
                use = None
            uses[key] = use or self._of_before(rule_id, group.id, rule) or RuleUse(now_ns)
        gone = {key: (rule, use) for key, (rule, use) in lost.items() if uses.get(key) is not use}
        if gone:
            self._gone.append(gone)
        self._uses, self._policy, self._follows = uses, now, True

    def _of_before(self, rule_id: str, group_id: str, rule: SecurityGroupRule) -> RuleUse | None:
        """The use of a rule that was in force: a change that is taken back brings the very same object."""
        for gone in reversed(self._gone):
            was, use = gone.get((rule_id, group_id), (None, None))
            if was is rule:
                return use
        return None

    def __iter__(self) -> Iterator[tuple[str, str, RuleUse]]:
        """Rule, security group and use, in the order of the policy."""
        assert self._policy
        return (
            (rule.id, group.id, self._uses[rule.id, group.id])
            for group in self._policy.security_groups
            for rule in group.security_group_rules
        )

    def unused(self, seconds: float) -> int:
        """How many rules are there as long and were not hit since."""
        then_ns = time.time_ns() - round(seconds * 1e9)
        return sum(use.is_unused_since(then_ns) for use in self._uses.values())

    def saved(self) -> tuple[SavedUse, ...]:
        """As the state file has them."""
        return tuple(SavedUse(rule, group, use.since_ns, use.last_ns) for rule, group, use in self)
