"""Address groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

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
from dataplane.policy.changes.address_groups import DeleteAddressGroup
from dataplane.policy.fields import SetEntry

if TYPE_CHECKING:
    from dataplane.control.service import Service
    from dataplane.policy import Policy
    from dataplane.policy.document import AddressGroup

ADDRESS_GROUPS_MAX = 10_000
#: Entries of a group that says nothing of its capacity.
CAPACITY = 20

_ENTRY = TypeAdapter(SetEntry)

Entries = Annotated[list[str], Field(max_length=100_000)]
Capacity = Annotated[int, Field(ge=0, le=100_000)]


class ExtraEntry(Body):
    """An entry with a remark."""

    ip: str
    remarks: Annotated[str, Field(max_length=255)] | None = None


class AddressGroupFields(Body):
    """What an address group says; one of `ip_set` and `ip_extra_set`."""

    name: Name | None = None
    description: Description | None = None
    ip_set: Entries | None = None
    ip_extra_set: Annotated[list[ExtraEntry], Field(max_length=100_000)] | None = None
    max_capacity: Capacity | None = None

    def entries(self) -> tuple[list[str], dict[str, str]] | None:
        """The entries in their canonical form, and their remarks; None where none are given. Raises ApiError."""
        if self.ip_set is not None and self.ip_extra_set is not None:
            raise errors.bad_value("ip_set and ip_extra_set are given together: one of them is needed.")
        given = [ExtraEntry(ip=ip) for ip in self.ip_set] if self.ip_set is not None else self.ip_extra_set
        if given is None:
            return None
        remarks: dict[str, str | None] = {}
        for entry in given:
            text = _canonical(entry.ip)
            if text in remarks:
                raise errors.bad_value(f"{text} is in the set twice.")
            remarks[text] = entry.remarks
        return list(remarks), {text: remark for text, remark in remarks.items() if remark}


def _canonical(entry: str) -> str:
    try:
        return _ENTRY.validate_python(entry)
    except ValidationError as error:
        raise errors.bad_value(f"{entry} {error.errors(include_url=False)[0]['msg']}.") from None


class NewAddressGroup(AddressGroupFields):
    """A set of addresses of one IP version, which stays what it is."""

    name: Name
    ip_version: int
    enterprise_project_id: Id | None = None


class CreateAddressGroup(DryRunBody):
    """A new address group."""

    address_group: NewAddressGroup


class UpdateAddressGroup(DryRunBody):
    """Other values for some fields of an address group; a set takes the place of the one before."""

    address_group: AddressGroupFields


class ExtraEntryInfo(BaseModel):
    """An entry with its remark."""

    ip: str
    remarks: str


class AddressGroupInfo(BaseModel):
    """An address group as it is read back."""

    id: str
    name: str
    description: str
    max_capacity: int
    ip_set: list[str]
    ip_extra_set: list[ExtraEntryInfo]
    ip_version: int
    created_at: str
    updated_at: str
    tenant_id: str
    project_id: str
    enterprise_project_id: str
    tags: list[TagBody]
    status: str
    status_message: str


class OneAddressGroup(BaseModel):
    """One address group."""

    address_group: AddressGroupInfo
    request_id: str


class AddressGroupPage(BaseModel):
    """A page of address groups."""

    address_groups: list[AddressGroupInfo]
    request_id: str
    page_info: PageInfo


class Dependency(BaseModel):
    """What uses an address group: a security group."""

    type: str
    instance_id: str
    instance_name: str


class AddressGroupDependency(BaseModel):
    """An address group with what uses it."""

    id: str
    enterprise_project_id: str
    dependency: list[Dependency]


class DependencyPage(BaseModel):
    """Address groups with what uses them."""

    address_groups: list[AddressGroupDependency]
    request_id: str
    page_info: PageInfo


def address_group_info(service: Service, caller: Caller, group: AddressGroup) -> dict[str, Any]:
    """An address group as it is read back."""
    times = service.times.of("address_groups", group.id)
    project = group.project_id or caller.project
    return {
        "id": group.id,
        "name": group.name or group.id,
        "description": group.description or "",
        "max_capacity": _capacity(group),
        "ip_set": list(group.ip_set),
        "ip_extra_set": [{"ip": ip, "remarks": group.remarks.get(ip, "")} for ip in group.ip_set],
        "ip_version": group.ip_version,
        "created_at": timestamp(times.created),
        "updated_at": timestamp(times.updated),
        "tenant_id": project,
        "project_id": project,
        "enterprise_project_id": enterprise_project(group),
        "tags": tags_of(group),
        "status": "NORMAL",
        "status_message": "",
    }


def _capacity(group: AddressGroup) -> int:
    # A policy file knows no capacity, and may have written more.
    return max(CAPACITY, len(group.ip_set)) if group.max_capacity is None else group.max_capacity


def _refuse_too_full(entries: int, capacity: int) -> None:
    if entries > capacity:
        raise errors.quota(f"The address group has a capacity of {capacity} and would have {entries} entries.")


def routes(service: Service) -> APIRouter:
    """The requests about address groups."""
    router = APIRouter(tags=["address groups"], route_class=JsonRoute)
    listed: Sorted[AddressGroup] = Sorted(lambda policy: policy.address_groups, lambda group: group.id)
    path = "/vpc/address-groups"

    def told(caller: Caller, group_id: str, policy: Policy) -> dict[str, Any]:
        return {"address_group": address_group_info(service, caller, caller.address_group(policy, group_id))}

    @router.get(path, response_model=AddressGroupPage)
    def list_address_group(
        caller: OfCaller,
        limit: Limit = 2000,
        marker: Marker = None,
        id: Words = None,  # noqa: A002
        name: Words = None,
        ip_version: int | None = None,
        description: Words = None,
        enterprise_project_id: str | None = None,
    ) -> Response:
        """Address groups: repeated keys mean any of them, different keys all of them."""
        ids, names, descriptions = any_of(id), any_of(name), any_of(description)
        in_project = in_enterprise_project(enterprise_project_id)
        versions = any_of(None if ip_version is None else [ip_version])

        def fits(group: AddressGroup) -> bool:
            return (
                caller.sees(group)
                and ids(group.id)
                and names(group.name or group.id)
                and versions(group.ip_version)
                and descriptions(group.description or "")
                and in_project(group)
            )

        found, info = listed.page(service.operations.policy, fits, limit, marker)
        groups = [address_group_info(service, caller, group) for group in found]
        return caller.answer({"address_groups": groups, "page_info": info})

    @router.post(path, status_code=201, response_model=OneAddressGroup, responses=DRY_RUN_RESPONSE)
    async def create_address_group(caller: OfCaller, body: CreateAddressGroup) -> Response:
        """A new address group."""
        group_id, wanted = str(uuid4()), body.address_group

        def plan(policy: Policy) -> Changes:
            if len(policy.address_groups) >= ADDRESS_GROUPS_MAX:
                raise errors.quota(f"The quota of {ADDRESS_GROUPS_MAX:,} address groups is used up.")
            entries, remarks = wanted.entries() or ([], {})
            capacity = CAPACITY if wanted.max_capacity is None else wanted.max_capacity
            _refuse_too_full(len(entries), capacity)
            given = wanted.model_dump(exclude={"ip_set", "ip_extra_set"}, exclude_none=True)
            given |= {"id": group_id, "project_id": caller.project, "max_capacity": capacity}
            return [{"create_address_group": given | {"ip_set": entries, "remarks": remarks}}]

        return await change(
            service,
            caller,
            plan,
            lambda policy: told(caller, group_id, policy),
            what=f"new address group {wanted.name}",
            dry_run=body.dry_run,
            status=201,
        )

    @router.get(f"{path}/{{address_group_id}}", response_model=OneAddressGroup)
    def show_address_group(caller: OfCaller, address_group_id: str) -> Response:
        """An address group."""
        return caller.answer(told(caller, address_group_id, service.operations.policy))

    @router.put(f"{path}/{{address_group_id}}", response_model=OneAddressGroup, responses=DRY_RUN_RESPONSE)
    async def update_address_group(caller: OfCaller, address_group_id: str, body: UpdateAddressGroup) -> Response:
        """Another name, description, capacity or set of addresses."""

        def plan(policy: Policy) -> Changes:
            group, wanted = caller.address_group(policy, address_group_id), body.address_group
            given = wanted.model_dump(exclude={"ip_set", "ip_extra_set"}, exclude_none=True)
            found = wanted.entries()
            if found is not None:
                entries, remarks = found
                kept = {ip: group.remarks[ip] for ip in entries if ip in group.remarks}
                given |= {"ip_set": entries, "remarks": remarks if wanted.ip_extra_set is not None else kept}
            size = len(group.ip_set if found is None else found[0])
            _refuse_too_full(size, given.get("max_capacity", _capacity(group)))
            return [{"update_address_group": {"id": group.id, **given}}] if given else []

        return await change(
            service,
            caller,
            plan,
            lambda policy: told(caller, address_group_id, policy),
            what=f"update of address group {address_group_id}",
            dry_run=body.dry_run,
        )

    @router.delete(f"{path}/{{address_group_id}}", status_code=204, responses=DRY_RUN_RESPONSE)
    async def delete_address_group(caller: OfCaller, address_group_id: str, dry_run: OnlyDryRun) -> Response:
        """An address group is deleted; refused while a rule names it."""

        def plan(policy: Policy) -> Changes:
            group = caller.address_group(policy, address_group_id)
            if used := caller.uses(policy, DeleteAddressGroup(id=group.id).uses(policy)):
                raise errors.ApiError(409, errors.ADDRESS_GROUP_IN_USE, f"Address group {group.id} in use: {used}.")
            return [{"delete_address_group": {"id": group.id}}]

        return await change(
            service,
            caller,
            plan,
            what=f"deletion of address group {address_group_id}",
            dry_run=dry_run,
        )

    @router.delete(f"{path}/{{address_group_id}}/force", status_code=204, responses=DRY_RUN_RESPONSE)
    async def delete_ip_address_group_force(caller: OfCaller, address_group_id: str, dry_run: OnlyDryRun) -> Response:
        """An address group is deleted with the rules that name it, as one change."""

        def plan(policy: Policy) -> Changes:
            group = caller.address_group(policy, address_group_id)
            naming = [found for found in policy.rules_by_id.values() if found[1].remote_address_group_id == group.id]
            if any(not caller.sees(owner) for owner, _ in naming):
                raise errors.ApiError(
                    409, errors.ADDRESS_GROUP_IN_USE, f"Address group {group.id} in use by another project."
                )
            rules = [{"delete_rule": {"id": rule.id}} for _, rule in naming]
            return [*rules, {"delete_address_group": {"id": group.id}}]

        return await change(
            service,
            caller,
            plan,
            what=f"forced deletion of address group {address_group_id}",
            dry_run=dry_run,
        )

    @router.get("/vpc/list-address-groups-dependency", response_model=DependencyPage)
    def list_address_groups_dependency(
        caller: OfCaller,
        id: str | None = None,  # noqa: A002
        enterprise_project_id: str | None = None,
    ) -> Response:
        """Address groups with the security groups whose rules name them."""
        policy = service.operations.policy
        users: dict[str, list[dict[str, str]]] = {}
        for group in caller.of(policy.security_groups):
            used = {"type": "sg", "instance_id": group.id, "instance_name": group.name or group.id}
            for name in group.remote_address_groups:
                users.setdefault(name, []).append(used)
        found = [
            {
                "id": group.id,
                "enterprise_project_id": enterprise_project(group),
                "dependency": users.get(group.id, []),
            }
            for group in sorted(caller.of(policy.address_groups), key=lambda group: group.id)
            if id in (None, group.id) and enterprise_project_id in (None, enterprise_project(group))
        ]
        info = {"previous_marker": found[0]["id"] if found else None, "current_count": len(found)}
        return caller.answer({"address_groups": found, "page_info": info})

    return router
