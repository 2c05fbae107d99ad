"""Changes of a policy as values (SPEC 5, 7), and a policy with one of them made.

`apply` is pure: it gives a new Policy, or raises ChangeError and nothing has happened (SPEC 5.6). Only what a change
touches is checked and made anew: all else stays the same objects. A change that changes nothing gives back the policy
it was given.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, create_model

from dataplane.policy import fields, limits
from dataplane.policy.completion import free_id, with_generated_id
from dataplane.policy.consistency import References
from dataplane.policy.load import diagnose, salvaged
from dataplane.policy.mistakes import (
    ChangeError,
    Conflict,
    Location,
    alternatives,
    shown,
    unknown,
)
from dataplane.policy.model import Instance, Policy, SecurityGroup
from dataplane.policy.parts import CheckedModel, Model, fields_of
from dataplane.policy.rule import SecurityGroupRule
from dataplane.policy.sharing import adopted, following

__all__ = [
    "AddInstance",
    "AddRule",
    "ApplyPolicy",
    "Change",
    "ChangeError",
    "CloneGroup",
    "DeleteRule",
    "RemoveInstance",
    "UpdateAddressGroup",
    "UpdateRule",
    "apply",
    "parse_change",
]


class AddRule(Model):
    """A new rule at the end of a security group; it gets an id when it has none."""

    security_group: fields.Id = Field(description="Id of the security group.")
    rule: SecurityGroupRule = Field(description="The rule, as in the policy document.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"add {f'rule {self.rule.id}' if self.rule.id else 'a rule'} to {self.security_group}"


_rule_fields: dict[str, Any] = {name: (field.annotation, field) for name, field in fields_of(SecurityGroupRule).items()}
#: A model with the fields of a rule: unlike a rule it knows which of them were named.
_RuleFields: Any = create_model("_RuleFields", __base__=Model, **_rule_fields)


class UpdateRule(_RuleFields):
    """New values for the named fields of a rule; null takes an optional one away, and the other fields stay."""

    id: fields.Id = Field(description="Id of the rule.")
    direction: fields.Direction = Field(default="ingress", description="ingress or egress.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        named = [name for name in type(self).model_fields if name in self.model_fields_set and name != "id"]
        return f"update rule {self.id}: {', '.join(named) or 'nothing'}"


class DeleteRule(Model):
    """A rule is taken out of its group."""

    id: fields.Id = Field(description="Id of the rule.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"delete rule {self.id}"


class AddInstance(Model):
    """An instance joins a security group, which comes last in its list."""

    security_group: fields.Id = Field(description="Id of the security group.")
    instance: fields.Id = Field(description="Id of the instance.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"add {self.instance} to {self.security_group}"


class RemoveInstance(Model):
    """An instance leaves a security group."""

    security_group: fields.Id = Field(description="Id of the security group.")
    instance: fields.Id = Field(description="Id of the instance.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"remove {self.instance} from {self.security_group}"


class UpdateAddressGroup(Model):
    """Another set of addresses for an address group."""

    id: fields.Id = Field(description="Id of the address group.")
    ip_set: Annotated[tuple[fields.SetEntry, ...], fields.AsTuple] = Field(
        description="Addresses, CIDR blocks, and ranges written first-last."
    )

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"update address group {self.id}"


class CloneGroup(Model):
    """A copy of a security group under another id, which no instance is in yet.

    Its rules get ids of their own, and those that name the group itself as their remote name the copy.
    """

    security_group: fields.Id = Field(description="Id of the security group.")
    id: fields.Id = Field(description="Id of the copy.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"clone {self.security_group} as {self.id}"


class ApplyPolicy(Model):
    """Another policy as a whole; the difference is what changed."""

    policy: Policy = Field(description="The policy.")
    name: str = Field(default="", description="The file that it was read from.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"apply policy {self.name}".rstrip()


Change = (
    AddRule | UpdateRule | DeleteRule | AddInstance | RemoveInstance | UpdateAddressGroup | CloneGroup | ApplyPolicy
)


# ---- reading ----


class Item(CheckedModel):
    """A change as it is written: its name as the only key."""

    add_rule: AddRule | None = None
    update_rule: UpdateRule | None = None
    delete_rule: DeleteRule | None = None
    add_instance: AddInstance | None = None
    remove_instance: RemoveInstance | None = None
    update_address_group: UpdateAddressGroup | None = None
    clone_group: CloneGroup | None = None
    apply_policy: fields.Text | None = None

    def conflicts(self) -> Iterable[Conflict]:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if not given:
            yield Conflict((), f"no change is given: write one of {alternatives(KINDS)}")
        for name in given[1:]:
            yield Conflict((name,), f"{name} is one change too many: {given[0]} is given already", at_key=True)

    def change(self, base: Path) -> Change:
        """The change; file names are relative to the folder `base`. Raises PolicyError for a bad policy file."""
        value: Change | str = getattr(self, self.kind)
        return ApplyPolicy(policy=Policy.load(base / value), name=value) if isinstance(value, str) else value

    @property
    def kind(self) -> str:
        """The name of the change."""
        return next(name for name in KINDS if getattr(self, name) is not None)


KINDS = tuple(Item.model_fields)
KIND_OF = {
    AddRule: "add_rule",
    UpdateRule: "update_rule",
    DeleteRule: "delete_rule",
    AddInstance: "add_instance",
    RemoveInstance: "remove_instance",
    UpdateAddressGroup: "update_address_group",
    CloneGroup: "clone_group",
    ApplyPolicy: "apply_policy",
}


def parse_change(mapping: Mapping[str, Any], policy: Policy | None = None) -> Change:
    """One change as SPEC 7 writes it, without `at`: ``{"delete_rule": {"id": "A02"}}``.

    `apply_policy` names a file or holds a Policy. Raises ChangeError, or PolicyError for a policy file with mistakes.
    The reasons are then also those that `policy`, which the change is for, has against what is good in it.
    """
    if set(mapping) == {"apply_policy"} and isinstance(mapping["apply_policy"], Policy):
        return ApplyPolicy(policy=mapping["apply_policy"])
    value = dict(mapping)
    try:
        return Item.model_validate(value).change(Path())
    except ValidationError as error:
        found = [*diagnose(Item, value, error, "the change")]
        for kind in KINDS:
            if policy and isinstance(value.get(kind), dict):
                found += (c.within((kind,)) for c in _misfits(policy, kind, value[kind]))
        raise _refusal(found) from None


def _misfits(policy: Policy, kind: str, value: dict[str, Any]) -> Iterator[Conflict]:
    """What a policy has against a change of which not every value is allowed."""
    strangers = list(unknowns(policy, kind, value))
    yield from strangers
    if strangers:
        return
    name = value.get("security_group" if kind == "add_rule" else "id")
    if not isinstance(name, str):
        return
    if kind == "add_rule":
        rule = salvaged(SecurityGroupRule, value.get("rule"))
        yield from (c.within(("rule",)) for c in _rule_conflicts(policy, rule, policy.group(name)))
    elif kind == "update_rule":
        group, rule = policy.rules_by_id[name]
        values = rule.model_dump() | value
        try:
            SecurityGroupRule.model_validate(values)
        except ValidationError as error:
            yield from diagnose(SecurityGroupRule, values, error, "the rule")
        yield from References(policy).of_rule(salvaged(SecurityGroupRule, values), group)
    elif kind == "update_address_group":
        entries = salvaged(UpdateAddressGroup, value).ip_set
        yield from policy.address_group(name).model_copy(update={"ip_set": entries}).conflicts()


# ---- applying ----


def apply(policy: Policy, change: Change) -> Policy:
    """The policy with a change made. Raises ChangeError, with the reason, for one that is not valid."""
    _refuse_any(unknowns(policy, KIND_OF[type(change)], change))
    match change:
        case AddRule():
            return _add_rule(policy, change)
        case UpdateRule():
            return _update_rule(policy, change)
        case DeleteRule():
            group, rule = policy.rules_by_id[change.id]
            return _with_rules(policy, group, tuple(r for r in group.security_group_rules if r is not rule))
        case AddInstance():
            return _add_instance(policy, change)
        case RemoveInstance():
            return _remove_instance(policy, change)
        case UpdateAddressGroup():
            return _update_address_group(policy, change)
        case CloneGroup():
            return _clone_group(policy, change)
        case ApplyPolicy():
            return adopted(policy, change.policy)


def _refusal(conflicts: Iterable[Conflict]) -> ChangeError:
    found = tuple(conflicts)
    return ChangeError("; ".join(dict.fromkeys(conflict.message for conflict in found)), found)


def _refusal_at(place: Location, message: str) -> ChangeError:
    return ChangeError(message, [Conflict(place, message)])


def _refuse_any(conflicts: Iterable[Conflict]) -> None:
    found = tuple(conflicts)
    if found:
        raise _refusal(found)


def part(value: object, name: str) -> Any:
    """A part of a change, or of the mapping that it should have been made of; None where there is none."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


#: The names in each kind of change that must be there: field, what it names, and the lookup of a policy.
_NAMES = {
    "add_rule": [("security_group", "security group", "groups_by_id")],
    "update_rule": [("id", "rule", "rules_by_id")],
    "delete_rule": [("id", "rule", "rules_by_id")],
    "update_address_group": [("id", "address group", "address_groups_by_id")],
    "clone_group": [("security_group", "security group", "groups_by_id")],
    "apply_policy": [],
}
_NAMES["add_instance"] = _NAMES["remove_instance"] = [
    *_NAMES["add_rule"],
    ("instance", "instance", "instances_by_id"),
]


def unknowns(policy: Policy, kind: str, change: object) -> Iterator[Conflict]:
    """The names in a change that nothing has."""
    for name, thing, lookup in _NAMES[kind]:
        wanted, known = part(change, name), getattr(policy, lookup)
        if isinstance(wanted, str) and wanted not in known:
            yield Conflict((name,), f"{shown(wanted)} {unknown(thing, wanted, known)}")


def _add_rule(policy: Policy, change: AddRule) -> Policy:
    group = policy.group(change.security_group)
    rules = group.security_group_rules
    rule = change.rule
    _refuse_any(c.within(("rule",)) for c in _rule_conflicts(policy, rule, group))
    if not rule.id:
        rule = with_generated_id(rule, free_id(f"{group.id}/{len(rules) + 1}", policy.rules_by_id))
    return _with_rules(policy, group, (*rules, rule))


def _rule_conflicts(policy: Policy, rule: SecurityGroupRule, group: SecurityGroup) -> Iterator[Conflict]:
    """What a policy has against a new rule of a group."""
    if isinstance(rule.id, str) and rule.id in policy.rules_by_id:
        owner, _ = policy.rules_by_id[rule.id]
        yield Conflict(("id",), f"rule id {shown(rule.id)} is used already, in security group {shown(owner.id)}")
    yield from References(policy).of_rule(rule, group)


def _update_rule(policy: Policy, change: UpdateRule) -> Policy:
    group, rule = policy.rules_by_id[change.id]
    named = {name: change.__dict__[name] for name in change.model_fields_set}
    values = rule.model_dump() | named
    try:
        updated = SecurityGroupRule.model_validate(values)
    except ValidationError as error:
        raise _refusal(diagnose(SecurityGroupRule, values, error, "the rule")) from None
    if rule.has_generated_id:
        updated = with_generated_id(updated, rule.id)
    if updated == rule:
        return policy
    _refuse_any(References(policy).of_rule(updated, group))
    return _with_rules(policy, group, tuple(updated if r is rule else r for r in group.security_group_rules))


def _with_rules(policy: Policy, group: SecurityGroup, rules: tuple[SecurityGroupRule, ...]) -> Policy:
    """The policy with other rules in a group, when they are within its quotas (SPEC 6)."""
    changed = group.model_copy(update={"security_group_rules": rules})
    _refuse_any(limits.quota_conflicts(changed))
    return following(policy, security_groups=tuple(changed if g is group else g for g in policy.security_groups))


def _clone_group(policy: Policy, change: CloneGroup) -> Policy:
    group = policy.group(change.security_group)
    if change.id in policy.groups_by_id:
        raise _refusal_at(("id",), f"security group id {shown(change.id)} is used already")
    taken = set(policy.rules_by_id)
    rules = []
    for place, rule in enumerate(group.security_group_rules, 1):
        rule_id = free_id(f"{change.id}/{place}", taken)
        taken.add(rule_id)
        remote = change.id if rule.remote_group_id == group.id else rule.remote_group_id
        rules.append(with_generated_id(rule.model_copy(update={"remote_group_id": remote}), rule_id))
    copy = group.model_copy(update={"id": change.id, "security_group_rules": tuple(rules)})
    return following(policy, security_groups=(*policy.security_groups, copy))


def _add_instance(policy: Policy, change: AddInstance) -> Policy:
    group, instance = policy.group(change.security_group), policy.instance(change.instance)
    if group.id in instance.security_groups:
        raise _refusal_at(_GROUP, f"instance {shown(instance.id)} is in security group {shown(group.id)} already")
    return _with_groups(policy, instance, (*instance.security_groups, group.id))


def _remove_instance(policy: Policy, change: RemoveInstance) -> Policy:
    group, instance = policy.group(change.security_group), policy.instance(change.instance)
    if group.id not in instance.security_groups:
        raise _refusal_at(_GROUP, f"instance {shown(instance.id)} is not in security group {shown(group.id)}")
    if len(instance.security_groups) == 1:
        raise _refusal_at(
            _GROUP,
            f"security group {shown(group.id)} is the last one of instance {shown(instance.id)}: an instance always has"
            " at least one",
        )
    return _with_groups(policy, instance, tuple(g for g in instance.security_groups if g != group.id))


_GROUP = ("security_group",)


def _with_groups(policy: Policy, instance: Instance, groups: tuple[str, ...]) -> Policy:
    changed = instance.model_copy(update={"security_groups": groups})
    return following(policy, instances=tuple(changed if i is instance else i for i in policy.instances))


def _update_address_group(policy: Policy, change: UpdateAddressGroup) -> Policy:
    group = policy.address_group(change.id)
    changed = group.model_copy(update={"ip_set": change.ip_set})
    _refuse_any(changed.conflicts())
    if changed == group:
        return policy
    return following(policy, address_groups=tuple(changed if g is group else g for g in policy.address_groups))
