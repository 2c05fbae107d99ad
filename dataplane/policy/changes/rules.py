"""Changes of rules."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from dataplane.policy import fields, limits
from dataplane.policy.addresses import family
from dataplane.policy.base import BAD
from dataplane.policy.changes.kind import GROUPS, Change, Reference, Update, replaced, updating
from dataplane.policy.consistency import References
from dataplane.policy.defaults import free_id, with_generated_id
from dataplane.policy.document import SecurityGroup
from dataplane.policy.mistakes import Conflict, shown
from dataplane.policy.model import Policy
from dataplane.policy.rule import REMOTES, SecurityGroupRule
from dataplane.policy.services import BOTH, ServiceName, service, service_rules
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
        for conflict in (*rule_id_conflicts(policy, self.rule), *References.to(policy).of_rule(self.rule, group)):
            found = True
            yield conflict.within(("rule",))
        if not found:
            yield from limits.quota_conflicts(group, added=(self.rule,))

    def made(self, policy: Policy) -> Policy:
        group, rule = policy.group(self.security_group), self.rule
        n = len(group.security_group_rules)
        if not rule.id:
            rule = with_generated_id(rule, free_id(f"{group.id}/{n + 1}", policy.rules_by_id))
        return _with_rules(policy, group, n, n, (rule,))


class FastAddRules(Change):
    """Rules for several services at once, at the end of a security group: for one remote, all of them or none.

    A rule for each protocol of a service, of the family of the remote; of both where a remote group does not tell it.
    """

    kind = "fast_add_rules"
    command = ("rule", "fast-add")
    placed = ("security_group", "services")
    example = "sg-web ssh,https,icmp --from 172.16.0.0/24"
    references = (GROUPS.named_by("security_group"),)

    security_group: fields.Id = Field(description="Id of the security group.")
    services: Annotated[tuple[ServiceName, ...], fields.AsTuple] = Field(
        min_length=1, description="Services by name, such as ssh, or protocols with ports: tcp/8000-8010."
    )
    direction: fields.Direction = Field(default="ingress", description="ingress (the default) or egress.")
    ethertype: fields.Ethertype | None = Field(
        default=None, description="IPv4 or IPv6; absent: as the remote, and both for a remote group."
    )
    remote_ip_prefix: fields.Prefix | None = Field(
        default=None, description="The other side: an address or CIDR block. One of the three remotes is needed."
    )
    remote_group_id: fields.Id | None = Field(default=None, description="The other side as a security group.")
    remote_address_group_id: fields.Id | None = Field(default=None, description="The other side as an address group.")
    action: fields.Action = Field(default="allow", description="allow (the default) or deny.")
    priority: fields.Priority = Field(default=1, description="1 (the default) to 100.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"add rules for {', '.join(self.services)} to {self.security_group}"

    def conflicts(self) -> Iterator[Conflict]:
        given = [name for name in REMOTES if getattr(self, name) is not None]
        if not given:
            text = f"no remote is given: write one of {', '.join(REMOTES)}; 0.0.0.0/0 is every IPv4 address"
            yield Conflict((), text)
        elif len(given) > 1:
            text = f"{' and '.join(given)} are given together: one of them is needed"
            yield Conflict((given[-1],), text, at_key=True)
        prefix, ethertype = self.remote_ip_prefix, self.ethertype
        if isinstance(prefix, str) and ethertype in BOTH and ethertype != f"IPv{family(prefix)}":
            text = f"remote_ip_prefix {shown(prefix)} is IPv{family(prefix)} and the ethertype is {ethertype}"
            yield Conflict(("remote_ip_prefix",), text)

    def _rules(self, policy: Policy) -> list[SecurityGroupRule]:
        remote = {name: value for name in REMOTES if (value := getattr(self, name)) is not None}
        more = {"direction": self.direction, "action": self.action, "priority": self.priority}
        written = service_rules(map(service, self.services), remote, self._families(policy), **more)
        return list(map(SecurityGroupRule.model_validate, written))

    def _families(self, policy: Policy) -> tuple[str, ...]:
        if self.ethertype:
            return (self.ethertype,)
        if self.remote_ip_prefix:
            return (f"IPv{family(self.remote_ip_prefix)}",)
        found = policy.address_groups_by_id.get(self.remote_address_group_id or "")
        if found:
            return (f"IPv{found.ip_version}",)
        return BOTH[:1] if self.remote_address_group_id else BOTH

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        if BAD in self.__dict__.values() or BAD in self.services or any(self.conflicts()):
            return
        group, rules = policy.group(self.security_group), self._rules(policy)
        references, found = References.to(policy), dict[Conflict, None]()
        for rule in rules:
            found |= dict.fromkeys(references.of_rule(rule, group))
        yield from found or limits.quota_conflicts(group, added=rules)

    def made(self, policy: Policy) -> Policy:
        group = policy.group(self.security_group)
        n, taken = len(group.security_group_rules), set[str]()
        rules = []
        for place, rule in enumerate(self._rules(policy), n + 1):
            rule_id = free_id(f"{group.id}/{place}", taken, policy.rules_by_id)
            taken.add(rule_id)
            rules.append(with_generated_id(rule, rule_id))
        return _with_rules(policy, group, n, n, tuple(rules))


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
        found = [*updated.conflicts(), *References.to(policy).of_rule(updated, group)]
        yield from found or limits.quota_conflicts(group, removed=(rule,), added=(updated,))

    def made(self, policy: Policy) -> Policy:
        group, rule = policy.rules_by_id[self.id]
        updated = rule.model_copy(update=self.named)
        if updated == rule:
            return policy
        place = policy.rules_by_id.place(self.id)
        return _with_rules(policy, group, place, place + 1, (updated,))


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
        group, _ = policy.rules_by_id[self.id]
        place = policy.rules_by_id.place(self.id)
        return _with_rules(policy, group, place, place + 1, ())


def rule_id_conflicts(policy: Policy, rule: SecurityGroupRule) -> Iterator[Conflict]:
    """Whether the id of a new rule is taken."""
    if isinstance(rule.id, str) and rule.id in policy.rules_by_id:
        owner, _ = policy.rules_by_id[rule.id]
        yield Conflict(("id",), f"rule id {shown(rule.id)} is used already, in security group {shown(owner.id)}")


def _with_rules(
    policy: Policy, group: SecurityGroup, first: int, last: int, rules: tuple[SecurityGroupRule, ...]
) -> Policy:
    return following(policy, **replaced(GROUPS, policy, group, group.with_rules(first, last, rules)))
