"""Times as files have them: seconds since the first packet, or a moment as RFC 3339 writes it."""

from __future__ import annotations

import calendar
import re
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Self

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from dataplane.policy.value_mistakes import unfit

_EXAMPLE = "2026-01-31T12:00:00Z"
_NANOSECONDS = 1_000_000_000
#: Seconds after the first packet: no capture lasts longer, as its times are nanoseconds since 1970 in 63 bits.
LATEST = ((1 << 63) - 1) // _NANOSECONDS
#: RFC 3339, 5.6, with the space that it allows for readability.
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII
)


class Moment(float):
    """A point in time, `ns` nanoseconds after 1970 began (UTC), and how it was written.

    As a number it is in seconds, and so comes behind all times that count from the first packet.
    """

    __slots__ = ("ns", "text")
    ns: int
    text: str

    def __new__(cls, text: str) -> Self:
        """Reads an RFC 3339 time; digits beyond nanoseconds are left out. Raises ValueError for all else."""
        found = _MOMENT.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no RFC 3339 time")
        date, minute, second, fraction, sign, hours, minutes = found.groups()
        # A leap second is the first of the next minute, as the system's clock has it.
        day = datetime.fromisoformat(f"{date}T{minute}")
        if int(second) > 60:
            raise ValueError(f"{text!r} has no such second")
        seconds = calendar.timegm(day.timetuple()) + int(second)
        if sign:
            seconds -= int(f"{sign}1") * (int(hours) * 3600 + int(minutes) * 60)
        ns = seconds * _NANOSECONDS + int((fraction or "")[:9].ljust(9, "0"))
        if not 0 <= ns < 1 << 64:
            raise ValueError(f"{text!r} is before 1970 or too late")
        made = super().__new__(cls, ns / _NANOSECONDS)
        made.ns, made.text = ns, text
        return made

    def __lt__(self, other: float) -> bool:
        return self.ns < other.ns if isinstance(other, Moment) else super().__lt__(other)


def due_ns(at: float, first_ns: int) -> int:
    """When a time is, in nanoseconds since 1970, if the first packet is at `first_ns`; never before that."""
    return max(first_ns, at.ns if isinstance(at, Moment) else first_ns + round(at * _NANOSECONDS))


def written(at: float) -> float | str:
    """A time as a file has it."""
    return at.text if isinstance(at, Moment) else at


def words(at: float) -> str:
    """A time for people."""
    return at.text if isinstance(at, Moment) else f"{at:g} s"


def _instant(value: object) -> Moment:
    if isinstance(value, Moment):
        return value
    if isinstance(value, str):
        with suppress(ValueError):
            return Moment(value)
    what = "is empty" if value is None else "is not allowed"
    unfit(f"{what}: write an RFC 3339 time such as {_EXAMPLE}")


def _time(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        # NaN is in no range.
        if not 0 <= value <= LATEST:
            unfit(f"is out of range: 0..{LATEST}")
        return float(value)
    if isinstance(value, str):
        with suppress(ValueError):
            return Moment(value)
        if value.strip().lstrip("-").replace(".", "", 1).isdecimal():
            unfit("is not allowed: write a number of seconds without quotes")
    what = "is empty" if value is None else "is not allowed"
    unfit(f"{what}: write seconds since the first packet, or an RFC 3339 time such as {_EXAMPLE}")


Time = Annotated[
    float,
    PlainValidator(_time),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": LATEST},
                {"type": "string", "format": "date-time"},
            ],
            "examples": [10.5, _EXAMPLE],
        }
    ),
]

#: A point in time, which does not depend on any packet.
Instant = Annotated[
    Moment,
    PlainValidator(_instant),
    PlainSerializer(lambda moment: moment.text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": [_EXAMPLE]}),
]
