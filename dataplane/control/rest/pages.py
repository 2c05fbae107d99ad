"""Lists: chosen by filters, in pages, in the order of ids, so that a page goes on where the one before ended whatever
has come or gone meanwhile.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

PAGE_MAX = 2000

Limit = Annotated[int, Query(ge=0, le=PAGE_MAX, description="The most items of the page.")]
Marker = Annotated[str | None, Query(max_length=255, description="The id of the last item of the page before.")]
Words = Annotated[list[str] | None, Query(max_length=1000, description="Any of these.")]
Numbers = Annotated[list[int] | None, Query(max_length=1000, description="Any of these.")]

T = TypeVar("T")


class PageInfo(BaseModel):
    """Where a page begins and ends; `next_marker` is left out of the last page."""

    previous_marker: str | None
    current_count: int
    next_marker: str | None = None


class Sorted(Generic[T]):
    """The items of a policy in the order of their ids, worked out once for each policy."""

    def __init__(self, items_of: Callable[[Any], Iterable[T]], id_of: Callable[[T], str]) -> None:
        self._items_of, self._id_of = items_of, id_of
        # Policy, ids and items; replaced as a whole, so that threads may share it.
        self._known: tuple[Any, list[str], list[T]] = (None, [], [])

    def page(
        self, policy: Any, fits: Callable[[T], bool], limit: int, marker: str | None
    ) -> tuple[list[T], dict[str, Any]]:
        """The items behind the marker that fit, at most so many; and the page's `page_info`."""
        known = self._known
        if known[0] is not policy:
            items = sorted(self._items_of(policy), key=self._id_of)
            known = self._known = (policy, [self._id_of(item) for item in items], items)
        _, ids, items = known
        found: list[T] = []
        is_last = True
        for index in range(bisect_right(ids, marker) if marker else 0, len(items)):
            if fits(items[index]):
                if len(found) == limit:
                    is_last = False
                    break
                found.append(items[index])
        info: dict[str, Any] = {
            "previous_marker": self._id_of(found[0]) if found else None,
            "current_count": len(found),
        }
        if found and not is_last:
            info["next_marker"] = self._id_of(found[-1])
        return found, info


def any_of(wanted: Iterable[Any] | None) -> Callable[[Any], bool]:
    """Whether a value is one of those that are wanted; all are where none is named."""
    if wanted is None:
        return lambda value: True
    words = set(wanted)
    return lambda value: value in words
