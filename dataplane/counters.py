"""What the core counts, each thing once: the field of `struct dp_counters`, its names, whether it only grows, its help.

A replay's summary, `dataplane ctl counters` and the metrics for Prometheus are made from this table, so that what is
counted is seen in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from dataplane.verdict import (
    CAUSE_WORDS,
    FLOOD_WORDS,
    FLOW_LOSS_WORDS,
    REASON_WORDS,
    SHADOW_WORDS,
    STATE_WORDS,
    VERDICT_WORDS,
)

#: Packets and bytes of one thing, as JSON has them.
Traffic = dict[str, int]
Words = tuple[str, ...]


class Counter(NamedTuple):
    """A field of `struct dp_counters`, or of the items of one that is an array.

    `name` leads to it in JSON; None stands for the word of an index. `metric` is its name for Prometheus, where the
    words of indices are the labels `by`, and `labels` tell those of one metric apart; metrics of traffic are two, with
    ``_packets`` and ``_bytes`` behind their name. A gauge is of now, a counter goes on for as long as an engine lives.
    `sparse`: left out where it is 0.
    """

    field: str
    name: tuple[str | None, ...]
    metric: str
    help: str
    kind: Literal["counter", "gauge"] = "counter"
    by: tuple[tuple[str, Sequence[str]], ...] = ()
    labels: Mapping[str, str] = MappingProxyType({})
    part: str | None = None
    is_traffic: bool = False
    sparse: bool = False

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels of its metric."""
        return (*(name for name, _ in self.by), *self.labels)

    def values(self, counters: Any, before: Any = None) -> Iterator[tuple[Words, int | Traffic]]:
        """The words of its indices and its value, each; what a counter has gained since `before`."""
        for indices in product(*(range(len(words)) for _, words in self.by)):
            value = self._value(counters, indices, before)
            if not self.sparse or (value["packets"] if isinstance(value, dict) else value):
                yield tuple(words[i] for i, (_, words) in zip(indices, self.by, strict=True)), value

    def _value(self, counters: Any, indices: tuple[int, ...], before: Any) -> int | Traffic:
        now = self._read(counters, indices)
        was = self._read(before, indices) if before is not None and self.kind == "counter" else None
        if not self.is_traffic:
            return int(now) - (int(was) if was is not None else 0)
        return {unit: getattr(now, unit) - (getattr(was, unit) if was is not None else 0) for unit in UNITS}

    def _read(self, counters: Any, indices: tuple[int, ...]) -> Any:
        found = getattr(counters, self.field)
        for index in indices:
            found = found[index]
        return getattr(found, self.part) if self.part else found


UNITS = ("packets", "bytes")

_FRAGMENTS_DENIED = "Fragments denied while they waited for their first, or for want of a place."


def _flood(part: str, text: str) -> Counter:
    return Counter("flood", ("floods", None, part), f"flood_{part}", text, by=(("kind", FLOOD_WORDS),), part=part)


#: All of them, in the order in which people are told.
COUNTERS: tuple[Counter, ...] = (
    Counter(
        "verdict",
        ("verdicts", None),
        "judged",
        "judged, by the verdict on the packet as a whole",
        by=(("verdict", VERDICT_WORDS),),
        is_traffic=True,
    ),
    Counter(
        "check",
        ("checks", None, None),
        "checked",
        "checked at an instance, by verdict and reason",
        by=(("verdict", VERDICT_WORDS), ("reason", REASON_WORDS)),
        is_traffic=True,
        sparse=True,
    ),
    Counter(
        "state",
        ("states", None),
        "checked_by_state",
        "checked at an instance, by what they were to its connections",
        by=(("state", STATE_WORDS),),
        is_traffic=True,
        sparse=True,
    ),
    Counter(
        "cause",
        ("causes", None),
        "invalid",
        "denied as invalid or malformed, by cause",
        by=(("cause", CAUSE_WORDS),),
        is_traffic=True,
        sparse=True,
    ),
    Counter(
        "consequences",
        ("consequences", None),
        "invalid_consequences",
        "Packets denied as invalid because the first packets of their flow were denied, by cause.",
        by=(("cause", CAUSE_WORDS),),
        sparse=True,
    ),
    Counter("connections_opened", ("connections", "opened"), "connections_opened", "Connections opened."),
    Counter(
        "connections_expired",
        ("connections", "expired"),
        "connections_expired",
        "Connections that ended because their time was over.",
    ),
    Counter(
        "connections_replaced",
        ("connections", "replaced"),
        "connections_replaced",
        "Closed connections replaced by a new one on the same addresses and ports.",
    ),
    Counter(
        "connections_disconnected",
        ("connections", "disconnected"),
        "connections_disconnected",
        "Inbound connections disconnected by a change.",
    ),
    Counter(
        "connections_resynchronised",
        ("connections", "resynchronised"),
        "connections_resynchronised",
        "Times that both sides agreed on a place outside the TCP window.",
    ),
    Counter(
        "early_drops",
        ("connections", "early_drops"),
        "early_drops",
        "Connections dropped early to make room in a full table.",
    ),
    Counter(
        "table_full",
        ("connections", "table_full"),
        "table_full",
        "New connections denied because the table was full.",
    ),
    Counter(
        "entries",
        ("connections", "entries"),
        "table_entries",
        "Entries in the connection table, some perhaps expired.",
        "gauge",
    ),
    Counter(
        "max_entries",
        ("connections", "max_entries"),
        "table_limit",
        "Entries that the connection table can hold.",
        "gauge",
    ),
    Counter("table_bytes", ("connections", "table_bytes"), "table_bytes", "Memory of the connection table.", "gauge"),
    _flood("dropped_early", "Entries of one kind dropped early to make room in a full table."),
    _flood("refused", "New connections of one kind denied because the table was full."),
    _flood(
        "refused_over_share",
        "New connections of one kind denied in a full table because their instance had its share of it.",
    ),
    Counter(
        "fragments_waiting",
        ("fragments", "waiting"),
        "fragments_waiting",
        "Fragments that wait for their datagram's first.",
        "gauge",
    ),
    Counter(
        "datagrams_evicted",
        ("fragments", "datagrams_evicted"),
        "fragment_datagrams_evicted",
        "Fragmented datagrams given up to make room.",
    ),
    *(
        Counter(
            f"fragments_{cause}",
            ("fragments", cause),
            "fragments_denied",
            _FRAGMENTS_DENIED,
            labels={"cause": cause},
        )
        for cause in ("evicted", "expired", "refused")
    ),
    Counter(
        "flow_records",
        ("flow_records", "told"),
        "flow_records",
        "Flows of live traffic that have ended, or were denied, and were told to the flow log.",
        sparse=True,
    ),
    Counter(
        "flow_records_lost",
        ("flow_records", "lost", None),
        "flow_records_lost",
        "Flow records that are lost, by cause.",
        by=(("cause", FLOW_LOSS_WORDS),),
        sparse=True,
    ),
    Counter(
        "shadow",
        ("shadow", None),
        "shadow_packets",
        "Packets that a shadow has judged, by what it says of them.",
        by=(("outcome", SHADOW_WORDS),),
        sparse=True,
    ),
    Counter(
        "time_backwards",
        ("time_backwards",),
        "time_backwards",
        "Packets whose time was before an earlier packet's, judged at the latest time seen.",
    ),
)


def record(counters: Any, before: Any = None) -> dict[str, Any]:
    """All of a `struct dp_counters` as JSON values, or what was counted since `before`."""
    told: dict[str, Any] = {}
    for counter in COUNTERS:
        for words, value in counter.values(counters, before):
            given = iter(words)
            *around, last = (part if part is not None else next(given) for part in counter.name)
            place = told
            for part in around:
                place = place.setdefault(part, {})
            place[last] = value
        if counter.sparse:
            told.setdefault(str(counter.name[0]), {})
    return told
