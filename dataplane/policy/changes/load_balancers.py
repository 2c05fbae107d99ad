"""Changes of load balancers."""

from collections.abc import Iterator

from pydantic import Field

from dataplane.policy import fields
from dataplane.policy.changes.kind import (
    BALANCERS,
    Change,
    id_conflicts,
    item_conflicts,
    part_of,
    replaced,
    updating,
    without,
)
from dataplane.policy.mistakes import Conflict
from dataplane.policy.model import LoadBalancer, Policy
from dataplane.policy.sharing import following


class CreateLoadBalancer(LoadBalancer, Change):
    """A new load balancer. Live, the port of its interface is opened."""

    kind = "create_load_balancer"
    command = ("balancer", "create")
    example = "elb-1 addresses=192.168.0.100 mac=fa:16:3e:00:0e:01 backends=ecs-a,ecs-b transfer_client_ip=true"

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"create load balancer {self.id}"

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        taken = [*id_conflicts(policy, BALANCERS, self.id)]
        yield from taken or item_conflicts(policy, BALANCERS, part_of(self, LoadBalancer))

    def made(self, policy: Policy) -> Policy:
        return following(policy, load_balancers=(*policy.load_balancers, part_of(self, LoadBalancer)))


class UpdateLoadBalancer(updating(LoadBalancer)):  # type: ignore[misc]
    """New values for the named fields of a load balancer."""

    kind = "update_load_balancer"
    command = ("balancer", "update")
    example = "elb-1 backends=ecs-a"
    references = (BALANCERS.named_by("id"),)
    thing = "load balancer"
    part = LoadBalancer

    id: fields.Id = Field(description="Id of the load balancer.")

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        updated = policy.load_balancers_by_id[self.id].model_copy(update=self.named)
        yield from updated.conflicts()
        yield from item_conflicts(policy, BALANCERS, updated)

    def made(self, policy: Policy) -> Policy:
        balancer = policy.load_balancers_by_id[self.id]
        updated = balancer.model_copy(update=self.named)
        return policy if updated == balancer else following(policy, **replaced(BALANCERS, policy, balancer, updated))


class DeleteLoadBalancer(Change):
    """A load balancer is deleted: what comes from it is judged by rules. Live, the port of its interface is closed."""

    kind = "delete_load_balancer"
    command = ("balancer", "delete")
    example = "elb-1"
    references = (BALANCERS.named_by("id"),)

    id: fields.Id = Field(description="Id of the load balancer.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"delete load balancer {self.id}"

    def made(self, policy: Policy) -> Policy:
        return following(policy, **without(BALANCERS, policy, policy.load_balancers_by_id[self.id]))
