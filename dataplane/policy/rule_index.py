"""The rules of a document by id, of which a change of one group's rules makes the next without looking at all others.

An index is immutable. It stands on the places of all rules, which those that follow one another share, and has beside
them what is different from there; once that is much, the next index has places of its own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from itertools import accumulate, chain, count, repeat
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

from dataplane.policy.replaced import Replaced, different, gone
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

    def rules_replaced(self, before: Any) -> tuple[Replaced, ...]:
        """Which rules are others than before."""


G = TypeVar("G", bound=Group)

#: An index differs from what is under it by no more than so many rules, or than this part of all.
_DIFFERENT_MAX, _PART = 1024, 16


class _Places(Generic[G]):
    """Where each rule of some groups is, by id: its place among all of them, counted from 0.

    Numbers and texts are nothing that Python looks for garbage in: with an object for each of very many rules that
    would take longer than all else.
    """

    __slots__ = ("_ends", "_groups", "places")

    def __init__(self, groups: tuple[G, ...]) -> None:
        rules = [group.security_group_rules for group in groups]
        self._groups = groups
        self._ends = list(accumulate(map(len, rules)))
        # Without a step of Python a rule.
        self.places = dict(zip(map(attrgetter("id"), chain.from_iterable(rules)), count(), strict=False))

    def __getitem__(self, rule_id: str) -> Indexed:
        place = self.places[rule_id]
        number = bisect_right(self._ends, place)
        group = self._groups[number]
        place -= self._ends[number - 1] if number else 0
        return group.security_group_rules[place], group.id, place


class RuleIndex(Mapping[str, tuple[G, SecurityGroupRule]], Generic[G]):
    """Every rule by id, with its group before it, in the order of the document."""

    __slots__ = ("_different", "_groups", "_known", "_size")

    def __init__(self, groups: tuple[G, ...]) -> None:
        self._groups: Mapping[str, G] = {group.id: group for group in groups}
        self._known = _Places(groups)
        self._different: dict[str, Indexed | None] = {}
        self._size = len(self._known.places)

    def following(self, groups: Mapping[str, G]) -> RuleIndex[G] | None:
        """The index of other groups by id; None where so much is different that it is to be made anew."""
        gone_groups, come_groups = different(tuple(self._groups.values()), tuple(groups.values()))
        touched: list[tuple[G | None, G | None]]
        touched = [(self._groups.get(group.id), group) for group in come_groups]
        touched += [(group, None) for group in gone_groups if group.id not in groups]
        left: list[SecurityGroupRule] = []
        joined: list[tuple[str, Indexed]] = []
        room = max(_DIFFERENT_MAX, self._size // _PART)
        for before, now in touched:
            was = before.security_group_rules if before else ()
            rules = now.security_group_rules if now else ()
            parts = now.rules_replaced(before) if before and now else (Replaced(0, len(was), 0, len(rules)),)
            others = sum(part.last - part.first + part.last_now - part.first_now for part in parts)
            if len(self._different) + len(left) + len(joined) + others > room:
                return None
            left.extend(gone(was, parts))
            if now:
                places = chain.from_iterable(range(part.first_now, part.last_now) for part in parts)
                joined.extend((rules[place].id, (rules[place], now.id, place)) for place in places)
        other: RuleIndex[G] = RuleIndex.__new__(RuleIndex)
        other._groups, other._known = groups, self._known
        other._different = self._different | {rule.id: None for rule in left} | dict(joined)
        other._size = self._size - len(left) + len(joined)
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
        return rule_id in self._known.places

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
