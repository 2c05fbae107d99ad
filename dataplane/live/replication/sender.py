"""The side that replicates: it tells a standby what has become of connections, as long as it can.

A few times a second, entries whose last packet was since the look before the last one are sent: those that packets have
changed since the last look as they are in motion, and once more when they have come to rest, so that the standby has
their last window. What takes longer is done less often: never more than a small part of a processor goes into looking.

What was deleted waits in a queue that is bounded. Where that is not long enough, because the peer is away, deletions
are lost, and counted, and the standby is told to begin afresh.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from dataplane.control.tls import Validity, why_not_spoken, with_own
from dataplane.live.bounded_log import BoundedLog
from dataplane.live.replication.messages import (
    RECORDS_MAX,
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
from dataplane.live.state import RECORD
from dataplane.terminal import host_port

if TYPE_CHECKING:
    from dataplane.live.firewall import Firewall
    from dataplane.live.replication import Do

log = logging.getLogger("dataplane")

#: Between two looks at the table, at least; and what part of the control thread's time looking may take.
LOOK_SECONDS = 0.2
_LOOK_SHARE = 0.05
#: Between two signs of life, at most.
_BEAT_SECONDS = SILENCE_SECONDS / 5
_CONNECT_SECONDS = 5.0
_RETRY_SECONDS = 0.5
#: Deletions that wait for the peer.
_DELETED_MAX = 65_536


class Sender:
    """Replicates the connections of a firewall to the peer at a place; `do` runs something in the control thread."""

    role: Literal["active"] = "active"

    def __init__(
        self,
        firewall: Firewall,
        do: Do,
        place: tuple[str, int],
        context: ssl.SSLContext,
        certificate: Validity | None = None,
    ) -> None:
        self._firewall, self._do, self._place, self._context = firewall, do, place, context
        self._certificate = certificate
        self._deleted: deque[Batch] = deque()
        self._n_deleted = 0
        self._said = BoundedLog(log)
        self._policies = Policies(firewall, f"the standby {self.name}")
        # Whether the two policies were others for a while, and whether all is to be told again since then.
        self._differed = self._all_again = False
        #: Whether the standby must begin afresh, because deletions were lost.
        self._afresh = False
        self.connected = False
        self.updates = self.deletions = self.lost = self.resyncs = 0
        self.beats = 0
        # What the look that goes on has taken so far of the control thread's time, and when it began.
        self._looking = self._look_began = 0.0
        # Of each that has not come back, when the look began that it ends; and of the last one that has.
        self._beats: dict[int, float] = {}
        self._told_at = 0.0

    @property
    def name(self) -> str:
        """The peer."""
        return host_port(*self._place)

    @property
    def lag(self) -> float | None:
        """How many seconds ago it was what the standby knows of; None while there is none."""
        return time.monotonic() - self._told_at if self.connected else None

    @property
    def same_policy(self) -> bool | None:
        """Whether the standby has the policy in force here; None where that is not known."""
        return self._policies.are_same if self.connected else None

    def record(self) -> dict[str, Any]:
        """How it stands, as JSON values."""
        return {
            "role": self.role,
            "peer": self.name,
            "connected": self.connected,
            "lag": self.lag,
            "same_policy": self.same_policy,
            "updates": self.updates,
            "deletions": self.deletions,
            "lost": self.lost,
            "resyncs": self.resyncs,
        }

    def deleted(self, batches: Iterable[bytes]) -> None:
        """Connections are about to be deleted, as saved ones; in the control thread."""
        for records in batches:
            number = len(records) // RECORD
            if self._afresh or self._n_deleted + number > _DELETED_MAX:
                self.lost += number
                self._afresh = True
                continue
            self._n_deleted += number
            self._deleted.append(Batch.of(records, self._firewall.names))
        if self._afresh:
            self._deleted.clear()
            self.lost += self._n_deleted
            self._n_deleted = 0

    async def run(self) -> None:
        """Replicates until it is cancelled; where the peer goes, it is looked for again."""
        while True:
            reason = "it has ended the connection"
            greeted = False
            writer: asyncio.StreamWriter | None = None
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    reader, writer = await asyncio.open_connection(*self._place, ssl=self._context)
                    writer.write(hello().encoded())
                    expect_hello(await read_message(reader))
                    greeted = True
                await self._replicate(reader, writer)
            except TimeoutError:
                reason = "it does not answer in time"
            except OSError as error:
                reason = why_not_spoken(error)
            except MessageError as error:
                reason = str(error)
            except EOFError:
                if not greeted:
                    reason += " before it greeted, its log says why"
            finally:
                self.connected = False
                if writer:
                    writer.transport.abort()
            reason = reason if greeted else with_own(reason, self._certificate)
            self._said.say(
                logging.WARNING, "standby", f"the standby {self.name} has no connections from here: {reason}"
            )
            await asyncio.sleep(_RETRY_SECONDS)

    async def _replicate(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._beats.clear()
        self._policies.forget()
        self._differed = self._all_again = False
        self._told_at = time.monotonic()
        self.connected = True
        self.resyncs += 1
        log.info("connections are replicated", extra={"standby": self.name})
        listening = asyncio.create_task(self._listen(reader))
        sending = asyncio.create_task(self._send_all(writer))
        try:
            done, _ = await asyncio.wait({listening, sending}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (listening, sending):
                task.cancel()
            await asyncio.gather(listening, sending, return_exceptions=True)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Hears beats that come back."""
        while True:
            message = await read_message(reader)
            number = message.head.get("number")
            if message.kind != Kind.BEAT or type(number) is not int:
                raise MessageError("the standby answers what was not asked")
            self._told_at = self._beats.pop(number, self._told_at)
            self._hear_of_policy(message)

    def _hear_of_policy(self, message: Message) -> None:
        """What the standby's policy is; where it is this one's again, connections that it has cut are told anew."""
        same = self._policies.hear(message.policy)
        if same is False:
            self._differed = True
        elif same and self._differed:
            self._differed, self._all_again = False, True

    async def _send_all(self, writer: asyncio.StreamWriter) -> None:
        before = last = 0
        while True:
            self._looking, self._look_began = 0.0, time.monotonic()
            since, before, last = before, last, self._firewall.now()
            if self._all_again:
                since, self._all_again = 0, False
            await self._policies.work_out()
            for message in await self._looked(self._deletions):
                await _send(writer, message)
            walk = self._updates(since)
            while (message := await self._looked(next, walk, None)) is not None:
                await _send(writer, message)
            await self._beat(writer)
            until = time.monotonic() + max(LOOK_SECONDS, self._looking / _LOOK_SHARE - self._looking)
            while (left := until - time.monotonic()) > _BEAT_SECONDS:
                await asyncio.sleep(_BEAT_SECONDS)
                # Who says nothing for long is taken for dead.
                await self._beat(writer)
            await asyncio.sleep(left)

    async def _looked(self, look: Callable[..., Any], *arguments: Any) -> Any:
        """What looking brings; what it takes is counted."""
        found, seconds = await self._do(_timed, look, *arguments)
        self._looking += seconds
        return found

    async def _beat(self, writer: asyncio.StreamWriter) -> None:
        self.beats += 1
        self._beats[self.beats] = self._look_began
        await _send(writer, Message.beat(self.beats, self._policies.digest))

    def _deletions(self) -> list[Message]:
        """What is to be told of deletions."""
        messages = [Message(Kind.AFRESH)] if self._afresh else []
        messages += [Message.with_batch(Kind.DELETE, batch) for batch in self._deleted]
        self.deletions += self._n_deleted
        self._deleted.clear()
        self._n_deleted, self._afresh = 0, False
        return messages

    def _updates(self, since_ns: int) -> Iterator[Message]:
        """Connections whose last packet was since then, some at a time; 0: all."""
        for records in self._firewall.connections.filter(since_ns=since_ns).saved():
            for first in range(0, len(records), RECORDS_MAX * RECORD):
                some = records[first : first + RECORDS_MAX * RECORD]
                self.updates += len(some) // RECORD
                named = Batch.of(some, self._firewall.names)
                yield Message.with_batch(Kind.UPDATE, named, self._firewall.now(), self._policies.digest)


def _timed(look: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What looking brings, and the seconds that this thread worked for it: not those that others took meanwhile.

    The standby would be told the later the busier the machine is.
    """
    started = time.thread_time()
    found = look(*arguments)
    return found, time.thread_time() - started


async def _send(writer: asyncio.StreamWriter, message: Message) -> None:
    """Sends a message. Raises TimeoutError where the peer takes nothing."""
    writer.write(message.encoded())
    async with asyncio.timeout(SILENCE_SECONDS):
        await writer.drain()
