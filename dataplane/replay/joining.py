"""Parts of a replay that was cut by instance, joined: the records and the summary of the whole, to the byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dataplane._core import ffi, lib
from dataplane.connection_table import count_by_word
from dataplane.plane import Plane
from dataplane.replay.arrays import FLOW, RECORD, SEEN
from dataplane.replay.changing_plane import FOREVER, ChangingPlane
from dataplane.replay.packed import RECORDS, unpacked
from dataplane.replay.parts import OUTSIDE_MAX, JudgedPart
from dataplane.replay.summary import AppliedChange, Baseline, Summary, summarise
from dataplane.update import Disconnected

if TYPE_CHECKING:
    from dataplane.policy.model import Policy
    from dataplane.policy.schedule import TimedChange

_BATCH = 4096
_WINDOW = lib.DP_CAUSE_TCP_WINDOW


class PartCaptures:
    """What a writer of records asks of the captures that workers have read."""

    def __init__(self, paths: Sequence[str], interfaces: Sequence[str | int]) -> None:
        self.paths = list(paths)
        self._interfaces = interfaces

    def interfaces(self, known: int) -> Sequence[str | int]:
        """As `Captures.interfaces`."""
        return self._interfaces[known:]


class JoinedReplay:
    """What parts of one replay come to. `plane` has no connections: it knows names, and makes the changes of `changes`.

    `inexact` says, in words, what of the parts would not have been the same as a whole; None where all is.
    """

    def __init__(self, policy: Policy, parts: Sequence[JudgedPart], changes: Sequence[TimedChange]) -> None:
        self.plane = Plane(policy)
        self._before = Baseline(self.plane)
        self._parts = parts
        self._changing = ChangingPlane(self.plane, changes)
        self._changing.begin(parts[0].first_ns)
        self.inexact = inexact(
            [part.counters for part in parts], [part.most_entries for part in parts], [part.waited for part in parts]
        )

    def run(self, write: Callable[[Any, Any, Any, int], None] | None, *, elapsed: float, top: int) -> Summary:
        """Gives the records to `write`, as `Replay` does, and returns the summary."""
        with self.plane.numbers_kept():
            return self._run(write, elapsed, top)

    def _run(self, write: Callable[[Any, Any, Any, int], None] | None, elapsed: float, top: int) -> Summary:
        for record, flow, seen in self._batches():
            records = ffi.from_buffer("struct dp_record[]", record)
            flows = ffi.from_buffer("struct dp_flow[]", flow)
            lib.dp_plane_count_denied(self.plane.plane, records, flows, len(record))
            if write:
                write(records, flows, ffi.from_buffer("struct dp_seen[]", seen), len(record))
        self._changing.make_due(self._parts[0].latest_ns)
        return summarise(
            _Joined(self.plane, self._parts),  # type: ignore[arg-type]
            self._before,
            self._parts[0].captures,
            _changes([part.changes for part in self._parts]),
            elapsed=elapsed,
            top=top,
        )

    def _batches(self) -> Iterator[tuple[Any, Any, Any]]:
        """The records in the order of their packets; what is due before one is made before it is given."""
        for _, record, flow, seen in unpacked([part.records for part in self._parts], RECORDS):
            done = 0
            while done < len(record):
                due = self._changing.next_due()
                end = len(record)
                if due < FOREVER:
                    end = int(np.searchsorted(record["time_ns"], due))
                    if end <= done:
                        self._changing.make_due(int(record["time_ns"][done]))
                        continue
                end = min(end, done + _BATCH)
                yield record[done:end], flow[done:end], seen[done:end]
                done = end


assert (RECORD.itemsize, FLOW.itemsize, SEEN.itemsize) == tuple(
    ffi.sizeof(f"struct dp_{name}") for name in ("record", "flow", "seen")
)


def _counters(counters_of: Sequence[bytes]) -> Any:
    """The sum of the counters of parts; the bound of the table is that of each."""
    total = sum(np.frombuffer(counters, dtype=np.uint64) for counters in counters_of)
    counters = ffi.new("struct dp_counters *")
    ffi.memmove(counters, np.asarray(total).tobytes(), ffi.sizeof("struct dp_counters"))
    counters.max_entries //= len(counters_of)
    return counters


def inexact(counters_of: Sequence[bytes], most_entries: Sequence[int], waited: Sequence[int]) -> str | None:
    """What of parts would not have been the same as a whole, in words; None where all is.

    Of each part: its counters, the most connections at once, and the fragments that came before their datagram's first.
    """
    counters = _counters(counters_of)
    if sum(most_entries) > counters.max_entries or counters.early_drops:
        return "all connections together may not have had room in the table"
    if any(waited):
        return "fragments came before their datagrams' first"
    if counters.cause[_WINDOW].packets > OUTSIDE_MAX:
        return "many segments were outside their windows"
    return None


class _Joined:
    """Of a plane, what a summary asks of it."""

    def __init__(self, plane: Plane, parts: Sequence[JudgedPart]) -> None:
        self.policy = plane.policy
        self.names = plane.names
        self.connections = self
        self._plane = plane
        self._parts = parts

    def count_by_state(self) -> Mapping[str, int]:
        """Live connections by state, as a plane's own counts them."""
        return count_by_word(map(sum, zip(*(part.state_counts for part in self._parts), strict=True)))

    def counters(self) -> Any:
        """The sum, but for what the order of all denied packets says."""
        counters = _counters([part.counters for part in self._parts])
        counters.consequences = self._plane.counters().consequences
        return counters

    def rule_counters(self) -> Any:
        """The sum, by rule number."""
        total = sum(np.frombuffer(part.rule_counters, dtype=np.uint64) for part in self._parts)
        array = ffi.new("struct dp_rule_counter[]", len(self.names.rules))
        ffi.memmove(array, np.asarray(total).tobytes(), ffi.sizeof(array))
        return array

    def denied(self, most: int) -> Any:
        """As `Plane.denied`."""
        return self._plane.denied(most)


def _changes(parts: Sequence[Sequence[AppliedChange]]) -> list[AppliedChange]:
    """Each change with what it cut in all parts."""
    return [AppliedChange(made[0].change, _cut([one.result for one in made])) for made in zip(*parts, strict=True)]


def _cut(results: Sequence[Disconnected | None]) -> Disconnected | None:
    found = [result for result in results if result is not None]
    if not found:
        return None
    by_instance = Counter[str]()
    for result in found:
        by_instance.update(result.by_instance)
    return Disconnected(dict(sorted(by_instance.items())), sum(result.revoked for result in found), found[0].instances)
