"""Two policies over the same captures (SPEC 8.4): which packets are judged differently, and which connections the
change from one to the other would cut.

Each policy is in a plane of its own, which replays the captures as `dataplane replay` does. Both replays go on at the
same pace: the second runs in a thread, a few batches ahead at most: memory is bounded whatever the captures hold.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dataplane._core import ffi, lib
from dataplane._core.errors import check as raise_on_error
from dataplane.differences import FlowDifference, flow_differences
from dataplane.plane import Plane
from dataplane.policy.changes import ApplyPolicy, apply
from dataplane.policy.model import Policy
from dataplane.policy.schedule import TimedChange
from dataplane.replay import CaptureError, Captures, Replay
from dataplane.replay.captures import CaptureStatus
from dataplane.verdict import Names

_AHEAD = 4
_LOOK_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Difference:
    """All differences; flows with most packets first.

    `not_kept` packets are of flows beyond the bound of what is kept. `disconnected` are the inbound connections, by
    instance, that the change at the end would cut. `faults` are captures that were not read to their end.
    """

    same: int
    changed: int
    not_kept: int
    flows: Sequence[FlowDifference]
    disconnected: dict[str, int]
    faults: Sequence[CaptureStatus]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values (SPEC 8.4)."""
        return {
            "packets": {"same": self.same, "changed": self.changed},
            "flows": [flow.to_dict() for flow in self.flows],
            "disconnected": {"total": sum(self.disconnected.values()), "by_instance": self.disconnected},
        }


def diff(
    old: Policy, new: Policy, paths: Sequence[str], changes: Sequence[TimedChange] = (), *, at: str | None = None
) -> Difference:
    """Compares two policies over captures that can be read twice. Raises as `Replay` does.

    The changes of the schedule are made in both. `at` is the instance at whose interface the captures were taken.
    """
    ahead = _Ahead(new, paths, changes, at)
    comparison = _Comparison(ahead)
    plane = Plane(old)
    try:
        with Captures(paths) as captures:
            summary = Replay(plane, captures, changes=changes, at=at, write=comparison.write).run(top=0)
    finally:
        ahead.end()
    return Difference(
        *comparison.count(),
        flows=comparison.flows(plane.names, ahead.plane.names),
        disconnected=_disconnected(plane, ahead.plane.policy),
        faults=summary.faults,
    )


class _Ahead:
    """The replay under the new policy, in a thread of its own; its records wait until they are compared."""

    def __init__(self, policy: Policy, paths: Sequence[str], changes: Sequence[TimedChange], at: str | None) -> None:
        self.plane = Plane(policy)
        self._captures = Captures(paths)
        self._ready: queue.Queue[tuple[Any, int] | BaseException] = queue.Queue(_AHEAD)
        self._ended = threading.Event()
        self._records: Any = None
        self._at = self._n = 0
        try:
            self._replay = Replay(self.plane, self._captures, changes=changes, at=at, write=self._put)
        except BaseException:
            self._captures.close()
            raise
        self._thread = threading.Thread(target=self._run, name="new policy", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._replay.run(top=0)
            # Who wants more has read more from the same captures.
            self._hand_over(CaptureError(None, "it was changed while it was read", self._captures.paths[0]))
        except BaseException as error:
            self._hand_over(error)

    def _put(self, records: Any, _flows: Any, _seen: Any, n: int) -> None:
        copy = ffi.new("struct dp_record[]", n)
        ffi.memmove(copy, records, ffi.sizeof(copy))
        self._hand_over((copy, n))

    def _hand_over(self, item: tuple[Any, int] | BaseException) -> None:
        while not self._ended.is_set():
            try:
                self._ready.put(item, timeout=_LOOK_EVERY)
                return
            except queue.Full:
                continue
        self._captures.stop()

    def take(self, most: int) -> tuple[Any, int]:
        """The next records, at most so many, and how many they are. Raises what ended the replay."""
        if self._at == self._n:
            item = self._ready.get()
            if isinstance(item, BaseException):
                raise item
            (self._records, self._n), self._at = item, 0
        first = self._at
        self._at = min(self._n, first + most)
        return self._records + first, self._at - first

    def end(self) -> None:
        """Ends the replay, wherever it is."""
        self._ended.set()
        self._thread.join()
        self._captures.close()


class _Comparison:
    """Holds the records of the old policy against those of the new one."""

    def __init__(self, ahead: _Ahead) -> None:
        self._ahead = ahead
        out = ffi.new("struct dp_difference **")
        raise_on_error(lib.dp_difference_new(out), "comparing policies")
        self._handle = ffi.gc(out[0], lib.dp_difference_free)

    def write(self, records: Any, flows: Any, _seen: Any, n: int) -> None:
        done = 0
        while done < n:
            theirs, have = self._ahead.take(n - done)
            lib.dp_difference_add(self._handle, records + done, theirs, flows + done, have)
            done += have

    def _counts(self) -> Any:
        count = ffi.new("struct dp_difference_count *")
        lib.dp_difference_count(self._handle, count)
        return count

    def count(self) -> tuple[int, int, int]:
        """Packets with the same verdict, with another one, and those of them whose flows were not kept."""
        count = self._counts()
        return count.packets_same, count.packets_changed, count.packets_not_kept

    def flows(self, old: Names, new: Names) -> list[FlowDifference]:
        """The flows, those with most packets first."""
        n = self._counts().flows
        found = ffi.new("struct dp_flow_difference[]", max(n, 1))
        lib.dp_difference_flows(self._handle, found, n)
        return flow_differences(found, n, old, new)


def _disconnected(plane: Plane, new: Policy) -> dict[str, int]:
    """The inbound connections by instance that another policy cuts. It is put in force: nothing comes after."""
    before = _cut(plane)
    plane.replace(apply(plane.policy, ApplyPolicy(policy=new)))
    after = _cut(plane)
    return {instance: n for instance, now in sorted(after.items()) if (n := now - before[instance])}


def _cut(plane: Plane) -> Counter[str]:
    """The connections that a change has cut and that are not gone yet, by instance."""
    return Counter(connection.instance for connection in plane.connections.filter(disconnected=True))
