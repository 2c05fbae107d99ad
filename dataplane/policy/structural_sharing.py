"""What stays the same object from one policy to the next: who compares by identity sees what a change touched."""

import operator
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TypeVar

from dataplane.policy import replaced
from dataplane.policy.base import fields_of
from dataplane.policy.defaults import with_kept_ids
from dataplane.policy.document import AddressGroup, Instance, SecurityGroup
from dataplane.policy.model import Policy
from dataplane.policy.replaced import different
from dataplane.policy.rule import SecurityGroupRule

#: Lookups of a policy, and the section that each is worked out from.
_LOOKUPS = {
    "groups_by_id": "security_groups",
    "rules_by_id": "security_groups",
    "address_groups_by_id": "address_groups",
    "instances_by_id": "instances",
    "load_balancers_by_id": "load_balancers",
    "members_by_group": "instances",
    "member_ids_by_group": "instances",
}

T = TypeVar("T", bound="SecurityGroup | SecurityGroupRule | AddressGroup | Instance")


def following(policy: Policy, **sections: object) -> Policy:
    """The policy with other sections, which are known to be valid.

    Lookups that these do not concern are kept, and so is the list of members of a group in which no member changed.
    """
    changed = policy.model_copy(update=sections)
    for lookup, section in _LOOKUPS.items():
        if getattr(changed, section) is getattr(policy, section) and lookup in policy.__dict__:
            changed.__dict__[lookup] = policy.__dict__[lookup]
    if changed.security_groups is not policy.security_groups:
        _follow_rules(policy, changed)
    if changed.instances is not policy.instances:
        before = policy.members_by_group
        changed.__dict__["members_by_group"] = {
            group: _kept(before.get(group, ()), members) for group, members in changed.members_by_group.items()
        }
    return changed


def _follow_rules(policy: Policy, changed: Policy) -> None:
    """Lookups of groups and rules are made from those of before, where most groups are the same."""
    before, now = policy.security_groups, changed.security_groups
    if "groups_by_id" in policy.__dict__ and len(before) == len(now):
        gone, come = different(before, now)
        if [group.id for group in gone] == [group.id for group in come]:
            others = {group.id: group for group in come}
            changed.__dict__["groups_by_id"] = {**policy.groups_by_id, **others}
    if "rules_by_id" in policy.__dict__:
        rules = policy.rules_by_id.following(changed.groups_by_id)
        if rules is not None:
            changed.__dict__["rules_by_id"] = rules


#: Rules with their groups before them, by id.
_Rules = dict[str, tuple[SecurityGroup, SecurityGroupRule]]


def rules_between(before: Policy, after: Policy) -> tuple[_Rules, _Rules]:
    """The rules of either that are not the same objects in the same place of the other, in the order of the document.

    All that was added, updated, moved or deleted is among them; some of them may be equal.
    """
    gone: _Rules = {}
    come: _Rules = {}
    left, joined = different(before.security_groups, after.security_groups)
    for was in left:
        now = after.groups_by_id.get(was.id)
        rules = replaced.gone(was.security_group_rules, now.rules_replaced(was)) if now else was.security_group_rules
        gone.update((rule.id, (was, rule)) for rule in rules)
    for now in joined:
        old = before.groups_by_id.get(now.id)
        rules = replaced.come(now.security_group_rules, now.rules_replaced(old)) if old else now.security_group_rules
        come.update((rule.id, (now, rule)) for rule in rules)
    return gone, come


def adopted(policy: Policy, new: Policy) -> Policy:
    """Another policy, sharing with this one all that is equal; this one itself where everything is."""
    groups = with_kept_ids(policy.groups_by_id, new.security_groups)
    balancers, conntrack = policy.load_balancers, policy.conntrack
    adopted = following(
        policy,
        region=new.region,
        security_groups=_shared(policy.security_groups, tuple(with_shared_rules(policy, g) for g in groups)),
        address_groups=_shared(policy.address_groups, new.address_groups),
        instances=_shared(policy.instances, new.instances),
        load_balancers=balancers if balancers == new.load_balancers else new.load_balancers,
        uplinks=new.uplinks,
        conntrack=conntrack if conntrack == new.conntrack else new.conntrack,
    )
    # Also where only generated ids were others.
    return policy if adopted == policy else adopted


def with_shared_rules(policy: Policy, group: SecurityGroup) -> SecurityGroup:
    """A group whose rules are those of the group with its id in a policy where they are equal."""
    before = policy.groups_by_id.get(group.id)
    if before is None:
        return group
    rules = _shared(before.security_group_rules, group.security_group_rules, _VALUES)
    shared = group.model_copy(update={"security_group_rules": rules})
    shared.keep_known(before)
    return shared


#: All that is in a rule: two that are equal have the same, which is told so without a step of Python for each.
_VALUES = attrgetter(*fields_of(SecurityGroupRule))


def _shared(before: Sequence[T], now: Sequence[T], values: Callable[[T], object] | None = None) -> Sequence[T]:
    """`now` with what was in `before`, by id, and is equal as the same objects; `values` are those of an item."""
    name = attrgetter("id")
    known = dict(zip(map(name, before), before, strict=True))
    # An item stands for itself where there was none with its id.
    were = list(map(known.get, map(name, now), now))
    equal = map(operator.eq, map(values, were), map(values, now)) if values else map(operator.eq, were, now)
    return _kept(before, tuple([was if same else item for was, item, same in zip(were, now, equal, strict=True)]))


def _kept(before: Sequence[T], now: Sequence[T]) -> Sequence[T]:
    """`before` where it holds the same objects as `now`."""
    return before if len(before) == len(now) and all(map(operator.is_, before, now)) else now
