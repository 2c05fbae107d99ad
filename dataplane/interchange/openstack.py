"""OpenStack: what `openstack security group rule list -f json` prints, and the networking API's own answers.

The command line shows no code 0 and no type 0 of ICMP, so that a type alone may stand for its code 0: where that is
another rule, it is listed.
"""

from __future__ import annotations

import re
from typing import Any

from dataplane.interchange.draft import Draft, FormatError
from dataplane.interchange.words import family, ports_or_type, protocol

#: The group of rules that were listed for one group, which the command line does not name.
UNNAMED_GROUP = "imported"
_ICMP = re.compile(r"(?:type=(\d+))?(?::code=(\d+))?")
#: Messages whose only code is 0.
_ONE_CODE = {"icmp": (0, 8, 13, 14, 15, 16, 17, 18), "icmpv6": (2, 128, 129)}


def read(value: Any, draft: Draft) -> None:
    """Takes the rules of a list, and groups with their rules. Raises FormatError."""
    for kind in ("security_groups", "security_group_rules"):
        links = value.get(f"{kind}_links") if isinstance(value, dict) else None
        if any(link.get("rel") == "next" for link in links or ()):
            draft.leave_out_pages(f"{kind}_links", kind)
    groups = value.get("security_groups") if isinstance(value, dict) else None
    rules = value.get("security_group_rules") if isinstance(value, dict) else value
    if isinstance(groups, list) or isinstance(rules, list):
        for group, _ in draft.each(groups, "security_groups"):
            _add_group(draft, group)
        for number, (rule, _) in enumerate(draft.each(rules, "security_group_rules")):
            _add(draft, rule, number)
    elif isinstance(value, dict) and (single := value.get("security_group", value)) and "id" in single:
        _add_group(draft, single)
    else:
        raise FormatError("no rules are in it: it takes what `openstack security group rule list -f json` prints")


def _add_group(draft: Draft, group: Any) -> None:
    key = draft.add_group(group["id"], group.get("name"), group.get("description"))
    if group.get("stateful") is False:
        draft.leave_out(key, "it is stateless, and security groups of a policy track connections")
    for rule, _ in draft.each(group.get("security_group_rules") or group.get("rules"), f"{key}: rules"):
        add_rule(draft, key, rule, f"{key}: rule {rule.get('id')}")


def _add(draft: Draft, row: Any, number: int) -> None:
    if "IP Protocol" not in row and "direction" in row:
        add_rule(draft, row.get("security_group_id") or UNNAMED_GROUP, row, f"rule {row.get('id')}")
        return
    place = f"rule {row.get('ID') or number}"
    group = row.get("Security Group") or UNNAMED_GROUP
    direction, ethertype = row.get("Direction"), family(row.get("Ethertype"))
    if not direction:
        draft.leave_out(place, "it has no Direction: list the rules with --long")
        return
    of = protocol(row.get("IP Protocol"), ethertype)
    written = str(row.get("Port Range") or "")
    low, high = _bounds(of, written)
    if of in _ONE_CODE and written and high is None and int(low or 0) not in _ONE_CODE[str(of)]:
        draft.leave_out(place, f"ICMP {written}: the list does not tell whether any code is meant or code 0")
        return
    remote_group, addresses = row.get("Remote Security Group"), row.get("Remote Address Group")
    rule = {
        "id": row.get("ID"),
        "direction": direction,
        "ethertype": ethertype,
        "protocol": row.get("IP Protocol"),
        "port_range_min": low,
        "port_range_max": high,
        # The list shows 0.0.0.0/0 where a group is the remote.
        "remote_ip_prefix": None if remote_group or addresses else row.get("IP Range"),
        "remote_group_id": remote_group,
        "remote_address_group_id": addresses,
        "description": row.get("Description"),
    }
    add_rule(draft, group, rule, place)


def _bounds(of: object, written: str) -> tuple[str | None, str | None]:
    if of in _ONE_CODE:
        match = _ICMP.fullmatch(written)
        return (match[1], match[2]) if match else (written, None)
    low, _, high = written.partition(":")
    return low or None, high or None


def add_rule(draft: Draft, group: object, rule: Any, place: str) -> None:
    """A rule with the API's fields: port_range_min and port_range_max are the type and code of ICMP."""
    ethertype = family(rule.get("ethertype") or rule.get("ether_type"))
    of = protocol(rule.get("protocol"), ethertype)
    try:
        selected = ports_or_type(of, rule.get("port_range_min"), rule.get("port_range_max"))
    except ValueError as error:
        draft.leave_out(place, str(error))
        return
    same = ("id", "direction", "remote_ip_prefix", "remote_group_id", "remote_address_group_id", "description")
    draft.add_rule(
        group, {**{key: rule.get(key) for key in same}, "ethertype": ethertype, "protocol": of, **selected}, place
    )
