"""Packets over time, summed up in as many buckets as a chart has room for, whatever the captures hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from dataplane._core import ffi, lib
from dataplane.replay.arrays import RECORD
from dataplane.verdict import REASON_WORDS, VERDICT_WORDS, Names

#: So many buckets at most; at the end at least half of them are in use.
BUCKETS = 240
_NARROWEST_NS = 1_000_000
_FURTHEST_NS = (1 << 63) - 1


class Buckets:
    """Sums of several rows over time, in `BUCKETS` buckets of one width, which doubles when the time is longer.

    Times are nanoseconds since the first packet, none before it.
    """

    def __init__(self, rows: int) -> None:
        self.width_ns = _NARROWEST_NS
        self.sums = np.zeros((rows, BUCKETS), dtype=np.int64)

    def widen(self, last_ns: int) -> None:
        """Makes room for times up to this."""
        while min(last_ns, _FURTHEST_NS) >= BUCKETS * self.width_ns:
            rows = len(self.sums)
            halved = self.sums.reshape(rows, BUCKETS // 2, 2).sum(axis=2)
            self.sums = np.concatenate([halved, np.zeros((rows, BUCKETS // 2), dtype=np.int64)], axis=1)
            self.width_ns *= 2

    def add(self, row: Any, times_ns: Any) -> None:
        """Counts one for each of the times, in a row each or in one row for all."""
        if not len(times_ns):
            return
        self.widen(int(times_ns.max()))
        place = row * BUCKETS + times_ns // self.width_ns
        counted = np.bincount(place, minlength=self.sums.size)
        self.sums += counted.reshape(self.sums.shape)


class Timeline:
    """Packets of a replay by verdict, and those denied by reason, over time; an observer of `Replay`.

    `first_ns` and `last_ns` are the earliest and latest time of a packet, None before the first.
    """

    def __init__(self) -> None:
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self._buckets = Buckets(len(VERDICT_WORDS) + len(REASON_WORDS))

    def observe(self, _first_packet: int, n: int, records: Any, _flows: Any, _names: Names) -> None:
        """Adds a batch of records (`Observer`)."""
        self.add(records, n)

    def add(self, records: Any, n: int) -> None:
        """Adds the first `n` of an array of `struct dp_record`."""
        record = np.frombuffer(memoryview(ffi.buffer(records, n * RECORD.itemsize)), dtype=RECORD)
        if self.first_ns is None:
            self.first_ns = self.last_ns = int(record["time_ns"][0])
        self.last_ns = max(int(record["time_ns"].max()), self.last_ns or 0)
        times = self.since_first(record["time_ns"])
        verdict = record["verdict"]
        known = verdict < len(VERDICT_WORDS)
        self._buckets.add(verdict[known].astype(np.int64), times[known])
        denied = record[verdict == lib.DP_DENY]
        checks = denied["checks"]
        # Nobody is asked about what comes from outside under the name of who is here.
        last = denied["check"]["reason"][np.arange(len(denied)), np.maximum(checks, 1) - 1]
        reason = np.where(checks > 0, last, lib.DP_REASON_INVALID)
        self._buckets.add(len(VERDICT_WORDS) + reason.astype(np.int64), times[verdict == lib.DP_DENY])

    def since_first(self, times_ns: Any) -> Any:
        """Times since 1970 as `Buckets` takes them; what is further away than 292 years is there."""
        first = np.uint64(self.first_ns or 0)
        since = np.where(times_ns > first, times_ns - first, np.uint64(0))
        return np.minimum(since, np.uint64(_FURTHEST_NS)).astype(np.int64)

    @property
    def width_ns(self) -> int:
        """The width of a bucket."""
        return self._buckets.width_ns

    @property
    def buckets(self) -> int:
        """How many buckets there are up to the last packet."""
        if self.first_ns is None or self.last_ns is None:
            return 0
        return min((self.last_ns - self.first_ns) // self.width_ns + 1, BUCKETS)

    def packets(self, verdict: str) -> list[int]:
        """Packets with this verdict, a bucket each."""
        return self._row(VERDICT_WORDS.index(verdict))

    def denied(self) -> dict[str, list[int]]:
        """Denied packets by the reason of the check that decided, a bucket each; reasons that there are."""
        rows = {word: self._row(len(VERDICT_WORDS) + number) for number, word in enumerate(REASON_WORDS)}
        return {word: row for word, row in rows.items() if any(row)}

    def _row(self, row: int) -> list[int]:
        found: list[int] = self._buckets.sums[row, : self.buckets].tolist()
        return found
