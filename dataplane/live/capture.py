"""Frames of the feed as a pcapng file: an interface for each port, nanoseconds, and the verdict as a comment.

Blocks are those of the pcapng specification (draft-ietf-opsawg-pcapng): section header, interface description when a
port's first frame comes, enhanced packet, and at the end interface statistics that say how many frames were lost.
"""

from __future__ import annotations

import struct
import time
from typing import Any

from dataplane.live.feed import FRAMES, Subscription, frame_of
from dataplane.verdict import Verdict, verdict_of

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_COMMENT, _APPLICATION, _NAME, _RESOLUTION, _FLAGS, _DROPPED = 1, 4, 2, 9, 2, 5
_ETHERNET = 1
_RECEIVED, _SENT = 1, 2


def section(application: str) -> bytes:
    """The block that a file begins with."""
    body = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    return _block(_SECTION, body + _options((_APPLICATION, application.encode())))


def interface(name: str) -> bytes:
    """The block that describes an interface; they are numbered from 0 as they come."""
    body = struct.pack("<HHI", _ETHERNET, 0, 0)
    return _block(_INTERFACE, body + _options((_NAME, name.encode()), (_RESOLUTION, b"\x09")))


def packet(number: int, time_ns: int, frame: bytes, length: int, *, sent: bool, comment: str) -> bytes:
    """A frame at interface `number`; `length` is that on the wire."""
    head = struct.pack("<IIIII", number, time_ns >> 32, time_ns & 0xFFFFFFFF, len(frame), max(length, len(frame)))
    options = _options((_COMMENT, comment.encode()), (_FLAGS, struct.pack("<I", _SENT if sent else _RECEIVED)))
    return _block(_PACKET, head + _padded(frame) + options)


def statistics(number: int, time_ns: int, dropped: int) -> bytes:
    """How many frames of an interface are missing because nobody took them in time."""
    body = struct.pack("<III", number, time_ns >> 32, time_ns & 0xFFFFFFFF)
    return _block(_STATISTICS, body + _options((_DROPPED, struct.pack("<Q", dropped))))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _options(*options: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options) + bytes(4)


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def comment_of(verdict: Verdict) -> str:
    """What a packet met, in words: ``deny: ingress web-1 deny no-rule-matched``."""
    said = []
    for check in verdict.checks:
        words = [check.direction, check.instance, check.verdict, check.reason, check.cause]
        if check.rule is not None:
            words += ["rule", check.rule, "group", check.security_group]
        said.append(" ".join(word for word in words if word))
    return f"{verdict.verdict}: {'; '.join(said)}" if said else verdict.verdict


class Capture(Subscription):
    """Frames with their verdicts as pcapng blocks, from the beginning of the file on."""

    kinds = FRAMES

    def __init__(self, *arguments: Any, port: int = -1) -> None:
        super().__init__(*arguments, port=port)
        self._interfaces: dict[int, int] = {}
        from dataplane import __version__

        self.put(section(f"dataplane {__version__}"))

    def convert(self, item: Any) -> bytes:
        blocks = b""
        number = self._interfaces.get(item.port)
        if number is None:
            number = self._interfaces[item.port] = len(self._interfaces)
            blocks = interface(self.port_name(item.port))
        verdict = verdict_of(item.record, self._firewall.names)
        time_ns = self.wall_ns(item.time_ns)
        comment = comment_of(verdict)
        return blocks + packet(number, time_ns, frame_of(item), verdict.length, sent=bool(item.sent), comment=comment)

    def ending(self) -> bytes:
        """The last blocks: what was lost, on all interfaces together, counted at the first."""
        return statistics(0, time.time_ns(), self.lost) if self._interfaces else b""
