"""Changes of load balancers."""

from pydantic import Field

from dataplane.policy import fields
from dataplane.policy.changes.kind import BALANCERS, Create, Delete, updating
from dataplane.policy.document import LoadBalancer


class CreateLoadBalancer(LoadBalancer, Create):
    """A new load balancer. Live, the port of its interface is opened."""

    kind = "create_load_balancer"
    command = ("balancer", "create")
    example = "elb-1 addresses=192.168.0.100 mac=fa:16:3e:00:0e:01 backends=ecs-a,ecs-b transfer_client_ip=true"
    section = BALANCERS
    part = LoadBalancer


class UpdateLoadBalancer(updating(LoadBalancer)):  # type: ignore[misc]
    """New values for the named fields of a load balancer."""

    kind = "update_load_balancer"
    command = ("balancer", "update")
    example = "elb-1 backends=ecs-a"
    references = (BALANCERS.named_by("id"),)
    thing = BALANCERS.thing
    section = BALANCERS
    part = LoadBalancer

    id: fields.Id = Field(description="Id of the load balancer.")


class DeleteLoadBalancer(Delete):
    """A load balancer is deleted: what comes from it is judged by rules. Live, the port of its interface is closed."""

    kind = "delete_load_balancer"
    command = ("balancer", "delete")
    example = "elb-1"
    references = (BALANCERS.named_by("id"),)
    section = BALANCERS

    id: fields.Id = Field(description="Id of the load balancer.")
