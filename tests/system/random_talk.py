"""Random TCP conversations: two ends that mostly do what TCP does, losses and repeats between them, and forgers.

The ends believe what the kernel forwards, so that a conversation goes on in step with it. SYNs in a connection that is
open, and what follows a RST before it is open, are left to the stories written by hand: what the kernel makes of them
depends on the segment before.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

from tests.support.segment import Segment

#: Far outside of any window here, and a place inside it that nothing has reached.
FAR, NEAR = 10_000_000, 300

#: What an end may do: most of it often, so that most conversations get somewhere.
ACTS = {
    "data": 6,
    "ack": 4,
    "fin": 2,
    "repeat": 2,
    "syn": 1,
    "syn-ack": 1,
    "reset": 1,
    "unseen data": 1,
    "forged data": 1,
    "forged ack": 1,
    "forged reset": 1,
    "near reset": 1,
}
OPENING = (("I", "syn"), ("R", "syn-ack"), ("I", "ack"))


@dataclass
class End:
    """What one end has sent and received; numbers as in `Segment`. `seen` is what of it has passed the filter."""

    next: int = 0
    received: int = 0
    sent: list[Segment] = field(default_factory=list)
    seen: list[Segment] = field(default_factory=list)

    @property
    def end(self) -> int:
        """What comes after all that was seen."""
        return max((s.end for s in self.seen if "R" not in s.flags), default=0)

    @property
    def offered(self) -> int:
        """How far the other end may send: a window of zero lets a probe through."""
        return max((s.ack + max(s.window, 1) for s in self.seen if "." in s.flags), default=0)

    def covers(self, reset: Segment) -> bool:
        """Whether a RST of the other end stands in the window that this end has offered."""
        acknowledged = max((s.ack for s in self.seen if "." in s.flags), default=0)
        return acknowledged <= reset.seq <= self.offered

    def said(self, flags: str) -> bool:
        """Whether a segment with exactly these flags has passed."""
        return any(segment.flags == flags for segment in self.seen)


@dataclass(frozen=True)
class Act:
    """One step of a script."""

    side: str
    kind: str
    length: int
    window: int


def scripts() -> st.SearchStrategy[list[Act]]:
    """Scripts: the opening, whole or broken off, and then anything."""
    kinds = st.sampled_from([kind for kind, weight in ACTS.items() for _ in range(weight)])
    acts = st.builds(
        Act, st.sampled_from("IR"), kinds, st.sampled_from([1, 100, 1400]), st.sampled_from([8000, 500, 0])
    )
    openings = st.sampled_from([0, 1, 1, 2, 2, *[3] * 15]).map(
        lambda steps: [Act(side, kind, 0, 8000) for side, kind in OPENING[:steps]]
    )
    return st.tuples(openings, st.lists(acts, max_size=12)).map(lambda parts: [*parts[0], *parts[1]])


class Talk:
    """Both ends; `make` says what an act sends, `passed` that the filter let it through."""

    def __init__(self) -> None:
        self.ends = {"I": End(), "R": End()}
        self.early = False

    def make(self, act: Act) -> Segment | None:
        """The segment that appears before the filter, if any."""
        end = self.ends[act.side]
        if act.kind == "repeat":
            return end.sent[-1] if end.sent and self._fits(end.sent[-1]) else None
        flags, length, seq, ack = ".", 0, end.next, end.received
        if act.kind in ("data", "unseen data", "forged data"):
            flags, length = "P.", act.length
        elif act.kind == "fin":
            flags = "F."
        elif act.kind in ("syn", "syn-ack"):
            flags, seq, ack = ("S" if act.kind == "syn" else "S."), 0, min(end.received, 1)
        elif "reset" in act.kind:
            flags = "R"
        seq += {"forged data": FAR, "forged reset": FAR, "near reset": NEAR}.get(act.kind, 0)
        ack += FAR if act.kind == "forged ack" else 0
        segment = Segment(act.side, flags, length, seq, ack, act.window)
        if not self._fits(segment) or (act.kind == "unseen data" and self.opening):
            return None
        if act.kind.startswith("forged") or act.kind == "near reset":
            return segment
        end.sent.append(segment)
        end.next = max(end.next, segment.end)
        if act.kind == "unseen data":
            self._deliver(segment)
            return None
        return segment

    def _fits(self, segment: Segment) -> bool:
        """False for SYNs of an open connection, for a responder that opens, and for what it sends before it answers."""
        initiator, responder = self.ends["I"], self.ends["R"]
        if "S" not in segment.flags:
            return segment.side == "I" or bool(responder.seen) or segment.flags == "R"
        if segment.flags == "S.":
            return segment.side == "R" or responder.said("S")
        if segment.side == "R" and not initiator.seen:
            return False
        return self.closing or not responder.seen

    def _deliver(self, segment: Segment) -> None:
        """The other end takes what comes in order."""
        end = self.ends["R" if segment.side == "I" else "I"]
        if segment.seq <= end.received and "R" not in segment.flags:
            end.received = max(end.received, segment.end)

    def passed(self, segment: Segment, new: bool) -> None:
        """The filter let it through, as the first of a connection or a later one."""
        if new:
            for end in self.ends.values():
                end.seen.clear()
        if segment.side == "R" and "S" not in segment.flags:
            self.early |= self.opening
        self.ends[segment.side].seen.append(segment)
        self._deliver(segment)

    @property
    def opening(self) -> bool:
        """Whether the initiator has not acknowledged anything yet."""
        return all(set(segment.flags) & {"S", "R"} for segment in self.ends["I"].seen)

    def left_open(self, segment: Segment, new: bool) -> bool:
        """Whether what follows would be: a RST before the connection is open, or the sides exchanged."""
        return (segment.flags == "R" and self.opening) or (new and segment.side == "R")

    @property
    def closing(self) -> bool:
        """Whether a FIN has passed."""
        return any(end.said("F.") for end in self.ends.values())

    def difference(self, segment: Segment) -> set[str]:
        """The names of `DIFFERENCES` that may show at this segment, by what has passed until now."""
        initiator, responder = self.ends["I"], self.ends["R"]
        by_responder = segment.side == "R"
        other = initiator if by_responder else responder
        ended = self.closing or initiator.said("R") or responder.said("R")
        holds = {
            "reset-of-syn": segment.flags == "R" and by_responder and not responder.seen,
            "reset-outside-window": segment.flags == "R" and not other.covers(segment) and (ended or self.opening),
            "ack-of-unseen": "." in segment.flags and segment.ack > other.end,
            "window-of-early-segment": self.early and not by_responder,
            "beyond-window": "S" not in segment.flags and segment.seq > other.offered,
            "agreed-place": not set(segment.flags) & {"S", "R"} and max(segment.seq, segment.ack) >= FAR,
            "reopen": segment.flags == "S" and not by_responder and ended,
            "reopen-by-responder": segment.flags == "S" and by_responder and ended,
            "syn-ack-from-initiator": segment.flags == "S." and not by_responder,
            "late-syn-ack": segment.flags == "S." and self.closing,
            "ack-in-simultaneous-open": by_responder and responder.said("S") and not initiator.said("S."),
        }
        return {name for name, does in holds.items() if does}
