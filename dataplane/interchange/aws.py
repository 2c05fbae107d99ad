"""AWS: what `aws ec2 describe-security-groups` prints.

All rules there allow, so that all have priority 1. A rule with several sources becomes one for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dataplane.interchange.draft import Draft, FormatError
from dataplane.interchange.words import ports_or_type, protocol

Remote = tuple[str, dict[str, Any], Any]
_REMOTES = ("IpRanges", "Ipv6Ranges", "UserIdGroupPairs", "PrefixListIds")
_WITH_PORTS = ("tcp", "udp", "icmp", "icmpv6")
_DIRECTIONS = {"IpPermissions": "ingress", "IpPermissionsEgress": "egress"}


def read(value: Any, draft: Draft) -> None:
    """Takes the groups of an answer. Raises FormatError."""
    groups = value.get("SecurityGroups") if isinstance(value, dict) else None
    if not isinstance(groups, list):
        raise FormatError("no SecurityGroups are in it: it takes what `aws ec2 describe-security-groups` prints")
    for group, _ in draft.each(groups, "SecurityGroups"):
        key = draft.add_group(group["GroupId"], group.get("GroupName"), group.get("Description"))
        for permissions, direction in _DIRECTIONS.items():
            for permission, place in draft.each(group.get(permissions), f"{key}: {permissions}"):
                add_permission(draft, key, direction, permission, place)
    if value.get("NextToken"):
        draft.leave_out_pages("NextToken", "SecurityGroups")


def add_permission(draft: Draft, group: str, direction: str, permission: Any, place: str) -> None:
    """One permission, a rule for each of its sources or destinations and each family that it is of."""
    if not any(permission.get(kind) for kind in _REMOTES):
        draft.leave_out(place, f"it has none of {', '.join(_REMOTES)}, so that it allows nobody")
        return
    for ethertype, remote, description in _remotes(draft, permission, place):
        of = protocol(permission.get("IpProtocol"), "IPv4")
        if "remote_group_id" in remote and of == ("icmp" if ethertype == "IPv6" else "icmpv6"):
            continue  # a group has addresses of both families, and ICMP is of one
        # Of other protocols, and of all at once, AWS takes every port, whatever range it keeps.
        bounds = (permission.get("FromPort"), permission.get("ToPort")) if of in _WITH_PORTS else (None, None)
        try:
            selected = ports_or_type(of, *bounds)
        except ValueError as error:
            draft.leave_out(place, str(error))
            return
        rule = {"direction": direction, "ethertype": ethertype, "protocol": of, **selected, **remote}
        draft.add_rule(group, {**rule, "description": description}, place)


def _remotes(draft: Draft, permission: Any, place: str) -> Iterator[Remote]:
    for block in permission.get("IpRanges") or []:
        yield "IPv4", {"remote_ip_prefix": block["CidrIp"]}, block.get("Description")
    for block in permission.get("Ipv6Ranges") or []:
        yield "IPv6", {"remote_ip_prefix": block["CidrIpv6"]}, block.get("Description")
    for pair in permission.get("UserIdGroupPairs") or []:
        if not pair.get("GroupId"):
            draft.leave_out(place, "a source group that has no GroupId")
            continue
        for ethertype in ("IPv4", "IPv6"):
            yield ethertype, {"remote_group_id": pair["GroupId"]}, pair.get("Description")
    for prefixes in permission.get("PrefixListIds") or []:
        listed = prefixes.get("PrefixListId")
        if family := draft.family_of(listed):
            yield family, {"remote_address_group_id": listed}, prefixes.get("Description")
        else:
            draft.leave_out(place, f"the addresses of its prefix list {listed} are not in the document")
