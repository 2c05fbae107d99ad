"""When security groups, rules, address groups and instances came, and were changed last, whoever did it.

What stands in the policy since it was loaded first has the time of that, or the one that the store knows. Kept is only
what came or changed since, so that memory is bounded by the policy; what is gone is forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from dataplane.policy.replaced import different
from dataplane.policy.structural_sharing import rules_between

if TYPE_CHECKING:
    from dataplane.policy import Policy


class Lifetime(NamedTuple):
    """When something came, and was changed last, in seconds since 1970."""

    created: float
    updated: float


class Times:
    """The times of a policy's parts, by kind (`security_groups`, `rules`, `address_groups`, `instances`) and id."""

    def __init__(
        self, began: float | None = None, known: Mapping[tuple[str, str], tuple[float, float]] | None = None
    ) -> None:
        self._began = Lifetime(*[time.time() if began is None else began] * 2)
        self._known = {key: Lifetime(*times) for key, times in (known or {}).items()}

    def of(self, kind: str, item_id: str) -> Lifetime:
        """The times of a part of the policy in force."""
        return self._known.get((kind, item_id), self._began)

    def note(self, before: Policy, after: Policy, now: float) -> None:
        """Takes down what one policy changed of another. Parts that are the same objects are not looked at."""
        for kind, was, item in _different(before, after):
            key = kind, (item or was).id
            if item is None:
                self._known.pop(key, None)
            elif was is None:
                self._known[key] = Lifetime(now, now)
            else:
                self._known[key] = Lifetime(self._known.get(key, self._began).created, now)


#: Kind, what was there and what is there; one of the two may be None.
_Difference = tuple[str, Any, Any]


def _different(before: Policy, after: Policy) -> Iterator[_Difference]:
    for section in ("security_groups", "address_groups", "instances"):
        was, now = different(getattr(before, section), getattr(after, section))
        yield from (found for found in _pairs(section, was, now) if found[1] != found[2])
    gone, come = rules_between(before, after)
    rules = _pairs("rules", (rule for _, rule in gone.values()), (rule for _, rule in come.values()))
    yield from (found for found in rules if found[1] != found[2])


def _pairs(kind: str, before: Iterable[Any], now: Iterable[Any]) -> Iterator[_Difference]:
    """What is not the same object in both, by id."""
    was = {item.id: item for item in before}
    for item in now:
        old = was.pop(item.id, None)
        if old is not item:
            yield kind, old, item
    yield from ((kind, old, None) for old in was.values())
