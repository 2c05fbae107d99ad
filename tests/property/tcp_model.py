"""A TCP connection as one observer sees it (SPEC 4.2, 4.4), written from what each side has sent and had acknowledged.

There is no transition table here: the state follows from four facts about each side, namely its SYN, whether the other
side acknowledged it, its FIN, and whether that was acknowledged.

    half-open     a SYN of either side still awaits its acknowledgement
    established   both SYNs are acknowledged, or the connection was picked up mid-stream (tcp_loose)
    closing       some side has sent a FIN, both have, or it is not acknowledged yet
    half-closed   one side has sent a FIN, and it is acknowledged
    closed        both FINs are acknowledged, or a RST was seen

Readings that the specification leaves open, as taken here:

* A side may send a segment with ACK and without SYN only once both SYNs and at least one SYN-ACK have been seen. So the
  initiator's ACK before any SYN-ACK is invalid. The one exception is a responder's ACK to a SYN, whatever its numbers
  and with or without data: it challenges the SYN because of an older connection (RFC 5961, 4), passes as it does in
  nf_conntrack, and changes nothing.
* A SYN of the initiator with another sequence number begins its side anew, as long as the responder has sent no SYN.
* No SYN-ACK comes any more once a FIN is acknowledged or both sides have sent one.
* A simultaneous open is established once each side has acknowledged the other's SYN, by SYN-ACK or by ACK.
* A RST that answers a SYN must acknowledge it. Any other RST counts when its sequence number is in the window.
* After a RST, what is still under way passes and leaves the connection closed.
* A SYN of the initiator with another sequence number than the one that the responder has answered by a SYN-ACK is let
  through to be challenged, as in an established connection; it changes nothing.
* A SYN-ACK that acknowledges the SYN begins the responder's side anew, wherever it stands, until the initiator has
  acknowledged one: a server may keep nothing of what it has answered.
* While half-open, any other SYN or SYN-ACK with another sequence number than before is invalid. In an established
  connection a SYN or SYN-ACK inside the window passes and changes nothing but the timer, the initiator's SYN not even
  that.
* Old data is also a segment without data that begins where the other side has acknowledged, or before; it acknowledges
  nothing that could not have been sent.

The window check is coarse: a segment is outside when its sequence or acknowledgement number lies more than `FAR` bytes
from what is known of that side. The stories send segments that are well inside (a few kilobytes) or well outside.
With tcp_be_liberal there is no window, and none is known for a connection that was picked up: its scale is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .packet_model import Tcp

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128

#: The combinations that exist once PSH, ECE and CWR are masked (as nf_conntrack has them); all else is impossible.
POSSIBLE = {SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG}

#: Far beyond any window without scaling, in bytes.
FAR = 1 << 24

INITIATOR, RESPONDER = 0, 1


def possible(segment: Tcp) -> bool:
    """Whether this combination of flags exists (SPEC 4.4)."""
    return segment.flags & (FIN | SYN | RST | ACK | URG) in POSSIBLE


def plain_syn(segment: Tcp) -> bool:
    """Whether the segment asks for a connection."""
    return segment.flags & (FIN | SYN | RST | ACK) == SYN


def distance(later: int, earlier: int) -> int:
    """`later - earlier` in the 32-bit sequence space (RFC 9293, 3.4), from -2^31 to 2^31 - 1."""
    return (later - earlier + (1 << 31)) % (1 << 32) - (1 << 31)


def _end(segment: Tcp) -> int:
    return (segment.seq + segment.length + bool(segment.flags & FIN)) % (1 << 32)


@dataclass
class Side:
    """What one side has said; sequence numbers, or None while unknown."""

    syn: int | None = None
    said_syn_ack: bool = False
    said_plain_syn: bool = False
    syn_acknowledged: bool = False
    end: int | None = None
    acknowledged: int | None = None
    fin_end: int | None = None
    fin_acknowledged: bool = False


@dataclass
class TcpConnection:
    """The life of one connection; `take` is called once for each segment that belongs to it."""

    be_liberal: bool = False
    picked_up: bool = False
    reset: bool = False
    refused: tuple[list[Tcp], list[Tcp]] = field(default_factory=lambda: ([], []))
    sides: tuple[Side, Side] = field(default_factory=lambda: (Side(), Side()))

    @property
    def state(self) -> str:
        """half-open, established, closing, half-closed or closed."""
        one, two = self.sides
        if self.reset or (one.fin_acknowledged and two.fin_acknowledged):
            return "closed"
        if one.fin_end is not None and two.fin_end is not None:
            return "closing"
        if one.fin_end is not None or two.fin_end is not None:
            return "half-closed" if one.fin_acknowledged or two.fin_acknowledged else "closing"
        if self.picked_up or (one.syn_acknowledged and two.syn_acknowledged):
            return "established"
        return "half-open"

    @property
    def unanswered(self) -> bool:
        """Whether no SYN of the responder has been seen, nor can it be inferred."""
        return self.sides[RESPONDER].syn is None and not self.picked_up

    @property
    def aborted(self) -> bool:
        """Whether a RST ended it before it was established."""
        return self.reset and not self.picked_up and not all(side.syn_acknowledged for side in self.sides)

    def open(self, segment: Tcp) -> None:
        """Takes in the first segment: a plain SYN, or anything but a RST with tcp_loose."""
        self.picked_up = not plain_syn(segment)
        if self.picked_up:
            self._note(segment, INITIATOR)
        else:
            self._note_syn(segment, INITIATOR)

    def take(self, segment: Tcp, side: int) -> str:
        """Judges the next segment.

        "valid" (and taken in), "ignored" (it passes, nothing changes), "invalid" (nothing changes), "outside" (invalid
        for its place, which the other side may agree with) or "new connection".
        """
        outcome = self._judge(segment, side)
        if outcome == "valid":
            self.refused = [], []
        return outcome

    def _judge(self, segment: Tcp, side: int) -> str:
        if not possible(segment):
            return "invalid"
        if plain_syn(segment) and self.state in ("closing", "half-closed", "closed"):
            return "new connection"
        flags = segment.flags
        if self._challenge(segment, side):
            return "valid"
        if plain_syn(segment) and side == INITIATOR and (self.state == "established" or self._restarts(segment)):
            return "ignored"
        if self._begins_anew(segment, side):
            self._note_syn(segment, side)
            return "valid"
        if segment.flags & SYN and segment.flags & ACK and self._answers_anew(side):
            return self._take_syn_ack(segment, side)
        if self._outside(segment, side):
            return self._take_outside(segment, side)
        if flags & RST:
            return self._take_reset(segment, side)
        if flags & SYN and self.state == "established":
            return "valid"
        if flags & SYN and flags & ACK:
            return "invalid" if self._closes() else self._take_syn_ack(segment, side)
        if flags & SYN:
            return self._take_syn(segment, side)
        if self.state == "half-open" and not self._may_acknowledge(segment, side):
            return "invalid"
        self._note(segment, side)
        return "valid"

    def _challenge(self, segment: Tcp, side: int) -> bool:
        ack = segment.flags & (FIN | SYN | RST | ACK) == ACK
        return ack and side == RESPONDER and self.state == "half-open" and self.sides[side].syn is None

    def _begins_anew(self, segment: Tcp, side: int) -> bool:
        me = self.sides[side]
        unanswered = side == INITIATOR and self.state == "half-open" and self.sides[RESPONDER].syn is None
        return unanswered and plain_syn(segment) and me.said_plain_syn and me.syn != segment.seq

    def _restarts(self, segment: Tcp) -> bool:
        me, other = self.sides
        answered = self.state == "half-open" and other.said_syn_ack and not me.said_syn_ack
        return answered and segment.seq != me.syn

    def _closes(self) -> bool:
        if self.reset:
            return False
        both = all(side.fin_end is not None for side in self.sides)
        return both or self.state in ("half-closed", "closed")

    def _outside(self, segment: Tcp, side: int) -> bool:
        if self.be_liberal or self.picked_up:
            return False
        own, other = self.sides[side].end, self.sides[1 - side].end
        if own is not None and abs(distance(segment.seq, own)) > FAR:
            return True
        return bool(segment.flags & ACK) and other is not None and abs(distance(segment.ack, other)) > FAR

    def _take_outside(self, segment: Tcp, side: int) -> str:
        """SPEC 4.4: old data is ignored, a place that both sides agree on is taken, the rest is refused."""
        if segment.flags & (SYN | RST) or self.state == "half-open":
            return "invalid"
        me, other = self.sides[side], self.sides[1 - side]
        end = _end(segment)
        could_be_sent = other.end is None or distance(segment.ack, other.end) <= FAR
        if other.acknowledged is not None and distance(end, other.acknowledged) <= 0 and could_be_sent:
            return "ignored"
        if any(_end(theirs) == segment.ack and theirs.ack == segment.seq for theirs in self.refused[1 - side]):
            other.end, me.end, other.acknowledged, me.acknowledged = segment.ack, end, segment.seq, segment.ack
            self._note(segment, side)
            return "valid"
        self.refuse(segment, side)
        return "outside"

    def refuse(self, segment: Tcp, side: int) -> None:
        """A segment outside the window was refused, here or on its way out of another instance."""
        if not segment.flags & (SYN | RST) and self.state != "half-open" and self._outside(segment, side):
            self.refused[side].append(segment)

    def _acknowledges_syn(self, segment: Tcp, side: int) -> bool:
        """Whether `side` acknowledges the other side's SYN, and nothing that the other side never sent."""
        other = self.sides[1 - side]
        if not segment.flags & ACK or other.syn is None or other.end is None:
            return False
        return distance(segment.ack, other.syn) > 0 and distance(segment.ack, other.end) <= 0

    def _take_reset(self, segment: Tcp, side: int) -> str:
        answers_syn = side == RESPONDER and self.sides[side].syn is None and not self.picked_up
        if answers_syn and not self.reset and not self._acknowledges_syn(segment, side):
            return "invalid"
        self.reset = True
        return "valid"

    def _take_syn(self, segment: Tcp, side: int) -> str:
        me, other = self.sides[side], self.sides[1 - side]
        simultaneous = side == RESPONDER and me.syn is None and not self.picked_up and not other.syn_acknowledged
        if simultaneous:
            self._note_syn(segment, side)
            return "valid"
        return "valid" if me.said_plain_syn and me.syn == segment.seq else "invalid"

    def _take_syn_ack(self, segment: Tcp, side: int) -> str:
        me, other = self.sides[side], self.sides[1 - side]
        if not self._acknowledges_syn(segment, side):
            return "invalid"
        if me.syn is None or (me.syn != segment.seq and self._answers_anew(side)):
            self._note_syn(segment, side)
        elif me.syn != segment.seq:
            return "invalid"
        me.said_syn_ack = True
        me.acknowledged = segment.ack
        other.syn_acknowledged = True
        return "valid"

    def _answers_anew(self, side: int) -> bool:
        return side == RESPONDER and self.state == "half-open" and self.sides[side].said_syn_ack

    def _may_acknowledge(self, segment: Tcp, side: int) -> bool:
        me, other = self.sides[side], self.sides[1 - side]
        if me.syn is None or other.syn is None or not (me.said_syn_ack or other.said_syn_ack):
            return False
        # Of the SYN at least; more than was seen may have been sent, as far as `_outside` lets it.
        return self.be_liberal or bool(segment.flags & ACK and distance(segment.ack, other.syn) > 0)

    def _note_syn(self, segment: Tcp, side: int) -> None:
        me = self.sides[side]
        me.syn = segment.seq
        me.said_plain_syn = not segment.flags & ACK
        me.end = (segment.seq + 1 + segment.length) % (1 << 32)

    def _note(self, segment: Tcp, side: int) -> None:
        me, other = self.sides[side], self.sides[1 - side]
        end = _end(segment)
        if me.end is None or distance(end, me.end) > 0:
            me.end = end
        if segment.flags & FIN:
            me.fin_end = end
        if segment.flags & ACK:
            if me.acknowledged is None or distance(segment.ack, me.acknowledged) > 0:
                me.acknowledged = segment.ack
            if other.end is None:
                other.end = segment.ack
            other.syn_acknowledged = True
            if other.fin_end is not None and distance(segment.ack, other.fin_end) >= 0:
                other.fin_acknowledged = True
