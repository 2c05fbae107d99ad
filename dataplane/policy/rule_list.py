"""The rules of a group: a tuple, and where they are very many a list in parts, of which a change makes the next one
without touching every rule.
"""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, islice, repeat
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from dataplane.policy.rule import SecurityGroupRule

    _Part = tuple[SecurityGroupRule, ...]

#: So many rules are a tuple; copying one takes a step a rule.
_TUPLE_MOST = 2048
#: Rules of a part; one that has become twice as long is divided.
_PART = 512


def with_replaced(
    rules: Sequence[SecurityGroupRule], first: int, last: int, others: Sequence[SecurityGroupRule]
) -> Sequence[SecurityGroupRule]:
    """Rules with others in the place of rules[first:last], where 0 <= first <= last <= len(rules)."""
    rules = in_parts(rules)
    if isinstance(rules, RuleList):
        return rules.with_replaced(first, last, others)
    return (*rules[:first], *others, *rules[last:])


def in_parts(rules: Sequence[SecurityGroupRule]) -> Sequence[SecurityGroupRule]:
    """The same rules as a list in parts where they are very many."""
    if isinstance(rules, RuleList) or len(rules) <= _TUPLE_MOST:
        return rules
    return RuleList(_divided(tuple(rules)))


def _divided(rules: _Part) -> tuple[_Part, ...]:
    return tuple(rules[at : at + _PART] for at in range(0, len(rules), _PART))


def place_of(rules: Sequence[SecurityGroupRule], rule: SecurityGroupRule, near: int) -> int:
    """Where a rule is, the same object, near a place that it had. Raises ValueError."""
    if isinstance(rules, RuleList):
        return rules.place_of(rule, near)
    for distance in range(max(len(rules), near + 1)):
        for place in (near + distance, near - distance):
            if 0 <= place < len(rules) and rules[place] is rule:
                return place
    raise ValueError(f"rule {rule.id} is not here")


class RuleList(Sequence["SecurityGroupRule"]):
    """Immutable; equal to a tuple of the same rules, and copied to another process as one."""

    __slots__ = ("_ends", "_parts")

    def __init__(self, parts: tuple[_Part, ...]) -> None:
        self._parts = parts
        self._ends = tuple(accumulate(map(len, parts)))

    def with_replaced(self, first: int, last: int, others: Sequence[SecurityGroupRule]) -> RuleList:
        """As the function of this name."""
        begin, end = self._part_of(first), self._part_of(last)
        before = first - (self._ends[begin - 1] if begin else 0)
        after = last - (self._ends[end - 1] if end else 0)
        head = self._parts[begin][:before] if begin < len(self._parts) else ()
        tail = self._parts[end][after:] if end < len(self._parts) else ()
        made = (*head, *others, *tail)
        parts = _divided(made) if len(made) > 2 * _PART else (made,) if made else ()
        return RuleList((*self._parts[:begin], *parts, *self._parts[end + 1 :]))

    def place_of(self, rule: SecurityGroupRule, near: int) -> int:
        """As the function of this name; a part is looked through at once."""
        if near < len(self) and self[near] is rule:
            return near
        nearest = self._part_of(near)
        for distance in range(max(len(self._parts), nearest + 1)):
            for number in dict.fromkeys((nearest + distance, nearest - distance)):
                if 0 <= number < len(self._parts):
                    same = list(map(operator.is_, self._parts[number], repeat(rule)))
                    if True in same:
                        return same.index(True) + (self._ends[number - 1] if number else 0)
        raise ValueError(f"rule {rule.id} is not here")

    def _part_of(self, place: int) -> int:
        """The part in which a place is, or behind which, for the place behind all."""
        part = bisect_right(self._ends, place)
        return part - 1 if part and part == len(self._parts) else part

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, place: int) -> SecurityGroupRule: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[SecurityGroupRule, ...]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            begin, end, step = place.indices(len(self))
            return tuple(self._between(begin, end)) if step == 1 else tuple(self)[place]
        place = range(len(self))[place]
        part = self._part_of(place)
        return self._parts[part][place - (self._ends[part - 1] if part else 0)]

    def _between(self, begin: int, end: int) -> Iterator[SecurityGroupRule]:
        if begin < end:
            part = self._part_of(begin)
            first = begin - (self._ends[part - 1] if part else 0)
            yield from islice(chain.from_iterable(self._parts[part:]), first, first + end - begin)

    def __iter__(self) -> Iterator[SecurityGroupRule]:
        return chain.from_iterable(self._parts)

    def __reversed__(self) -> Iterator[SecurityGroupRule]:
        return chain.from_iterable(map(reversed, reversed(self._parts)))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RuleList):
            return self._parts == other._parts or tuple(self) == tuple(other)
        return tuple(self) == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)
