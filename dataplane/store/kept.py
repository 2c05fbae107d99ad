"""What stands in a store, taken apart: it is what we write there, or told to be not.

Whoever may write into a store may write anything: other programs, people, a dataplane of another version.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dataplane.store import StoreError
from dataplane.terminal import printable


class UnreadableError(StoreError):
    """What is kept is not what we write: one sentence that says where, why, and what to do."""


@contextmanager
def read_at(
    place: str, *, kind: str = "etcd has at", remedy: str = "put it right there, or use another prefix"
) -> Iterator[None]:
    """What goes wrong while something that stands at a place is taken apart is its fault, told as UnreadableError."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UnreadableError(
            f"{kind} {printable(place)} what dataplane does not write there"
            f" ({printable(str(error))[:200] or type(error).__name__}): {remedy}"
        ) from None


def mapping(text: str) -> dict[str, Any]:
    """A JSON object. Raises ValueError."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def number(value: Any) -> float:
    """A time, or a count, which is finite. Raises ValueError."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def moment(value: Any) -> float:
    """A time in seconds since 1970, before the year 10000. Raises ValueError."""
    found = number(value)
    if not 0 <= found < 253_402_300_800:
        raise ValueError(f"{value!r} is no time")
    return found


def integer(value: Any) -> int:
    """A number of something. Raises ValueError."""
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r} is no number of anything")
    return value


def text(value: Any) -> str:
    """A text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def expect_form(place: str, form: Any, newest: int) -> None:
    """Raises UnreadableError for the form of a newer dataplane, ValueError for none."""
    if integer(form) > newest:
        raise UnreadableError(f"{place}: it is of a newer dataplane (form {form}): use that, or another store")
