"""A policy as rows: one for each group, rule, address group, instance, and so on, and a head for all else.

Stores that keep a row each write the rows that differ, and know when each part came and was changed last.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from dataplane.store.kept import integer, mapping, moment, text

if TYPE_CHECKING:
    from dataplane.policy import Policy
    from dataplane.policy.document import SecurityGroup

RULES, GROUPS = "rules", "security_groups"
#: Sections of the document that are kept a row each, besides rules; the others are one value.
_SECTIONS = (GROUPS, "address_groups", "instances", "load_balancers", "uplinks")

#: Section and id.
Key = tuple[str, str]


class Row(NamedTuple):
    """What is kept of a part of the document; `owner` is a rule's group, `place` its order among its kind."""

    owner: str
    place: int
    body: str
    created: float
    updated: float


def row_from(values: Iterable[Any]) -> Row:
    """A row of its values. Raises ValueError, TypeError."""
    owner, place, body, created, updated = values
    return Row(text(owner), integer(place), text(body), moment(created), moment(updated))


def document_of(head: str, rows: Mapping[Key, Row]) -> dict[str, Any]:
    """The document that is kept. Raises ValueError for what is none."""
    made = mapping(head)
    rules: dict[str, list[Any]] = {}
    for (section, name), row in sorted(rows.items(), key=lambda item: item[1].place):
        body = _part(section, name, row)
        if section == RULES:
            rules.setdefault(row.owner, []).append(body)
        else:
            made.setdefault(section, []).append(body)
            if section == GROUPS:
                body["security_group_rules"] = rules.setdefault(name, [])
    if astray := rules.keys() - {name for section, name in rows if section == GROUPS}:
        raise ValueError(f"there are rules of security group {min(astray)}, which is not there")
    return made


def _part(section: str, name: str, row: Row) -> dict[str, Any]:
    if section not in (RULES, *_SECTIONS):
        raise ValueError(f"there is a section {section}")
    try:
        body = mapping(row.body)
    except ValueError as error:
        raise ValueError(f"{section} {name}: {error}") from None
    if body.get("id", body.get("interface")) != name:
        raise ValueError(f"{section} {name} says that it is another one")
    return body


class Writing:
    """A policy as rows: those of `before` where they are the same, of which parts that are the same objects are not
    looked at.
    """

    def __init__(self, policy: Policy, before: Mapping[Key, Row], parts: Mapping[Key, object], now: float) -> None:
        self._before, self._parts_before, self._now = before, parts, now
        self.revision = 0
        self.rows: dict[Key, Row] = {}
        self.parts: dict[Key, object] = {}
        self.head = _json(policy.model_dump(mode="json", exclude_defaults=True, exclude=set(_SECTIONS)))
        self._rules = Counter(row.owner for (section, _), row in before.items() if section == RULES)
        for section in _SECTIONS:
            last = -1
            for part in getattr(policy, section):
                last = self._group(part, last) if section == GROUPS else self._add(section, part, "", last).place

    def _group(self, group: SecurityGroup, last: int) -> int:
        row = self._add(GROUPS, group, "", last)
        place, touched = -1, len(group.security_group_rules) != self._rules[group.id]
        for rule in group.security_group_rules:
            found = self._add(RULES, rule, group.id, place)
            place = found.place
            touched |= found.updated == self._now
        if touched and row.updated != self._now:
            self.rows[GROUPS, group.id] = Row(row.owner, row.place, row.body, row.created, self._now)
        return row.place

    def _add(self, section: str, part: Any, owner: str, last: int) -> Row:
        """The row of a part, behind the one at the place `last`."""
        key = section, getattr(part, "id", None) or part.interface
        old = self._before.get(key)
        is_old = old is not None and old.owner == owner
        place = old.place if old and is_old and old.place > last else last + 1
        if old and is_old and self._parts_before.get(key) is part:
            body = old.body
        else:
            without = {"exclude": {"security_group_rules"}} if section == GROUPS else {}
            body = _json(part.model_dump(mode="json", exclude_defaults=True, **without))
        same = old is not None and is_old and old.body == body
        if old and same and old.place == place:
            row = old
        else:
            row = Row(owner, place, body, old.created if old else self._now, old.updated if old and same else self._now)
        self.rows[key], self.parts[key] = row, part
        return row


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
