"""The replay: batches of packets through a plane, with the changes of a schedule made at their time (SPEC 7)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.plane import Plane
from dataplane.policy import expiry, times
from dataplane.replay.captures import Captures
from dataplane.replay.ports import PolicyPorts
from dataplane.replay.summary import AppliedChange, Baseline, Summary, summarise
from dataplane.replay.top_talkers import BusiestAddresses
from dataplane.update import Disconnected
from dataplane.verdict import Names

if TYPE_CHECKING:
    from dataplane.policy.model import Policy
    from dataplane.policy.schedule import TimedChange

BATCH = 4096
_FOREVER = (1 << 64) - 1


class Observer(Protocol):
    """Sees each batch: the number of its first packet, its length, `struct dp_record[]` and `struct dp_flow[]`."""

    def observe(self, first_packet: int, n: int, records: Any, flows: Any, names: Names) -> None:
        """Looks at one batch; the arrays are used again for the next."""


class Replay:
    """Captures replayed through a plane.

    `changes` is a schedule in order of time; all of it is tried on the policy here, so a change that is not valid
    raises ChangeError before the first packet. `at` is the instance at whose interface the captures were taken; those
    whose interfaces have the policy's names say it themselves (SPEC 7). Raises UnknownInstanceError. `write` takes the
    records of each batch, their flows, where they were seen, and how many they are; `observers` see the flows too,
    `progress` is called after each batch, `pause` before input is waited for.
    """

    def __init__(
        self,
        plane: Plane,
        captures: Captures,
        *,
        changes: Sequence[TimedChange] = (),
        at: str | None = None,
        write: Callable[[Any, Any, Any, int], None] | None = None,
        observers: Sequence[Observer] = (),
        progress: Callable[[], None] | None = None,
        pause: Callable[[], None] | None = None,
    ) -> None:
        self._plane = plane
        self._captures = captures
        self._steps = _schedule(plane.policy, changes)
        self._ports = PolicyPorts(captures.handle, plane.names, plane.policy, at)
        self._write = write
        self._observers = observers
        self._progress = progress
        if pause:
            captures.before_waiting(pause)
        self._packets = 0
        self._busiest: BusiestAddresses | None = BusiestAddresses()
        self._applied: list[AppliedChange] = []

    def run(self, *, top: int = 10) -> Summary:
        """Replays to the end of all captures; `top` is how many denied flows the summary lists.

        The summary's figures are those of this replay, whatever the plane did before.
        """
        with self._plane.numbers_kept():
            return self._run(top)

    def _run(self, top: int) -> Summary:
        before = Baseline(self._plane)
        started = time.perf_counter()
        first = self._captures.first_time()
        records = ffi.new("struct dp_record[]", BATCH)
        flows = ffi.new("struct dp_flow[]", BATCH)
        seen = ffi.NULL
        if self._write:
            seen = ffi.new("struct dp_seen[]", BATCH)
            check(lib.dp_plane_note_openers(self._plane.plane), "noting who opens connections")
        pending = list(self._steps)
        if first is not None:
            self._expire(first)
        while first is not None:
            until = self._next_due(first, pending)
            n = self._batch(records, flows, seen, until)
            if n == BATCH and not self._captures.stopping:
                continue
            if self._captures.supply():
                continue
            upcoming = self._captures.next_time() if until < _FOREVER else None
            if upcoming is None:
                break
            while (due := self._next_due(first, pending)) <= upcoming and due < _FOREVER:
                if pending and _due(first, pending[0][0]) == due:
                    change, policy = pending.pop(0)
                    # What has expired by then is no part of it, whatever the schedule was tried on.
                    policy = expiry.without_expired(policy, due)
                    self._applied.append(AppliedChange(change, self._plane.replace(policy, time_ns=due)))
                    self._ports.tell(policy)
                self._expire(due)
        self._applied.extend(AppliedChange(change, None) for change, _ in pending)
        # Whoever is dead by the last packet has expired, on whichever shard.
        lib.dp_plane_advance(self._plane.plane, 0)
        elapsed = time.perf_counter() - started
        busiest = self._busiest.largest() if self._busiest and self._packets else ()
        return summarise(
            self._plane,
            before,
            self._captures.status(),
            self._applied,
            elapsed=elapsed,
            top=top,
            busiest=busiest,
        )

    def _next_due(self, first: int, pending: Sequence[tuple[TimedChange, Policy]]) -> int:
        """When the next change is to be made, one of the schedule or one that rules make by their end."""
        due = _due(first, pending[0][0]) if pending else _FOREVER
        ends = expiry.next_expiry(self._plane.policy)
        return due if ends is None else min(due, ends.ns)

    def _expire(self, now_ns: int) -> None:
        """Takes out the rules whose time is over."""
        policy = self._plane.policy
        ended = expiry.expired(policy, now_ns)
        if not ended:
            return
        from dataplane.policy.changes.expiry import RulesExpire
        from dataplane.policy.schedule import TimedChange

        change = RulesExpire(rules=tuple(rule.id for rule in ended), now_ns=now_ns)
        at = max(rule.expires_at for rule in ended if rule.expires_at is not None)
        result = self._plane.replace(change.made(policy), time_ns=now_ns)
        self._applied.append(AppliedChange(TimedChange(at, change), result))

    def _batch(self, records: Any, flows: Any, seen: Any, until: int) -> int:
        wanted = flows if self._observers or self._busiest or self._write else ffi.NULL
        n = check(
            lib.dp_replay_run(self._captures.handle, self._plane.plane, until, records, wanted, seen, BATCH),
            "replaying a capture",
        )
        if n:
            # What a capture is about is asked only where no packet of it touches an instance.
            if self._busiest and not self._busiest.count(records, flows, n):
                self._busiest = None
            if self._write:
                self._write(records, flows, seen, n)
            for observer in self._observers:
                observer.observe(self._packets + 1, n, records, flows, self._plane.names)
            self._packets += n
        if self._progress:
            self._progress()
        return n


def _schedule(policy: Policy, changes: Sequence[TimedChange]) -> list[tuple[TimedChange, Policy]]:
    """Each change with the policy that it leads to."""
    if not changes:
        return []
    # Only who makes changes waits for their models to be loaded.
    from dataplane.policy.schedule import scheduled

    return scheduled(policy, changes)


def _due(first: int, change: TimedChange) -> int:
    return min(times.due_ns(change.at, first), _FOREVER)


def disconnected_words(result: Disconnected | None) -> str:
    """What a change disconnected, in words."""
    if result is None:
        return "not reached: the capture ended before it"
    words = [f"{result.total} connection{'' if result.total == 1 else 's'} disconnected"]
    words += [f"{instance}: {n}" for instance, n in result.by_instance.items()]
    if result.revoked:
        words.append(f"by a changed remote group: {result.revoked}")
    return "; ".join(words)
