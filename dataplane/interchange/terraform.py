"""Terraform: a state file (version 4), or what `terraform show -json` prints of a state.

Taken are the resources of security groups of the Huawei Cloud (and its kin), OpenStack and AWS providers; other packet
filters are listed, and whatever filters nothing is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from dataplane.interchange import aws, huawei
from dataplane.interchange.draft import Draft, FormatError

#: Resource types that filter packets or name addresses for filters: those that nothing below takes are listed.
_FILTERS = re.compile(
    r"security_?group|secgroup|firewall|_c?fw_|fwaas|acl(?:_|$)|security_(?:list|policy|rule)|network_policy"
    r"|prefix_list|address_group|address_set"
)
_PREFIX_LIST = "aws_ec2_managed_prefix_list"
_OURS = re.compile(
    r"(?P<provider>[a-z0-9]+)_(?P<kind>networking_secgroup|networking_secgroup_rule|networking_address_group"
    r"|vpc_address_group)(?:_v2)?"
)


def read(value: Any, draft: Draft) -> None:
    """Takes the resources of a state: sets of addresses and groups first, whatever their order. Raises FormatError."""
    # A rule that names a prefix list is of the family of its addresses.
    resources = sorted(_resources(draft, value), key=lambda found: found[0] != _PREFIX_LIST)
    for kind, attributes, place in resources:
        add, draft.place = _add_of(kind), place
        if add:
            add(draft, attributes, place)
        elif _FILTERS.search(kind):
            draft.leave_out(place, f"resources of the type {kind} cannot be expressed")


def _resources(draft: Draft, value: Any) -> Iterator[tuple[str, Any, str]]:
    if not isinstance(value, dict) or not ("resources" in value or "values" in value):
        raise FormatError("no resources and no values are in it: it takes a Terraform state or `terraform show -json`")
    for resource, _ in draft.each(value.get("resources"), "resources"):
        if resource.get("mode", "managed") != "managed":
            continue
        for number, instance in enumerate(resource.get("instances") or []):
            key = instance.get("index_key", number if len(resource["instances"]) > 1 else None)
            index = "" if key is None else f"[{key}]"
            place = f"{resource['type']}.{resource['name']}{index}"
            yield resource["type"], instance.get("attributes") or {}, place
    module = (value.get("values") or {}).get("root_module")
    if module:
        yield from _shown(draft, module)


def _shown(draft: Draft, module: Any) -> Iterator[tuple[str, Any, str]]:
    for resource, _ in draft.each(module.get("resources"), f"{module.get('address', 'root_module')}: resources"):
        if resource.get("mode", "managed") == "managed":
            yield resource["type"], resource.get("values") or {}, resource["address"]
    for child in module.get("child_modules") or []:
        yield from _shown(draft, child)


def _add_of(kind: str) -> Callable[[Draft, Any, str], None] | None:
    match = _OURS.fullmatch(kind)
    return _OWN_KINDS[match["kind"]] if match else _AWS_KINDS.get(kind)


# ---- Huawei Cloud and OpenStack ----


def _secgroup(draft: Draft, group: Any, place: str) -> None:
    key = draft.add_group(group["id"], group.get("name"), group.get("description"))
    for rule in group.get("rules") or []:
        _secgroup_rule(draft, {"security_group_id": key, **rule}, f"{place}: rule {rule.get('id')}")


def _secgroup_rule(draft: Draft, rule: Any, place: str) -> None:
    draft.place = place
    # 0 and "" are how the providers keep what was not given.
    bounds = {key: rule.get(key) or None for key in ("port_range_min", "port_range_max")}
    values = {"multiport": rule.get("ports"), "priority": rule.get("priority") or None}
    huawei.add_rule(draft, {**rule, **bounds, **values})


def _address_group(draft: Draft, group: Any, place: str) -> None:
    entries = group.get("addresses") or [extra["ip"] for extra in group.get("ip_extra_set") or []]
    version = group.get("ip_version") or (6 if any(":" in entry for entry in entries) else 4)
    kept = {key: group.get(key) for key in ("id", "name", "description")}
    draft.add_address_group({**kept, "ip_version": int(version), "ip_set": list(dict.fromkeys(entries))}, place)


# ---- AWS ----


def _prefix_list(draft: Draft, prefixes: Any, place: str) -> None:
    version = 6 if prefixes.get("address_family") == "IPv6" else 4
    entries = [entry["cidr"] for entry in prefixes.get("entry") or []]
    kept = {key: prefixes.get(key) for key in ("id", "name")}
    draft.add_address_group({**kept, "ip_version": version, "ip_set": entries}, place)


def _aws_group(draft: Draft, group: Any, place: str) -> None:
    key = draft.add_group(group["id"], group.get("name"), group.get("description"))
    for direction in ("ingress", "egress"):
        for number, rule in enumerate(group.get(direction) or []):
            _aws_rule(draft, {**rule, "security_group_id": key, "type": direction}, f"{place}: {direction}[{number}]")


def _aws_rule(draft: Draft, rule: Any, place: str) -> None:
    groups = [*(rule.get("security_groups") or []), rule.get("source_security_group_id")]
    if rule.get("self"):
        groups.append(rule["security_group_id"])
    described = rule.get("description") or None
    permission = {
        "IpProtocol": rule.get("protocol"),
        "FromPort": rule.get("from_port"),
        "ToPort": rule.get("to_port"),
        "IpRanges": [{"CidrIp": block, "Description": described} for block in rule.get("cidr_blocks") or []],
        "Ipv6Ranges": [{"CidrIpv6": block, "Description": described} for block in rule.get("ipv6_cidr_blocks") or []],
        "UserIdGroupPairs": [{"GroupId": group, "Description": described} for group in groups if group],
        "PrefixListIds": [{"PrefixListId": prefixes} for prefixes in rule.get("prefix_list_ids") or []],
    }
    aws.add_permission(draft, rule["security_group_id"], rule["type"], permission, place)


def _aws_vpc_rule(direction: str) -> Callable[[Draft, Any, str], None]:
    def add(draft: Draft, rule: Any, place: str) -> None:
        as_lists = {
            "cidr_blocks": [rule["cidr_ipv4"]] if rule.get("cidr_ipv4") else [],
            "ipv6_cidr_blocks": [rule["cidr_ipv6"]] if rule.get("cidr_ipv6") else [],
            "prefix_list_ids": [rule["prefix_list_id"]] if rule.get("prefix_list_id") else [],
            "source_security_group_id": rule.get("referenced_security_group_id"),
            "protocol": rule.get("ip_protocol"),
        }
        _aws_rule(draft, {**rule, **as_lists, "type": direction}, place)

    return add


_OWN_KINDS = {
    "networking_secgroup": _secgroup,
    "networking_secgroup_rule": _secgroup_rule,
    "networking_address_group": _address_group,
    "vpc_address_group": _address_group,
}
_AWS_KINDS: dict[str, Callable[[Draft, Any, str], None]] = {
    "aws_security_group": _aws_group,
    "aws_default_security_group": _aws_group,
    "aws_security_group_rule": _aws_rule,
    _PREFIX_LIST: _prefix_list,
    "aws_vpc_security_group_ingress_rule": _aws_vpc_rule("ingress"),
    "aws_vpc_security_group_egress_rule": _aws_vpc_rule("egress"),
}
