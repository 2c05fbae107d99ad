"""New rules against the rules that there are: whose their remotes are, who does the same, and how many there may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dataplane.control.rest import errors
from dataplane.policy import limits
from dataplane.policy.changes import parse_change
from dataplane.policy.changes.rules import AddRule

if TYPE_CHECKING:
    from dataplane.control.rest.caller import Caller
    from dataplane.policy import Policy
    from dataplane.policy.consistency import References
    from dataplane.policy.document import SecurityGroup
    from dataplane.policy.rule import SecurityGroupRule

#: Rules of the whole policy.
RULES_MAX = 100_000


def planned(policy: Policy, caller: Caller, group_id: str, values: Mapping[str, Any], rule_id: str) -> dict[str, Any]:
    """The change that adds a rule. Raises ApiError where its group or its remote is not there."""
    caller.group(policy, group_id)
    see_remotes(policy, caller, values)
    return {"add_rule": {"security_group": group_id, "rule": {"id": rule_id, **values}}}


def see_remotes(policy: Policy, caller: Caller, values: Mapping[str, Any]) -> None:
    """Raises ApiError where a rule names a group or an address group that is not the caller's."""
    if name := values.get("remote_group_id"):
        caller.group(policy, name)
    if name := values.get("remote_address_group_id"):
        caller.address_group(policy, name)


def parsed(
    policy: Policy, references: References, group: SecurityGroup, planned: Mapping[str, Any]
) -> SecurityGroupRule:
    """The rule of a planned change. Raises ChangeError, or ApiError where it does not fit its remote."""
    added = parse_change(planned, policy)
    assert isinstance(added, AddRule)
    for conflict in references.of_rule(added.rule, group):
        raise errors.bad_value(conflict.message)
    return added.rule


def refuse_too_many(policy: Policy, group: SecurityGroup, rules: Iterable[SecurityGroupRule]) -> None:
    """Raises ApiError where a group with more rules would have more than it may have (SPEC 6)."""
    new = list(rules)
    if len(policy.rules_by_id) + len(new) > RULES_MAX:
        raise errors.quota(f"The quota of {RULES_MAX:,} rules is used up.")
    changed = group.model_copy(update={"security_group_rules": (*group.security_group_rules, *new)})
    for conflict in limits.quota_conflicts(changed):
        raise errors.quota(conflict.message)


class Duplicates:
    """The rules of a group by what they do, to find one that does the same."""

    def __init__(self, group: SecurityGroup) -> None:
        self._known = {_done(rule): rule.id for rule in group.security_group_rules}

    def find(self, rule: SecurityGroupRule) -> str | None:
        """The id of a rule that does the same; where there is none, this one is known from now on."""
        found = self._known.setdefault(_done(rule), rule.id)
        return found if found != rule.id else None


def _done(rule: SecurityGroupRule) -> tuple[object, ...]:
    """What a rule does, whatever the order of its ports."""
    direction, ethertype, _, *others = rule.effect
    return (direction, ethertype, frozenset(rule.selectors), *others)


def there_already(rule_id: str) -> errors.ApiError:
    """The refusal of a rule that does what another one does."""
    return errors.in_use(f"Security group rule already exists. Rule id is {rule_id}.")
