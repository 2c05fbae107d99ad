"""Changes of rules."""

from collections.abc import Iterator

from pydantic import Field

from dataplane.policy import consistency, fields, limits
from dataplane.policy.changes.kind import GROUPS, Change, Reference, Update, replaced, updating
from dataplane.policy.consistency import BAD, References
from dataplane.policy.defaults import free_id, with_generated_id
from dataplane.policy.mistakes import Conflict, shown
from dataplane.policy.model import Policy, SecurityGroup
from dataplane.policy.rule import SecurityGroupRule
from dataplane.policy.structural_sharing import following

_RULE = Reference("id", "rule", "rules_by_id")


class AddRule(Change):
    """A new rule at the end of a security group; it gets an id when it has none."""

    kind = "add_rule"
    command = ("rule", "add")
    placed = ("security_group",)
    within = "rule"
    example = "sg-web direction=ingress protocol=tcp multiport=80,443"
    references = (GROUPS.named_by("security_group"),)

    security_group: fields.Id = Field(description="Id of the security group.")
    rule: SecurityGroupRule = Field(description="The rule, as in the policy document.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"add {f'rule {self.rule.id}' if self.rule.id else 'a rule'} to {self.security_group}"

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        if self.rule is BAD:
            return
        group, found = policy.group(self.security_group), False
        for conflict in (*rule_id_conflicts(policy, self.rule), *References(policy).of_rule(self.rule, group)):
            found = True
            yield conflict.within(("rule",))
        if not found:
            yield from _quota_conflicts(group, (*group.security_group_rules, self.rule))

    def made(self, policy: Policy) -> Policy:
        group, rule = policy.group(self.security_group), self.rule
        rules = group.security_group_rules
        if not rule.id:
            rule = with_generated_id(rule, free_id(f"{group.id}/{len(rules) + 1}", policy.rules_by_id))
        return _with_rules(policy, group, (*rules, rule))


class UpdateRule(updating(SecurityGroupRule, Update)):  # type: ignore[misc]
    """New values for the named fields of a rule; null takes an optional one away, and the other fields stay."""

    kind = "update_rule"
    command = ("rule", "update")
    example = "A01 multiport=443 priority=5"
    references = (_RULE,)
    thing = "rule"
    part = SecurityGroupRule

    id: fields.Id = Field(description="Id of the rule.")

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        group, rule = policy.rules_by_id[self.id]
        updated = rule.model_copy(update=self.named)
        if updated == rule:
            return
        found = [*consistency.rule_conflicts(updated), *References(policy).of_rule(updated, group)]
        yield from found or _quota_conflicts(group, _in_place(group, rule, updated))

    def made(self, policy: Policy) -> Policy:
        group, rule = policy.rules_by_id[self.id]
        updated = rule.model_copy(update=self.named)
        return policy if updated == rule else _with_rules(policy, group, _in_place(group, rule, updated))


class DeleteRule(Change):
    """A rule is taken out of its group."""

    kind = "delete_rule"
    command = ("rule", "delete")
    example = "A01"
    references = (_RULE,)

    id: fields.Id = Field(description="Id of the rule.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"delete rule {self.id}"

    def made(self, policy: Policy) -> Policy:
        group, rule = policy.rules_by_id[self.id]
        return _with_rules(policy, group, tuple(r for r in group.security_group_rules if r is not rule))


def rule_id_conflicts(policy: Policy, rule: SecurityGroupRule) -> Iterator[Conflict]:
    """Whether the id of a new rule is taken."""
    if isinstance(rule.id, str) and rule.id in policy.rules_by_id:
        owner, _ = policy.rules_by_id[rule.id]
        yield Conflict(("id",), f"rule id {shown(rule.id)} is used already, in security group {shown(owner.id)}")


_Rules = tuple[SecurityGroupRule, ...]


def _in_place(group: SecurityGroup, rule: SecurityGroupRule, updated: SecurityGroupRule) -> _Rules:
    return tuple(updated if r is rule else r for r in group.security_group_rules)


def _quota_conflicts(group: SecurityGroup, rules: _Rules) -> Iterator[Conflict]:
    """SPEC 6, of a group with other rules."""
    return limits.quota_conflicts(group.model_copy(update={"security_group_rules": rules}))


def _with_rules(policy: Policy, group: SecurityGroup, rules: _Rules) -> Policy:
    changed = group.model_copy(update={"security_group_rules": rules})
    return following(policy, **replaced(GROUPS, policy, group, changed))
