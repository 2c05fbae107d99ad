"""Changes of security groups, and of who is in them."""

from collections.abc import Iterable, Iterator
from typing import cast

from pydantic import Field

from dataplane.policy import fields
from dataplane.policy.changes.kind import (
    GROUPS,
    INSTANCES,
    Change,
    Create,
    Delete,
    Use,
    id_conflicts,
    part_of,
    replaced,
    updating,
)
from dataplane.policy.changes.rules import rule_id_conflicts
from dataplane.policy.defaults import free_id, with_generated_id, with_kept_ids
from dataplane.policy.document import SecurityGroup
from dataplane.policy.mistakes import Conflict, shown
from dataplane.policy.model import Policy
from dataplane.policy.structural_sharing import following, with_shared_rules


class CreateGroup(SecurityGroup, Create):
    """A new security group, with the rules that it begins with; no instance is in it."""

    kind = "create_group"
    command = ("group", "create")
    example = 'sg-web name=Web security_group_rules="[{direction: egress}, {direction: ingress, protocol: tcp}]"'
    section = GROUPS
    part = SecurityGroup

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        yield from _rule_ids(policy, part_of(self, SecurityGroup))
        yield from super()._misfits(policy)


class UpdateGroup(updating(SecurityGroup)):  # type: ignore[misc]
    """New values for the named fields of a security group; a list of rules takes the place of all its rules."""

    kind = "update_group"
    command = ("group", "update")
    example = 'sg-web name="Web servers" description=""'
    references = (GROUPS.named_by("id"),)
    thing = GROUPS.thing
    section = GROUPS
    part = SecurityGroup

    id: fields.Id = Field(description="Id of the security group.")

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        yield from _rule_ids(policy, self.with_named(policy))
        yield from super()._misfits(policy)

    def completed(self, policy: Policy) -> SecurityGroup:
        """The group with ids for all rules; those that stay keep theirs."""
        group, updated = policy.group(self.id), self.with_named(policy)
        if "security_group_rules" in self.named:
            groups = with_kept_ids(policy.groups_by_id, replaced(GROUPS, policy, group, updated)[GROUPS.name])
            updated = with_shared_rules(policy, next(g for g in groups if g.id == group.id))
        return cast("SecurityGroup", updated)


class DeleteGroup(Delete):
    """A security group is deleted with its rules; refused while an instance is in it or a rule elsewhere names it."""

    kind = "delete_group"
    command = ("group", "delete")
    example = "sg-web"
    references = (GROUPS.named_by("id"),)
    section = GROUPS

    id: fields.Id = Field(description="Id of the security group.")

    def uses(self, policy: Policy) -> Iterator[Use]:
        """Instances in it, and rules of other groups."""
        yield Use("instance", "is in it", "are in it", [instance.id for instance in policy.members(self.id)])
        rules = [
            rule.id
            for group, rule in policy.rules_by_id.values()
            if rule.remote_group_id == self.id and group.id != self.id
        ]
        yield Use("rule", "names it as remote_group_id", "name it as remote_group_id", rules)


class CloneGroup(Change):
    """A copy of a security group under another id, which no instance is in yet.

    Its rules get ids of their own, and those that name the group itself as their remote name the copy.
    """

    kind = "clone_group"
    command = ("clone",)
    placed = ("security_group", "id")
    example = "sg-web sg-web-2"
    references = (GROUPS.named_by("security_group"),)

    security_group: fields.Id = Field(description="Id of the security group.")
    id: fields.Id = Field(description="Id of the copy.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"clone {self.security_group} as {self.id}"

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        return id_conflicts(policy, GROUPS, self.id)

    def made(self, policy: Policy) -> Policy:
        group = policy.group(self.security_group)
        taken = set(policy.rules_by_id)
        rules = []
        for place, rule in enumerate(group.security_group_rules, 1):
            rule_id = free_id(f"{self.id}/{place}", taken)
            taken.add(rule_id)
            remote = self.id if rule.remote_group_id == group.id else rule.remote_group_id
            rules.append(with_generated_id(rule.model_copy(update={"remote_group_id": remote}), rule_id))
        copy = group.model_copy(update={"id": self.id, "security_group_rules": tuple(rules)})
        return following(policy, security_groups=(*policy.security_groups, copy))


def _rule_ids(policy: Policy, group: SecurityGroup) -> Iterator[Conflict]:
    """The ids of rules that a group is to have against each other, and against those of other groups."""
    seen: set[object] = set()
    for index, rule in enumerate(group.security_group_rules):
        place = ("security_group_rules", index)
        owner, _ = policy.rules_by_id.get(rule.id, (group, rule))
        if not isinstance(rule.id, str) or not rule.id:
            continue
        if rule.id in seen:
            yield Conflict((*place, "id"), f"rule id {shown(rule.id)} is used twice")
        elif owner.id != group.id:
            yield from (c.within(place) for c in rule_id_conflicts(policy, rule))
        seen.add(rule.id)


# ---- who is in them ----


class _Membership(Change):
    """An instance and a security group."""

    placed = ("security_group", "instance")
    example = "sg-web ecs-a"
    references = (GROUPS.named_by("security_group"), INSTANCES.named_by("instance"))

    security_group: fields.Id = Field(description="Id of the security group.")
    instance: fields.Id = Field(description="Id of the instance.")

    def _with_groups(self, policy: Policy, groups: Iterable[str]) -> Policy:
        """The policy with other groups for the instance."""
        instance = policy.instance(self.instance)
        changed = instance.model_copy(update={"security_groups": tuple(groups)})
        return following(policy, **replaced(INSTANCES, policy, instance, changed))


class AddInstance(_Membership):
    """An instance joins a security group, which comes last in its list."""

    kind = "add_instance"
    command = ("group", "add-instance")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"add {self.instance} to {self.security_group}"

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        if self.security_group in policy.instance(self.instance).security_groups:
            group, instance = shown(self.security_group), shown(self.instance)
            yield Conflict(_GROUP, f"instance {instance} is in security group {group} already")

    def made(self, policy: Policy) -> Policy:
        return self._with_groups(policy, (*policy.instance(self.instance).security_groups, self.security_group))


class RemoveInstance(_Membership):
    """An instance leaves a security group."""

    kind = "remove_instance"
    command = ("group", "remove-instance")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"remove {self.instance} from {self.security_group}"

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        groups = policy.instance(self.instance).security_groups
        group, instance = shown(self.security_group), shown(self.instance)
        if self.security_group not in groups:
            yield Conflict(_GROUP, f"instance {instance} is not in security group {group}")
        elif len(groups) == 1:
            yield Conflict(
                _GROUP,
                f"security group {group} is the last one of instance {instance}: an instance always has at least one",
            )

    def made(self, policy: Policy) -> Policy:
        groups = policy.instance(self.instance).security_groups
        return self._with_groups(policy, (group for group in groups if group != self.security_group))


_GROUP = ("security_group",)
