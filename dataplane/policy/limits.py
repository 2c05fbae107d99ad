"""The limits of SPEC 6: quotas, which are errors where they are exceeded, and warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dataplane.policy.mistakes import Conflict, shown

if TYPE_CHECKING:
    from dataplane.policy.model import Policy, SecurityGroup
    from dataplane.policy.rule import SecurityGroupRule

#: The most counted rules of one security group, direction and ethertype.
QUOTA = 120
GROUPS_PER_INSTANCE = 5
INSTANCES_PER_GROUP = 6000

_SSH = 6 << 16 | 22


def counts(rule: SecurityGroupRule) -> bool:
    """Whether a rule uses quota: by a remote group, a remote address group or a `multiport` with a comma (SPEC 6)."""
    return (
        rule.remote_group_id is not None
        or rule.remote_address_group_id is not None
        or (isinstance(rule.multiport, str) and "," in rule.multiport)
    )


def used_quota(group: SecurityGroup) -> dict[tuple[str, str], int]:
    """How many rules of a group count, by (direction, ethertype); pairs without any are left out."""
    return Counter([(rule.direction, rule.ethertype) for rule in group.security_group_rules if counts(rule)])


def quota_conflicts(group: SecurityGroup) -> Iterator[Conflict]:
    """One conflict, at the group, for each quota that is exceeded."""
    for (direction, ethertype), used in used_quota(group).items():
        if used > QUOTA and isinstance(direction, str) and isinstance(ethertype, str):
            yield Conflict(
                (),
                f"security group {shown(group.id)} has {used} {direction} {ethertype} rules with a remote group, a"
                f" remote address group or inconsecutive ports: up to {QUOTA} are allowed",
            )


def warnings(policy: Policy) -> tuple[str, ...]:
    """What is allowed and better avoided, one sentence each."""
    return (*_crowded(policy), *_unused_groups(policy), *_open_logins(policy))


def _crowded(policy: Policy) -> Iterator[str]:
    for instance in policy.instances:
        if len(instance.security_groups) > GROUPS_PER_INSTANCE:
            yield (
                f"instance {shown(instance.id)} has {len(instance.security_groups)} security groups: more than"
                f" {GROUPS_PER_INSTANCE} slow its traffic down"
            )
    for group, members in policy.members_by_group.items():
        if len(members) > INSTANCES_PER_GROUP:
            yield (
                f"security group {shown(group)} has {len(members)} instances: more than {INSTANCES_PER_GROUP} slow it"
                " down"
            )


def _unused_groups(policy: Policy) -> Iterator[str]:
    used = set(policy.members_by_group)
    for group in policy.security_groups:
        used.update(remote for remote in group.remote_groups if remote != group.id)
    for group in policy.security_groups:
        if group.id not in used:
            yield f"security group {shown(group.id)} is not used: no instance is in it and no rule elsewhere names it"


def _open_logins(policy: Policy) -> Iterator[str]:
    """The source advises never to open remote login over port 22 to all addresses."""
    for group in policy.security_groups:
        for rule in group.security_group_rules:
            if _admits_everybody(rule) and any(low <= _SSH <= high for low, high in rule.selectors):
                yield (
                    f"rule {shown(rule.id)} of security group {shown(group.id)} opens TCP port 22 to every"
                    f" {rule.ethertype} address: name the addresses that may log in"
                )


def _admits_everybody(rule: SecurityGroupRule) -> bool:
    if rule.direction != "ingress" or rule.action != "allow" or not rule.enabled:
        return False
    if rule.remote_group_id is not None or rule.remote_address_group_id is not None:
        return False
    return rule.remote_prefix is None or rule.remote_prefix[1] == 0
