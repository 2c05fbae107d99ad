"""Changes of instances."""

from collections.abc import Iterator

from pydantic import Field

from dataplane.policy import fields
from dataplane.policy.changes.kind import INSTANCES, Create, Delete, Use, updating
from dataplane.policy.document import Instance
from dataplane.policy.model import Policy


class CreateInstance(Instance, Create):
    """A new instance, which joins its security groups. Live, the port of its interface is opened."""

    kind = "create_instance"
    command = ("instance", "create")
    example = "ecs-c addresses=192.168.0.12,fd00::12 mac=fa:16:3e:00:00:03 security_groups=sg-web"
    section = INSTANCES
    part = Instance


class UpdateInstance(updating(Instance)):  # type: ignore[misc]
    """New values for the named fields of an instance: addresses, MAC, virtual IPs, security groups, interface."""

    kind = "update_instance"
    command = ("instance", "update")
    example = "ecs-a security_groups=sg-db,sg-web interface=tap-a"
    references = (INSTANCES.named_by("id"),)
    thing = INSTANCES.thing
    section = INSTANCES
    part = Instance

    id: fields.Id = Field(description="Id of the instance.")


class DeleteInstance(Delete):
    """An instance is deleted, with its connections; refused while it is a backend of a load balancer.

    It leaves its security groups. Live, the port of its interface is closed.
    """

    kind = "delete_instance"
    command = ("instance", "delete")
    example = "ecs-a"
    references = (INSTANCES.named_by("id"),)
    section = INSTANCES

    id: fields.Id = Field(description="Id of the instance.")

    def uses(self, policy: Policy) -> Iterator[Use]:
        """Load balancers that it is behind."""
        balancers = [balancer.id for balancer in policy.load_balancers if self.id in balancer.backends]
        yield Use("load balancer", "has it as a backend", "have it as a backend", balancers)
