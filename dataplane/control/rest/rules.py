"""Rules of security groups."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

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
from dataplane.control.rest.fields import Description, Id
from dataplane.control.rest.new_rules import Duplicates, parsed, planned, refuse_too_many, see_remotes, there_already
from dataplane.control.rest.pages import Limit, Marker, Numbers, PageInfo, Sorted, Words, any_of
from dataplane.policy.consistency import References
from dataplane.policy.fields import PROTOCOL_NAMES, PROTOCOL_NUMBERS

if TYPE_CHECKING:
    from dataplane.control.service import Service
    from dataplane.policy import Policy
    from dataplane.policy.document import SecurityGroup
    from dataplane.policy.rule import SecurityGroupRule

BATCH_MAX = 1000
#: Protocols that the API has names for; others are numbers.
_NAMED = ("tcp", "udp", "icmp", "icmpv6")


def _ethertype(text: str) -> str:
    known = {"ipv4": "IPv4", "ipv6": "IPv6"}.get(text.lower())
    if known is None:
        raise ValueError("IPv4 or IPv6 is needed")
    return known


def _port_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Ethertype = Annotated[str, AfterValidator(_ethertype), Field(json_schema_extra={"enum": ["IPv4", "IPv6"]})]
#: A single port may be a number; it is read back as text.
Multiport = Annotated[str, BeforeValidator(_port_text), Field(max_length=255)]


class RuleFields(Body):
    """What a rule says; at most one of the three remotes. `icmp_type`, `icmp_code` and `expires_at` are extensions."""

    description: Description | None = None
    direction: Literal["ingress", "egress"]
    ethertype: Ethertype | None = None
    protocol: Annotated[str, Field(max_length=16)] | None = None
    multiport: Multiport | None = None
    remote_ip_prefix: Annotated[str, Field(max_length=64)] | None = None
    remote_group_id: Id | None = None
    remote_address_group_id: Id | None = None
    action: Literal["allow", "deny"] | None = None
    priority: Annotated[int, Field(ge=1, le=100)] | None = None
    enabled: bool | None = None
    icmp_type: int | str | None = None
    icmp_code: int | str | None = None
    expires_at: str | None = None

    def values(self) -> dict[str, Any]:
        """The fields that are given, as the policy document has them."""
        given = self.model_dump(exclude={"security_group_id"}, exclude_none=True)
        if not given.get("protocol"):
            given.pop("protocol", None)
        if not given.get("multiport"):
            given.pop("multiport", None)
        return given


class NewRule(RuleFields):
    """A rule and the security group that it is to be in."""

    security_group_id: Id


class CreateRule(DryRunBody):
    """A new rule."""

    security_group_rule: NewRule


class CreateRules(DryRunBody):
    """New rules, all of them or none; with `ignore_duplicate` those that are there already are passed over."""

    security_group_rules: Annotated[list[RuleFields], Field(min_length=1, max_length=BATCH_MAX)]
    ignore_duplicate: bool = False


class RuleUpdate(RuleFields):
    """Fields with other values; null takes an optional one away."""

    direction: Literal["ingress", "egress"] | None = None  # type: ignore[assignment]

    def changes(self) -> dict[str, Any]:
        """The fields that are named."""
        return self.model_dump(exclude_unset=True)


class UpdateRule(DryRunBody):
    """An extension: the SDK has no update of a rule."""

    security_group_rule: RuleUpdate


class RuleInfo(BaseModel):
    """A rule as it is read back."""

    id: str
    description: str
    security_group_id: str
    direction: str
    protocol: str | None
    ethertype: str
    multiport: str | None
    action: str
    priority: int
    remote_group_id: str | None
    remote_ip_prefix: str | None
    remote_address_group_id: str | None
    enabled: bool
    created_at: str
    updated_at: str
    project_id: str
    icmp_type: int | str | None
    icmp_code: int | str | None
    expires_at: str | None


class OneRule(BaseModel):
    """One rule."""

    security_group_rule: RuleInfo
    request_id: str


class ManyRules(BaseModel):
    """Rules."""

    security_group_rules: list[RuleInfo]
    request_id: str


class RulePage(ManyRules):
    """A page of rules."""

    page_info: PageInfo


def rule_info(service: Service, caller: Caller, group: SecurityGroup, rule: SecurityGroupRule) -> dict[str, Any]:
    """A rule as it is read back."""
    times = service.times.of("rules", rule.id)
    values = rule.model_dump(mode="json")
    return {
        "id": rule.id,
        "description": rule.description or "",
        "security_group_id": group.id,
        "direction": rule.direction,
        "protocol": protocol_text(rule.protocol),
        "ethertype": rule.ethertype,
        "multiport": rule.multiport,
        "action": rule.action,
        "priority": rule.priority,
        "remote_group_id": rule.remote_group_id,
        "remote_ip_prefix": rule.remote_ip_prefix,
        "remote_address_group_id": rule.remote_address_group_id,
        "enabled": rule.enabled,
        "created_at": timestamp(times.created),
        "updated_at": timestamp(times.updated),
        "project_id": group.project_id or caller.project,
        "icmp_type": rule.icmp_type,
        "icmp_code": rule.icmp_code,
        "expires_at": values["expires_at"],
    }


def protocol_text(protocol: str | int | None) -> str | None:
    """A protocol as the API has it: tcp, udp, icmp, icmpv6, or a number as text; None for all."""
    if protocol is None or protocol in _NAMED:
        return None if protocol is None else str(protocol)
    return str(PROTOCOL_NUMBERS[protocol] if isinstance(protocol, str) else protocol)


def _as_read_back(word: str) -> str:
    """A protocol that is filtered by, as it is read back: ``6`` is tcp."""
    if word.isascii() and word.isdecimal() and len(word) <= 3:
        return protocol_text(PROTOCOL_NAMES.get(int(word), int(word))) or word
    return protocol_text(word) or word if word in PROTOCOL_NUMBERS else word


def _prefix_as_read_back(word: str) -> str:
    """A prefix that is filtered by, as it is read back: a bare address is one of /32 or /128."""
    try:
        return str(ip_network(word))
    except ValueError:
        return word


def routes(service: Service) -> APIRouter:
    """The requests about rules."""
    router = APIRouter(tags=["security group rules"], route_class=JsonRoute)
    listed: Sorted[tuple[SecurityGroup, SecurityGroupRule]] = Sorted(
        lambda policy: policy.rules_by_id.values(), lambda found: found[1].id
    )
    path = "/vpc/security-group-rules"

    def told(caller: Caller, rule_id: str, policy: Policy) -> dict[str, Any]:
        return {"security_group_rule": rule_info(service, caller, *caller.rule(policy, rule_id))}

    @router.get(path, response_model=RulePage)
    def list_security_group_rules(
        caller: OfCaller,
        limit: Limit = 2000,
        marker: Marker = None,
        id: Words = None,  # noqa: A002
        security_group_id: Words = None,
        protocol: Words = None,
        description: Words = None,
        remote_group_id: Words = None,
        direction: Words = None,
        action: Words = None,
        remote_ip_prefix: Words = None,
        priority: Numbers = None,
        ethertype: Words = None,
        remote_address_group_id: Words = None,
        enabled: bool | None = None,
    ) -> Response:
        """Rules: repeated keys mean any of them, different keys all of them."""
        policy = service.operations.policy
        protocols = None if protocol is None else [_as_read_back(word) for word in protocol]
        families = None if ethertype is None else [word.lower() for word in ethertype]
        prefixes = None if remote_ip_prefix is None else map(_prefix_as_read_back, remote_ip_prefix)
        groups = any_of(security_group_id)
        wanted = (
            (any_of(id), lambda rule: rule.id),
            (any_of(protocols), lambda rule: protocol_text(rule.protocol)),
            (any_of(description), lambda rule: rule.description or ""),
            (any_of(remote_group_id), lambda rule: rule.remote_group_id),
            (any_of(direction), lambda rule: rule.direction),
            (any_of(action), lambda rule: rule.action),
            (any_of(prefixes), lambda rule: rule.remote_ip_prefix),
            (any_of(priority), lambda rule: rule.priority),
            (any_of(families), lambda rule: rule.ethertype.lower()),
            (any_of(remote_address_group_id), lambda rule: rule.remote_address_group_id),
            (any_of(None if enabled is None else [enabled]), lambda rule: rule.enabled),
        )

        def fits(found: tuple[SecurityGroup, SecurityGroupRule]) -> bool:
            group, rule = found
            return caller.sees(group) and groups(group.id) and all(among(value(rule)) for among, value in wanted)

        found, info = listed.page(policy, fits, limit, marker)
        rules = [rule_info(service, caller, group, rule) for group, rule in found]
        return caller.answer({"security_group_rules": rules, "page_info": info})

    @router.post(path, status_code=201, response_model=OneRule, responses=DRY_RUN_RESPONSE)
    async def create_security_group_rule(caller: OfCaller, body: CreateRule) -> Response:
        """A new rule; refused where one that does the same is there already."""
        rule_id, fields = str(uuid4()), body.security_group_rule

        def plan(policy: Policy) -> Changes:
            made = planned(policy, caller, fields.security_group_id, fields.values(), rule_id)
            group = caller.group(policy, fields.security_group_id)
            rule = parsed(policy, References.to(policy), group, made)
            if found := Duplicates(group).find(rule):
                raise there_already(found)
            refuse_too_many(policy, group, [rule])
            return [made]

        return await change(
            service,
            caller,
            plan,
            lambda policy: told(caller, rule_id, policy),
            what=f"new rule in security group {fields.security_group_id}",
            dry_run=body.dry_run,
            status=201,
        )

    @router.get(f"{path}/{{security_group_rule_id}}", response_model=OneRule)
    def show_security_group_rule(caller: OfCaller, security_group_rule_id: str) -> Response:
        """A rule."""
        return caller.answer(told(caller, security_group_rule_id, service.operations.policy))

    @router.put(f"{path}/{{security_group_rule_id}}", response_model=OneRule, responses=DRY_RUN_RESPONSE)
    async def update_security_group_rule(caller: OfCaller, security_group_rule_id: str, body: UpdateRule) -> Response:
        """An extension: other values for some fields of a rule."""

        def plan(policy: Policy) -> Changes:
            group, rule = caller.rule(policy, security_group_rule_id)
            values = body.security_group_rule.changes()
            see_remotes(policy, caller, values)
            update = {"update_rule": {"id": rule.id, **values}}
            _, updated = service.operations.changed(update).rules_by_id[rule.id]
            others = tuple(other for other in group.security_group_rules if other.id != rule.id)
            if found := Duplicates(group.model_copy(update={"security_group_rules": others})).find(updated):
                raise there_already(found)
            return [update]

        return await change(
            service,
            caller,
            plan,
            lambda policy: told(caller, security_group_rule_id, policy),
            what=f"update of rule {security_group_rule_id}",
            dry_run=body.dry_run,
        )

    @router.delete(f"{path}/{{security_group_rule_id}}", status_code=204, responses=DRY_RUN_RESPONSE)
    async def delete_security_group_rule(
        caller: OfCaller, security_group_rule_id: str, dry_run: OnlyDryRun
    ) -> Response:
        """A rule is deleted."""

        def plan(policy: Policy) -> Changes:
            _, rule = caller.rule(policy, security_group_rule_id)
            return [{"delete_rule": {"id": rule.id}}]

        return await change(
            service,
            caller,
            plan,
            what=f"deletion of rule {security_group_rule_id}",
            dry_run=dry_run,
        )

    @router.post(
        "/vpc/security-groups/{security_group_id}/security-group-rules/batch-create",
        status_code=201,
        response_model=ManyRules,
        responses=DRY_RUN_RESPONSE,
    )
    async def batch_create_security_group_rules(
        caller: OfCaller, security_group_id: str, body: CreateRules
    ) -> Response:
        """New rules of one group, as one change."""
        new: list[str] = []

        def plan(policy: Policy) -> Changes:
            group = caller.group(policy, security_group_id)
            references, there, rules, changes = References.to(policy), Duplicates(group), [], []
            for fields in body.security_group_rules:
                made = planned(policy, caller, group.id, fields.values(), str(uuid4()))
                rule = parsed(policy, references, group, made)
                if found := there.find(rule):
                    if not body.ignore_duplicate:
                        raise there_already(found)
                    continue
                rules.append(rule)
                changes.append(made)
            refuse_too_many(policy, group, rules)
            new.extend(rule.id for rule in rules)
            return changes

        def answer(policy: Policy) -> dict[str, Any]:
            found = [rule_info(service, caller, *caller.rule(policy, rule_id)) for rule_id in new]
            return {"security_group_rules": found}

        return await change(
            service,
            caller,
            plan,
            answer,
            what=f"{len(body.security_group_rules)} new rules in security group {security_group_id}",
            dry_run=body.dry_run,
            status=201,
        )

    return router
