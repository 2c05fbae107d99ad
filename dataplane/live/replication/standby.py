"""The side that stands by: it takes what another firewall tells of its connections into its own table.

It filters all the while, so that nothing must be done for it to take over: who sends frames its way finds connections
known. What a connection has met here last is not undone by what the other side says of an earlier time.

A connection in motion is told with a window that its packets have left by the time of a take-over. It is taken wider
than it is, by what may have passed meanwhile as it went since it was told before, and is as narrow as ever once so much
has passed here. When it has come to rest it is told once more, and is taken as it is.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
import time
from array import array
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dataplane._core import ffi, lib
from dataplane._core.errors import DataPlaneError
from dataplane.control.listener import Listener, Stream
from dataplane.control.tls import Validity, with_own
from dataplane.live.bounded_log import BoundedLog
from dataplane.live.moving import of_zones
from dataplane.live.replication import CONNECTIONS_MAX
from dataplane.live.replication.messages import (
    SILENCE_SECONDS,
    Batch,
    Kind,
    Message,
    MessageError,
    expect_hello,
    hello,
    read_message,
)
from dataplane.live.replication.policies import Policies
from dataplane.live.replication.sender import LOOK_SECONDS
from dataplane.live.state import RECORD, numbered
from dataplane.verdict import RESTORED_WORDS

if TYPE_CHECKING:
    from dataplane.live.firewall import Firewall
    from dataplane.live.replication import Do

log = logging.getLogger("dataplane")

_RECORD = "struct dp_saved_connection"
_AGE, _PROTOCOL, _TCP = ffi.offsetof(_RECORD, "age_ns"), ffi.offsetof(_RECORD, "protocol"), 6
#: Where each side has come to, and how far it may send. That is moved on by several times the most that has passed of
#: late from one time that the connection was told to the next, within bounds: the most is 0.4 s at 10 Gbit/s.
_ENDS = struct.Struct("=II")
_END, _EDGE = ffi.offsetof(_RECORD, "tcp_end"), ffi.offsetof(_RECORD, "tcp_max_end")
_TIMES_WIDER, _LEAST_WIDER, _MOST_WIDER = 16, 1 << 20, 1 << 29
_VLANS, _ZONE, _PORTS = (ffi.offsetof(_RECORD, name) for name in ("vlans", "zone", "local_port"))
#: The shortest way of a message is that of the last one or two of these: clocks drift apart, and one stands still while
#: its machine does.
_WAYS_NS = 60 * 10**9
#: The last packet of a connection in motion is not longer ago, as it is told.
_MOTION_NS = round(LOOK_SECONDS * 1e9)


class _Delay:
    """How much longer a message has been on its way than others of late, by two clocks of which nobody sets either."""

    def __init__(self) -> None:
        self._began_ns: int | None = None
        self._shortest: int | None = None
        self._before: int | None = None

    def of(self, sent_ns: int, now_ns: int) -> int:
        """That of one that has come now."""
        way = now_ns - sent_ns
        age = _WAYS_NS if self._began_ns is None else now_ns - self._began_ns
        if age >= _WAYS_NS:
            self._before = self._shortest if age < 2 * _WAYS_NS else None
            self._began_ns, self._shortest = now_ns, None
        self._shortest = way if self._shortest is None else min(self._shortest, way)
        return way - (self._shortest if self._before is None else min(self._shortest, self._before))


class _Way(NamedTuple):
    """Where a side is, and how far it goes from one look to the next."""

    end: int
    gone: int


class _Motion:
    """How far TCP connections in motion have come, as they were told last; all of it in the control thread."""

    def __init__(self) -> None:
        # Of both sides of each connection the end, and how far it has gone from one look to the next: what is less than
        # before counts by halves, since who waits a moment goes on as before. In the look that goes on, and in the last
        # one that told of any.
        self._now: dict[bytes, tuple[_Way, _Way]] = {}
        self._before: dict[bytes, tuple[_Way, _Way]] = {}

    def look_ends(self) -> None:
        """The other firewall has told all that it found in one look."""
        if self._now:
            self._before, self._now = self._now, {}

    def widen_windows(self, records: bytearray) -> None:
        """Of TCP connections in motion, of both sides (SPEC 4.4)."""
        ages = array("Q", bytes(records))[_AGE // 8 :: RECORD // 8]
        for at, age in enumerate(ages):
            first = at * RECORD
            if age > _MOTION_NS or records[first + _PROTOCOL] != _TCP:
                continue
            ends, edges = _ENDS.unpack_from(records, first + _END), list(_ENDS.unpack_from(records, first + _EDGE))
            key = _key(records[first : first + RECORD])
            before = self._before.get(key)
            ways = tuple(_gone_on(before[side] if before else None, ends[side]) for side in range(2))
            self._now[key] = ways[0], ways[1]
            for side, (_, gone) in enumerate(ways):
                wider = min(_MOST_WIDER, max(_LEAST_WIDER, _TIMES_WIDER * gone))
                edges[side] = (edges[side] + wider) & 0xFFFFFFFF
            _ENDS.pack_into(records, first + _EDGE, *edges)


def _gone_on(before: _Way | None, end: int) -> _Way:
    """The way of a side that has come to an end, in bytes; how fast one goes that was not told before nobody knows."""
    if before is None:
        return _Way(end, _MOST_WIDER // _TIMES_WIDER)
    return _Way(end, max((end - before.end) & 0xFFFFFFFF, before.gone // 2))


def _key(record: bytearray) -> bytes:
    """What a record has that no other connection has: both addresses, the zone, ports and protocol, and VLANs."""
    return bytes(
        record[:_AGE] + record[_ZONE : _ZONE + 4] + record[_PORTS : _PROTOCOL + 1] + record[_VLANS : _VLANS + 4]
    )


class Standby:
    """Listens for one firewall that replicates; the one that comes last is it. `do` runs in the control thread."""

    role: Literal["standby"] = "standby"

    def __init__(
        self,
        firewall: Firewall,
        do: Do,
        listening: socket.socket,
        context: ssl.SSLContext,
        certificate: Validity | None = None,
    ) -> None:
        self._firewall, self._do, self._listening, self._context = firewall, do, listening, context
        self._certificate = certificate
        self._said = BoundedLog(log)
        self._peer: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard: float | None = None
        self._is_ending = False
        self._delay = _Delay()
        self._policies = Policies(firewall, "the firewall that replicates to here")
        self._motion = _Motion()
        self.peer_name: str | None = None
        self.deletions = self.resyncs = 0
        self._outcomes = ffi.new("uint64_t[]", lib.DP_RESTORED_OUTCOMES)

    @property
    def connected(self) -> bool:
        """Whether a firewall replicates to it."""
        return self._peer is not None

    @property
    def lag(self) -> float | None:
        """How many seconds ago it has heard of the other firewall; None while there is none."""
        return None if self._heard is None or not self.connected else time.monotonic() - self._heard

    @property
    def same_policy(self) -> bool | None:
        """Whether the other firewall has the policy in force here; None where that is not known."""
        return self._policies.are_same if self.connected else None

    @property
    def received(self) -> dict[str, int]:
        """What has become of the connections that it was told of."""
        return dict(zip(RESTORED_WORDS, map(int, self._outcomes), strict=True))

    def record(self) -> dict[str, Any]:
        """How it stands, as JSON values."""
        return {
            "role": self.role,
            "peer": self.peer_name,
            "connected": self.connected,
            "lag": self.lag,
            "same_policy": self.same_policy,
            "received": self.received,
            "deletions": self.deletions,
            "resyncs": self.resyncs,
        }

    async def run(self) -> None:
        """Serves until it is cancelled."""
        listener = Listener(
            self._listening,
            lambda lost: Stream(self._accepted, lost, gives_way=True),
            most=CONNECTIONS_MAX,
            most_of_one=CONNECTIONS_MAX,
            context=self._context,
            failed=self._stranger,
        )
        listener.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._is_ending = True
            await listener.stop()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await listener.close()
            self._listening.close()

    def _stranger(self, address: str, why: str) -> None:
        why = with_own(why, self._certificate)
        self._said.say(logging.WARNING, "strangers", f"{address} is not let in as the firewall that replicates: {why}")

    async def _accepted(self, stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        name = "{}:{}".format(*(writer.get_extra_info("peername") or ("", ""))[:2])
        reason = "it has ended the connection"
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                expect_hello(await read_message(reader))
                writer.write(hello().encoded())
                await writer.drain()
            before, self._peer, self.peer_name, stream.gives_way = self._peer, task, name, False
            if before:
                # It is the same one again, of which the end was not heard.
                before.cancel()
            self.resyncs += 1
            log.info("standing by", extra={"active": self.peer_name})
            await self._take(reader, writer)
        except TimeoutError:
            reason = f"it has said nothing for {SILENCE_SECONDS:g} seconds"
        except (OSError, MessageError, DataPlaneError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        except EOFError:
            pass
        except asyncio.CancelledError:
            # The stream asks its task for an exception, and none may be that it was cancelled.
            if self._is_ending:
                return
            reason = "another connection takes its place"
        finally:
            self._tasks.discard(task)
            if self._peer is task:
                self._peer = None
            writer.transport.abort()
        self._said.say(logging.WARNING, "active", f"{name} does not replicate to here any more: {reason}")

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._delay = _Delay()
        self._policies.forget()
        while True:
            message = await read_message(reader)
            self._heard = time.monotonic()
            await self._policies.work_out()
            match message.kind:
                case Kind.UPDATE:
                    await self._do(self.update, message.batch(), message.at_ns, message.policy)
                case Kind.DELETE:
                    await self._do(self.delete, message.batch())
                case Kind.AFRESH:
                    await self._do(self._firewall.connections.flush)
                case Kind.BEAT:
                    await self._do(self._motion.look_ends)
                    self._policies.hear(message.policy)
                    writer.write(Message.beat(message.head.get("number"), self._policies.digest).encoded())
                    await writer.drain()
                case Kind.HELLO:
                    raise MessageError("it is greeted twice")

    def update(self, batch: Batch, at_ns: int, policy: str | None = None) -> None:
        """Takes connections as they were at a time of the sender's clock, under a policy; in the control thread.

        What a change here has cut is not alive again because the other firewall has not made that change (SPEC 5.3).
        """
        known = self._known(batch)
        self._outcomes[lib.DP_RESTORED_NO_INSTANCE] += (len(batch.records) - len(known)) // RECORD
        self._motion.widen_windows(known)
        records = numbered(known, batch.instances, batch.rules, self._firewall.names)
        passed_ns = self._delay.of(at_ns, self._firewall.now())
        is_another = policy is not None and policy != self._policies.digest
        self._firewall.restore([records], passed_ns, self._outcomes, newer=True, unless_cut=is_another)

    def delete(self, batch: Batch) -> None:
        """Forgets connections; in the control thread."""
        records = numbered(self._known(batch), batch.instances, batch.rules, self._firewall.names)
        self.deletions += self._firewall.forget(records)

    def _known(self, batch: Batch) -> bytearray:
        policy = self._firewall.policy
        return of_zones(batch.records, lambda zone: batch.instances[zone] in policy.instances_by_id)
