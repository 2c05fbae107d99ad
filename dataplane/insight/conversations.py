"""TCP packets written without numbers get those that they would have, so that lines of packets are a conversation.

A SYN begins a flow anew. What carries no data takes no place in the sequence, but for SYN and FIN; an ACK acknowledges
all that the other side has sent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dataplane.insight.packet_text import TCP, Packet

_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
#: Where each side begins; a new SYN of the same side begins so much further, as after another connection.
_FIRST, _STEP = 1000, 1 << 20

_End = tuple[bytes, int]


@dataclass
class _Side:
    first: int
    next: int


class Conversations:
    """What each side of each flow has sent so far."""

    def __init__(self) -> None:
        self._sides: dict[tuple[_End, _End], _Side] = {}

    def numbered(self, packet: Packet) -> Packet:
        """A packet with its sequence and acknowledgement numbers; one that is no TCP as it is."""
        if packet.protocol != TCP:
            return packet
        here, there = (packet.source, packet.source_port), (packet.destination, packet.destination_port)
        sender, receiver = self._sides.get((here, there)), self._sides.get((there, here))
        if packet.flags & _SYN and not packet.flags & _ACK:
            if sender is None or receiver is not None or sender.next != sender.first + 1:
                # Not a SYN sent once more: a new connection, of which the other side has sent nothing.
                first = sender.first + _STEP if sender else _FIRST
                sender = self._sides[here, there] = _Side(first, first)
                self._sides.pop((there, here), None)
                receiver = None
        elif sender is None:
            first = (receiver.first if receiver else 0) + _FIRST
            sender = self._sides[here, there] = _Side(first, first)
        sequence = sender.first if packet.flags & _SYN else sender.next
        acknowledged = receiver.next if receiver and packet.flags & _ACK else 0
        length = bool(packet.flags & _SYN) + bool(packet.flags & _FIN and not packet.flags & _RST)
        sender.next = max(sender.next, sequence + length)
        return replace(packet, sequence=sequence % (1 << 32), acknowledgement=acknowledged % (1 << 32))
