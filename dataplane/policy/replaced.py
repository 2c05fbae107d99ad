"""What is different between two lists of which one was made from the other: seen by identity, as little as there is."""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, count
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

#: Two lists of the same length are held against each other place by place where no more than this part of them differs.
_PART, _DIFFERENT_MIN = 4, 16


class Replaced(NamedTuple):
    """now[first_now:last_now] stands where before[first:last] did."""

    first: int
    last: int
    first_now: int
    last_now: int


def replaced_parts(before: Sequence[Any], now: Sequence[Any]) -> tuple[Replaced, ...]:
    """The parts that are others, in their order; all between them are the same objects in the same order.

    A step or two for each that both have, where nothing moved.
    """
    first, last, last_now = replaced_part(before, now)
    if first in (last, last_now):
        return (Replaced(first, last, first, last_now),) if last + last_now > 2 * first else ()
    was, others = before[first:last], now[first:last_now]
    if len(was) == len(others):
        places = list(compress(count(), map(operator.is_not, was, others)))
        if len(places) <= max(_DIFFERENT_MIN, len(was) // _PART):
            return tuple(Replaced(first + a, first + b, first + a, first + b) for a, b in _runs(places))
    return tuple(_between(_kept(was, others), first, (last - first, last_now - first)))


def gone(before: Sequence[T], parts: Iterable[Replaced]) -> list[T]:
    """What stood in these parts before."""
    return [item for part in parts for item in before[part.first : part.last]]


def come(now: Sequence[T], parts: Iterable[Replaced]) -> list[T]:
    """What stands there now."""
    return [item for part in parts for item in now[part.first_now : part.last_now]]


def replaced_part(before: Sequence[Any], now: Sequence[Any]) -> tuple[int, int, int]:
    """(first, last, last_now): now[first:last_now] stands where before[first:last] did, and all else are the same
    objects.
    """
    if before is now:
        return len(now), len(now), len(now)
    shorter = min(len(before), len(now))
    first = _alike(before, now, shorter)
    last = min(_alike(reversed(before), reversed(now), shorter), shorter - first)
    return first, len(before) - last, len(now) - last


def _alike(before: Iterable[object], now: Iterable[object], shorter: int) -> int:
    """How many they begin with that are the same objects."""
    return next(compress(count(), map(operator.is_not, before, now)), shorter)


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Rising places as stretches, from the first to behind the last."""
    begin = end = places[0]
    for place in places:
        if place > end:
            yield begin, end
            begin = place
        end = place + 1
    yield begin, end


def _kept(before: Sequence[object], now: Sequence[object]) -> list[tuple[int, int]]:
    """(place before, place now) of the most objects that are in both in the same order."""
    places = dict(zip(map(id, before), count(), strict=False))
    found = [(was, place) for place, was in enumerate(map(places.get, map(id, now))) if was is not None]
    if all(map(operator.lt, found, found[1:])):
        return found
    # The longest that rises: of all that are so long, the one that ends with the least; what is before each.
    least: list[int] = []
    ends: list[int] = []
    behind: list[int] = []
    for index, (was, _) in enumerate(found):
        length = bisect_left(least, was)
        behind.append(ends[length - 1] if length else -1)
        least[length : length + 1] = [was]
        ends[length : length + 1] = [index]
    kept, index = [], ends[-1]
    while index >= 0:
        kept.append(found[index])
        index = behind[index]
    return kept[::-1]


def _between(kept: Iterable[tuple[int, int]], first: int, ends: tuple[int, int]) -> Iterator[Replaced]:
    """What is between those that are kept; `first` is what places are counted from."""
    was = now = 0
    for place, place_now in (*kept, ends):
        if place > was or place_now > now:
            yield Replaced(first + was, first + place, first + now, first + place_now)
        was, now = place + 1, place_now + 1


def different(before: tuple[T, ...], now: tuple[T, ...]) -> tuple[list[T], list[T]]:
    """The items of either that are not the same object in the other, or that stand elsewhere there."""
    if before is now:
        return [], []
    if len(before) == len(now):
        places = list(map(operator.is_not, before, now))
        return list(compress(before, places)), list(compress(now, places))
    first, last, last_now = replaced_part(before, now)
    return list(before[first:last]), list(now[first:last_now])
