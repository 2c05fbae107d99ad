"""Expectations held against a replay: which packets each selects, which of them fail it, and how that is told (SPEC 7).

How an expectation is written: `dataplane.replay.expectation`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.text import Text

from dataplane._core import ffi, lib
from dataplane._core.errors import check as raise_on_error
from dataplane.connection_table import flow_protocol
from dataplane.packet_words import ends_words
from dataplane.policy.mistakes import shown, unknown
from dataplane.policy.reading.source import read, read_file
from dataplane.replay.expectation import Difference, Expectation, read_expectations
from dataplane.terminal import console as terminal
from dataplane.verdict import Check, Names, verdict_of

if TYPE_CHECKING:
    from rich.console import Console

    from dataplane.policy.model import Policy

KEPT_PER_EXPECTATION = 5
SHOWN_IN_ALL = 40


def _misnamed(item: Expectation, policies: Sequence[Policy]) -> str | None:
    """What is wrong with the names of an expectation; None where one of the policies has each."""
    told = []
    for field_name, kind, known_to in _NAMED:
        given = getattr(item, field_name)
        if given is not None and not any(given in known_to(policy) for policy in policies):
            known = {key: value for policy in policies for key, value in known_to(policy).items()}
            told.append(f"{shown(given)} {unknown(kind, given, known)}")
    return "; ".join(told) or None


_NAMED: tuple[tuple[str, str, Callable[[Policy], Mapping[str, object]]], ...] = (
    ("instance", "instance", lambda policy: policy.instances_by_id),
    ("rule", "rule", lambda policy: policy.rules_by_id),
    ("security_group", "security group", lambda policy: policy.groups_by_id),
)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A packet that an expectation fails for: its number, time in nanoseconds, flow in words, and what differs.

    `check` names the check looked at, None for a packet without one. Without differences the packet, named by its
    number, does not meet the other selectors.
    """

    packet: int
    time_ns: int
    flow: str
    check: str | None
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed expectation: its place as file:line, some of the packets that it fails for, how many they are in all.

    `problem` says what is wrong with its names or the number of packets selected, None where both are right.
    """

    place: str
    mismatches: tuple[Mismatch, ...]
    packets: int
    problem: str | None


@dataclass
class _Tally:
    """What one expectation has met so far."""

    selected: int = 0
    failed: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)

    def fail(self, packet: int, record: Any, flow: Any, check: Check | None, differences: Sequence[Difference]) -> None:
        """Counts a packet, and keeps it as long as few are kept."""
        self.failed += 1
        if len(self.mismatches) < KEPT_PER_EXPECTATION:
            place = f"{check.direction} at {check.instance}" if check else None
            self.mismatches.append(Mismatch(packet, record.time_ns, _flow_text(flow), place, tuple(differences)))


class Expectations:
    """The expectations of one file, held against the batches of one replay."""

    def __init__(self, items: Sequence[tuple[str, Expectation]], policies: Sequence[Policy] = ()) -> None:
        """`items` are places, as file:line, and expectations.

        `policies` are those in force one after the other: an expectation with a name that none of them has fails, also
        where it expects no packet. Without any, names are not looked at.
        """
        self.items = tuple(items)
        self._policies = policies
        self._tallies = [_Tally() for _ in items]
        self._indices = ffi.new("uint32_t[]", 0)
        self._packets = 0

    @classmethod
    def load(cls, path: str | Path, policies: Sequence[Policy] = ()) -> Self:
        """Reads a file of expectations, YAML or JSON. Raises PolicyError with every mistake in it."""
        source = read(*read_file(path))
        return cls(read_expectations(source, (), source.value), policies)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets them held against nothing yet."""
        return type(self), (self.items, self._policies)

    def again(self) -> Self:
        """The same expectations, held against nothing yet."""
        return type(self)(self.items, self._policies)

    @property
    def total(self) -> int:
        """How many expectations there are."""
        return len(self.items)

    def observe(self, first_packet: int, n: int, records: Any, flows: Any, names: Names) -> None:
        """Holds the expectations against a batch of `n` packets: `struct dp_record[]` and `struct dp_flow[]`.

        `first_packet` is the number of the batch's first packet; batches come in order and without a gap.
        """
        self._packets = first_packet + n - 1
        if len(self._indices) < n:
            self._indices = ffi.new("uint32_t[]", n)
        for (_, item), tally in zip(self.items, self._tallies, strict=True):
            for first, last in item.packet or ((first_packet, self._packets),):
                start, stop = max(first - first_packet, 0), min(last + 1 - first_packet, n)
                if start >= stop:
                    continue
                matching = self._matching(item, flows, start, stop)
                for i in range(start, stop) if item.packet else matching:
                    verdict = verdict_of(records[i], names)
                    check = item.check_meant(verdict)
                    if i in matching and (check or not item.looks_at_check):
                        tally.selected += 1
                        differences = item.differences(verdict, check)
                        if differences:
                            tally.fail(first_packet + i, records[i], flows[i], check, differences)
                    elif item.packet:
                        tally.fail(first_packet + i, records[i], flows[i], None, ())

    def _matching(self, item: Expectation, flows: Any, start: int, stop: int) -> Collection[int]:
        """The positions from `start` to `stop` whose flows the item selects, in order."""
        if item.flow_filter is None:
            return range(start, stop)
        found = lib.dp_flows_match(flows + start, stop - start, item.flow_filter, self._indices)
        indices = ffi.unpack(self._indices, raise_on_error(found, "selecting packets"))
        return dict.fromkeys(start + index for index in indices)

    def finish(self) -> list[Failure]:
        """The expectations that failed, in the order of the file; to be asked after the last batch."""
        failures = []
        for (place, item), tally in zip(self.items, self._tallies, strict=True):
            misnamed = _misnamed(item, self._policies) if self._policies else None
            problem = misnamed or self._count_problem(item, tally)
            if problem or tally.failed:
                failures.append(Failure(place, tuple(tally.mismatches), tally.failed, problem))
        return failures

    def _count_problem(self, item: Expectation, tally: _Tally) -> str | None:
        if item.packet and item.packet[-1][1] > self._packets:
            return f"names packet {item.packet[-1][1]}, but the captures have {self._packets}"
        if item.count is not None and tally.selected != item.count:
            return f"expected to select {_packets(item.count)}, found {tally.selected}"
        if item.count is None and not item.packet and not tally.selected:
            return "selects no packet"
        return None

    def print_failures(self, failures: Sequence[Failure], console: Console | None = None) -> None:
        """Prints failed expectations, expected against found; shows some tens of packets and counts the rest.

        On standard error unless a console is given, in colour where that is a terminal.
        """
        console = console or terminal(sys.stderr)
        room, left = SHOWN_IN_ALL, len(failures)
        for failure in failures:
            if room <= 0:
                console.print(f"... and {left} more failed expectations", soft_wrap=True)
                break
            console.print(_failure_text(failure, room), soft_wrap=True)
            room -= max(len(failure.mismatches), 1)
            left -= 1
        console.print(Text(f"{len(failures)} of {self.total} expectations failed.", style="bold"), soft_wrap=True)


def _failure_text(failure: Failure, room: int) -> Text:
    """A failed expectation with at most `room` of its packets."""
    text = Text.assemble((failure.place, "bold"), f": {failure.problem}" if failure.problem else ":")
    for mismatch in failure.mismatches[:room]:
        seconds, fraction = divmod(mismatch.time_ns, 1_000_000_000)
        text.append(f"\n  packet {mismatch.packet}, {seconds}.{fraction:09}, {mismatch.flow}")
        text.append(f", {mismatch.check}" if mismatch.check else "")
        if not mismatch.differences:
            text.append("\n    is not what the other selectors say", "red")
        for difference in mismatch.differences:
            text.append(f"\n    {difference.field}: expected ")
            text.append(difference.expected or "none", "green")
            text.append(", found ")
            text.append(difference.found or "none", "red")
    more = failure.packets - len(failure.mismatches[:room])
    return text.append(f"\n  ... and {_packets(more)} more") if more else text


def _flow_text(flow: Any) -> str:
    """A `struct dp_flow` in words."""
    if not flow.family:
        return "no IP"
    name = flow_protocol(flow)
    return f"{f'protocol {name}' if name.isdecimal() else name} {ends_words(flow)}"


def _packets(n: int) -> str:
    return f"{n} packet{'' if n == 1 else 's'}"
