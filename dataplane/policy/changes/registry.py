"""All kinds of change, and how one is read: its name as the only key.

The file of changes and its schema, requests to a running firewall, `dataplane ctl` and the library are made from this
list; a new kind is a class and a line here.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError, create_model

from dataplane.policy import fields
from dataplane.policy.base import CheckedModel
from dataplane.policy.changes import address_groups, groups, instances, load_balancers, rules
from dataplane.policy.changes.kind import Change
from dataplane.policy.changes.policies import ApplyPolicy
from dataplane.policy.mistakes import ChangeError, Conflict, alternatives
from dataplane.policy.model import Policy
from dataplane.policy.reading.load import diagnose, salvaged

#: The kinds by name, in the order in which people are told of them.
KINDS: dict[str, type[Change]] = {
    kind.kind: kind
    for kind in (
        rules.AddRule,
        rules.UpdateRule,
        rules.DeleteRule,
        rules.FastAddRules,
        groups.CreateGroup,
        groups.UpdateGroup,
        groups.DeleteGroup,
        groups.CloneGroup,
        groups.AddInstance,
        groups.RemoveInstance,
        address_groups.CreateAddressGroup,
        address_groups.UpdateAddressGroup,
        address_groups.DeleteAddressGroup,
        instances.CreateInstance,
        instances.UpdateInstance,
        instances.DeleteInstance,
        load_balancers.CreateLoadBalancer,
        load_balancers.UpdateLoadBalancer,
        load_balancers.DeleteLoadBalancer,
        ApplyPolicy,
    )
}


class _Item(CheckedModel):
    """A change as it is written: its name as the only key."""

    def conflicts(self) -> Iterable[Conflict]:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if not given:
            yield Conflict((), f"no change is given: write one of {alternatives(KINDS)}")
        for name in given[1:]:
            yield Conflict((name,), f"{name} is one change too many: {given[0]} is given already", at_key=True)

    def change(self, base: Path) -> Change:
        """The change; file names are relative to the folder `base`. Raises PolicyError for a bad policy file."""
        value: Change | str = getattr(self, self.kind)
        return ApplyPolicy.of_file(value, base) if isinstance(value, str) else value

    @property
    def kind(self) -> str:
        """The name of the change."""
        return next(name for name in KINDS if getattr(self, name) is not None)


#: A policy is written as the name of its file.
_written: dict[str, Any] = {name: (kind | None, None) for name, kind in KINDS.items()}
_written[ApplyPolicy.kind] = (fields.Text | None, None)
Item: Any = create_model("Item", __base__=_Item, __doc__=_Item.__doc__, **_written)


def parse_change(mapping: Mapping[str, Any], policy: Policy | None = None) -> Change:
    """One change as SPEC 7 writes it, without `at`: ``{"delete_rule": {"id": "A02"}}``.

    `apply_policy` names a file or holds a Policy. Raises ChangeError, or PolicyError for a policy file with mistakes.
    The reasons are then also those that `policy`, which the change is for, has against what is good in it.
    """
    if set(mapping) == {ApplyPolicy.kind} and isinstance(mapping[ApplyPolicy.kind], Policy):
        return ApplyPolicy(policy=mapping[ApplyPolicy.kind])
    value = dict(mapping)
    try:
        change: Change = Item.model_validate(value).change(Path())
    except ValidationError as error:
        found = [*diagnose(Item, value, error, "the change")]
        raise refusal([*found, *(objections(policy, value) if policy else ())]) from None
    return change


def prepare(policy: Policy) -> None:
    """Has what changes are read with, and what a policy is asked when one is made, worked out now."""
    Item.model_rebuild()
    policy.work_out_lookups()


def objections(policy: Policy, value: object) -> list[Conflict]:
    """What a policy has against what is good in a mapping that is no change."""
    found: list[Conflict] = []
    for name, kind in KINDS.items():
        written = value.get(name) if isinstance(value, dict) else None
        if isinstance(written, dict) and kind is not ApplyPolicy:
            found.extend(c.within((name,)) for c in salvaged(kind, written).objections(policy))
    return found


def apply(policy: Policy, change: Change) -> Policy:
    """The policy with a change made. Raises ChangeError, with the reason, for one that is not valid."""
    found = tuple(change.objections(policy))
    if found:
        raise refusal(found)
    return change.made(policy)


def refusal(conflicts: Iterable[Conflict]) -> ChangeError:
    """The refusal of a change for these reasons."""
    found = tuple(conflicts)
    return ChangeError("; ".join(dict.fromkeys(conflict.message for conflict in found)), found)
