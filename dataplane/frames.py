"""Frames and times as callers of the library bring them, made what C takes; what cannot be meant is refused."""

from __future__ import annotations

from operator import index
from typing import Any

from dataplane.conntrack import NANOSECONDS
from dataplane.verdict import LINK_WORDS

_SCAPY_LINKS = {"Ethernet": "ethernet", "802.3": "ethernet", "IP": "raw", "IPv6": "raw", "cooked linux": "sll"}

#: The range that signed nanoseconds have, so that adding a timeout to a time never overflows.
_TIME_MAX = (1 << 63) - 1
TWO_TIMES = "give time= in seconds or time_ns= in nanoseconds, not both"


def nanoseconds(time: float) -> int:
    if not hasattr(time, "__round__"):
        raise TypeError(f"a time in seconds is a number, not {type(time).__name__}")
    try:
        time_ns = round(time * NANOSECONDS)
    except (ValueError, OverflowError):
        raise ValueError(_out_of_range(time, "seconds")) from None
    if not 0 <= time_ns <= _TIME_MAX:
        raise ValueError(_out_of_range(time, "seconds"))
    return time_ns


def in_range(time_ns: int) -> int:
    try:
        time_ns = index(time_ns)
    except TypeError:
        raise TypeError(f"a time in nanoseconds is an int, not {type(time_ns).__name__}") from None
    if not 0 <= time_ns <= _TIME_MAX:
        raise ValueError(_out_of_range(time_ns, "nanoseconds"))
    return time_ns


def _out_of_range(time: object, unit: str) -> str:
    seconds, nanoseconds = divmod(_TIME_MAX, NANOSECONDS)
    return f"the time {time} {unit} is out of range: 0 to {seconds}.{nanoseconds:09} seconds are allowed"


def frame_time(frame: Any) -> int:
    """The time that a scapy packet brings."""
    time = getattr(_known_frame(frame), "time", None)
    if time is None:
        raise ValueError("a packet needs a time: give time= in seconds or time_ns= in nanoseconds")
    return nanoseconds(time)


def _known_frame(frame: Any) -> Any:
    # What else bytes() takes would become something else: 5 five zeros, a list its items.
    if not isinstance(frame, bytes | bytearray | memoryview) and not hasattr(frame, "__bytes__"):
        raise TypeError(f"a frame is bytes or a scapy packet, not {type(frame).__name__}")
    return frame


def frame_data(frame: Any, link: str | None) -> tuple[bytes, int]:
    data = bytes(_known_frame(frame))
    if link is None:
        name = getattr(frame, "name", "")
        link = "ethernet" if isinstance(frame, bytes | bytearray | memoryview) else _SCAPY_LINKS.get(name)
        if link is None:
            words = ", ".join(LINK_WORDS)
            raise ValueError(f"a {name} packet does not say its link type: give link=, one of {words}")
    if link not in LINK_WORDS:
        raise ValueError(f"link type {link!r} is not known: one of {', '.join(LINK_WORDS)} is")
    return data, LINK_WORDS.index(link)
