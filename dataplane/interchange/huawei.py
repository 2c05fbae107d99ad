"""Huawei Cloud: answers of the VPC v3 API, whose fields are those of our documents (SPEC 1).

Lists and single objects of security groups, rules, address groups and ports are taken, together in one document too.
"""

from __future__ import annotations

from typing import Any

from dataplane.interchange.draft import Draft, FormatError
from dataplane.interchange.words import family, ports_or_type, protocol

_KINDS = {
    "security_group": "security_groups",
    "security_group_rule": "security_group_rules",
    "address_group": "address_groups",
    "port": "ports",
}
_RULE = (
    *("id", "description", "multiport", "remote_ip_prefix", "remote_group_id", "remote_address_group_id"),
    *("action", "priority", "enabled"),
)


def read(value: Any, draft: Draft) -> None:
    """Takes an answer, or a list of answers. Raises FormatError."""
    answers = value if isinstance(value, list) else [value]
    found = False
    goes_on = dict[str, bool]()
    for answer in answers:
        if not isinstance(answer, dict):
            continue
        for single, many in _KINDS.items():
            if many in answer:
                goes_on[many] = bool((answer.get("page_info") or {}).get("next_marker"))
            for item, _ in draft.each(answer.get(many), many):
                found = True
                _ADD[many](draft, item)
            if single in answer:
                draft.place, found = single, True
                _ADD[many](draft, answer[single])
    for many in (many for many, more in goes_on.items() if more):
        draft.leave_out_pages("page_info", many)
    if not found and not any(isinstance(a, dict) and any(many in a for many in _KINDS.values()) for a in answers):
        raise FormatError(f"none of {', '.join(_KINDS.values())} is in it: it takes answers of the VPC v3 API")


def _add_group(draft: Draft, group: Any) -> None:
    key = draft.add_group(group["id"], group.get("name"), group.get("description"))
    for rule, _ in draft.each(group.get("security_group_rules"), f"{key}: security_group_rules"):
        add_rule(draft, {"security_group_id": key, **rule})


def add_rule(draft: Draft, rule: Any) -> None:
    """A rule with the API's fields; those of its versions before 3 have port_range_min and port_range_max."""
    ethertype = family(rule.get("ethertype"))
    of = protocol(rule.get("protocol"), ethertype)
    place = f"{rule['security_group_id']}: rule {rule.get('id')}"
    values = {key: rule.get(key) for key in _RULE}
    if not values["multiport"]:
        try:
            values |= ports_or_type(of, rule.get("port_range_min"), rule.get("port_range_max"))
        except ValueError as error:
            draft.leave_out(place, str(error))
            return
    values |= {"direction": str(rule.get("direction")).lower(), "ethertype": ethertype, "protocol": of}
    draft.add_rule(rule["security_group_id"], values, place)


def _add_address_group(draft: Draft, group: Any) -> None:
    entries = group.get("ip_set") or [extra["ip"] for extra in group.get("ip_extra_set") or []]
    values = {"ip_version": int(group.get("ip_version") or 4), "ip_set": list(dict.fromkeys(entries))}
    kept = {key: group.get(key) for key in ("id", "name", "description")}
    draft.add_address_group({**kept, **values}, f"address group {group.get('id')}")


def _add_port(draft: Draft, port: Any) -> None:
    addresses = [fixed["ip_address"] for fixed in port.get("private_ips") or port.get("fixed_ips") or []]
    place = f"port {port.get('id')}"
    if not addresses:
        draft.leave_out(place, "it has no address")
        return
    own = port.get("mac_address")
    pairs = [
        pair["ip_address"]
        if pair.get("mac_address") in (None, "", own)
        else {"ip": pair["ip_address"], "mac": pair["mac_address"]}
        for pair in port.get("allowed_address_pairs") or []
    ]
    values = {
        "id": port.get("id"),
        "name": port.get("name"),
        "vpc": port.get("vpc_id"),
        "addresses": addresses,
        "mac": own,
        "allowed_address_pairs": pairs,
        "security_groups": port.get("security_groups"),
        "port_security_enabled": port.get("port_security_enabled"),
    }
    draft.add_instance(values, place)


_ADD = {
    "security_groups": _add_group,
    "security_group_rules": add_rule,
    "address_groups": _add_address_group,
    "ports": _add_port,
}
