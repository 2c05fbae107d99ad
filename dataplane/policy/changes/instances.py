"""Changes of instances."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from dataplane.policy import fields
from dataplane.policy.changes.kind import (
    INSTANCES,
    Change,
    Use,
    id_conflicts,
    item_conflicts,
    part_of,
    replaced,
    still_used,
    updating,
    without,
)
from dataplane.policy.completion import completed
from dataplane.policy.mistakes import Conflict
from dataplane.policy.model import Instance, Policy
from dataplane.policy.sharing import following


class CreateInstance(Instance, Change):
    """A new instance, which joins its security groups. Live, the port of its interface is opened."""

    kind = "create_instance"
    command = ("instance", "create")
    example = "ecs-c addresses=192.168.0.12,fd00::12 mac=fa:16:3e:00:00:03 security_groups=sg-web"

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"create instance {self.id}"

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        taken = [*id_conflicts(policy, INSTANCES, self.id)]
        yield from taken or item_conflicts(policy, INSTANCES, part_of(self, Instance))

    def made(self, policy: Policy) -> Policy:
        sections: dict[str, Any] = {"instances": (*policy.instances, part_of(self, Instance))}
        return following(policy, **sections | completed(policy.model_copy(update=sections)))


class UpdateInstance(updating(Instance)):  # type: ignore[misc]
    """New values for the named fields of an instance: addresses, MAC, virtual IPs, security groups, interface."""

    kind = "update_instance"
    command = ("instance", "update")
    example = "ecs-a security_groups=sg-db,sg-web interface=tap-a"
    references = (INSTANCES.named_by("id"),)
    thing = "instance"
    part = Instance

    id: fields.Id = Field(description="Id of the instance.")

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        updated = policy.instance(self.id).model_copy(update=self.named)
        yield from updated.conflicts()
        yield from item_conflicts(policy, INSTANCES, updated)

    def made(self, policy: Policy) -> Policy:
        instance = policy.instance(self.id)
        updated = instance.model_copy(update=self.named)
        return policy if updated == instance else following(policy, **replaced(INSTANCES, policy, instance, updated))


class DeleteInstance(Change):
    """An instance is deleted, with its connections; refused while it is a backend of a load balancer.

    It leaves its security groups. Live, the port of its interface is closed.
    """

    kind = "delete_instance"
    command = ("instance", "delete")
    example = "ecs-a"
    references = (INSTANCES.named_by("id"),)

    id: fields.Id = Field(description="Id of the instance.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"delete instance {self.id}"

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        balancers = [balancer.id for balancer in policy.load_balancers if self.id in balancer.backends]
        yield from still_used(
            "instance", self.id, Use("load balancer", "has it as a backend", "have it as a backend", balancers)
        )

    def made(self, policy: Policy) -> Policy:
        return following(policy, **without(INSTANCES, policy, policy.instance(self.id)))
