"""An expectation: which packets of a replay it selects, and what must hold for them (``replay --expect``, SPEC 7).

A file is a YAML list of them. Each item selects packets and says what must hold for every one of them::

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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WithJsonSchema

from dataplane._core import ffi
from dataplane.policy import fields
from dataplane.policy.addresses import family, packed_prefix
from dataplane.policy.base import CheckedModel
from dataplane.policy.mistakes import Conflict, Location, PolicyError, alternatives, shown
from dataplane.policy.reading.file_kinds import changes_told
from dataplane.policy.reading.load import diagnose, in_order
from dataplane.policy.reading.source import Source
from dataplane.policy.value_mistakes import unfit
from dataplane.verdict import (
    DIRECTION_WORDS,
    ORIGIN_WORDS,
    REASON_WORDS,
    STATE_WORDS,
    VERDICT_WORDS,
    Check,
    Verdict,
)

EXPECTABLE = ("verdict", "state", "reason", "rule", "security_group", "connection")

COUNT_MAX = 1_000_000_000_000


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not as expected; None stands for none."""

    field: str
    expected: str | None
    found: str | None


def _packet_range(value: Any) -> tuple[int, int]:
    """A packet number or a range as its two ends, both included."""
    if isinstance(value, tuple):
        return value
    text = str(value) if type(value) in (int, str) else ""
    first, dash, last = text.partition("-")
    if not (first.isascii() and first.isdecimal()) or (dash and not (last.isascii() and last.isdecimal())):
        unfit("is not allowed: write packet numbers, which count from 1, or ranges such as 3-7")
    if max(len(first), len(last)) > len(str(COUNT_MAX)) or not 1 <= int(first) <= int(last or first):
        unfit("is out of range: packets count from 1, and a range has its smaller end first")
    return int(first), int(last or first)


def _packet_list(value: Any) -> Any:
    """A single number or range as a list of one; a list as it is."""
    if value == []:
        unfit("is empty: leave the key out to select packets by other means")
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
        unfit("is empty")
    return value


def _one_of(words: Sequence[str], *, or_none: bool) -> tuple[BeforeValidator, WithJsonSchema]:
    """What checks a field for one of some words, and what its schema says of it."""

    def check(value: Any) -> Any:
        if value not in words and not (value is None and or_none):
            unfit(f"is not allowed: write {alternatives([*words, 'null'] if or_none else words)}")
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
            address, chosen.address.bits = packed_prefix(self.address)
            chosen.family = family(self.address)
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
