"""A TCP endpoint that sends what a script asks for, with the numbers that a real one would use.

Sequence numbers of successive connections lie 2^28 apart, and segments stay small: whatever an endpoint sends is either
well inside a window of 65,535 bytes or, from an older connection or forged, far outside of any.
"""

from __future__ import annotations

from dataclasses import dataclass

from .packet_model import Tcp
from .tcp_model import ACK, FIN, RST, SYN, distance

#: Between the initial sequence numbers of two connections of one endpoint.
EPOCH = 1 << 28
#: By how much a forged number is wrong.
FORGED = 1 << 27

#: What a script can ask for: the flags that go out.
STEPS = {
    "syn": SYN,
    "new syn": SYN,
    "syn-ack": SYN | ACK,
    "early syn-ack": SYN | ACK,
    "ack": ACK,
    "data": ACK,
    "fin": FIN | ACK,
    "rst": RST,
    "rst-ack": RST | ACK,
    "forged rst": RST,
    "forged seq": ACK,
    "forged ack": ACK,
    "syn+fin": SYN | FIN,
    "syn+rst": SYN | RST,
    "no flags": 0,
    "xmas": FIN | 8 | 32,
    "bare fin": FIN,
}

MODULUS = 1 << 32


@dataclass
class Endpoint:
    """One end of a connection: `sent` is the next number to send, `received` the next one expected.

    `used` says that it has sent something since its `isn` was chosen, `opening` that its own SYN awaits an answer.
    """

    isn: int
    peer_isn: int
    sent: int = 0
    received: int = 0
    fin_sent: bool = False
    used: bool = False
    opening: bool = False

    def __post_init__(self) -> None:
        self.sent = (self.isn + 1) % MODULUS
        self.received = (self.peer_isn + 1) % MODULUS

    def renew(self) -> None:
        """The next connection of this endpoint: a new initial sequence number."""
        self.isn = (self.isn + EPOCH) % MODULUS
        self.sent = (self.isn + 1) % MODULUS
        self.fin_sent = self.used = False

    def make(self, step: str) -> tuple[Tcp, bytes]:
        """The segment for a step, and its payload."""
        flags = STEPS[step]
        if step == "new syn":
            self.renew()
        seq, payload = self.sent, b""
        if flags & SYN:
            seq = self.isn
        elif step == "data" and not self.fin_sent:
            payload = b"sixteen bytes ok"
        elif step == "fin" and self.fin_sent:
            seq -= 1
        ack = self.received if flags & ACK else 0
        if step in ("forged rst", "forged seq"):
            seq += FORGED
        elif step == "forged ack":
            ack += FORGED
        elif step == "early syn-ack":
            ack -= 1
        else:
            self._advance(step, payload)
        return Tcp(flags, seq % MODULUS, ack % MODULUS, len(payload)), payload

    def _advance(self, step: str, payload: bytes) -> None:
        self.used = True
        self.opening = STEPS[step] == SYN
        self.sent = (self.sent + len(payload)) % MODULUS
        if step == "fin" and not self.fin_sent:
            self.fin_sent = True
            self.sent = (self.sent + 1) % MODULUS

    @property
    def fresh(self) -> bool:
        """Whether nothing beyond the SYN has been sent."""
        return self.sent == (self.isn + 1) % MODULUS

    def take(self, segment: Tcp) -> None:
        """A segment arrives."""
        if segment.flags in (SYN, SYN | ACK):
            if segment.seq != self.peer_isn:
                self.peer_isn, self.received = segment.seq, (segment.seq + 1) % MODULUS
                if segment.flags == SYN and self.used and not self.opening:
                    self.renew()
            return
        end = segment.seq + segment.length + (1 if segment.flags & FIN else 0)
        if segment.flags & ACK and distance(segment.seq, self.received) <= 0 < distance(end, self.received):
            self.received = end % MODULUS
