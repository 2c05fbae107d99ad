"""The limits of SPEC 6: quotas, which are errors where they are exceeded, and warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dataplane.policy.fields import address_text
from dataplane.policy.mistakes import Conflict, shown

if TYPE_CHECKING:
    from dataplane.policy.model import Instance, Policy, SecurityGroup
    from dataplane.policy.rule import SecurityGroupRule

#: The most counted rules of one security group, direction and ethertype.
QUOTA = 120
GROUPS_PER_INSTANCE = 5
INSTANCES_PER_GROUP = 6000

_SSH = 6 << 16 | 22
_FAMILIES = frozenset(("IPv4", "IPv6"))


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
    return (
        *_crowded(policy),
        *map(unused_words, unused_groups(policy)),
        *_without_rules(policy),
        *_open_logins(policy),
    )


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


def unused_groups(policy: Policy) -> Iterator[SecurityGroup]:
    """Groups that no instance is in and that no rule of another group names."""
    used = set(policy.members_by_group)
    for group in policy.security_groups:
        used.update(remote for remote in group.remote_groups if remote != group.id)
    return (group for group in policy.security_groups if group.id not in used)


def unused_words(group: SecurityGroup) -> str:
    """What is said of one of `unused_groups`."""
    return f"security group {shown(group.id)} is not used: no instance is in it and no rule elsewhere names it"


def without_rules(policy: Policy) -> Iterator[tuple[Instance, str]]:
    """Addresses that nothing can come to or from: no rule of their instance's groups is of their family."""
    families = {
        group.id: {rule.ethertype for rule in group.security_group_rules if rule.enabled}
        for group in policy.security_groups
    }
    for instance in policy.instances:
        missing = _FAMILIES.difference(*(families[group] for group in instance.security_groups))
        for address in instance.addresses if missing else ():
            if _family(address) in missing:
                yield instance, address


def without_rules_words(instance: Instance, address: str) -> str:
    """What is said of one of `without_rules`."""
    return (
        f"instance {shown(instance.id)} has the address {address}, and its security groups have no"
        f" {_family(address)} rule: nothing passes to or from it"
    )


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _without_rules(policy: Policy) -> Iterator[str]:
    """One warning for all addresses of an instance and a family."""
    warned = set[tuple[str, str]]()
    for instance, address in without_rules(policy):
        if (instance.id, _family(address)) not in warned:
            warned.add((instance.id, _family(address)))
            yield without_rules_words(instance, address)


def _open_logins(policy: Policy) -> Iterator[str]:
    """The source advises never to open remote login over port 22 to all addresses."""
    for group in policy.security_groups:
        for rule in group.security_group_rules:
            if _admits_everybody(rule) and _selects_ssh(rule) and not _shut_everywhere(policy, group, rule):
                yield (
                    f"rule {shown(rule.id)} of security group {shown(group.id)} opens TCP port 22 to every"
                    f" {rule.ethertype} address: name the addresses that may log in"
                )


def _selects_ssh(rule: SecurityGroupRule) -> bool:
    return any(low <= _SSH <= high for low, high in rule.selectors)


def _shut_everywhere(policy: Policy, group: SecurityGroup, rule: SecurityGroupRule) -> bool:
    """Whether, at each instance of the group, deny rules that are tried first leave the rule nobody who logs in."""
    before = [
        other
        for other in group.security_group_rules
        if (other.priority, other.action == "allow") < (rule.priority, rule.action == "allow")
    ]
    if _shuts(policy, rule.ethertype, before):
        return True
    members = policy.members(group.id)
    # Members of the same groups in the same order are alike.
    ahead = {member.security_groups[: member.security_groups.index(group.id)] for member in members}
    return bool(members) and all(
        any(_shuts(policy, rule.ethertype, policy.groups_by_id[g].security_group_rules) for g in groups)
        for groups in ahead
    )


def _shuts(policy: Policy, ethertype: str, rules: Iterable[SecurityGroupRule]) -> bool:
    """Whether deny rules among these, together, leave no address that could log in."""
    from ipaddress import collapse_addresses, ip_network

    shut: list[str] = []
    for rule in rules:
        denies = rule.direction == "ingress" and rule.action == "deny" and rule.enabled and rule.ethertype == ethertype
        if not denies or not _selects_ssh(rule) or rule.remote_group_id is not None:
            continue
        if rule.remote_address_group_id is not None:
            shut.extend(_texts(policy.address_group(rule.remote_address_group_id).prefixes))
        elif rule.remote_ip_prefix is None or rule.remote_ip_prefix.endswith("/0"):
            return True
        else:
            shut.append(rule.remote_ip_prefix)
    networks: list[Any] = [ip_network(prefix) for prefix in shut]
    collapsed = list(collapse_addresses(networks))
    return bool(collapsed) and collapsed[0].prefixlen == 0


def _texts(prefixes: Iterable[tuple[bytes, int]]) -> Iterator[str]:
    return (f"{address_text(packed)}/{bits}" for packed, bits in prefixes)


def _admits_everybody(rule: SecurityGroupRule) -> bool:
    if rule.direction != "ingress" or rule.action != "allow" or not rule.enabled:
        return False
    if rule.remote_group_id is not None or rule.remote_address_group_id is not None:
        return False
    return rule.remote_prefix is None or rule.remote_prefix[1] == 0
