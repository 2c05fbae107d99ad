"""Ports: the policy's instances as the API has them. They come and go with the policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from dataplane.control.rest import errors
from dataplane.control.rest.caller import Caller, OfCaller
from dataplane.control.rest.changing import DRY_RUN_RESPONSE, Body, Changes, DryRunBody, JsonRoute, change, timestamp
from dataplane.control.rest.fields import Id
from dataplane.control.rest.pages import Limit, Marker, PageInfo, Sorted, Words, any_of
from dataplane.policy.addresses import VirtualAddress, pair_prefix

if TYPE_CHECKING:
    from dataplane.control.service import Service
    from dataplane.policy import Policy
    from dataplane.policy.document import Instance

#: What a port without a MAC of its own answers: none is known.
_DEVICE_OWNER = "compute:dataplane"
_ADDRESS_FILTER = "ip_address="

GroupIds = Annotated[list[Id], Field(min_length=1, max_length=100)]


class InsertedGroups(Body):
    """Security groups that a port joins, behind the `index`-th that it has; without an index at the end."""

    security_groups: GroupIds
    index: Annotated[int, Field(ge=0, le=1000)] | None = None


class InsertGroups(DryRunBody):
    """A port joins security groups."""

    port: InsertedGroups


class RemovedGroups(Body):
    """Security groups that a port leaves."""

    security_groups: GroupIds


class RemoveGroups(DryRunBody):
    """A port leaves security groups."""

    port: RemovedGroups


class PrivateIp(BaseModel):
    """An address of a port."""

    ip_address: str
    subnet_cidr_id: str


class AllowedAddressPair(BaseModel):
    """A virtual IP that a port may hold."""

    ip_address: str
    mac_address: str | None


class PortInfo(BaseModel):
    """A port as it is read back."""

    id: str
    name: str
    description: str
    status: str
    admin_state_up: bool
    mac_address: str | None
    private_ips: list[PrivateIp]
    security_groups: list[str]
    device_id: str
    device_owner: str
    vpc_id: str
    allowed_address_pairs: list[AllowedAddressPair]
    port_security_enabled: bool
    project_id: str
    tenant_id: str
    created_at: str
    updated_at: str


class OnePort(BaseModel):
    """One port."""

    port: PortInfo
    request_id: str


class PortPage(BaseModel):
    """A page of ports."""

    ports: list[PortInfo]
    request_id: str
    page_info: PageInfo


def port_info(service: Service, caller: Caller, instance: Instance) -> dict[str, Any]:
    """An instance as a port."""
    times = service.times.of("instances", instance.id)
    project = instance.project_id or caller.project
    return {
        "id": instance.id,
        "name": instance.name or instance.id,
        "description": instance.description or "",
        "status": "ACTIVE",
        "admin_state_up": True,
        "mac_address": instance.mac,
        "private_ips": [{"ip_address": address, "subnet_cidr_id": instance.vpc} for address in instance.addresses],
        "security_groups": list(instance.security_groups),
        "device_id": instance.id,
        "device_owner": _DEVICE_OWNER,
        "vpc_id": instance.vpc,
        "allowed_address_pairs": [
            {
                "ip_address": pair_prefix(pair),
                "mac_address": pair.mac if isinstance(pair, VirtualAddress) else instance.mac,
            }
            for pair in instance.allowed_address_pairs
        ],
        "port_security_enabled": instance.port_security_enabled,
        "project_id": project,
        "tenant_id": project,
        "created_at": timestamp(times.created),
        "updated_at": timestamp(times.updated),
    }


def _overlap(wanted: list[str] | None, held: set[str]) -> bool:
    return wanted is None or not held.isdisjoint(wanted)


def routes(service: Service) -> APIRouter:
    """The requests about ports."""
    router = APIRouter(tags=["ports"], route_class=JsonRoute)
    listed: Sorted[Instance] = Sorted(lambda policy: policy.instances, lambda instance: instance.id)

    def told(caller: Caller, port_id: str, policy: Policy) -> dict[str, Any]:
        return {"port": port_info(service, caller, caller.instance(policy, port_id))}

    @router.get("/ports", response_model=PortPage)
    def list_ports(
        caller: OfCaller,
        limit: Limit = 2000,
        marker: Marker = None,
        id: Words = None,  # noqa: A002
        name: Words = None,
        admin_state_up: bool | None = None,
        status: Words = None,
        device_id: Words = None,
        device_owner: Words = None,
        device_owner_prefixlike: str | None = None,
        mac_address: Words = None,
        description: Words = None,
        private_ips: Words = None,
        security_groups: Words = None,
        vpc_id: Words = None,
        allowed_address_pairs: Words = None,
        virsubnet_id: Words = None,
        bindinghost_id: Words = None,
        instance_id: Words = None,
        instance_type: Words = None,
    ) -> Response:
        """Ports: repeated keys mean any of them, different keys all of them."""
        addresses = _addresses(private_ips)
        pairs = _addresses(allowed_address_pairs)
        # No port has these here.
        unknown = (virsubnet_id, bindinghost_id, instance_id, instance_type)
        macs = None if mac_address is None else [mac.lower() for mac in mac_address]
        wanted = (
            (any_of(id), lambda port: port.id),
            (any_of(name), lambda port: port.name or port.id),
            (any_of(None if admin_state_up is None else [admin_state_up]), lambda port: True),
            (any_of(status), lambda port: "ACTIVE"),
            (any_of(device_id), lambda port: port.id),
            (any_of(device_owner), lambda port: _DEVICE_OWNER),
            (any_of(macs), lambda port: port.mac),
            (any_of(description), lambda port: port.description or ""),
            (any_of(vpc_id), lambda port: port.vpc),
        )

        def fits(port: Instance) -> bool:
            return (
                caller.sees(port)
                and all(words is None for words in unknown)
                and all(among(value(port)) for among, value in wanted)
                and _DEVICE_OWNER.startswith(device_owner_prefixlike or "")
                and _overlap(addresses, set(port.addresses))
                and _overlap(security_groups, set(port.security_groups))
                and _overlap(pairs, set(map(pair_prefix, port.allowed_address_pairs)))
            )

        found, info = listed.page(service.operations.policy, fits, limit, marker)
        ports = [port_info(service, caller, port) for port in found]
        return caller.answer({"ports": ports, "page_info": info})

    @router.get("/ports/{port_id}", response_model=OnePort)
    def show_port(caller: OfCaller, port_id: str) -> Response:
        """A port."""
        return caller.answer(told(caller, port_id, service.operations.policy))

    @router.put("/ports/{port_id}/insert-security-groups", response_model=OnePort, responses=DRY_RUN_RESPONSE)
    async def add_security_groups(caller: OfCaller, port_id: str, body: InsertGroups) -> Response:
        """A port joins security groups, in their order, as one change."""

        def plan(policy: Policy) -> Changes:
            port, wanted = caller.instance(policy, port_id), body.port
            has = list(port.security_groups)
            for name in wanted.security_groups:
                caller.group(policy, name)
                if name in has:
                    raise errors.bad_value(f"Port {port.id} is in security group {name} already.")
            place = len(has) if wanted.index is None else wanted.index
            return [_with_groups(port, [*has[:place], *wanted.security_groups, *has[place:]])]

        return await change(
            service,
            caller,
            plan,
            lambda policy: told(caller, port_id, policy),
            what=f"port {port_id} joins {', '.join(body.port.security_groups)}",
            dry_run=body.dry_run,
        )

    @router.put("/ports/{port_id}/remove-security-groups", response_model=OnePort, responses=DRY_RUN_RESPONSE)
    async def remove_security_groups(caller: OfCaller, port_id: str, body: RemoveGroups) -> Response:
        """A port leaves security groups, as one change; it keeps at least one."""

        def plan(policy: Policy) -> Changes:
            port, leaving = caller.instance(policy, port_id), body.port.security_groups
            for name in leaving:
                caller.group(policy, name)
                if name not in port.security_groups:
                    raise errors.bad_value(f"Port {port.id} is not in security group {name}.")
            left = [name for name in port.security_groups if name not in leaving]
            if not left:
                raise errors.ApiError(400, errors.LAST_GROUP, f"Port {port.id} needs at least one security group.")
            return [_with_groups(port, left)]

        return await change(
            service,
            caller,
            plan,
            lambda policy: told(caller, port_id, policy),
            what=f"port {port_id} leaves {', '.join(body.port.security_groups)}",
            dry_run=body.dry_run,
        )

    return router


def _addresses(words: list[str] | None) -> list[str] | None:
    """Addresses that are filtered by, written as they are or as ``ip_address=10.0.0.1``."""
    return None if words is None else [word.removeprefix(_ADDRESS_FILTER) for word in words]


def _with_groups(port: Instance, groups: list[str]) -> dict[str, Any]:
    return {"update_instance": {"id": port.id, "security_groups": groups}}
