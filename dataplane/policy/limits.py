"""The limits of SPEC 6: quotas, which are errors where they are exceeded, and warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from dataplane.policy.document import Document, Instance, SecurityGroup
from dataplane.policy.mistakes import Conflict, shown
from dataplane.policy.rule import SecurityGroupRule

#: The most counted rules of one security group, direction and ethertype.
QUOTA = 120
GROUPS_PER_INSTANCE = 5
INSTANCES_PER_GROUP = 6000

_FAMILIES = frozenset(("IPv4", "IPv6"))


def used_quota(group: SecurityGroup) -> Mapping[tuple[str, str], int]:
    """How many rules of a group count, by (direction, ethertype); pairs without any are left out."""
    return group.counted_rules


def quota_conflicts(
    group: SecurityGroup, removed: Iterable[SecurityGroupRule] = (), added: Iterable[SecurityGroupRule] = ()
) -> Iterator[Conflict]:
    """One conflict, at the group, for each quota that is exceeded; where some rules are others, without looking at all
    of them.
    """
    quota = Counter(used_quota(group))
    for rules, step in ((removed, -1), (added, 1)):
        for rule in rules:
            quota[rule.direction, rule.ethertype] += step * rule.uses_quota
    for (direction, ethertype), used in quota.items():
        if used > QUOTA and isinstance(direction, str) and isinstance(ethertype, str):
            yield Conflict(
                (),
                f"security group {shown(group.id)} has {used} {direction} {ethertype} rules with a remote group, a"
                f" remote address group or inconsecutive ports: up to {QUOTA} are allowed",
            )


def warnings(policy: Document) -> tuple[str, ...]:
    """What is allowed and better avoided, one sentence each."""
    return (
        *_crowded(policy),
        *map(unused_words, unused_groups(policy)),
        *_without_rules(policy),
    )


def _crowded(policy: Document) -> Iterator[str]:
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


def unused_groups(policy: Document) -> Iterator[SecurityGroup]:
    """Groups that no instance is in and that no rule of another group names."""
    used = set(policy.members_by_group)
    for group in policy.security_groups:
        used.update(remote for remote in group.remote_groups if remote != group.id)
    return (group for group in policy.security_groups if group.id not in used)


def unused_words(group: SecurityGroup) -> str:
    """What is said of one of `unused_groups`."""
    return f"security group {shown(group.id)} is not used: no instance is in it and no rule elsewhere names it"


def without_rules(policy: Document) -> Iterator[tuple[Instance, str]]:
    """Addresses that nothing can come to or from: no rule of their instance's groups is of their family."""
    families = {
        group.id: {rule.ethertype for rule in group.security_group_rules if rule.enabled}
        for group in policy.security_groups
    }
    for instance in policy.instances:
        missing = _FAMILIES.difference(*(families[group] for group in instance.security_groups))
        if missing:
            yield from ((instance, address) for address in instance.addresses if _family(address) in missing)


def without_rules_words(instance: Instance, address: str) -> str:
    """What is said of one of `without_rules`."""
    return (
        f"instance {shown(instance.id)} has the address {address}, and its security groups have no"
        f" {_family(address)} rule: nothing passes to or from it"
    )


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _without_rules(policy: Document) -> Iterator[str]:
    """One warning for all addresses of an instance and a family."""
    warned = set[tuple[str, str]]()
    for instance, address in without_rules(policy):
        if (instance.id, _family(address)) not in warned:
            warned.add((instance.id, _family(address)))
            yield without_rules_words(instance, address)
