"""Packets chosen by the words of expectations (``dataplane replay --filter``): those whose records are written.

A filter is the inside of an expectation's braces: ``verdict: deny, port: 22``. Its selectors say which packets it
looks at, and all else what must hold of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.policy.mistakes import PolicyError
from dataplane.policy.reading.load import diagnose
from dataplane.policy.reading.source import read
from dataplane.replay.expectation import Expectation
from dataplane.verdict import DIRECTION_WORDS, ORIGIN_WORDS, REASON_WORDS, STATE_WORDS, VERDICT_WORDS, Names

if TYPE_CHECKING:
    from dataplane.policy.mistakes import Conflict

_ALL = (1 << 32) - 1


class FilterError(ValueError):
    """A filter that cannot be read; the text says where and why."""


class _Filter(Expectation):
    """An expectation that may consist of selectors alone."""

    def conflicts(self) -> Iterable[Conflict]:
        return [conflict for conflict in super().conflicts() if conflict.location]


class Chosen:
    """Packets that one of some filters chooses. Raises FilterError."""

    def __init__(self, filters: Sequence[str]) -> None:
        self._texts = tuple(filters)
        self._filters = [_read(text) for text in filters]
        self._compiled: list[Any] = []
        self._version = -1
        self._indices = ffi.new("uint32_t[]", 0)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._texts,)

    def positions(self, first_packet: int, n: int, records: Any, flows: Any, names: Names) -> Sequence[int]:
        """The positions of the chosen ones among `n` records and their flows, in order.

        `first_packet` is the number of the first.
        """
        if self._version != names.version:
            self._compiled = [_compiled(item, names) for item in self._filters]
            self._version = names.version
        if len(self._indices) < n:
            self._indices = ffi.new("uint32_t[]", n)
        found = [
            self._matching(item, compiled, first_packet, n, records, flows)
            for item, compiled in zip(self._filters, self._compiled, strict=True)
            if compiled
        ]
        return found[0] if len(found) == 1 else sorted(set().union(*found))

    def _matching(
        self, item: Expectation, compiled: tuple[Any, ...], first_packet: int, n: int, records: Any, flows: Any
    ) -> list[int]:
        among = ffi.NULL
        if item.flow_filter is not None:
            n, among = check(lib.dp_flows_match(flows, n, item.flow_filter, self._indices), _ASKED), self._indices
        n = check(lib.dp_records_match(records, among, n, compiled[0], self._indices), _ASKED)
        found: list[int] = ffi.unpack(self._indices, n) if n else []
        if not item.packet:
            return found
        return [at for at in found if any(first <= first_packet + at <= last for first, last in item.packet)]


_ASKED = "choosing packets"


def _read(text: str) -> Expectation:
    body = text.strip()
    try:
        source = read(body if body.startswith("{") else f"{{{body}}}", "")
    except PolicyError as error:
        raise FilterError(f"{text}: {error.mistakes[0].message}: write it as verdict: deny, port: 22") from None
    value = source.value
    if source.mistakes:
        raise FilterError(f"{text}: {source.mistakes[0].message}")
    if not isinstance(value, dict) or not value:
        raise FilterError(f"{text}: nothing is chosen: write it as verdict: deny, port: 22")
    if "count" in value:
        raise FilterError(f"{text}: count is for expectations: a filter has none")
    for key in value:
        if value[key] is None and (meant := re.fullmatch(r"(\w+)\s*[=:]+\s*(\S+)", str(key))):
            raise FilterError(f"{text}: {key} is one word: write {meant[1]}: {meant[2]}")
    try:
        return _Filter.model_validate(value)
    except ValidationError as error:
        told = "; ".join(dict.fromkeys(conflict.message for conflict in diagnose(_Filter, value, error)))
        raise FilterError(f"{text}: {told}") from None


def _compiled(item: Expectation, names: Names) -> tuple[Any, ...]:
    """A `struct dp_record_filter *` and what it points to; nothing for one that no packet can match yet."""
    zone = -1
    if item.instance is not None:
        known = names.known_zone(item.instance)
        if known is None:
            return ()
        zone = known
    expected = item.expected
    chosen = ffi.new("struct dp_record_filter *")
    chosen.direction = -1 if item.direction is None else DIRECTION_WORDS.index(item.direction)
    chosen.zone = zone
    chosen.verdicts = _set(expected, "verdict", VERDICT_WORDS)
    chosen.states = _set(expected, "state", STATE_WORDS)
    chosen.reasons = _set(expected, "reason", REASON_WORDS)
    chosen.origins = _set(expected, "connection", ORIGIN_WORDS, none=lib.DP_ORIGIN_NONE)
    rules = ffi.NULL
    if expected.keys() & {"rule", "security_group"}:
        rules = ffi.new("uint8_t[]", bytes(_is_rule(expected, rule) for rule in names.rules))
        chosen.n_rules = len(names.rules)
    chosen.rules = rules
    return chosen, rules


def _set(expected: dict[str, str | None], name: str, words: Sequence[str], none: int = lib.DP_FILTER_NONE) -> int:
    if name not in expected:
        return _ALL
    word = expected[name]
    return 1 << (none if word is None else words.index(word))


def _is_rule(expected: dict[str, str | None], rule: tuple[str, str] | None) -> bool:
    named = dict(zip(("rule", "security_group"), rule or (None, None), strict=True))
    return all(named[name] == expected[name] for name in named.keys() & expected.keys())
