"""TCP segments of a conversation between an initiator outside (I) and a responder inside (R).

Sequence and acknowledgement numbers are relative to each side's first: 1000 for I, 5000 for R.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.property.frames import checksum, packed, packet

INSIDE, OUTSIDE = "10.0.0.1", "192.0.2.1"
INSIDE6, OUTSIDE6 = "fd00::1", "2001:db8::1"
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, ".": 16, "U": 32, "E": 64, "C": 128}
BASE = {"I": 1000, "R": 5000}


@dataclass(frozen=True)
class Segment:
    """One segment; `flags` are letters of `FLAGS`, and `scale` is the window scale option, left out if None."""

    side: str
    flags: str
    length: int = 0
    seq: int = 0
    ack: int = 0
    window: int = 8000
    scale: int | None = None

    @property
    def end(self) -> int:
        """The sequence number that comes after it."""
        return self.seq + self.length + ("S" in self.flags) + ("F" in self.flags)

    def packet(self, port: int, version: int = 4) -> bytes:
        """The segment as an IP packet; `port` is the initiator's."""
        outside, inside = (OUTSIDE, INSIDE) if version == 4 else (OUTSIDE6, INSIDE6)
        ends, ports = ((outside, inside), (port, 80)) if self.side == "I" else ((inside, outside), (80, port))
        seq = BASE[self.side] + self.seq & 0xFFFFFFFF
        ack = BASE["R" if self.side == "I" else "I"] + self.ack & 0xFFFFFFFF if "." in self.flags else 0
        options = b"" if self.scale is None else bytes([3, 3, self.scale, 0])
        flags = sum(FLAGS[flag] for flag in self.flags)
        size = 20 + len(options)
        body = struct.pack("!HHIIBBHHH", *ports, seq, ack, size << 2, flags, self.window, 0, 0)
        body += options + bytes(self.length)
        pseudo = packed(ends[0]) + packed(ends[1]) + struct.pack("!II", len(body), 6)
        body = body[:16] + struct.pack("!H", checksum(pseudo + body)) + body[18:]
        return packet(*ends, 6, body)
