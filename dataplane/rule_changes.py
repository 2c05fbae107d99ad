"""What is different in an order of rules from the arrays that it is based on: which of their rules it lacks, and which
others it has between them. A change costs as many steps as there are changes, not as there are rules.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from dataplane._core import ffi, lib

#: The words of a `struct dp_rule`.
COLUMNS = ffi.sizeof("struct dp_rule") // 4


@dataclass(frozen=True, slots=True, eq=False)
class OrderedRules:
    """Rules in the order in which they are tried: the place of each, its number, and all of them as `struct dp_rule`.

    Places rise; several rules may have the same.
    """

    places: array[int]
    numbers: array[int]
    rules: array[int]

    def __len__(self) -> int:
        return len(self.places)


class Added(NamedTuple):
    """A rule beside those of some arrays: the position there that it stands right before, its place, its number and
    its `struct dp_rule`.
    """

    before: int
    place: int
    number: int
    columns: tuple[int, ...]


_BEFORE, _PLACE = attrgetter("before"), attrgetter("place")


class Spot(NamedTuple):
    """Where a rule is added: before a position of the arrays, as which one among those added."""

    before: int
    among: int


class RuleChanges:
    """Positions of some arrays' rules that an order does not have, rising, and the rules that it has besides."""

    def __init__(self, base: OrderedRules, removed: tuple[int, ...], added: tuple[Added, ...]) -> None:
        self.base = base
        self.removed, self.added = list(removed), list(added)

    def _find(self, place: int, number: int) -> tuple[int, int | None]:
        """(position, None) of a rule of the arrays, or (before, index) of one added. Raises ValueError."""
        first = bisect_left(self.added, place, key=_PLACE)
        for index in range(first, bisect_right(self.added, place, first, key=_PLACE)):
            if self.added[index].number == number:
                return self.added[index].before, index
        places = self.base.places
        begin = bisect_left(places, place)
        end = bisect_right(places, place, begin)
        numbers = ffi.from_buffer("uint32_t[]", self.base.numbers)
        position = begin + lib.dp_rule_position(numbers + begin, end - begin, number)
        if position == end:
            raise ValueError(f"no rule has the number {number} at the place {place}")
        return position, None

    def remove(self, place: int, number: int) -> Spot:
        """Takes a rule out; returns where it stood. Raises ValueError."""
        position, index = self._find(place, number)
        if index is not None:
            del self.added[index]
            return Spot(position, index)
        insort(self.removed, position)
        return Spot(position, bisect_right(self.added, position, key=_BEFORE))

    def spot(self, place: int, is_behind: Callable[[int], bool]) -> Spot:
        """Where a rule with a place is to stand: behind those with a place before, and of those with its own before the
        ones that are behind it, by their numbers.
        """
        base = self.base
        low = bisect_left(base.places, place)
        high = bisect_right(base.places, place, low)
        while low < high:
            middle = (low + high) // 2
            there = self._left(middle, high)
            if there < high and not is_behind(base.numbers[there]):
                low = there + 1
            else:
                high = middle
        among = bisect_left(self.added, place, key=_PLACE)
        end = bisect_right(self.added, place, among, key=_PLACE)
        while among < end:
            middle = (among + end) // 2
            if is_behind(self.added[middle].number):
                end = middle
            else:
                among = middle + 1
        # Positions that are removed are nobody's: it is between those that are added before and behind it.
        before = max(low, self.added[among - 1].before) if among else low
        return Spot(min(before, self.added[among].before) if among < len(self.added) else before, among)

    def _left(self, position: int, end: int) -> int:
        """The first position from one on that is not removed; `end` where none is before that."""
        at = bisect_left(self.removed, position)
        while position < end and at < len(self.removed) and self.removed[at] == position:
            position, at = position + 1, at + 1
        return position

    def insert(self, spot: Spot, place: int, columns: tuple[int, ...]) -> None:
        """Adds a rule, whose number is the first of its columns."""
        self.added.insert(spot.among, Added(spot.before, place, columns[0], columns))

    def merged(self) -> OrderedRules:
        """Arrays of the rules that there are."""
        base = self.base
        places, numbers, rules = array("I"), array("I"), array("I")
        done = 0
        steps: list[tuple[int, Added | None]] = [(added.before, added) for added in self.added]
        steps += [(position, None) for position in self.removed]
        # What stands before one that is removed comes first, in its order.
        steps.sort(key=lambda step: (step[0], step[1] is None))
        for position, added in (*steps, (len(base), None)):
            places += base.places[done:position]
            numbers += base.numbers[done:position]
            rules += base.rules[done * COLUMNS : position * COLUMNS]
            done = position
            if added is None:
                done += 1
            else:
                places.append(added.place)
                numbers.append(added.number)
                rules.extend(added.columns)
        return OrderedRules(places, numbers, rules)
