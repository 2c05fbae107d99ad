"""What the cloud's API does not have, under ``/v3/{project_id}/dataplane``: instances, explain, a shadow, what if.

It is about the policy as a whole, with the fields of the policy document and the answers of `dataplane ctl`.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from dataplane.control import requests
from dataplane.control.answers import FlowKnown
from dataplane.control.rest import errors
from dataplane.control.rest.caller import Caller, OfWholeCaller
from dataplane.control.rest.changing import (
    DRY_RUN_RESPONSE,
    Body,
    Changes,
    DryRunBody,
    JsonRoute,
    OnlyDryRun,
    change,
    would_be_done,
)
from dataplane.control.rest.errors import as_api_error
from dataplane.policy.document import Instance

if TYPE_CHECKING:
    from dataplane.control.requests import Request
    from dataplane.control.service import Service
    from dataplane.policy import Policy

#: Explains a packet: its text and where it is seen make the question, which what is known of its flow answers.
Question = Callable[[str], dict[str, Any]]
Explain = Callable[[str, str | None, bytes], dict[str, Any]]


class PacketBody(Body):
    """A packet as `dataplane explain` takes it, and the instance at whose interface it is seen."""

    packet: Annotated[str, Field(max_length=500, examples=["tcp 10.0.0.5:4000 > 192.168.0.10:22 S"])]
    at: str | None = None


class WhatIf(Body):
    """Changes as SPEC 7 writes them, or another policy as a document; one of the two."""

    changes: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=1000)] | None = None
    policy: dict[str, Any] | None = None


class ShadowBody(Body):
    """A policy as a document."""

    policy: dict[str, Any]
    name: Annotated[str, Field(max_length=255)] = "api"


class InstanceBody(DryRunBody):
    """An instance, with the fields of the policy document."""

    instance: dict[str, Any]


class Answer(BaseModel):
    """What `dataplane ctl` prints with ``--json``, and the request's number."""

    request_id: str


def routes(service: Service, explanation: tuple[Question, Explain] | None) -> APIRouter:
    """The extensions; without an `explanation` packets are not explained."""
    router = APIRouter(prefix="/dataplane", tags=["extensions"], route_class=JsonRoute)

    async def answer(caller: Caller, request: Request) -> Response:
        try:
            told = await service.answer(request, caller.asker)
        except Exception as error:
            raise as_api_error(service, error) from error
        return caller.answer(told)

    @router.post("/explain", response_model=Answer)
    async def explain(caller: OfWholeCaller, body: PacketBody) -> Response:
        """What the firewall would do with a packet now, and why (SPEC 8.3). It changes nothing."""
        if explanation is None:
            raise errors.bad_value("Packets are not explained here.")
        question, explained = explanation
        try:
            asked = await asyncio.to_thread(question, body.packet)
            request = requests.FlowState.model_validate({"command": "flow", **asked})
            known: FlowKnown = await service.answer(request, caller.asker)
            state = base64.b64decode(known["state"])
            told = await asyncio.to_thread(explained, body.packet, body.at, state)
        except Exception as error:
            raise as_api_error(service, error) from error
        return caller.answer({**told, "generation": known["generation"]})

    @router.post("/what-if", response_model=Answer)
    async def what_if(caller: OfWholeCaller, body: WhatIf) -> Response:
        """What changes, or another policy, would disconnect. Nothing is changed."""
        if (body.changes is None) == (body.policy is None):
            raise errors.bad_value("One of changes and policy is needed.")
        if body.policy is not None:
            return await answer(caller, requests.Difference(command="difference", policy=body.policy))
        return await answer(caller, requests.ChangePolicy(command="change", change=body.changes or [], dry_run=True))

    @router.get("/shadow", response_model=Answer)
    async def shadow_report(caller: OfWholeCaller, top: Annotated[int, Query(ge=0, le=10_000)] = 1000) -> Response:
        """What the shadow has judged otherwise."""
        return await answer(caller, requests.Shadow(command="shadow", action="report", top=top))

    @router.put("/shadow", response_model=Answer)
    async def begin_shadow(caller: OfWholeCaller, body: ShadowBody) -> Response:
        """Another policy judges beside the one in force, and enforces nothing."""
        return await answer(
            caller, requests.Shadow(command="shadow", action="begin", policy=body.policy, name=body.name)
        )

    @router.delete("/shadow", status_code=204, responses=DRY_RUN_RESPONSE)
    async def end_shadow(caller: OfWholeCaller, dry_run: OnlyDryRun) -> Response:
        """The shadow ends."""
        if dry_run:
            return would_be_done(None, caller, service.operations.policy)
        await answer(caller, requests.Shadow(command="shadow", action="end"))
        return Response(status_code=204)

    @router.get("/status", response_model=Answer)
    async def status(caller: OfWholeCaller) -> Response:
        """The firewall at a glance."""
        return await answer(caller, requests.Status(command="status"))

    _instances(router, service)
    return router


def _instances(router: APIRouter, service: Service) -> None:
    """Instances with all their fields; as ports they are read and put into groups by the API itself."""

    def told(instance_id: str, policy: Policy) -> dict[str, Any]:
        found = policy.instances_by_id.get(instance_id)
        if found is None:
            raise errors.not_found("instance", instance_id)
        return {"instance": _written(found)}

    @router.get("/instances", response_model=Answer)
    def list_instances(caller: OfWholeCaller) -> Response:
        """The instances of the policy."""
        found = [_written(instance) for instance in service.operations.policy.instances]
        return caller.answer({"instances": found})

    @router.get("/instances/{instance_id}", response_model=Answer)
    def show_instance(caller: OfWholeCaller, instance_id: str) -> Response:
        """An instance."""
        return caller.answer(told(instance_id, service.operations.policy))

    @router.post("/instances", status_code=201, response_model=Answer)
    async def create_instance(caller: OfWholeCaller, body: InstanceBody) -> Response:
        """A new instance; live, the port of its interface is opened."""
        instance_id = str(body.instance.get("id", ""))

        def plan(policy: Policy) -> Changes:
            if instance_id in policy.instances_by_id:
                raise errors.in_use(f"Instance {instance_id} already exists.")
            return [{"create_instance": body.instance}]

        return await change(
            service,
            caller,
            plan,
            lambda policy: told(instance_id, policy),
            what=f"new instance {instance_id}",
            dry_run=body.dry_run,
            status=201,
        )

    @router.put("/instances/{instance_id}", response_model=Answer)
    async def update_instance(caller: OfWholeCaller, instance_id: str, body: InstanceBody) -> Response:
        """Other values for some fields of an instance."""

        def plan(policy: Policy) -> Changes:
            told(instance_id, policy)
            return [{"update_instance": {**body.instance, "id": instance_id}}]

        return await change(
            service,
            caller,
            plan,
            lambda policy: told(instance_id, policy),
            what=f"update of instance {instance_id}",
            dry_run=body.dry_run,
        )

    @router.delete("/instances/{instance_id}", status_code=204, responses=DRY_RUN_RESPONSE)
    async def delete_instance(caller: OfWholeCaller, instance_id: str, dry_run: OnlyDryRun) -> Response:
        """An instance is deleted, with its connections; refused while it is a load balancer's backend."""

        def plan(policy: Policy) -> Changes:
            told(instance_id, policy)
            balancers = [balancer.id for balancer in policy.load_balancers if instance_id in balancer.backends]
            if balancers:
                raise errors.in_use(f"Instance {instance_id} in use: it is a backend of {', '.join(balancers)}.")
            return [{"delete_instance": {"id": instance_id}}]

        return await change(service, caller, plan, what=f"deletion of instance {instance_id}", dry_run=dry_run)


def _written(instance: Instance) -> dict[str, Any]:
    return instance.model_dump(mode="json", exclude_defaults=True)
