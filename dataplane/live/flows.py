"""The flows of a live firewall: what its workers gather is listed, told to who follows, and written to a flow log.

Everything here runs in the control thread. Records are named as soon as they are taken, since numbers of instances and
rules that are gone are given out again.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.flow import FIELDS, FlowRecord, flow_records
from dataplane.lines import FLOW_FORMATS, FlowLines

if TYPE_CHECKING:
    from dataplane.live.firewall import Firewall
    from dataplane.live.flow_file import FlowFile

#: By so much the wall clock is set, not slewed: only then are times told by another offset.
_STEP_NS = 100_000_000
#: Records of flows that have ended, or were denied, which are kept to be listed.
RECENT = 16384
_BATCH = 1024
_RECORD_BYTES = ffi.sizeof("struct dp_flow_record")
_QUEUE_BYTES = 8 << 20


class FollowedFlows:
    """One reader of flow records as they come, as JSON lines; what he does not take in time is lost to him."""

    def __init__(self, notify: Callable[[], None], wanted: Callable[[FlowRecord], bool]) -> None:
        self.lost = 0
        self._notify = notify
        self._wanted = wanted
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._lock = threading.Lock()

    def offer(self, record: FlowRecord) -> None:
        """Queues a record that is wanted."""
        if not self._wanted(record):
            return
        if self._queued > _QUEUE_BYTES:
            self.lost += 1
            return
        line = json.dumps({"item": json_record(record)}, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._queue.append(line)
            self._queued += len(line)
        self._notify()

    def take(self) -> bytes:
        """All that is queued."""
        with self._lock:
            lines = b"".join(self._queue)
            self._queue.clear()
            self._queued = 0
        return lines

    def ending(self) -> bytes:
        """What comes behind all that was taken."""
        return b""


class Flows:
    """Flows of a firewall that gathers them; `file` is the flow log, if there is one, in one of FLOW_FORMATS."""

    def __init__(self, firewall: Firewall, file: FlowFile | None = None, form: str = "json") -> None:
        self._firewall = firewall
        self._file = file
        self._lines = FlowLines(firewall.names, FLOW_FORMATS[form], file.put) if file else None
        self._recent: deque[bytes] = deque(maxlen=RECENT)
        self._followers: list[FollowedFlows] = []
        self._array = ffi.new("struct dp_flow_record[]", _BATCH)
        self._lost_before = 0
        self._forgotten = 0
        self._offset = firewall.to_wall_clock()
        firewall.take_flows, firewall.forget_flows, firewall.flow_losses = self.take, self._forget, self._losses

    def take(self) -> int:
        """Takes what the workers have given out since, at most so many at once; returns how many."""
        handle = self._firewall.handle
        n = check(lib.dp_firewall_take_flows(handle, self._to_wall_clock(), self._array, _BATCH), "taking flows")
        if not n:
            return 0
        self._write(n)
        data = bytes(ffi.buffer(self._array, n * _RECORD_BYTES))
        self._recent.extend(data[at : at + _RECORD_BYTES] for at in range(0, len(data), _RECORD_BYTES))
        if self._followers:
            for record in flow_records(self._array, n, self._firewall.names):
                for follower in self._followers:
                    follower.offer(record)
        return n

    def take_all(self) -> None:
        """Takes all that there was when it was asked for."""
        for _ in range(self._firewall.workers * 128):
            if self.take() < _BATCH:
                return

    def _to_wall_clock(self) -> int:
        """The same offset for all records, listed or written, as long as nobody sets the clock.

        The two clocks are read one behind the other, and go alike: a new difference would move times by microseconds.
        """
        offset = self._firewall.to_wall_clock()
        if abs(offset - self._offset) > _STEP_NS:
            self._offset = offset
        return self._offset

    def _forget(self) -> None:
        """Numbers are about to be given out again: what was told by them is listed no more."""
        self._recent.clear()
        self._forgotten += 1

    def finish(self, seconds: float) -> None:
        """Writes all that is left, live connections among it, and ends the file; the workers have stopped."""
        while self.take():
            continue
        for n in self._there():
            self._write(n)
        if self._file:
            self._file.close(seconds)

    def reopen(self) -> None:
        """Has the file opened anew."""
        if self._file:
            self._file.reopen()

    def _write(self, n: int) -> None:
        if self._lines:
            self._lines.put(self._array, n)

    def _losses(self) -> tuple[int, int]:
        """Records that the writer had no room for, and that it could not write."""
        return (self._file.refused, self._file.unwritten) if self._file else (0, 0)

    # ---- what is there ----

    def listed(self, wanted: Callable[[FlowRecord], bool]) -> Iterator[list[dict[str, Any]]]:
        """Flows, some at a time: live connections, denied flows that are being gathered, then what ended last."""
        for n in self._there():
            # Named at once: a change that comes before the next batch may have numbers given out again.
            yield [
                json_record(record) for record in flow_records(self._array, n, self._firewall.names) if wanted(record)
            ]
        self.take_all()
        recent, forgotten = list(self._recent), self._forgotten
        for at in range(0, len(recent), _BATCH):
            if self._forgotten != forgotten:
                break
            batch = recent[at : at + _BATCH]
            array = ffi.new("struct dp_flow_record[]", len(batch))
            ffi.memmove(array, b"".join(batch), len(batch) * _RECORD_BYTES)
            yield [json_record(r) for r in flow_records(array, len(batch), self._firewall.names) if wanted(r)]
        yield []

    def _there(self) -> Iterator[int]:
        """How many of the array are flows that are there, as often as there are more."""
        cursor = ffi.new("uint64_t *")
        handle = self._firewall.handle
        while n := check(
            lib.dp_firewall_flows(handle, cursor, self._to_wall_clock(), self._array, _BATCH), "listing flows"
        ):
            yield n

    # ---- who follows ----

    def subscribe(self, follower: FollowedFlows) -> None:
        """Gives a reader what comes from now on."""
        self.take_all()
        self._followers.append(follower)
        self._lost_before = self._lost()

    def unsubscribe(self, follower: FollowedFlows) -> None:
        """The reader gets nothing more."""
        self._followers.remove(follower)

    def look_for_losses(self) -> None:
        """Takes what there is, and counts what the workers could not tell."""
        self.take_all()
        lost = self._lost()
        for follower in self._followers:
            follower.lost += lost - self._lost_before
        self._lost_before = lost

    def _lost(self) -> int:
        lost = self._firewall.counters().flow_records_lost
        return int(lost[lib.DP_FLOW_LOST_NO_ROOM] + lost[lib.DP_FLOW_LOST_QUEUE_FULL])


def json_record(record: FlowRecord) -> dict[str, Any]:
    """A record as JSON values (SPEC 8.2); times are seconds, and nanoseconds beside, which no double has."""
    told: dict[str, Any] = dict(zip(FIELDS, record, strict=False))
    told |= {"first": _seconds(record.first), "last": _seconds(record.last)}
    told |= {"first_ns": record.first, "last_ns": record.last}
    return told | {"shadow": record.shadow} if record.shadow else told


def _seconds(time_ns: int) -> float:
    return float(f"{time_ns // 10**9}.{time_ns % 10**9:09}")
