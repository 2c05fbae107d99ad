"""Who makes a request, and what of the policy is his."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import Depends, Path, Request
from fastapi.responses import JSONResponse

from dataplane.control.keys import ANY_PROJECT
from dataplane.control.rest.errors import NOT_ALLOWED, ApiError, bad_value, not_found
from dataplane.control.signature import READING
from dataplane.terminal import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dataplane.control.audit import Asker
    from dataplane.policy import Policy
    from dataplane.policy.changes.kind import Use
    from dataplane.policy.document import AddressGroup, Instance, SecurityGroup
    from dataplane.policy.rule import SecurityGroupRule

T = TypeVar("T")

ProjectId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="The project that the request is for.")]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a request comes from, and what he may do.

    `project` is his, or ``*`` for all; `sees_all` where nothing in the policy is hidden from him.
    """

    asker: Asker
    project: str
    read_only: bool
    sees_all: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """An identity in a project: what the policy gives no project belongs to every one, all else to its own."""

    asker: Asker
    project: str
    sees_all: bool
    request_id: str

    def answer(self, told: Mapping[str, Any], status: int = 200) -> JSONResponse:
        """An answer to his request, with its number."""
        return JSONResponse({**told, "request_id": self.request_id}, status)

    def sees(self, item: Any) -> bool:
        """Whether a group, an address group or an instance is his."""
        return item.project_id in (None, self.project)

    def names(self, item: Any) -> bool:
        """Whether he may be told of it by its name."""
        return self.sees_all or self.sees(item)

    def uses(self, policy: Policy, uses: Iterable[Use]) -> str:
        """Who uses something, in words; those of other projects are only counted. Empty: nobody does."""
        told: list[str] = []
        for use in uses:
            his = [user for user in use.users if self._names_user(policy, use.noun, user)]
            if his:
                told.append(str(replace(use, users=his)))
            if others := len(use.users) - len(his):
                told.append(f"{counted(others, use.noun)} of other projects")
        return ", and ".join(told)

    def _names_user(self, policy: Policy, noun: str, user: str) -> bool:
        return self.names(policy.instances_by_id[user] if noun == "instance" else policy.rules_by_id[user][0])

    def of(self, items: Iterable[T]) -> Iterator[T]:
        """Those that are his."""
        return filter(self.sees, items)

    def group(self, policy: Policy, group_id: str) -> SecurityGroup:
        """A security group of his. Raises ApiError."""
        found = policy.groups_by_id.get(group_id)
        if found is None or not self.sees(found):
            raise not_found("security group", group_id)
        return found

    def rule(self, policy: Policy, rule_id: str) -> tuple[SecurityGroup, SecurityGroupRule]:
        """A rule of a security group of his. Raises ApiError."""
        found = policy.rules_by_id.get(rule_id)
        if found is None or not self.sees(found[0]):
            raise not_found("security group rule", rule_id)
        return found

    def address_group(self, policy: Policy, group_id: str) -> AddressGroup:
        """An address group of his. Raises ApiError."""
        found = policy.address_groups_by_id.get(group_id)
        if found is None or not self.sees(found):
            raise not_found("address group", group_id)
        return found

    def instance(self, policy: Policy, instance_id: str) -> Instance:
        """An instance of his. Raises ApiError."""
        found = policy.instances_by_id.get(instance_id)
        if found is None or not self.sees(found):
            raise not_found("port", instance_id)
        return found


def caller(request: Request, project_id: ProjectId) -> Caller:
    """The caller of a request, who may make it. Raises ApiError."""
    identity: Identity = request.state.identity
    if identity.project not in (ANY_PROJECT, project_id):
        raise ApiError(403, NOT_ALLOWED, f"The access key is not of project {project_id}.")
    if identity.read_only and request.method not in READING:
        raise ApiError(403, NOT_ALLOWED, "The access key only reads.")
    if request.method not in READING and request.query_params:
        # Such as dry_run, which would not be heard.
        name = next(iter(request.query_params))
        raise bad_value(f"{name} is in the query of a request that takes none: write it in the body.")
    return Caller(identity.asker, project_id, identity.sees_all, request.state.request_id)


def whole_caller(request: Request, project_id: ProjectId) -> Caller:
    """A caller who may see the policy as a whole. Raises ApiError."""
    found = caller(request, project_id)
    if not found.sees_all:
        raise ApiError(
            403, NOT_ALLOWED, "This is about the policy as a whole: it needs a key of project * (there are others)."
        )
    return found


OfCaller = Annotated[Caller, Depends(caller)]
OfWholeCaller = Annotated[Caller, Depends(whole_caller)]
