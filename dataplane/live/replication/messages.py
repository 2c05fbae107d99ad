"""What goes between two firewalls of which one stands by for the other.

A message is a kind, the lengths of its two parts (big-endian), a head of JSON, and records, `struct
dp_saved_connection` as the state file has them. Zones and rule numbers are those of the sender; the head says what they
are called. Both sides begin with HELLO; the sender's BEATs are sent back to it. UPDATEs and BEATs tell the digest of
the policy in force where they are from.
"""

from __future__ import annotations

import asyncio
import json
import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from dataplane.live.state import RECORD, RULE_WORD, ZONE_WORD

if TYPE_CHECKING:
    from dataplane.verdict import Names

#: The form of all this; two firewalls with different ones do not understand each other.
FORM = 1
#: At most so many records are in one message, and so long is its head.
RECORDS_MAX = 8192
HEAD_MAX = 16 << 20
#: Who says nothing for so long is gone.
SILENCE_SECONDS = 10.0

_FRAME = struct.Struct(">BII")
_WORDS = RECORD // 4


class Kind(IntEnum):
    """Kinds of messages."""

    HELLO = 1
    #: Connections that have come, or changed.
    UPDATE = 2
    #: Connections that were deleted.
    DELETE = 3
    #: All connections are to be forgotten: what was deleted is not known any more.
    AFRESH = 4
    BEAT = 5


class MessageError(Exception):
    """What came is no message: one clause that says why."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records with the names of their zones and rules."""

    instances: Mapping[int, str]
    rules: Mapping[int, tuple[str, str] | None]
    records: bytes

    @classmethod
    def of(cls, records: bytes, names: Names) -> Batch:
        """Records of a firewall, with its names for them."""
        words = array("I", records)
        zones, rules = set(words[ZONE_WORD::_WORDS]), set(words[RULE_WORD::_WORDS])
        return cls({z: names.instances[z] for z in zones}, {r: names.rules[r] for r in rules}, records)


@dataclass(frozen=True, slots=True)
class Message:
    """A message."""

    kind: Kind
    head: dict[str, Any] = field(default_factory=dict)
    records: bytes = b""

    def encoded(self) -> bytes:
        """As it is sent."""
        head = json.dumps(self.head, separators=(",", ":")).encode()
        return _FRAME.pack(self.kind, len(head), len(self.records)) + head + self.records

    @classmethod
    def with_batch(cls, kind: Kind, batch: Batch, at_ns: int = 0, policy: str | None = None) -> Message:
        """A message about some connections, as they were at a time of the sender's clock under a policy."""
        named = {"instances": list(batch.instances.items()), "rules": list(batch.rules.items())}
        return cls(kind, {"at": at_ns, "policy": policy, **named}, batch.records)

    @classmethod
    def beat(cls, number: Any, policy: str | None) -> Message:
        """A sign of life."""
        return cls(Kind.BEAT, {"number": number, "policy": policy})

    @property
    def policy(self) -> str | None:
        """The digest of the policy where it is from; None where that is not told."""
        told = self.head.get("policy")
        return told if isinstance(told, str) else None

    @property
    def at_ns(self) -> int:
        """When it was so, by the sender's clock. Raises MessageError."""
        at = self.head.get("at")
        if type(at) is not int or not 0 <= at < 1 << 63:
            raise MessageError("it does not say when it was so")
        return at

    def batch(self) -> Batch:
        """The connections that it is about. Raises MessageError."""
        try:
            instances = {int(zone): str(name) for zone, name in self.head["instances"]}
            rules = {
                int(number): None if rule is None else (str(rule[0]), str(rule[1]))
                for number, rule in self.head["rules"]
            }
            words = array("I", self.records)
            known = set(words[ZONE_WORD::_WORDS]) <= instances.keys() and set(words[RULE_WORD::_WORDS]) <= rules.keys()
        except (KeyError, IndexError, TypeError, ValueError, OverflowError):
            raise MessageError("its head is not what this program writes") from None
        if not known:
            raise MessageError("its records have zones or rules without a name")
        return Batch(instances, rules, self.records)


def hello() -> Message:
    """How both sides begin."""
    return Message(Kind.HELLO, {"form": FORM, "record": RECORD})


def expect_hello(message: Message) -> None:
    """Raises MessageError where the peer speaks another form."""
    if message.kind != Kind.HELLO or message.head != hello().head:
        raise MessageError("the peer is no dataplane of a version that fits: use the same on both hosts")


async def read_message(reader: asyncio.StreamReader) -> Message:
    """The next message. Raises MessageError, TimeoutError, and EOFError at the end."""
    async with asyncio.timeout(SILENCE_SECONDS):
        kind, head_length, length = _FRAME.unpack(await reader.readexactly(_FRAME.size))
        if kind not in Kind.__members__.values() or head_length > HEAD_MAX:
            raise MessageError("it is of no kind that there is, or too long")
        if length % RECORD or length > RECORDS_MAX * RECORD:
            raise MessageError("its records are too many, or cut")
        text = await reader.readexactly(head_length)
        records = await reader.readexactly(length)
    try:
        head = json.loads(text)
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict):
        raise MessageError("its head is no JSON object")
    return Message(Kind(kind), head, records)
