"""The replay: batches of packets through a plane, with the changes of a schedule made at their time (SPEC 7)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.plane import Plane
from dataplane.replay.captures import Captures
from dataplane.replay.changing_plane import FOREVER, ChangingPlane
from dataplane.replay.summary import Baseline, Summary, summarise
from dataplane.replay.top_talkers import BusiestAddresses
from dataplane.terminal import most_of
from dataplane.update import Disconnected
from dataplane.verdict import Names

if TYPE_CHECKING:
    from dataplane.policy.schedule import TimedChange

#: Packets judged in one call: by one thread, and by several, which rest between two.
BATCH = 4096
BATCH_OF_SEVERAL = 65536
_CACHE_LINE = 64


class Observer(Protocol):
    """Sees each batch: the number of its first packet, its length, `struct dp_record[]` and `struct dp_flow[]`."""

    def observe(self, first_packet: int, n: int, records: Any, flows: Any, names: Names) -> None:
        """Looks at one batch; the arrays are used again for the next."""


class Replay:
    """Captures replayed through a plane, once.

    `changes` is a schedule in order of time; all of it is tried on the policy here, so a change that is not valid
    raises ChangeError before the first packet. `at` is the instance at whose interface the captures were taken; those
    whose interfaces have the policy's names say it themselves (SPEC 7). Raises UnknownInstanceError. `write` takes the
    records of each batch, their flows, where they were seen, and how many they are; `observers` see the flows too,
    `progress` is called after each batch, `pause` before input is waited for.

    Planes `beside` judge what is read too, each under its own policy, in which the same changes are made. `compare`
    takes the records of each batch, those of the plane first and then of each beside it, the flows, and how many they
    are; all else is told of the plane alone.
    """

    def __init__(
        self,
        plane: Plane,
        captures: Captures,
        *,
        beside: Sequence[Plane] = (),
        changes: Sequence[TimedChange] = (),
        at: str | None = None,
        write: Callable[[Any, Any, Any, int], None] | None = None,
        compare: Callable[[Sequence[Any], Any, int], None] | None = None,
        observers: Sequence[Observer] = (),
        progress: Callable[[], None] | None = None,
        pause: Callable[[], None] | None = None,
    ) -> None:
        self._plane = plane
        self._captures = captures
        self._planes = [ChangingPlane(one, changes) for one in (plane, *beside)]
        handles = ffi.new("struct dp_plane *[]", [one.plane.plane for one in self._planes])
        check(lib.dp_replay_judge_by(captures.handle, handles, len(handles)), "replaying captures")
        for which, one in enumerate(self._planes):
            one.judges_in(captures.handle, which, at)
        self._write = write
        self._compare = compare
        self._observers = observers
        self._progress = progress
        if pause:
            captures.before_waiting(pause)
        self._batch_size = BATCH if plane.shards == 1 else BATCH_OF_SEVERAL
        self._packets = 0
        self._busiest: BusiestAddresses | None = BusiestAddresses()

    def run(self, *, top: int = 10) -> Summary:
        """Replays to the end of all captures; `top` is how many denied flows the summary lists.

        The summary's figures are those of this replay, whatever the plane did before.
        """
        with ExitStack() as stack:
            for one in self._planes:
                stack.enter_context(one.plane.numbers_kept())
            return self._run(top)

    def _run(self, top: int) -> Summary:
        before = Baseline(self._plane)
        started = time.perf_counter()
        first = self._captures.first_time()
        size = self._batch_size
        memory = [_aligned("struct dp_record", size) for _ in self._planes]
        records = [array for _, array in memory]
        arrays = ffi.new("struct dp_record *[]", records)
        flows = ffi.new("struct dp_flow[]", size)
        seen = ffi.NULL
        if self._write:
            seen = ffi.new("struct dp_seen[]", size)
            check(lib.dp_plane_note_openers(self._plane.plane), "noting who opens connections")
        if first is not None:
            for one in self._planes:
                one.begin(first)
        while first is not None:
            until = min(one.next_due() for one in self._planes)
            n = self._batch(arrays, records, flows, seen, until)
            if n == size and not self._captures.stopping:
                continue
            if self._captures.supply():
                continue
            upcoming = self._captures.next_time() if until < FOREVER else None
            if upcoming is None:
                break
            for one in self._planes:
                one.make_due(upcoming)
        for one in self._planes:
            one.end()
            # Whoever is dead by the last packet has expired, on whichever shard, whoever judged that packet.
            lib.dp_plane_advance(one.plane.plane, lib.dp_replay_latest(self._captures.handle))
        elapsed = time.perf_counter() - started
        busiest = self._busiest.largest() if self._busiest and self._packets else ()
        return summarise(
            self._plane,
            before,
            self._captures.status(),
            self._planes[0].made,
            elapsed=elapsed,
            top=top,
            busiest=busiest,
            left_out_from=self._captures.left_out_from,
        )

    def _batch(self, arrays: Any, records: Sequence[Any], flows: Any, seen: Any, until: int) -> int:
        wanted = flows if self._observers or self._busiest or self._write or self._compare else ffi.NULL
        n = check(
            lib.dp_replay_run(self._captures.handle, until, arrays, wanted, seen, self._batch_size),
            "replaying a capture",
        )
        if n:
            # What a capture is about is asked only where no packet of it touches an instance.
            if self._busiest and not self._busiest.count(records[0], flows, n):
                self._busiest = None
            if self._write:
                self._write(records[0], flows, seen, n)
            if self._compare:
                self._compare(records, flows, n)
            for observer in self._observers:
                observer.observe(self._packets + 1, n, records[0], flows, self._plane.names)
            self._packets += n
        if self._progress:
            self._progress()
        return n


def _aligned(kind: str, n: int) -> tuple[Any, Any]:
    """Memory, and in it `n` structs as large as a cache line, of which none shares one with the next."""
    memory = ffi.new("char[]", n * ffi.sizeof(kind) + _CACHE_LINE)
    at = int(ffi.cast("uintptr_t", memory))
    return memory, ffi.cast(f"{kind} *", (at + _CACHE_LINE - 1) // _CACHE_LINE * _CACHE_LINE)


def disconnected_words(result: Disconnected | None) -> str:
    """What a change disconnected, in words."""
    if result is None:
        return "not reached: the capture ended before it"
    words = [f"{result.total} connection{'' if result.total == 1 else 's'} disconnected"]
    words += [f"{instance}: {n}" for instance, n in most_of(result.by_instance)]
    if result.revoked:
        words.append(f"by a changed remote group: {result.revoked}")
    return "; ".join(words)
