"""What workers tell while somebody wants to know: denied packets, connections that come and go, whole frames.

`Feed.pump` takes items from the C side and offers each to the subscriptions that want its kind. A subscription makes
bytes of it, for whoever sits at the other end of a socket, and keeps a bounded queue of them: a reader that is too slow
loses items, which are counted, and nobody waits for it.
"""

from __future__ import annotations

import json
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.connection_table import connection_of
from dataplane.live.records import connection_record, flow_record
from dataplane.verdict import verdict_of

if TYPE_CHECKING:
    from dataplane.live.firewall import Firewall

DENIED, CONNECTIONS, FRAMES = lib.DP_FEED_DENIED, lib.DP_FEED_CONNECTIONS, lib.DP_FEED_FRAMES
EVENTS = {lib.DP_EVENT_NEW: "NEW", lib.DP_EVENT_UPDATE: "UPDATE", lib.DP_EVENT_DESTROY: "DESTROY"}

QUEUE_BYTES = 8 << 20
_BUFFER = 1 << 20
_SPARSE_BUFFER = 1 << 17
#: How often the workers are asked what they lost: each time is a command that they carry out.
_LOOK_SECONDS = 0.5
_ITEM_BYTES = ffi.sizeof("struct dp_feed_item")


class Subscription(ABC):
    """One reader of the feed: `kinds` of items that it wants (DP_FEED_*), of one port or of all for -1.

    `notify` is called, in the thread that pumps, when there is something to take.
    """

    kinds = 0

    def __init__(self, firewall: Firewall, notify: Callable[[], None], *, port: int = -1) -> None:
        self.port = port
        self.lost = 0
        self._firewall = firewall
        self._notify = notify
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._lock = threading.Lock()
        self._to_wall = firewall.to_wall_clock()

    @abstractmethod
    def convert(self, item: Any) -> bytes | None:
        """An item (`struct dp_feed_item`) as the reader gets it; None leaves it out."""

    def offer(self, item: Any) -> None:
        """Queues an item, unless the reader is too far behind."""
        if self._queued > QUEUE_BYTES:
            self.lost += 1
            return
        data = self.convert(item)
        if data:
            self.put(data)

    @property
    def is_behind(self) -> bool:
        """Whether so much is queued that what comes next may be lost."""
        return self._queued > QUEUE_BYTES // 2

    def put(self, data: bytes) -> None:
        """Queues bytes."""
        with self._lock:
            self._queue.append(data)
            self._queued += len(data)
        self._notify()

    def take(self) -> bytes:
        """All that is queued."""
        with self._lock:
            data = b"".join(self._queue)
            self._queue.clear()
            self._queued = 0
        return data

    def ending(self) -> bytes:
        """What comes behind all that was taken."""
        return b""

    def wall_ns(self, time_ns: int) -> int:
        """A time of the firewall's clock as nanoseconds since 1970."""
        return time_ns + self._to_wall

    def port_name(self, number: int) -> str:
        """What a port is called; one that is gone meanwhile by its number."""
        port = self._firewall.ports.get(number)
        return port.name if port else f"port {number}"


class ConnectionEvents(Subscription):
    """Connections that come, change their state, are disconnected, and go, as JSON lines."""

    kinds = CONNECTIONS

    def convert(self, item: Any) -> bytes | None:
        record = {
            "event": EVENTS.get(item.event, "UPDATE"),
            "time": self.wall_ns(item.time_ns) / 1e9,
            "connection": connection_record(connection_of(item.connection, self._firewall.names), now_ns=item.time_ns),
        }
        return _line(record)


class Drops(Subscription):
    """Denied packets with reason and rule, as JSON lines: at most `rate` a second, the others are counted."""

    kinds = DENIED

    def __init__(self, firewall: Firewall, notify: Callable[[], None], *, port: int = -1, rate: float = 100.0) -> None:
        super().__init__(firewall, notify, port=port)
        self._rate = rate
        self._allowance = self._most = max(rate, 1.0)
        self._filled = time.monotonic()
        self._suppressed = 0

    def offer(self, item: Any) -> None:
        now = time.monotonic()
        self._allowance = min(self._most, self._allowance + (now - self._filled) * self._rate)
        self._filled = now
        if self._allowance < 1:
            self._suppressed += 1
            return
        self._allowance -= 1
        super().offer(item)

    def convert(self, item: Any) -> bytes | None:
        verdict = verdict_of(item.record, self._firewall.names)
        check = verdict.checks[-1] if verdict.checks else None
        record: dict[str, Any] = {
            "time": self.wall_ns(item.time_ns) / 1e9,
            "port": self.port_name(item.port),
            "instance": check.instance if check else None,
            "direction": check.direction if check else None,
            "state": check.state if check else None,
            "reason": check.reason if check else None,
            "cause": check.cause if check else None,
            "rule": check.rule if check else None,
            "security_group": check.security_group if check else None,
            **flow_record(item.flow),
            "length": verdict.length,
        }
        if self._suppressed:
            record["suppressed"] = self._suppressed
            self._suppressed = 0
        return _line(record)


def _line(value: Any) -> bytes:
    return json.dumps({"item": value}, separators=(",", ":")).encode() + b"\n"


class Feed:
    """The feed of a firewall and who reads it. Called by the control thread, as the firewall is."""

    def __init__(self, firewall: Firewall) -> None:
        self._firewall = firewall
        self._subscriptions: list[Subscription] = []
        self._buffer = ffi.new("uint64_t[]", _BUFFER // 8)
        self._lost_before = dict.fromkeys((DENIED, CONNECTIONS, FRAMES), 0)
        self._next_look = 0.0
        firewall.take_feed = self._take

    @property
    def fd(self) -> int:
        """A descriptor that is readable while there are items."""
        return lib.dp_firewall_feed_fd(self._firewall.handle)

    @property
    def kinds(self) -> int:
        """The kinds that somebody wants."""
        kinds = 0
        for subscription in self._subscriptions:
            kinds |= subscription.kinds
        return kinds

    @property
    def is_dense(self) -> bool:
        """Whether somebody wants all that there is: drops are for people, and a flood of them may be thinned out."""
        return self.kinds & ~DENIED != 0

    def subscribe(self, subscription: Subscription) -> None:
        """Gives a subscription what it wants from now on."""
        if not self._subscriptions:
            # What nobody took before is old.
            while self.pump():
                continue
        self.look_for_losses()
        self._subscriptions.append(subscription)
        self._watch()

    def unsubscribe(self, subscription: Subscription) -> None:
        """The subscription gets nothing more."""
        self._subscriptions.remove(subscription)
        self._watch()

    def _watch(self) -> None:
        ports = {subscription.port for subscription in self._subscriptions if subscription.kinds & FRAMES}
        lib.dp_firewall_watch(self._firewall.handle, self.kinds, ports.pop() if len(ports) == 1 else -1)

    def _lost(self) -> dict[int, int]:
        """Items that the workers could not tell, by kind."""
        found = [self._firewall.worker_counters(worker).feed_lost for worker in range(self._firewall.workers)]
        return {1 << place: sum(lost[place] for lost in found) for place in range(lib.DP_FEED_KINDS)}

    def pump(self) -> int | None:
        """Takes what fits one buffer and offers it; returns how many bytes that was.

        While no reader keeps up nothing is taken, and None returned: what a change disconnected waits in the table.
        """
        if self._subscriptions and all(subscription.is_behind for subscription in self._subscriptions):
            return None
        return self._take()

    def _take(self) -> int:
        room = _BUFFER if self.is_dense else _SPARSE_BUFFER
        size = check(lib.dp_firewall_feed(self._firewall.handle, self._buffer, room), "reading the feed")
        offset = 0
        start = ffi.cast("uint8_t *", self._buffer)
        while offset + _ITEM_BYTES <= size:
            item = ffi.cast("struct dp_feed_item *", start + offset)
            offset += item.size
            for subscription in self._subscriptions:
                if item.kind & subscription.kinds and subscription.port in (-1, item.port):
                    subscription.offer(item)
        if time.monotonic() >= self._next_look:
            self.look_for_losses()
        return size

    def look_for_losses(self) -> None:
        """Counts what the workers could not tell, for the subscriptions that want such items: it may be of any port."""
        self._next_look = time.monotonic() + _LOOK_SECONDS
        lost = self._lost()
        for kind, number in lost.items():
            for subscription in self._subscriptions:
                if subscription.kinds & kind:
                    subscription.lost += number - self._lost_before[kind]
        self._lost_before = lost


def frame_of(item: Any) -> bytes:
    """The bytes of a frame that follow its item."""
    return bytes(ffi.buffer(ffi.cast("uint8_t *", item) + _ITEM_BYTES, item.captured))
