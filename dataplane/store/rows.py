"""A policy as rows: one for each group, rule, address group, instance, and so on, and a head for all else.

Stores that keep a row each write the rows that differ, and know when each part came and was changed last.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from dataplane.policy.replaced import replaced_part
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
    """A policy as rows, upon those of before: which are others, and which are gone.

    `known` is the policy that the rows of before are those of; None: nobody knows, and all of it is looked at. With it,
    only what is not the same object there is.
    """

    def __init__(self, policy: Policy, before: Mapping[Key, Row], known: Policy | None, now: float) -> None:
        self._before, self._now = before, now
        self._looked_at: set[Key] = set()
        # Of each group, where that is not known.
        self._rules: Counter[str] = Counter()
        self.changed: dict[Key, Row] = {}
        self.head = _json(policy.model_dump(mode="json", exclude_defaults=True, exclude=set(_SECTIONS)))
        gone: list[Key] = []
        if known is not None and _size(known) != len(before):
            # It has what nobody kept, or not all that was: of rows that somebody else has written.
            known = None
        if known is None:
            gone.extend(before)
            self._rules = Counter(row.owner for (section, _), row in before.items() if section == RULES)
        for section in _SECTIONS:
            was = getattr(known, section) if known else ()
            gone.extend(self._parts(section, "", was, getattr(policy, section)))
        # What moved from one group to another is under the same key.
        self.gone = [key for key in gone if key not in self._looked_at]

    @property
    def is_new(self) -> bool:
        """Whether any row is another one."""
        return bool(self.changed or self.gone)

    @property
    def rows(self) -> dict[Key, Row]:
        """All rows."""
        made = dict(self._before)
        for key in self.gone:
            del made[key]
        made.update(self.changed)
        return made

    def _parts(self, section: str, owner: str, was: Sequence[Any], now: Sequence[Any]) -> list[Key]:
        """Looks at the parts of a section, or the rules of a group, that are others; keys of those that may be gone."""
        first, last, last_now = replaced_part(was, now)
        before = {_key(section, part): part for part in was[first:last]}
        place = self._before[_key(section, now[first - 1])].place if first else -1
        gone = list(before)
        for part in now[first:last_now]:
            old = before.get(_key(section, part))
            row = self._add(section, part, owner, place, old)
            place = row.place
            if section == GROUPS:
                gone += self._rules_of(part, old, row)
        if section == GROUPS:
            here = {group.id for group in now[first:last_now]}
            for key, group in before.items():
                if key[1] not in here:
                    gone += [_key(RULES, rule) for rule in group.security_group_rules]
        for part in now[last_now:]:
            if self._before[_key(section, part)].place > place:
                break
            # There is no room before it.
            place = self._add(section, part, owner, place, part).place
        return gone

    def _rules_of(self, group: SecurityGroup, old: SecurityGroup | None, row: Row) -> list[Key]:
        """Looks at the rules of a group; what changes one of them changes the group's time too."""
        looked_at = len(self.changed)
        was = old.security_group_rules if old else ()
        gone = self._parts(RULES, group.id, was, group.security_group_rules)
        number = len(was) if old else self._rules[group.id]
        touched = number != len(group.security_group_rules) or any(
            found.updated == self._now and key[0] == RULES
            for key, found in islice(self.changed.items(), looked_at, None)
        )
        if touched and row.updated != self._now:
            self.changed[GROUPS, group.id] = row._replace(updated=self._now)
        return gone

    def _add(self, section: str, part: Any, owner: str, last: int, known: Any) -> Row:
        """The row of a part, behind the one at the place `last`; `known` is that of the row of before."""
        key = _key(section, part)
        self._looked_at.add(key)
        found = self._before.get(key)
        old = found if found and found.owner == owner else None
        place = old.place if old and old.place > last else last + 1
        if old and known is part:
            body = old.body
        else:
            without = {"exclude": {"security_group_rules"}} if section == GROUPS else {}
            body = _json(part.model_dump(mode="json", exclude_defaults=True, **without))
        same = old is not None and old.body == body
        if old and same and old.place == place:
            return old
        row = Row(owner, place, body, found.created if found else self._now, old.updated if old and same else self._now)
        self.changed[key] = row
        return row


def _size(policy: Policy) -> int:
    """How many rows a policy is kept in."""
    rules = sum(len(group.security_group_rules) for group in policy.security_groups)
    return rules + sum(len(getattr(policy, section)) for section in _SECTIONS)


def _key(section: str, part: Any) -> Key:
    """Uplinks have no id."""
    return section, getattr(part, "id", None) or part.interface


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
