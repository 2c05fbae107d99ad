"""Expectations: what must hold for the packets of a replay (``dataplane replay --expect FILE``, SPEC 7).

The file is a YAML list. Each item selects packets and says what must hold for every one of them::

    - {packet: 3, verdict: allow, reason: rule, rule: A01}
    - {packet: 4-7, verdict: allow, state: established, connection: inbound}
    - {address: 172.16.0.5, port: 22, protocol: tcp, direction: ingress, verdict: deny, reason: no-rule-matched}
    - {address: 10.0.0.0/8, verdict: deny, count: 0}

Selectors, joined by "and"; an item without any selects every packet:

``packet``
    A number, a range ``3-7``, or a list of both; numbers are those of the verdict records. Each packet named must be in
    the captures and meet the item's other selectors, or the expectation fails.
``address``, ``port``, ``protocol``
    An address or prefix, and a port, of either side; a protocol's name or number.
``direction``, ``instance``
    The packet has a check in that direction, at that instance; this check is then the one looked at.

What can be expected: ``verdict``, ``state``, ``reason``, ``rule``, ``security_group``, ``connection`` in the words of
the verdict records, all but ``verdict`` also ``null`` for none; and ``count``, how many packets are selected. Without
``count`` an item that selects no packet fails. Without ``direction`` and ``instance``, ``verdict`` is the packet's and
the rest is compared with the check that decided: the one that denied, else the last.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError
from rich.text import Text

from dataplane._core import ffi, lib
from dataplane._core.errors import check as raise_on_error
from dataplane.connection_table import flow_protocol
from dataplane.packet_words import ends_words
from dataplane.policy import fields
from dataplane.policy.base import CheckedModel
from dataplane.policy.mistakes import Conflict, Location, PolicyError, alternatives, shown, unknown
from dataplane.policy.reading.file_kinds import changes_told
from dataplane.policy.reading.load import diagnose, in_order
from dataplane.policy.reading.source import Source, read, read_file
from dataplane.terminal import console as terminal
from dataplane.verdict import (
    DIRECTION_WORDS,
    ORIGIN_WORDS,
    REASON_WORDS,
    STATE_WORDS,
    VERDICT_WORDS,
    Check,
    Names,
    Verdict,
    verdict_of,
)

if TYPE_CHECKING:
    from rich.console import Console

    from dataplane.policy.model import Policy

EXPECTABLE = ("verdict", "state", "reason", "rule", "security_group", "connection")

KEPT_PER_EXPECTATION = 5
SHOWN_IN_ALL = 40
COUNT_MAX = 1_000_000_000_000


def _unfit(message: str) -> PydanticCustomError:
    """A finding whose message goes on after the name and the value of the field."""
    return PydanticCustomError(fields.UNFIT, message)


def _packet_range(value: Any) -> tuple[int, int]:
    """A packet number or a range as its two ends, both included."""
    if isinstance(value, tuple):
        return value
    text = str(value) if type(value) in (int, str) else ""
    first, dash, last = text.partition("-")
    if not (first.isascii() and first.isdecimal()) or (dash and not (last.isascii() and last.isdecimal())):
        raise _unfit("is not allowed: write packet numbers, which count from 1, or ranges such as 3-7")
    if max(len(first), len(last)) > len(str(COUNT_MAX)) or not 1 <= int(first) <= int(last or first):
        raise _unfit("is out of range: packets count from 1, and a range has its smaller end first")
    return int(first), int(last or first)


def _packet_list(value: Any) -> Any:
    """A single number or range as a list of one; a list as it is."""
    if value == []:
        raise _unfit("is empty: leave the key out to select packets by other means")
    return value if isinstance(value, list) else (_packet_range(value),)


def _joined(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Ranges sorted, with overlaps and neighbours joined."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)


def _given(value: Any) -> Any:
    if value is None:
        raise _unfit("is empty")
    return value


def _one_of(words: Sequence[str], *, or_none: bool) -> tuple[BeforeValidator, WithJsonSchema]:
    """What checks a field for one of some words, and what its schema says of it."""

    def check(value: Any) -> Any:
        if value not in words and not (value is None and or_none):
            raise _unfit(f"is not allowed: write {alternatives([*words, 'null'] if or_none else words)}")
        return value

    return BeforeValidator(check), WithJsonSchema({"enum": [*words, None] if or_none else [*words]})


_RANGE = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[0-9]+(-[0-9]+)?$"}]}

_Range = Annotated[tuple[int, int], BeforeValidator(_packet_range)]
_Packets = Annotated[
    tuple[_Range, ...],
    fields.AsTuple,
    BeforeValidator(_packet_list),
    AfterValidator(_joined),
    WithJsonSchema({"anyOf": [*_RANGE["anyOf"], {"type": "array", "items": _RANGE, "minItems": 1}]}),
]
_GIVEN = BeforeValidator(_given)


class Expectation(CheckedModel):
    """One item of the file: selectors, and what must hold for the packets that they select."""

    packet: _Packets = Field((), description="Packet numbers, which count from 1, and ranges such as 3-7.")
    address: Annotated[fields.Prefix | None, _GIVEN] = Field(
        None, description="An address or prefix of either side of the packet."
    )
    port: Annotated[int | None, _GIVEN] = Field(None, ge=0, le=fields.PORT_MAX, description="A port of either side.")
    protocol: Annotated[fields.Protocol, _GIVEN] = Field(None, description="A protocol's name or number.")
    direction: Annotated[str | None, *_one_of(DIRECTION_WORDS, or_none=False)] = Field(
        None, description="The packet has a check in this direction, which is then the one looked at."
    )
    instance: Annotated[fields.Id | None, _GIVEN] = Field(
        None, description="The packet has a check at this instance, which is then the one looked at."
    )

    verdict: Annotated[str | None, *_one_of(VERDICT_WORDS, or_none=False)] = Field(
        None, description="The verdict expected: the packet's, or with a direction or instance that of the check."
    )
    state: Annotated[str | None, *_one_of(STATE_WORDS, or_none=True)] = Field(None, description="The state expected.")
    reason: Annotated[str | None, *_one_of(REASON_WORDS, or_none=True)] = Field(
        None, description="The reason expected."
    )
    rule: fields.Id | None = Field(None, description="Id of the rule expected to decide; null for none.")
    security_group: fields.Id | None = Field(None, description="Id of that rule's group; null for none.")
    connection: Annotated[str | None, *_one_of(ORIGIN_WORDS[1:], or_none=True)] = Field(
        None, description="The origin expected of the packet's connection; null for none."
    )
    count: Annotated[int | None, _GIVEN] = Field(
        None, ge=0, le=COUNT_MAX, description="How many packets the item selects; absent: at least one."
    )

    def conflicts(self) -> Iterable[Conflict]:
        if self.model_fields_set.isdisjoint((*EXPECTABLE, "count")):
            yield Conflict((), f"nothing is expected: write at least one of {', '.join((*EXPECTABLE, 'count'))}")
        if self.looks_at_check and self.verdict == "bypass":
            message = 'verdict "bypass" is not allowed with a direction or an instance: write allow or deny'
            yield Conflict(("verdict",), message)

    @property
    def looks_at_check(self) -> bool:
        """True where one check of the packet is meant, not the packet as a whole."""
        return self.direction is not None or self.instance is not None

    @cached_property
    def expected(self) -> dict[str, str | None]:
        """What must hold, by field; None expects none."""
        return {name: getattr(self, name) for name in EXPECTABLE if name in self.model_fields_set}

    @cached_property
    def flow_filter(self) -> Any:
        """The selectors of the flow as a `struct dp_flow_filter *`, None without any."""
        if self.address is None and self.port is None and self.protocol is None:
            return None
        protocol = fields.PROTOCOL_NUMBERS[self.protocol] if isinstance(self.protocol, str) else self.protocol
        chosen = ffi.new("struct dp_flow_filter *")
        chosen.port = -1 if self.port is None else self.port
        chosen.protocol = -1 if protocol is None else protocol
        if self.address is not None:
            address, chosen.address.bits = fields.packed_prefix(self.address)
            chosen.family = fields.family(self.address)
            ffi.memmove(chosen.address.address, address, len(address))
        return chosen

    def check_meant(self, verdict: Verdict) -> Check | None:
        """The check that is looked at: of those selected, the one that denied, else the last; None without any."""
        meant = [
            check
            for check in verdict.checks
            if self.direction in (None, check.direction) and self.instance in (None, check.instance)
        ]
        decisive = [check for check in meant if check.verdict == "deny"] or meant
        return decisive[-1] if decisive else None

    def differences(self, verdict: Verdict, check: Check | None) -> list[Difference]:
        """Where a packet is not as expected."""
        differences = []
        for name, expected in self.expected.items():
            found = getattr(check, name) if check else None
            if name == "verdict" and not self.looks_at_check:
                found = verdict.verdict
            if found != expected:
                differences.append(Difference(name, expected, found))
        return differences


def read_expectations(source: Source, where: Location, value: Any) -> list[tuple[str, Expectation]]:
    """A list of expectations that stands at a place of a document, with the place of each as file:line.

    Raises PolicyError with every mistake in it.
    """
    if not isinstance(value, list):
        what = "the file is not a list" if not where else f"{shown(value)} is no list"
        raise PolicyError([source.mistake(where, f"{what}: write an item for each expectation")])
    if told := changes_told(value):
        raise PolicyError([source.mistake(where, told)])
    if not value and not source.mistakes:
        raise PolicyError([source.mistake(where, "nothing is expected: write an item for each expectation")])
    items: list[tuple[str, Expectation]] = []
    mistakes = list(source.mistakes)
    for index, written in enumerate(value):
        at = (*where, index)
        here = source.mistake(at, f"expectation {shown(written)} is not allowed: write a mapping")
        try:
            items.append((f"{here.file}:{here.line}", Expectation.model_validate(written)))
        except ValidationError as error:
            found = diagnose(Expectation, written, error) if isinstance(written, dict) else ()
            mistakes += [source.mistake((*at, *c.location), c.message, at_key=c.at_key) for c in found] or [here]
    if mistakes:
        raise PolicyError(in_order(mistakes))
    return items


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
class Difference:
    """One field that is not as expected; None stands for none."""

    field: str
    expected: str | None
    found: str | None


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
        room = SHOWN_IN_ALL
        shown = 0
        while shown < len(failures) and room > 0:
            text = _failure_text(failures[shown], room)
            console.print(text, soft_wrap=True)
            room -= max(len(failures[shown].mismatches), 1)
            shown += 1
        if shown < len(failures):
            console.print(f"... and {len(failures) - shown} more failed expectations", soft_wrap=True)
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
