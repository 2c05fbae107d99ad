"""What a document leaves out and a Policy has: ids of rules, and the security group `default` (SPEC 2, 3.4)."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from dataplane.policy.consistency import DEFAULT_GROUP

if TYPE_CHECKING:
    from dataplane.policy.model import Instance, Policy, SecurityGroup, SecurityGroupRule


def completed(policy: Policy) -> dict[str, tuple[object, ...]]:
    """The fields of a policy that had to be filled in, with their new values; empty for one that is complete."""
    filled: dict[str, tuple[object, ...]] = {}
    groups = policy.security_groups
    if not all(rule.id for group in groups for rule in group.security_group_rules):
        taken = {rule.id for group in groups for rule in group.security_group_rules}
        groups = tuple(_with_rule_ids(group, taken) for group in groups)
    if not all(instance.security_groups for instance in policy.instances):
        filled["instances"] = tuple(map(_with_a_group, policy.instances))
        if all(group.id != DEFAULT_GROUP for group in groups):
            taken = {rule.id for group in groups for rule in group.security_group_rules}
            groups = (*groups, default_group(taken))
    if groups is not policy.security_groups:
        filled["security_groups"] = groups
    return filled


def free_id(wanted: str, taken: Container[str]) -> str:
    """`wanted`, or where that is taken the first free one of ``wanted-2``, ``wanted-3``, ..."""
    number, free = 1, wanted
    while free in taken:
        number += 1
        free = f"{wanted}-{number}"
    return free


def default_group(taken: Container[str] = ()) -> SecurityGroup:
    """The group `default` (SPEC 3.4): ingress from itself, egress to any address, IPv4 and IPv6, priority 100."""
    from dataplane.policy.model import SecurityGroup, SecurityGroupRule

    rules = (
        ("ingress", "IPv4", {"remote_group_id": DEFAULT_GROUP}),
        ("ingress", "IPv6", {"remote_group_id": DEFAULT_GROUP}),
        ("egress", "IPv4", {"remote_ip_prefix": "0.0.0.0/0"}),
        ("egress", "IPv6", {"remote_ip_prefix": "::/0"}),
    )
    return SecurityGroup(
        id=DEFAULT_GROUP,
        security_group_rules=tuple(
            SecurityGroupRule.model_validate(
                {
                    "id": free_id(f"{DEFAULT_GROUP}-{direction}-{ethertype.lower()}", taken),
                    "direction": direction,
                    "ethertype": ethertype,
                    "priority": 100,
                    **remote,
                }
            )
            for direction, ethertype, remote in rules
        ),
    )


def _with_rule_ids(group: SecurityGroup, taken: set[str]) -> SecurityGroup:
    """The group with an id for each rule: the group's and the rule's place from 1, ``sg-a/1``, where it has none."""
    if all(rule.id for rule in group.security_group_rules):
        return group
    rules = tuple(
        rule if rule.id else _named(rule, f"{group.id}/{place}", taken)
        for place, rule in enumerate(group.security_group_rules, 1)
    )
    return group.model_copy(update={"security_group_rules": rules})


def _named(rule: SecurityGroupRule, wanted: str, taken: set[str]) -> SecurityGroupRule:
    rule_id = free_id(wanted, taken)
    taken.add(rule_id)
    return rule.model_copy(update={"id": rule_id})


def _with_a_group(instance: Instance) -> Instance:
    if instance.security_groups:
        return instance
    return instance.model_copy(update={"security_groups": (DEFAULT_GROUP,)})
