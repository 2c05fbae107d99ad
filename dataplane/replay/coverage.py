"""What captures never hit of a policy: rules, security groups and instances (SPEC 8.5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dataplane._core import ffi
from dataplane.verdict import Names

if TYPE_CHECKING:
    from dataplane.policy.model import Policy
    from dataplane.replay.summary import Summary

_RECORD = ffi.sizeof("struct dp_record")
_CHECKS = ffi.offsetof("struct dp_record", "checks")
#: Where the zone of each check stands, in 32-bit words.
_ZONES = [
    (
        ffi.offsetof("struct dp_record", "check")
        + n * ffi.sizeof("struct dp_check")
        + ffi.offsetof("struct dp_check", "zone")
    )
    // 4
    for n in range(2)
]


class Coverage:
    """Sees which instances were checked; an observer of `Replay`. What rules were hit, its summary knows."""

    def __init__(self, policy: Policy) -> None:
        self._before = policy
        self._checked: set[str] = set()

    def observe(self, first_packet: int, n: int, records: Any, flows: Any, names: Names) -> None:
        """Notes the instances of a batch, a column of all records at a time."""
        view = memoryview(ffi.buffer(records, n * _RECORD))
        words = view.cast("I")
        first, second = (words[at :: _RECORD // 4].tolist() for at in _ZONES)
        for checks, egress, ingress in set(zip(view[_CHECKS::_RECORD].tolist(), first, second, strict=True)):
            self._checked.update(names.instances[zone] for zone in (egress, ingress)[:checks])

    def report(self, policy: Policy, summary: Summary) -> dict[str, Any]:
        """What was hit of the policy before the replay and of `policy`, that of its end, as JSON values.

        A rule is hit when it decides about the first packet of a connection, a group when one of its rules is, and an
        instance when a packet is checked at it. Rules that are not enabled are left out.
        """
        policies = (self._before, policy)
        rules = dict.fromkeys(
            (rule.id, group.id)
            for policy in policies
            for group in policy.security_groups
            for rule in group.security_group_rules
            if rule.enabled
        )
        hits = {(count.rule, count.security_group): count.hits for count in summary.counted_rules}
        rules |= dict.fromkeys(rule for rule, number in hits.items() if number)
        hit_groups = {group for (_, group), number in hits.items() if number}
        groups = dict.fromkeys(group.id for policy in policies for group in policy.security_groups)
        instances = dict.fromkeys(instance.id for policy in policies for instance in policy.instances)
        never = [{"rule": rule, "security_group": group} for rule, group in rules if not hits.get((rule, group))]
        return {
            "packets": summary.packets,
            "rules": {"total": len(rules), "hit": len(rules) - len(never), "never_hit": never},
            "security_groups": _counted(groups | dict.fromkeys(hit_groups), hit_groups),
            "instances": _counted(instances | dict.fromkeys(self._checked), self._checked),
        }


def _counted(known: Iterable[str], hit: set[str]) -> dict[str, Any]:
    names = list(known)
    never = [name for name in names if name not in hit]
    return {"total": len(names), "hit": len(names) - len(never), "never_hit": never}
