"""What a document leaves out and a Policy has: ids of rules, and the security group `default` (SPEC 2, 3.4)."""

from __future__ import annotations

from collections.abc import Container, Mapping
from operator import attrgetter

from dataplane.policy.base import fields_of
from dataplane.policy.document import DEFAULT_GROUP, Document, Instance, SecurityGroup
from dataplane.policy.rule import GeneratedId, SecurityGroupRule


def completed(policy: Document) -> dict[str, tuple[object, ...]]:
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


def free_id(wanted: str, *taken: Container[str]) -> str:
    """`wanted`, or where that is taken the first free one of ``wanted-2``, ``wanted-3``, ..."""
    number, free = 1, wanted
    while any(free in some for some in taken):
        number += 1
        free = f"{wanted}-{number}"
    return free


def default_group(taken: Container[str] = ()) -> SecurityGroup:
    """The group `default` (SPEC 3.4): ingress from itself, egress to any address, IPv4 and IPv6, priority 100."""
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


def with_generated_id(rule: SecurityGroupRule, rule_id: str) -> SecurityGroupRule:
    """The rule with an id that its author did not write."""
    return rule.model_copy(update={"id": GeneratedId(rule_id)})


def _named(rule: SecurityGroupRule, wanted: str, taken: set[str]) -> SecurityGroupRule:
    rule_id = free_id(wanted, taken)
    taken.add(rule_id)
    return with_generated_id(rule, rule_id)


def with_kept_ids(before: Mapping[str, SecurityGroup], groups: tuple[SecurityGroup, ...]) -> tuple[SecurityGroup, ...]:
    """Groups that follow others, where rules with generated ids have those of the same rules in the group before.

    A generated id tells a place, and a rule that only moved is the same. Rules are the same when all that is written in
    them is, or else when all but names and descriptions is. What is new has an id by its place, as in any document.
    """
    rules = [rule for group in groups for rule in group.security_group_rules]
    ids = list(map(attrgetter("id"), rules))
    # Without a step of Python a rule, of which there may be many.
    if all(ids) and set(map(type, ids)) <= {str}:
        return groups
    taken = {rule.id for rule in rules if not rule.has_generated_id}
    kept = [_matched(before[g.id], g, taken) if g.id in before else {} for g in groups]
    taken.update(rule_id for matched in kept for rule_id in matched.values())
    return tuple(_renamed(group, matched, taken) for group, matched in zip(groups, kept, strict=True))


def _matched(before: SecurityGroup, group: SecurityGroup, taken: set[str]) -> dict[int, str]:
    """Ids of before for rules by their index in the group."""
    matched: dict[int, str] = {}
    for content in (_written, _effect):
        used = set(matched.values())
        spare: dict[object, list[str]] = {}
        for rule in reversed(before.security_group_rules):
            if rule.has_generated_id and rule.id not in taken and rule.id not in used:
                spare.setdefault(content(rule), []).append(rule.id)
        for index, rule in enumerate(group.security_group_rules):
            if rule.has_generated_id and index not in matched and (ids := spare.get(content(rule))):
                matched[index] = ids.pop()
    return matched


def _written(rule: SecurityGroupRule) -> object:
    return tuple(getattr(rule, name) for name in fields_of(type(rule)) if name != "id")


def _effect(rule: SecurityGroupRule) -> object:
    return rule.effect


def _renamed(group: SecurityGroup, matched: Mapping[int, str], taken: set[str]) -> SecurityGroup:
    rules = []
    for index, rule in enumerate(group.security_group_rules):
        if not rule.has_generated_id:
            rules.append(rule)
        elif index not in matched:
            rules.append(_named(rule, f"{group.id}/{index + 1}", taken))
        else:
            rules.append(rule if rule.id == matched[index] else with_generated_id(rule, matched[index]))
    return group.model_copy(update={"security_group_rules": tuple(rules)})


def _with_a_group(instance: Instance) -> Instance:
    if instance.security_groups:
        return instance
    return instance.model_copy(update={"security_groups": (DEFAULT_GROUP,)})
