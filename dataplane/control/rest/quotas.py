"""How much there may be."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from dataplane.control.rest.address_groups import ADDRESS_GROUPS_MAX, CAPACITY
from dataplane.control.rest.caller import OfCaller
from dataplane.control.rest.new_rules import RULES_MAX
from dataplane.control.rest.security_groups import GROUPS_MAX
from dataplane.policy.limits import GROUPS_PER_INSTANCE, INSTANCES_PER_GROUP, QUOTA


class Quota(BaseModel):
    """How much there may be at most, in all projects together (the last four: of one security group, SPEC 6)."""

    security_group: int = GROUPS_MAX
    security_group_rule: int = RULES_MAX
    secgroup_contain_rules: int = RULES_MAX
    secgroup_referred_by_nic: int = INSTANCES_PER_GROUP
    eni_contain_secgroup: int = GROUPS_PER_INSTANCE
    address_group: int = ADDRESS_GROUPS_MAX
    address_group_contain_ipset: int = CAPACITY
    security_group_contain_ingress_ipv4_composite_rules: int = QUOTA
    security_group_contain_ingress_ipv6_composite_rules: int = QUOTA
    security_group_contain_egress_ipv4_composite_rules: int = QUOTA
    security_group_contain_egress_ipv6_composite_rules: int = QUOTA


class Quotas(BaseModel):
    """The quotas."""

    quota: Quota
    request_id: str


def routes() -> APIRouter:
    """The request about quotas."""
    router = APIRouter(tags=["quotas"])

    @router.get("/vpc/quotas", response_model=Quotas)
    def show_quota(caller: OfCaller) -> Response:
        """How much there may be."""
        return caller.answer({"quota": Quota().model_dump()})

    return router
