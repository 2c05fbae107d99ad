"""Rules that end by themselves (`expires_at`): at that time they are taken out of the policy, as by `delete_rule`.

Whose clock it is, is the caller's: that of captures in a replay, the wall's when live (SPEC 4.3). A rule whose time is
over already is not in force, wherever it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dataplane.policy.structural_sharing import following

if TYPE_CHECKING:
    from dataplane.policy.document import SecurityGroup
    from dataplane.policy.model import Policy
    from dataplane.policy.rule import SecurityGroupRule
    from dataplane.policy.times import Moment


def _expiring(policy: Policy) -> Iterator[tuple[SecurityGroup, SecurityGroupRule, Moment]]:
    for group in policy.security_groups:
        for rule in group.expiring_rules:
            assert rule.expires_at
            yield group, rule, rule.expires_at


def next_expiry(policy: Policy) -> Moment | None:
    """The time at which the next rule of a policy ends; None where none does."""
    return min((moment for _, _, moment in _expiring(policy)), default=None)


def expired(policy: Policy, now_ns: int) -> tuple[SecurityGroupRule, ...]:
    """The rules whose time is over, in nanoseconds since 1970, in the order of the policy."""
    return tuple(rule for _, rule, moment in _expiring(policy) if moment.ns <= now_ns)


def without_expired(policy: Policy, now_ns: int) -> Policy:
    """The policy without the rules whose time is over; itself where there are none."""
    concerned = {group.id for group, _, moment in _expiring(policy) if moment.ns <= now_ns}
    if not concerned:
        return policy
    groups = tuple(
        group.model_copy(
            update={
                "security_group_rules": tuple(
                    rule
                    for rule in group.security_group_rules
                    if rule.expires_at is None or rule.expires_at.ns > now_ns
                )
            }
        )
        if group.id in concerned
        else group
        for group in policy.security_groups
    )
    return following(policy, security_groups=groups)


def warnings(policy: Policy, now_ns: int) -> Iterator[str]:
    """What is to be said of rules whose time is over, one sentence each."""
    for rule in expired(policy, now_ns):
        assert rule.expires_at
        yield f"rule {rule.id} has expired at {rule.expires_at.text}: it is not in force"
