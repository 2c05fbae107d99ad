"""What of a policy concerns one host: its instances, what their rules need, and nothing else.

An instance is on the host that it names (`host`), or on every host where it names none. Its security groups are kept
with their rules, and what these name: address groups, and of other security groups the members' addresses. An instance
that is elsewhere, and kept for its addresses alone, has no interface here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dataplane.store.rows import GROUPS, RULES, Key, Row

_INSTANCES, _BALANCERS, _ADDRESSES, _UPLINKS = "instances", "load_balancers", "address_groups", "uplinks"
#: What an instance without a security group is in.
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Part:
    """The rows that concern a host, and all groups that they name."""

    rows: Mapping[Key, Row]
    named: frozenset[Key]


def part_of(rows: Mapping[Key, Row], host: str) -> Part:
    """The part of a host; that of a part is the part itself."""
    instances = {key: json.loads(row.body) for key, row in rows.items() if key[0] == _INSTANCES}
    here = {key for key, body in instances.items() if body.get("host", host) == host}
    groups = {group for key in here for group in _groups(instances[key])}
    rules = {key: json.loads(row.body) for key, row in rows.items() if key[0] == RULES and row.owner in groups}
    remote = {body["remote_group_id"] for body in rules.values() if body.get("remote_group_id")}
    addresses = {body["remote_address_group_id"] for body in rules.values() if body.get("remote_address_group_id")}
    kept: dict[Key, Row] = {key: rows[key] for key in rules}
    elsewhere = {key for key, body in instances.items() if key not in here and remote.intersection(_groups(body))}
    balancers = {
        key: body for key in rows if key[0] == _BALANCERS and _serves(body := json.loads(rows[key].body), here)
    }
    # A balancer may forward to instances elsewhere, which must then be known.
    elsewhere |= {
        (_INSTANCES, backend)
        for body in balancers.values()
        for backend in body.get("backends", ())
        if (_INSTANCES, backend) in instances and (_INSTANCES, backend) not in here
    }
    for key in here:
        kept[key] = rows[key]
    for key in elsewhere:
        kept[key] = _without_interface(rows[key], instances[key])
    member_of = {group for key in elsewhere for group in _groups(instances[key])}
    for section, wanted in ((GROUPS, groups | remote | member_of), (_ADDRESSES, addresses)):
        kept |= {(section, name): rows[section, name] for name in wanted if (section, name) in rows}
    kept |= {key: rows[key] for key in rows if key[0] == _UPLINKS or key in balancers}
    named = {(GROUPS, name) for name in groups | remote} | {(RULES, name) for name in groups}
    named |= {(_ADDRESSES, name) for name in addresses} | set(balancers)
    named |= {(_INSTANCES, name) for body in balancers.values() for name in body.get("backends", ())}
    # Groups of members elsewhere are needed by name.
    named |= {(GROUPS, name) for name in member_of}
    return Part(kept, frozenset(named))


def _groups(body: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(body.get("security_groups", (_DEFAULT,)))


def _serves(body: Mapping[str, Any], here: set[Key]) -> bool:
    """Whether a balancer forwards to an instance that is here."""
    return any((_INSTANCES, backend) in here for backend in body.get("backends", ()))


def _without_interface(row: Row, body: Mapping[str, Any]) -> Row:
    told = {name: value for name, value in body.items() if name not in ("interface", "tap")}
    return row._replace(body=json.dumps(told, separators=(",", ":")))
