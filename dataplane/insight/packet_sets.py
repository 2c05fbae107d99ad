"""Exact arithmetic over sets of packets: which rule is the first to match, and which the second, everywhere.

A packet is a point with two coordinates: the remote address, and the selector (protocol and port, or ICMP type and
code; `dataplane.policy.selectors`). A rule matches the points whose remote lies in its intervals and whose selector
lies in its own. `walk` halves the space, again and again, at the bounds of rules, until each part (a *cell*) lies
wholly inside or outside of the two rules that matter in it. A part of which its caller has nothing more to learn is
left alone, so a policy costs about as much as has to be known of it, not as many cells as its rules could make.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import NamedTuple

#: The first and the last number of a range.
Interval = tuple[int, int]
#: Sorted, and with at least one number between one and the next.
Intervals = tuple[Interval, ...]

SELECTOR_MAX = 0xFFFFFF
#: What most packets are, looked at first so that examples are of what people know: HTTPS, HTTP, SSH, DNS, pings.
COMMON_SELECTORS = (6 << 16 | 443, 6 << 16 | 80, 6 << 16 | 22, 17 << 16 | 53, 1 << 16 | 8 << 8, 58 << 16 | 128 << 8)
#: And what is nobody's in particular (RFC 3849, 4193, 5737, 1918).
COMMON_REMOTES = tuple(
    int(ip_address(text))
    for text in ("2001:db8::1", "fd00::1", "198.51.100.1", "203.0.113.1", "10.0.0.1", "172.16.0.1", "192.168.0.1")
)
#: So many matches of a box say well enough where it is best halved.
_SAMPLE = 64
#: Among so few matches one is looked for by itself.
_FEW = 64


class Box(NamedTuple):
    """Remotes and selectors from the first to the last."""

    remote_low: int
    remote_high: int
    selector_low: int
    selector_high: int


class Match(NamedTuple):
    """What a rule matches: all between the lows and highs, or of that only the intervals where they are given."""

    number: int
    remote_low: int
    remote_high: int
    remotes: Intervals | None
    selector_low: int
    selector_high: int
    selectors: Intervals | None

    def within(self, box: Box) -> Box | None:
        """A part of the box in which the rule matches everything, or None where it matches nothing there."""
        remotes = _within(self.remotes or ((self.remote_low, self.remote_high),), box.remote_low, box.remote_high)
        selectors = _within(
            self.selectors or ((self.selector_low, self.selector_high),), box.selector_low, box.selector_high
        )
        if not remotes or not selectors:
            return None
        return Box(
            max(remotes[0][0], box.remote_low),
            min(remotes[0][1], box.remote_high),
            max(selectors[0][0], box.selector_low),
            min(selectors[0][1], box.selector_high),
        )


#: Matches in the order in which they are tried, and for each whether it matches everything in the box at hand.
Kept = tuple[list[Match], list[bool]]


def match(number: int, remotes: Intervals, selectors: Intervals) -> Match:
    """What rule `number` matches; both intervals have at least one item."""
    return Match(
        number,
        remotes[0][0],
        remotes[-1][1],
        remotes if len(remotes) > 1 else None,
        selectors[0][0],
        selectors[-1][1],
        selectors if len(selectors) > 1 else None,
    )


def merged(intervals: Iterable[Interval]) -> Intervals:
    """The numbers of all intervals, in the fewest."""
    found: list[Interval] = []
    for low, high in sorted(intervals):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return tuple(found)


def whole(bits: int) -> Box:
    """All packets of a family whose addresses have so many bits."""
    return Box(0, (1 << bits) - 1, 0, SELECTOR_MAX)


def walk(box: Box, matches: list[Match], wanted: Callable[[Box, Kept], Match | None], *, deep: int = 2) -> None:
    """Shows `wanted` parts of the box until it says of each, by None, that there is nothing more to learn.

    It sees a part and its matches, in order, to the one that nothing gets past: the `deep`-th that matches everything
    in it; and returns the match of which it wants to know more.
    """
    stack = [(box, kept(box, matches, deep))]
    while stack:
        box, found = stack.pop()
        item = wanted(box, found)
        if item is not None:
            stack += [(part, kept(part, found[0], deep)) for part in reversed(halves(box, *found, item))]


def uncovered(box: Box, matches: list[Match]) -> Box | None:
    """A part of the box that none of the matches touches; None where they cover it together."""
    stack = [(box, kept(box, matches, 1))]
    while stack:
        box, (found, covering) = stack.pop()
        if not found:
            return box
        if True not in covering:
            stack += [(part, kept(part, found, 1)) for part in reversed(halves(box, found, covering, found[0]))]
    return None


def first_taken(box: Box, matches: list[Match]) -> tuple[Box, Match] | None:
    """A part of the box that one match takes wholly, as the first to touch it; None where none touches the box."""
    stack = [(box, kept(box, matches, 1))]
    while stack:
        box, (found, covering) = stack.pop()
        if found and covering[0]:
            return box, found[0]
        if found:
            stack += [(part, kept(part, found, 1)) for part in reversed(halves(box, found, covering, found[0]))]
    return None


def kept(box: Box, matches: list[Match], deep: int) -> Kept:
    """The matches that touch the box, to the `deep`-th of those that cover it."""
    found: list[Match] = []
    covering: list[bool] = []
    low, high, s_low, s_high = box
    for item in matches:
        _, r0, r1, remotes, s0, s1, selectors = item
        if r1 < low or r0 > high or s1 < s_low or s0 > s_high:
            continue
        if remotes or selectors:
            narrowed = _narrowed(item, box)
            if narrowed is None:
                continue
            item = narrowed
            _, r0, r1, remotes, s0, s1, selectors = item
        found.append(item)
        if not remotes and not selectors and r0 <= low and r1 >= high and s0 <= s_low and s1 >= s_high:
            covering.append(True)
            deep -= 1
            if not deep:
                break
        else:
            covering.append(False)
    return found, covering


def touching(box: Box, item: Match, others: Iterable[Match]) -> tuple[list[Match], bool]:
    """Those of the others that may match packets of the box that the item matches, to one that matches them all.

    Also whether there is such a one. Of matches with many intervals more may be named than do.
    """
    r0, r1 = max(item.remote_low, box.remote_low), min(item.remote_high, box.remote_high)
    s0, s1 = max(item.selector_low, box.selector_low), min(item.selector_high, box.selector_high)
    found: list[Match] = []
    for other in others:
        _, low, high, remotes, s_low, s_high, selectors = other
        if high >= r0 and low <= r1 and s_high >= s0 and s_low <= s1:
            found.append(other)
            if low <= r0 and high >= r1 and s_low <= s0 and s_high >= s1 and not remotes and not selectors:
                return found, True
    return found, False


def takes_all(item: Match, other: Match) -> bool:
    """Whether another match surely matches all that an item does."""
    return (
        not other.remotes
        and not other.selectors
        and other.remote_low <= item.remote_low
        and other.remote_high >= item.remote_high
        and other.selector_low <= item.selector_low
        and other.selector_high >= item.selector_high
    )


def _narrowed(item: Match, box: Box) -> Match | None:
    """The match with those of its intervals that touch the box; None where there are none."""
    number, r0, r1, remotes, s0, s1, selectors = item
    if remotes:
        remotes = _within(remotes, box.remote_low, box.remote_high)
        if not remotes:
            return None
        r0, r1 = remotes[0][0], remotes[-1][1]
        remotes = remotes if len(remotes) > 1 else None
    if selectors:
        selectors = _within(selectors, box.selector_low, box.selector_high)
        if not selectors:
            return None
        s0, s1 = selectors[0][0], selectors[-1][1]
        selectors = selectors if len(selectors) > 1 else None
    return Match(number, r0, r1, remotes, s0, s1, selectors)


def _within(intervals: Intervals, low: int, high: int) -> Intervals:
    """Those that have a number between low and high."""
    first = bisect_right(intervals, (low, high)) - 1
    if first < 0 or intervals[first][1] < low:
        first += 1
    last = first
    while last < len(intervals) and intervals[last][0] <= high:
        last += 1
    return intervals[first:last]


def halves(box: Box, matches: list[Match], covering: list[bool], wanted: Match) -> tuple[Box, ...]:
    """The box in two, the half with what is common first; in none where nothing in it is partly matched.

    Among many matches that is at the middle one of their bounds, so that each half has fewer; among few, at a bound of
    the one that more is wanted to be known of.
    """
    partial = [item for item, covers in zip(matches, covering, strict=True) if not covers]
    remotes: list[int] = []
    selectors: list[int] = []
    if len(partial) <= _FEW:
        _bounds(box, wanted, remotes, selectors)
    if not remotes and not selectors:
        for item in partial[:: len(partial) // _SAMPLE + 1]:
            _bounds(box, item, remotes, selectors)
    if not remotes and not selectors:
        return ()
    low, high, s_low, s_high = box
    if len(remotes) >= len(selectors):
        remotes.sort()
        at = remotes[len(remotes) // 2]
        parts = Box(low, at - 1, s_low, s_high), Box(at, high, s_low, s_high)
        return parts if _usual(COMMON_REMOTES, low, high) < at else parts[::-1]
    selectors.sort()
    at = selectors[len(selectors) // 2]
    parts = Box(low, high, s_low, at - 1), Box(low, high, at, s_high)
    return parts if _usual(COMMON_SELECTORS, s_low, s_high) < at else parts[::-1]


def _usual(common: tuple[int, ...], low: int, high: int) -> int:
    """The first of some numbers that is between low and high, or else the lowest there."""
    return next((number for number in common if low <= number <= high), low)


def _bounds(box: Box, item: Match, remotes: list[int], selectors: list[int]) -> None:
    """Adds where the match begins, and ends, within the box: each number is the first on its other side."""
    low, high, s_low, s_high = box
    _, r0, r1, between, s0, s1, s_between = item
    for first, last in between or ((r0, r1),):
        if low < first <= high:
            remotes.append(first)
        if low <= last < high:
            remotes.append(last + 1)
    for first, last in s_between or ((s0, s1),):
        if s_low < first <= s_high:
            selectors.append(first)
        if s_low <= last < s_high:
            selectors.append(last + 1)
