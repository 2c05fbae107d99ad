"""Which packets of captures are read (``--time FROM..TO``), and with which addresses (``--map OLD=NEW``)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pydantic_core import PydanticCustomError

from dataplane._core import ffi
from dataplane.policy import times
from dataplane.policy.addresses import checked_prefix, family, packed_prefix

_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
_END = (1 << 64) - 1


class WindowError(ValueError):
    """A time or a mapping that cannot be read; the text says why and what to write."""


class Window(NamedTuple):
    """Packets from a time on and before another; each is in seconds since the captures' first packet, a Moment, or
    None for no bound.
    """

    start: float | None
    end: float | None

    @classmethod
    def read(cls, text: str) -> Window:
        """Reads ``FROM..TO``, of which either may be left out. Raises WindowError."""
        start, dots, end = text.partition("..")
        if not dots or not (start or end):
            raise WindowError(f"{text}: write FROM..TO, in seconds since the first packet or as RFC 3339: 10..20.5")
        made = cls(_time(text, start), _time(text, end))
        # Which comes first of a moment and of seconds, only the captures tell.
        alike = made.start is not None and made.end is not None and type(made.start) is type(made.end)
        if alike and not made.start < made.end:  # type: ignore[operator]
            raise WindowError(f"{text}: FROM must be before TO")
        return made

    def bounds(self, first_ns: int) -> tuple[int, int]:
        """First and end in nanoseconds, the end not among them, of captures whose first packet is at `first_ns`."""
        return _ns(self.start, first_ns, 0), _ns(self.end, first_ns, _END)


def _time(text: str, written: str) -> float | None:
    if not written:
        return None
    if _SECONDS.fullmatch(written):
        seconds = float(written)
        if seconds <= times.LATEST:
            return seconds
        raise WindowError(f"{text}: {written} is out of range: up to {times.LATEST} seconds are allowed")
    try:
        return times.Moment(written)
    except ValueError:
        raise WindowError(
            f"{text}: {written} is no time: write seconds since the first packet, or 2026-01-31T12:00:00Z"
        ) from None


def _ns(at: float | None, first_ns: int, open_end: int) -> int:
    if at is None:
        return open_end
    return at.ns if isinstance(at, times.Moment) else min(times.due_ns(at, first_ns), _END)


class Mapping(NamedTuple):
    """An address or prefix, and the one of the same length that stands in its place, both canonical."""

    before: str
    after: str

    @classmethod
    def read(cls, text: str) -> Mapping:
        """Reads ``OLD=NEW``. Raises WindowError."""
        before, after = text.partition("=")[::2]
        if not before.strip() or not after.strip():
            raise WindowError(f"{text}: write OLD=NEW, two addresses or two prefixes of one length")
        made = cls(_prefix(text, before), _prefix(text, after))
        if family(made.before) != family(made.after):
            raise WindowError(f"{text}: one is IPv4 and the other IPv6: both must be of one family")
        (_, bits), (_, others) = map(packed_prefix, (made.before, made.after))
        if bits != others:
            raise WindowError(f"{text}: the prefixes have {bits} and {others} bits: both must be of one length")
        return made


def _prefix(text: str, written: str) -> str:
    try:
        return checked_prefix(written.strip())
    except PydanticCustomError as error:
        raise WindowError(f"{text}: {written.strip()} {error.message_template}") from None


class Part(NamedTuple):
    """What of captures is read, and with which addresses; mappings come in the order of their lengths."""

    window: Window | None = None
    mappings: Sequence[Mapping] = ()


#: All packets, with their own addresses.
WHOLE = Part()


def read_mappings(texts: Iterable[str]) -> list[Mapping]:
    """Several; the longest prefix that holds an address is that which counts. Raises WindowError."""
    made: dict[str, Mapping] = {}
    for text in texts:
        mapping = Mapping.read(text)
        if mapping.before in made and made[mapping.before] != mapping:
            raise WindowError(f"{text}: {mapping.before} is mapped to {made[mapping.before].after} already")
        made[mapping.before] = mapping
    return sorted(made.values(), key=lambda mapping: packed_prefix(mapping.before)[1])


def c_mappings(mappings: Iterable[Mapping]) -> Any:
    """An array of `struct dp_mapping`."""
    listed = list(mappings)
    array = ffi.new("struct dp_mapping[]", len(listed))
    for c, mapping in zip(array, listed, strict=True):
        (before, c.bits), (after, _) = map(packed_prefix, (mapping.before, mapping.after))
        c.family = family(mapping.before)
        ffi.memmove(c.before, before, len(before))
        ffi.memmove(c.after, after, len(after))
    return array
