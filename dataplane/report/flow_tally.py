"""The flows of a replay summed up as they are given out: connections over time, who talked most, and the flows worth a
row of a table. Memory is bounded, whatever the captures hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dataplane._core import ffi, lib
from dataplane.flow import FlowRecord, flow_records
from dataplane.policy.addresses import address_text
from dataplane.replay.arrays import FLOW_RECORD
from dataplane.report.timeline import Buckets, Timeline
from dataplane.verdict import FLOW_END_WORDS, REASON_WORDS, Names

#: Rows of the table of flows.
SHOWN = 5000
#: Addresses that are kept where there are more.
_ADDRESSES = 1 << 16
#: So many records are looked through at a time.
_AT_ONCE = 1 << 16
_OPENED, _FINISHED = range(2)


@dataclass(frozen=True, slots=True)
class Talker:
    """An address or an instance: its flows, their packets that passed and bytes, and packets that were denied."""

    name: str
    flows: int
    packets: int
    bytes: int
    denied: int


class FlowTally:
    """Takes flow records (`FlowWriter`) beside a timeline that has seen their packets."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._names: Names | None = None
        self._over_time = Buckets(2)
        self._chosen = {verdict: _Chosen() for verdict in (lib.DP_ALLOW, lib.DP_DENY)}
        self._remotes = _Addresses()
        self._instances = np.zeros((0, 4), dtype=np.int64)
        self._reasons = np.zeros((len(REASON_WORDS), 2), dtype=np.int64)
        self._ends = np.zeros(len(FLOW_END_WORDS), dtype=np.int64)

    def write_flows(self, flows: Any, n: int, names: Names) -> None:
        """Adds the first `n` of an array of `struct dp_flow_record`."""
        self._names = names
        record = np.frombuffer(memoryview(ffi.buffer(flows, n * FLOW_RECORD.itemsize)), dtype=FLOW_RECORD)
        self._count(record)
        self._place(record[record["verdict"] == lib.DP_ALLOW])
        for verdict, chosen in self._chosen.items():
            chosen.add(record[record["verdict"] == verdict])

    def close(self) -> None:
        """Nothing is left open."""

    def _place(self, connections: Any) -> None:
        self._over_time.add(_OPENED, self._timeline.since_first(connections["first_ns"]))
        last = self._timeline.since_first(connections["last_ns"])
        self._over_time.add(_FINISHED, last[connections["end"] != lib.DP_FLOW_LIVE])

    def _count(self, record: Any) -> None:
        denied = record[record["verdict"] == lib.DP_DENY]
        figures = _figures(record)
        for column, weights in enumerate((None, denied["denied"]["packets"])):
            counted = np.bincount(denied["reason"], weights=weights, minlength=len(REASON_WORDS))
            self._reasons[:, column] += counted.astype(np.int64)
        self._ends += np.bincount(record["end"], minlength=len(FLOW_END_WORDS))
        zones = record["zone"].astype(np.int64)
        if int(zones.max(initial=0)) >= len(self._instances):
            more = int(zones.max()) + 1 - len(self._instances)
            self._instances = np.concatenate([self._instances, np.zeros((more, 4), dtype=np.int64)])
        np.add.at(self._instances, zones, figures)
        ingress = record["direction"] == lib.DP_INGRESS
        flow = record["flow"]
        self._remotes.add(flow["family"], np.where(ingress, flow["source"], flow["destination"]), figures)

    # ---- what came of it ----

    @property
    def total(self) -> int:
        """How many flows there were."""
        return int(self._ends.sum())

    def flows(self, most: int = SHOWN) -> list[FlowRecord]:
        """Those worth a row, in the order of their first packets: `most` of them, up to `SHOWN`.

        Half of the room is for connections, half for flows never admitted; what one has to spare the other has.
        """
        if self._names is None:
            return []
        allowed, denied = (chosen.most() for chosen in self._chosen.values())
        allowed = allowed[: max(most // 2, most - len(denied))]
        kept = np.concatenate([allowed, denied[: most - len(allowed)]])
        kept = kept[np.argsort(kept["first_packet"], kind="stable")]
        array = ffi.from_buffer("struct dp_flow_record[]", kept.tobytes())
        return list(flow_records(array, len(kept), self._names))

    def connections_open(self) -> list[int]:
        """Connections that were open in each bucket of the timeline, from their first to their last packet.

        One that lives at the end is open until then.
        """
        if self._timeline.first_ns is None or self._timeline.last_ns is None:
            return []
        self._over_time.widen(self._timeline.last_ns - self._timeline.first_ns)
        opened, finished = self._over_time.sums
        before = np.concatenate([[0], np.cumsum(finished)[:-1]])
        found: list[int] = (np.cumsum(opened) - before)[: self._timeline.buckets].tolist()
        return found

    def denied_by_reason(self) -> list[tuple[str, int, int]]:
        """Reason, flows that were never admitted for it, and their packets; most packets first."""
        figures = self._reasons.tolist()
        rows = [
            (word, int(flows), int(packets))
            for word, (flows, packets) in zip(REASON_WORDS, figures, strict=True)
            if flows
        ]
        return sorted(rows, key=lambda row: -row[2])

    def ends(self) -> dict[str, int]:
        """How connections ended, and how many of each."""
        return {word: n for word, n in zip(FLOW_END_WORDS, self._ends.tolist(), strict=True) if n and word != _NEVER}

    @property
    def addresses_given_up(self) -> bool:
        """Whether there were too many addresses, so that some may have less than their due."""
        return self._remotes.given_up

    def remotes(self, most: int) -> list[Talker]:
        """The addresses outside with most packets."""
        return self._remotes.most(most)

    def instances(self, most: int) -> list[Talker]:
        """The instances with most packets."""
        if self._names is None:
            return []
        names = self._names.instances
        found = [(names[zone], row) for zone, row in enumerate(self._instances.tolist()) if row[0]]
        return [Talker(name, *row) for name, row in sorted(found, key=_most)[:most]]


_NEVER = FLOW_END_WORDS[lib.DP_FLOW_NOT_ADMITTED]


class _Chosen:
    """Of the records given, those with most packets; the first of those that have equally many."""

    def __init__(self) -> None:
        self._waiting: list[Any] = []
        self._n = 0
        #: Packets and number of the first packet of the last one that would be chosen.
        self._least: tuple[int, int] | None = None

    def add(self, record: Any) -> None:
        """Looks at more of them."""
        if self._least is not None:
            packets, first = _packets(record), record["first_packet"]
            record = record[(packets > self._least[0]) | ((packets == self._least[0]) & (first < self._least[1]))]
        if len(record):
            self._waiting.append(record.copy())
            self._n += len(record)
        if self._n > _AT_ONCE:
            self.most()

    def most(self) -> Any:
        """At most `SHOWN`, those with most packets first."""
        record = np.concatenate(self._waiting or [np.zeros(0, dtype=FLOW_RECORD)])
        kept = record[np.lexsort((record["first_packet"], -_packets(record)))[:SHOWN]]
        if len(kept) == SHOWN:
            self._least = int(_packets(kept[-1:])[0]), int(kept["first_packet"][-1])
        self._waiting, self._n = [kept], len(kept)
        return kept


class _Addresses:
    """Addresses with their figures, summed up some at a time."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Any, Any]] = []
        self._n = 0
        self.given_up = False

    def add(self, family: Any, address: Any, figures: Any) -> None:
        """Adds to each address of 16 bytes, of which IPv4 uses the first four, its figures."""
        keys = np.empty((len(family), 3), dtype=np.uint64)
        keys[:, 0] = family
        keys[:, 1:] = np.ascontiguousarray(address).view(">u8").reshape(-1, 2)
        self._waiting.append((keys, figures))
        self._n += len(keys)
        if self._n > 4 * _AT_ONCE:
            self._sum()

    def _sum(self) -> tuple[Any, Any]:
        if not self._waiting:
            return np.zeros((0, 3), dtype=np.uint64), np.zeros((0, 4), dtype=np.int64)
        keys = np.concatenate([keys for keys, _ in self._waiting])
        figures = np.concatenate([figures for _, figures in self._waiting])
        order = np.lexsort(keys.T[::-1])
        keys, figures = keys[order], figures[order]
        begins = np.flatnonzero(np.concatenate([[True], (keys[1:] != keys[:-1]).any(axis=1)]))
        keys, figures = keys[begins], np.add.reduceat(figures, begins)
        # Those with most packets first.
        order = np.argsort(-figures[:, 1] - figures[:, 3], kind="stable")
        self.given_up |= len(order) > _ADDRESSES
        order = order[:_ADDRESSES]
        self._waiting, self._n = [(keys[order], figures[order])], len(order)
        return self._waiting[0]

    def most(self, most: int) -> list[Talker]:
        """Those with most packets first."""
        keys, figures = self._sum()
        return [
            Talker(_address(int(key[0]), key[1:].astype(">u8").tobytes()), *row)
            for key, row in zip(keys[:most], figures[:most].tolist(), strict=True)
        ]


def _packets(record: Any) -> Any:
    """All packets of each record, those denied too."""
    passed = record["passed"]["packets"]
    return (passed[:, 0] + passed[:, 1] + record["denied"]["packets"]).astype(np.int64)


def _figures(record: Any) -> Any:
    """Flows, packets and bytes that passed, and packets denied, a row for each record."""
    passed = record["passed"]
    columns = (
        np.ones(len(record)),
        passed["packets"].sum(axis=1),
        passed["bytes"].sum(axis=1),
        record["denied"]["packets"],
    )
    return np.stack([column.astype(np.int64) for column in columns], axis=1)


def _most(item: tuple[str, list[int]]) -> tuple[int, str]:
    """Those with most packets first."""
    name, (_, packets, _, denied) = item
    return -packets - denied, name


def _address(family: int, address: bytes) -> str:
    return address_text(address[:4] if family == 4 else address) if family else "no address"
