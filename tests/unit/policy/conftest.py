"""Documents with their mistakes marked, and the mistakes that are found in them."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent

import pytest

from dataplane.policy import Policy, PolicyError

#: Stands in a document right before the place where a mistake must be reported.
MARK = "§"

Finds = Callable[..., None]


def unmarked(text: str) -> tuple[str, list[str]]:
    """A text without its marks, and the places that were marked, as ``line:column``."""
    places, before = [], ""
    first, *parts = text.split(MARK)
    before = first
    for part in parts:
        places.append(f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}")
        before += part
    return before, places


@pytest.fixture
def finds() -> Finds:
    """Asserts that a document has exactly these mistakes, in order, each at its mark."""

    def check(text: str, *messages: str, name: str = "policy.yaml") -> None:
        plain, places = unmarked(dedent(text))
        with pytest.raises(PolicyError) as caught:
            Policy.parse(plain, name)
        expected = [f"{name}:{place}: {message}" for place, message in zip(places, messages, strict=True)]
        assert str(caught.value).splitlines() == expected

    return check
