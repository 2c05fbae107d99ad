"""Security groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from dataplane.control.rest import errors
from dataplane.control.rest.caller import Caller, OfCaller
from dataplane.control.rest.changing import (
    DRY_RUN_RESPONSE,
    Body,
    Changes,
    DryRunBody,
    JsonRoute,
    OnlyDryRun,
    change,
    timestamp,
)
from dataplane.control.rest.fields import (
    Description,
    Id,
    Name,
    TagBody,
    enterprise_project,
    in_enterprise_project,
    tags_of,
)
from dataplane.control.rest.pages import Limit, Marker, PageInfo, Sorted, Words, any_of
from dataplane.control.rest.rules import RuleInfo, rule_info
from dataplane.policy.changes.groups import DeleteGroup
from dataplane.policy.document import DEFAULT_GROUP

if TYPE_CHECKING:
    from dataplane.control.service import Service
    from dataplane.policy import Policy
    from dataplane.policy.document import SecurityGroup

GROUPS_MAX = 10_000


class NewGroup(Body):
    """A security group; it begins with rules that let its own instances in and everything out."""

    name: Name
    description: Description | None = None
    enterprise_project_id: Id | None = None
    tags: Annotated[list[TagBody], Field(max_length=20)] | None = None


class CreateGroup(DryRunBody):
    """A new security group."""

    security_group: NewGroup


class GroupUpdate(Body):
    """Fields with other values."""

    name: Name | None = None
    description: Description | None = None


class UpdateGroup(DryRunBody):
    """Other values for some fields of a security group."""

    security_group: GroupUpdate


class CloneGroup(DryRunBody):
    """An extension: a copy of a security group, which no port is in."""

    security_group: GroupUpdate = GroupUpdate()


class GroupHead(BaseModel):
    """A security group without its rules."""

    id: str
    name: str
    description: str
    project_id: str
    created_at: str
    updated_at: str
    enterprise_project_id: str
    tags: list[TagBody]


class GroupInfo(GroupHead):
    """A security group with its rules."""

    security_group_rules: list[RuleInfo]


class OneGroup(BaseModel):
    """One security group."""

    security_group: GroupInfo
    request_id: str


class GroupPage(BaseModel):
    """A page of security groups."""

    security_groups: list[GroupHead]
    request_id: str
    page_info: PageInfo


def group_head(service: Service, caller: Caller, group: SecurityGroup) -> dict[str, Any]:
    """A security group without its rules."""
    times = service.times.of("security_groups", group.id)
    return {
        "id": group.id,
        "name": group.name or group.id,
        "description": group.description or "",
        "project_id": group.project_id or caller.project,
        "created_at": timestamp(times.created),
        "updated_at": timestamp(times.updated),
        "enterprise_project_id": enterprise_project(group),
        "tags": tags_of(group),
    }


def group_info(service: Service, caller: Caller, group: SecurityGroup) -> dict[str, Any]:
    """A security group with its rules."""
    rules = [rule_info(service, caller, group, rule) for rule in group.security_group_rules]
    return {**group_head(service, caller, group), "security_group_rules": rules}


def first_rules(group_id: str) -> list[dict[str, Any]]:
    """What a new group begins with: ingress from itself, egress to any address, IPv4 and IPv6, priority 100."""
    return [
        {
            "id": str(uuid4()),
            "direction": direction,
            "ethertype": ethertype,
            "priority": 100,
            **({"remote_group_id": group_id} if direction == "ingress" else {"remote_ip_prefix": anywhere}),
        }
        for direction in ("ingress", "egress")
        for ethertype, anywhere in (("IPv4", "0.0.0.0/0"), ("IPv6", "::/0"))
    ]


def _refuse_default(name: str | None) -> None:
    if name == DEFAULT_GROUP:
        raise errors.bad_value("No other security group can have the name default.")


def _refuse_too_many(policy: Policy) -> None:
    if len(policy.security_groups) >= GROUPS_MAX:
        raise errors.quota(f"The quota of {GROUPS_MAX:,} security groups is used up.")


def routes(service: Service) -> APIRouter:
    """The requests about security groups."""
    router = APIRouter(tags=["security groups"], route_class=JsonRoute)
    listed: Sorted[SecurityGroup] = Sorted(lambda policy: policy.security_groups, lambda group: group.id)
    path = "/vpc/security-groups"

    def told(caller: Caller, group_id: str, policy: Policy) -> dict[str, Any]:
        return {"security_group": group_info(service, caller, caller.group(policy, group_id))}

    @router.get(path, response_model=GroupPage)
    def list_security_groups(
        caller: OfCaller,
        limit: Limit = 2000,
        marker: Marker = None,
        id: Words = None,  # noqa: A002
        name: Words = None,
        description: Words = None,
        enterprise_project_id: str | None = None,
    ) -> Response:
        """Security groups, without their rules: repeated keys mean any of them, different keys all of them."""
        ids, names, descriptions = any_of(id), any_of(name), any_of(description)
        in_project = in_enterprise_project(enterprise_project_id)

        def fits(group: SecurityGroup) -> bool:
            return (
                caller.sees(group)
                and ids(group.id)
                and names(group.name or group.id)
                and descriptions(group.description or "")
                and in_project(group)
            )

        found, info = listed.page(service.operations.policy, fits, limit, marker)
        groups = [group_head(service, caller, group) for group in found]
        return caller.answer({"security_groups": groups, "page_info": info})

    @router.post(path, status_code=201, response_model=OneGroup, responses=DRY_RUN_RESPONSE)
    async def create_security_group(caller: OfCaller, body: CreateGroup) -> Response:
        """A new security group, with the rules that each begins with."""
        group_id, wanted = str(uuid4()), body.security_group

        def plan(policy: Policy) -> Changes:
            _refuse_default(wanted.name)
            _refuse_too_many(policy)
            given = wanted.model_dump(exclude_none=True)
            made = {"id": group_id, "project_id": caller.project, "security_group_rules": first_rules(group_id)}
            return [{"create_group": made | given}]

        return await change(
            service,
            caller,
            plan,
            lambda policy: told(caller, group_id, policy),
            what=f"new security group {wanted.name}",
            dry_run=body.dry_run,
            status=201,
        )

    @router.get(f"{path}/{{security_group_id}}", response_model=OneGroup)
    def show_security_group(caller: OfCaller, security_group_id: str) -> Response:
        """A security group with its rules."""
        return caller.answer(told(caller, security_group_id, service.operations.policy))

    @router.put(f"{path}/{{security_group_id}}", response_model=OneGroup, responses=DRY_RUN_RESPONSE)
    async def update_security_group(caller: OfCaller, security_group_id: str, body: UpdateGroup) -> Response:
        """Another name or description."""

        def plan(policy: Policy) -> Changes:
            group = caller.group(policy, security_group_id)
            wanted = body.security_group
            if group.id == DEFAULT_GROUP and wanted.name not in (None, group.name or group.id):
                raise errors.bad_value("The security group default cannot be renamed.")
            if group.id != DEFAULT_GROUP:
                _refuse_default(wanted.name)
            return [{"update_group": {"id": group.id, **wanted.model_dump(exclude_none=True)}}]

        return await change(
            service,
            caller,
            plan,
            lambda policy: told(caller, security_group_id, policy),
            what=f"update of security group {security_group_id}",
            dry_run=body.dry_run,
        )

    @router.delete(f"{path}/{{security_group_id}}", status_code=204, responses=DRY_RUN_RESPONSE)
    async def delete_security_group(caller: OfCaller, security_group_id: str, dry_run: OnlyDryRun) -> Response:
        """A security group is deleted; refused while a port is in it or a rule of another group names it."""

        def plan(policy: Policy) -> Changes:
            group = caller.group(policy, security_group_id)
            if group.id == DEFAULT_GROUP:
                raise errors.bad_value("The security group default cannot be deleted.")
            deletion = DeleteGroup(id=group.id)
            if used := caller.uses(policy, deletion.uses(policy)):
                raise errors.in_use(f"Security group {group.id} in use: {used}.")
            return [{"delete_group": {"id": group.id}}]

        return await change(
            service,
            caller,
            plan,
            what=f"deletion of security group {security_group_id}",
            dry_run=dry_run,
        )

    @router.post(
        f"{path}/{{security_group_id}}/clone", status_code=201, response_model=OneGroup, responses=DRY_RUN_RESPONSE
    )
    async def clone_security_group(
        caller: OfCaller, security_group_id: str, body: CloneGroup | None = None
    ) -> Response:
        """An extension: a copy of a security group, with rules of its own."""
        body, group_id = body or CloneGroup(), str(uuid4())

        def plan(policy: Policy) -> Changes:
            group = caller.group(policy, security_group_id)
            _refuse_too_many(policy)
            given = body.security_group.model_dump(exclude_none=True)
            _refuse_default(given.setdefault("name", f"{(group.name or group.id)[:58]}-copy"))
            return [
                {"clone_group": {"security_group": group.id, "id": group_id}},
                {"update_group": {"id": group_id, "project_id": caller.project, **given}},
            ]

        return await change(
            service,
            caller,
            plan,
            lambda policy: told(caller, group_id, policy),
            what=f"clone of security group {security_group_id}",
            dry_run=body.dry_run,
            status=201,
        )

    return router
