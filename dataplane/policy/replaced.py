"""What is different between two lists of which one was made from the other: seen by identity, as little as there is."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Any, TypeVar

T = TypeVar("T")


def replaced_part(before: Sequence[Any], now: Sequence[Any]) -> tuple[int, int, int]:
    """(first, last, last_now): now[first:last_now] stands where before[first:last] did, and all else are the same
    objects.
    """
    if before is now:
        return len(now), len(now), len(now)
    shorter = min(len(before), len(now))
    first = _alike(before, now)
    last = min(_alike(reversed(before), reversed(now)), shorter - first)
    return first, len(before) - last, len(now) - last


def _alike(before: Iterable[object], now: Iterable[object]) -> int:
    """How many they begin with that are the same objects."""
    same = list(map(operator.is_, before, now))
    return same.index(False) if False in same else len(same)


def different(before: tuple[T, ...], now: tuple[T, ...]) -> tuple[list[T], list[T]]:
    """The items of either that are not the same object in the other, or that stand elsewhere there."""
    if before is now:
        return [], []
    if len(before) == len(now):
        places = list(map(operator.is_not, before, now))
        return list(compress(before, places)), list(compress(now, places))
    first, last, last_now = replaced_part(before, now)
    return list(before[first:last]), list(now[first:last_now])
