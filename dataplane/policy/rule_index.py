"""The rules of a document by id, of which a change of one group's rules makes the next without looking at all others.

An index is immutable. It stands on a dictionary of all rules, which those that follow one another share, and has beside
it what is different from there; once that is much, the next index has a dictionary of its own.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from itertools import chain, count, repeat
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

from dataplane.policy.collection import no_collection
from dataplane.policy.replaced import different
from dataplane.policy.rule import SecurityGroupRule
from dataplane.policy.rule_list import place_of

#: A rule, the id of its group, and its place there when it was indexed.
Indexed = tuple[SecurityGroupRule, str, int]


class Group(Protocol):
    """What is asked of a security group."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def security_group_rules(self) -> Sequence[SecurityGroupRule]:
        """Its rules."""

    def rules_replaced(self, before: Any) -> tuple[int, int, int]:
        """Which rules are others than before."""


G = TypeVar("G", bound=Group)

#: An index differs from the dictionary under it by no more than so many rules, or than this part of all.
_DIFFERENT_MAX, _PART = 1024, 16


class RuleIndex(Mapping[str, tuple[G, SecurityGroupRule]], Generic[G]):
    """Every rule by id, with its group before it, in the order of the document."""

    __slots__ = ("_different", "_groups", "_known", "_size")

    def __init__(self, groups: tuple[G, ...]) -> None:
        known: dict[str, Indexed] = {}
        with no_collection():
            for group in groups:
                rules = group.security_group_rules
                # Without a step of Python a rule, of which there may be many.
                indexed = zip(rules, repeat(group.id), count(), strict=False)
                known.update(zip(map(attrgetter("id"), rules), indexed, strict=False))
        self._groups: Mapping[str, G] = {group.id: group for group in groups}
        self._known = known
        self._different: dict[str, Indexed | None] = {}
        self._size = len(known)

    def following(self, groups: Mapping[str, G]) -> RuleIndex[G] | None:
        """The index of other groups by id; None where so much is different that it is to be made anew."""
        gone_groups, come_groups = different(tuple(self._groups.values()), tuple(groups.values()))
        touched: list[tuple[G | None, G | None]]
        touched = [(self._groups.get(group.id), group) for group in come_groups]
        touched += [(group, None) for group in gone_groups if group.id not in groups]
        gone: list[SecurityGroupRule] = []
        come: list[tuple[str, Indexed]] = []
        room = max(_DIFFERENT_MAX, self._size // _PART)
        for before, now in touched:
            was = before.security_group_rules if before else ()
            rules = now.security_group_rules if now else ()
            first, last, last_now = now.rules_replaced(before) if before and now else (0, len(was), len(rules))
            if len(self._different) + len(gone) + len(come) + last - first + last_now - first > room:
                return None
            gone.extend(was[first:last])
            if now:
                come.extend((rules[place].id, (rules[place], now.id, place)) for place in range(first, last_now))
        other: RuleIndex[G] = RuleIndex.__new__(RuleIndex)
        other._groups, other._known = groups, self._known
        other._different = self._different | {rule.id: None for rule in gone} | dict(come)
        other._size = self._size - len(gone) + len(come)
        return other

    def place(self, rule_id: str) -> int:
        """The place of a rule in its group, from 0. Raises KeyError."""
        rule, group, indexed = self._indexed(rule_id)
        # Rules before it may have come and gone since.
        return place_of(self._groups[group].security_group_rules, rule, indexed)

    def _indexed(self, rule_id: str) -> Indexed:
        found = self._different[rule_id] if rule_id in self._different else self._known[rule_id]
        if found is None:
            raise KeyError(rule_id)
        return found

    # ---- as of any mapping ----

    def __getitem__(self, rule_id: str) -> tuple[G, SecurityGroupRule]:
        rule, group, _ = self._indexed(rule_id)
        return self._groups[group], rule

    def __contains__(self, rule_id: object) -> bool:
        if rule_id in self._different:
            return self._different[rule_id] is not None
        return rule_id in self._known

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[str]:
        return map(attrgetter("id"), chain.from_iterable(g.security_group_rules for g in self._groups.values()))

    def keys(self) -> KeysView[str]:
        """The ids of all rules."""
        return KeysView(self)

    def values(self) -> ValuesView[tuple[G, SecurityGroupRule]]:
        """Every rule with its group before it."""
        return _Values(self)

    def items(self) -> ItemsView[str, tuple[G, SecurityGroupRule]]:
        """Both."""
        return _Items(self)


class _Values(ValuesView[tuple[G, SecurityGroupRule]]):
    """Without a look-up for each."""

    _mapping: RuleIndex[G]

    def __iter__(self) -> Iterator[tuple[G, SecurityGroupRule]]:
        for group in self._mapping._groups.values():
            yield from zip(repeat(group), group.security_group_rules, strict=False)


class _Items(ItemsView[str, tuple[G, SecurityGroupRule]]):
    """Without a look-up for each."""

    _mapping: RuleIndex[G]

    def __iter__(self) -> Iterator[tuple[str, tuple[G, SecurityGroupRule]]]:
        return zip(self._mapping, self._mapping.values(), strict=True)
