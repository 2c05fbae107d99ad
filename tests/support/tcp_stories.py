"""TCP conversations written by hand. A row is what a `Segment` takes, and what must come out: a word that kernel and
engine both say, or the name of a difference between them."""

from __future__ import annotations

from tests.support.differences import NEW, NO, OK
from tests.support.segment import Segment

Row = tuple[Segment, str]


def row(outcome: str, side: str, flags: str, *numbers: int) -> Row:
    """One segment: length, seq, ack, window and scale as far as they are given."""
    return Segment(side, flags, *numbers), outcome


SYN, SYN_ACK, ACK = row(NEW, "I", "S"), row(OK, "R", "S.", 0, 0, 1), row(OK, "I", ".", 0, 1, 1)
HANDSHAKE = [SYN, SYN_ACK, ACK]
#: The initiator has closed its half.
HALF_CLOSED = [*HANDSHAKE, row(OK, "I", "F.", 0, 1, 1), row(OK, "R", ".", 0, 1, 2)]
CLOSED = [*HALF_CLOSED, row(OK, "R", "F.", 0, 1, 2), row(OK, "I", ".", 0, 2, 2)]

#: 25 times 4000 bytes, each acknowledged.
LONG = [
    *HANDSHAKE,
    *(
        step
        for sent in range(1, 100_000, 4000)
        for step in (row(OK, "I", ".", 4000, sent, 1), row(OK, "R", ".", 0, 1, sent + 4000))
    ),
]

POSSIBLE_FLAGS = ["S", "SU", "S.", "R", "R.", "F.", "F.U", ".", ".U"]
IMPOSSIBLE_FLAGS = [
    "",
    "F",
    "P",
    "U",
    "FPU",
    "SF",
    "SR",
    "FR",
    "SF.",
    "SR.",
    "SFR.",
    "FR.",
    "S.U",
    "RU",
    "R.U",
    "FPSRU.",
]

#: The state in which a story leaves its connection, where it is not told by what comes next.
ENDS = {
    "SYN and SYN-ACK repeated": "SYN_RECV",
    "a SYN-ACK of what was never sent": "ESTABLISHED",
    "refused": "CLOSE",
    "refused, and tried again": "SYN_SENT",
    "simultaneous open": "ESTABLISHED",
    "split handshake of four steps": "ESTABLISHED",
    "split handshake of five steps": "ESTABLISHED",
    "an old connection challenges the SYN": "SYN_RECV",
    "blind resets": "ESTABLISHED",
    "a reset, and what was under way": "CLOSE",
    "a reset with data": "CLOSE",
    "a SYN that is challenged": "CLOSE",
}

TCP_STORIES: dict[str, list[Row]] = {
    # ---- the handshake ----
    "handshake with everything repeated": [
        SYN, row(OK, "I", "S"), SYN_ACK, row(OK, "I", "S"), SYN_ACK, ACK, SYN_ACK, ACK,
    ],
    "SYN and SYN-ACK repeated": [SYN, row(OK, "I", "S"), SYN_ACK, row(OK, "I", "S"), SYN_ACK],
    "a client that begins anew before the answer": [
        SYN, row(OK, "I", "S", 0, 7000), row(OK, "R", "S.", 0, 0, 7001), row(OK, "I", ".", 0, 7001, 1),
    ],
    "a client that begins anew after the answer": [
        SYN, SYN_ACK, row(OK, "I", "S", 0, 900_000), row(OK, "R", ".", 0, 1, 1), row(OK, "I", "R", 0, 1),
        row(NEW, "I", "S", 0, 900_000), row(OK, "R", "S.", 0, 70, 900_001), row(OK, "I", ".", 0, 900_001, 71),
    ],
    "a server that answers a repeated SYN by another SYN-ACK": [
        SYN, SYN_ACK, row(OK, "I", "S"), row(OK, "R", "S.", 0, 700_000, 1), row(OK, "I", ".", 0, 1, 700_001),
        row(OK, "R", "P.", 9, 700_001, 1), row(OK, "I", ".", 0, 1, 700_010),
    ],
    "a server that answers a repeated SYN by a SYN-ACK from before": [
        SYN, SYN_ACK, row(OK, "I", "S"), row(OK, "R", "S.", 0, -700_000, 1), row(OK, "I", ".", 0, 1, -699_999),
        row(OK, "R", "P.", 9, -699_999, 1), row(OK, "I", ".", 0, 1, -699_990),
    ],
    "a blind SYN behind the answer": [SYN, SYN_ACK, row(OK, "I", "S", 0, -900_000), row(OK, "I", "S", 0, 50), ACK],
    "nothing but a SYN opens": [
        row(NO, "I", "S.", 0, 1, 1), row(NO, "I", ".", 0, 1, 1), row(NO, "R", ".", 0, 1, 1),
        row(NO, "I", "F.", 0, 1, 1),
        row(NO, "R", "P.", 9, 1, 1), row(NO, "I", "R", 0, 1), row(NO, "R", "R.", 0, 1, 1),
    ],
    "no data before the SYN-ACK": [
        SYN, row(NO, "I", ".", 0, 1, 1), row(NO, "I", "P.", 5, 1, 1), row(NO, "I", "F.", 0, 1, 1), SYN_ACK,
    ],
    "an old SYN-ACK": [SYN, row("old-syn-ack", "R", "S.", 0, 77, -50)],
    "a SYN-ACK of what was never sent": [SYN, row(NO, "R", "S.", 0, 0, 2), SYN_ACK, ACK],
    "a SYN-ACK of the client for an ACK": [SYN, SYN_ACK, row(OK, "I", "S.", 0, 0, 1), ACK],
    "refused": [SYN, row(OK, "R", "R.", 0, 0, 1), SYN, row(OK, "R", "R.", 0, 0, 1)],
    "refused, and tried again": [SYN, row(OK, "R", "R.", 0, 0, 1), row(NEW, "I", "S", 0, 7000)],
    "refused twice": [SYN, row(OK, "R", "R.", 0, 0, 1), row("refused-is-forgotten", "R", "R.", 0, 0, 1)],
    "a blind reset of a SYN": [SYN, row("reset-of-syn", "R", "R.", 0, 0, 2)],
    "a reset of a SYN without ACK": [SYN, row("reset-of-syn", "R", "R", 0, 0)],
    "a client that gives up with RST": [SYN, row(OK, "I", "R", 0, 1), SYN, row(OK, "I", "R", 0, 0), SYN],
    "a client that gives up with RST and ACK": [SYN, row("reset-before-answer", "I", "R.", 0, 1, -1)],
    "a client that resets a SYN-ACK": [SYN, SYN_ACK, row(OK, "I", "R", 0, 1), row(NEW, "I", "S", 0, 50)],
    "a blind reset in the handshake": [SYN, SYN_ACK, row(NO, "I", "R", 0, -100), row(NO, "I", "R", 0, 90_000), ACK],
    "a reset far behind in the handshake": [SYN, SYN_ACK, row("reset-outside-window", "R", "R", 0, -10_000_000)],
    "an old connection challenges the SYN": [
        row(NEW, "I", "S", 0, 100), row(OK, "R", ".", 0, 300, -70), row(OK, "I", "R", 0, -70),
        row(NEW, "I", "S", 0, 100), row(OK, "R", "S.", 0, 0, 101),
    ],
    "a server that speaks without a SYN-ACK": [
        SYN, row(OK, "R", "P.", 9, 1, 1), row(NO, "R", "F.", 0, 10, 1), SYN_ACK, ACK,
    ],
    "a server that speaks before it is acknowledged": [
        SYN, SYN_ACK, row(OK, "R", "P.", 3000, 1, 1), row(OK, "R", "P.", 3000, 3001, 1),
        row(OK, "R", "F.", 0, 6001, 1),
        row(OK, "I", ".", 0, 1, 6002),
    ],
    "a server that speaks early and widens its window": [
        SYN, row(OK, "R", "S.", 0, 0, 1, 100), row(OK, "R", "P.", 1400, 1, 1, 100), row(OK, "R", ".", 0, 1401, 1, 8000),
        row(OK, "I", "P.", 100, 1, 1401), row("window-of-early-segment", "I", "P.", 1400, 1400, 1401),
    ],
    "data in the SYN": [
        row(NEW, "I", "S", 100), row(OK, "R", "S.", 0, 0, 101), row(OK, "R", "P.", 1000, 1, 101),
        row(OK, "R", "P.", 1000, 1001, 101), row(OK, "I", ".", 0, 101, 2001),
    ],
    "data in the SYN that the server does not take": [
        row(NEW, "I", "S", 100), SYN_ACK, row(OK, "I", "P.", 100, 1, 1), row(OK, "R", ".", 0, 1, 101),
    ],
    "data in the SYN, which is repeated without it": [
        row(NEW, "I", "S", 100), row(OK, "I", "S"), row(OK, "R", "S.", 0, 0, 101), row(OK, "I", "P.", 50, 101, 1),
        row(OK, "R", ".", 0, 1, 151),
    ],
    "data in the SYN, repeated without it and not taken": [
        row(NEW, "I", "S", 100), row(OK, "I", "S"), SYN_ACK, row(OK, "I", "P.", 100, 1, 1),
        row(OK, "R", ".", 0, 1, 101),
    ],
    "data in the SYN that meets a window of zero": [
        row(NEW, "I", "S", 100), row(OK, "R", "S.", 0, 0, 1, 0), row(OK, "I", ".", 0, 1, 1), row(OK, "R", ".", 0, 1, 1),
        row(OK, "I", "P.", 100, 1, 1),
    ],
    "data in the SYN that meets a window of zero and is taken, and a SYN repeated without it": [
        row(NEW, "I", "S", 100), row(OK, "R", "S.", 0, 0, 101, 0), row(OK, "I", "S"), row(OK, "I", ".", 0, 101, 1),
    ],
    "data in a repeated SYN only": [
        SYN, row(OK, "I", "S", 100), SYN_ACK, row(OK, "I", "P.", 100, 1, 1), row(OK, "R", ".", 0, 1, 101),
    ],
    "simultaneous open": [
        SYN, row(OK, "R", "S"), row(OK, "I", "S.", 0, 0, 1), SYN_ACK, ACK, row(OK, "R", ".", 0, 1, 1),
        row(OK, "I", "P.", 9, 1, 1),
    ],
    "split handshake of four steps": [
        SYN, row(OK, "R", "S"), row(OK, "I", "S.", 0, 0, 1), row(OK, "R", ".", 0, 1, 1), row(OK, "I", "P.", 9, 1, 1),
    ],
    "split handshake of five steps": [
        SYN, row(OK, "R", ".", 0, 0, 1), row(OK, "R", "S"), row(OK, "I", "S.", 0, 0, 1), row(OK, "R", ".", 0, 1, 1),
    ],
    "a simultaneous open that lacks a SYN-ACK": [
        SYN, row(OK, "R", "S"), row("ack-in-simultaneous-open", "R", ".", 0, 1, 1),
    ],
    # ---- data and the window ----
    "data, repeated and out of order": [
        *HANDSHAKE, row(OK, "I", "P.", 100, 1, 1), row(OK, "I", "P.", 100, 201, 1), row(OK, "R", ".", 0, 1, 101),
        row(OK, "I", "P.", 100, 101, 1), row(OK, "I", "P.", 100, 1, 1), row(OK, "R", "P.", 50, 1, 301),
        row(OK, "R", ".", 0, 51, 301), row(OK, "R", "P.", 50, 1, 301), row(OK, "I", "U.", 5, 301, 51),
    ],
    "forged data": [
        *HANDSHAKE, row(NO, "I", "P.", 100, 90_000, 1), row(NO, "I", ".", 0, 90_000, 1),
        row(NO, "I", ".", 0, 1, 90_000), row(OK, "I", "P.", 100, 1, 1),
    ],
    "forged data from behind": [*HANDSHAKE, row(OK, "R", "P.", 9, -90_000, 1)],
    "forged data from behind that acknowledges what was never sent": [
        *HANDSHAKE, row(NO, "I", "P.", 9, -90_000, 90_000),
    ],
    "new data with an acknowledgement from far behind": [*LONG, row("behind-window", "R", "P.", 9, 1, 101)],
    "both sides agree on a place": [
        *HANDSHAKE, row(NO, "R", "P.", 9, 900_000, 1), row("agreed-place", "I", ".", 0, 1, 900_009),
    ],
    "up to the edge of the window": [
        *HANDSHAKE, row(OK, "I", "P.", 101, 7900, 1), row(OK, "I", "P.", 1, 8001, 1),
        row("beyond-window", "I", "P.", 1, 8002, 1),
    ],
    "a segment that comes long after": [*LONG, row(OK, "I", "P.", 100, 1, 1)],
    "an acknowledgement that comes long after": [*LONG, row(OK, "R", ".", 0, 1, 101)],
    "an acknowledgement of data that took another way": [*HANDSHAKE, row("ack-of-unseen", "R", ".", 0, 1, 500)],
    "keep-alive and zero-window probe": [
        *HANDSHAKE, row(OK, "I", ".", 0, 0, 1), row(OK, "R", ".", 0, 1, 1, 0), row(OK, "I", ".", 1, 1, 1),
        row(OK, "R", ".", 0, 1, 1, 0), row(OK, "R", ".", 0, 1, 2),
    ],
    "window scaling": [
        row(NEW, "I", "S", 0, 0, 0, 64_000, 7), row(OK, "R", "S.", 0, 0, 1, 64_000, 7),
        row(OK, "I", ".", 0, 1, 1, 1000),
        row(OK, "R", ".", 1000, 1, 1), row(OK, "R", ".", 1000, 120_001, 1), row(NO, "R", ".", 1000, 300_001, 1),
    ],
    "window scaling that one side does not offer": [
        row(NEW, "I", "S", 0, 0, 0, 8000, 7), SYN_ACK, row(OK, "I", ".", 0, 1, 1, 1000),
        row(OK, "R", ".", 1000, 1, 1),
        row(NO, "R", ".", 1000, 120_001, 1),
    ],
    "window scaling that the other side offers alone": [
        row(NEW, "I", "S", 0, 0, 0, 8000), row(OK, "R", "S.", 0, 0, 1, 8000, 7), row(OK, "I", ".", 0, 1, 1, 1000),
        row(OK, "R", ".", 1000, 1, 1, 1000),
        row(NO, "I", ".", 1000, 120_001, 1),
    ],
    "sequence numbers wrap": [
        row(NEW, "I", "S", 0, -1100), row(OK, "R", "S.", 0, -5100, -1099), row(OK, "I", ".", 400, -1099, -5099),
        row(OK, "R", ".", 400, -5099, -699), row(OK, "I", ".", 100, -699, -4699),
        row(NO, "I", ".", 100, 90_000, -4699),
    ],
    # ---- RST and SYN in a connection ----
    "blind resets": [
        *HANDSHAKE, row(OK, "I", "P.", 10, 1, 1), row(OK, "R", ".", 0, 1, 11), row(NO, "I", "R", 0, 90_000),
        row(NO, "I", "R", 0, 5), row(OK, "I", "R", 0, 4000), row(OK, "R", "P.", 10, 1, 11),
        row(OK, "I", ".", 0, 11, 11),
    ],
    "a reset, and what was under way": [
        *HANDSHAKE, row(OK, "R", "R.", 0, 1, 1), row(OK, "I", "P.", 10, 1, 1), row(OK, "R", "R", 0, 1),
    ],
    "a reset with data": [*HANDSHAKE, row(OK, "R", "R.", 50, 1, 1), row(OK, "R", "R.", 0, 51, 1)],
    "a blind reset of a closing connection": [*HALF_CLOSED, row("reset-outside-window", "I", "R", 0, 10_000_000)],
    "a SYN that is challenged": [
        *HANDSHAKE, row(OK, "I", "S", 0, 500), row(OK, "R", ".", 0, 1, 1), row(OK, "I", "R", 0, 1),
        row(OK, "I", ".", 0, 1, 1),
    ],
    "a SYN that is not challenged, since the server has forgotten too": [
        *HANDSHAKE, row(OK, "I", "S", 0, 90_000_000), row("both-begin-anew", "R", "S.", 0, 70_000, 90_000_001),
    ],
    "a SYN that is challenged, and a blind reset": [
        *HANDSHAKE, row(OK, "I", "S", 0, 500), row(OK, "I", "R", 0, 300),
        row("reset-after-challenged-syn", "I", "S", 0, 500),
    ],
    "a SYN outside the window": [*HANDSHAKE, row(OK, "I", "S", 0, 500_000)],
    "a SYN of the server": [*HANDSHAKE, row("syn-from-responder", "R", "S", 0, 500)],
    "a SYN-ACK of the client": [*HANDSHAKE, row("syn-ack-from-initiator", "I", "S.", 0, 0, 1)],
    # ---- closing, and ports used again ----
    "half-closed, and closed": [
        *HALF_CLOSED, row(OK, "R", "P.", 500, 1, 2), row(OK, "I", ".", 0, 2, 501), row(OK, "R", "F.", 0, 501, 2),
        row(OK, "R", "F.", 0, 501, 2), row(OK, "I", ".", 0, 2, 502), row(OK, "I", "F.", 0, 1, 1),
        row(OK, "R", ".", 0, 502, 2),
    ],
    "both close at once": [
        *HANDSHAKE, row(OK, "I", "F.", 0, 1, 1), row(OK, "R", "F.", 0, 1, 1), row(OK, "I", ".", 0, 2, 2),
        row(OK, "R", ".", 0, 2, 2), row(NEW, "I", "S", 0, 300), row(OK, "R", "S.", 0, 300, 301),
    ],
    "closed by the handshake's last ACK": [SYN, SYN_ACK, row(OK, "I", "F.", 0, 1, 1), row(OK, "R", ".", 0, 1, 2)],
    "a SYN-ACK long after": [*CLOSED, row("late-syn-ack", "R", "S.", 0, 0, 1)],
    "late segments of a closed connection": [*CLOSED, row(OK, "R", "F.", 0, 1, 2), row(OK, "I", ".", 0, 2, 2)],
    "closed, and opened again": [
        *CLOSED, row(NEW, "I", "S", 0, 300), row(OK, "R", "S.", 0, 300, 301), row(OK, "I", ".", 0, 301, 301),
    ],
    "closed, and opened by the other side": [*CLOSED, row(NEW, "R", "S", 0, 300), row(OK, "I", "S.", 0, 300, 301)],
    "reset by the client, and opened again": [
        *HANDSHAKE, row(OK, "I", "R", 0, 1), row(NEW, "I", "S", 0, 300), row(OK, "R", "S.", 0, 300, 301),
    ],
    "reset by the server, and opened again": [*HANDSHAKE, row(OK, "R", "R", 0, 1), row("reopen", "I", "S", 0, 300)],
    "opened again while closing": [*HALF_CLOSED, row("reopen", "I", "S", 0, 300)],
    "opened by the other side while closing": [*HALF_CLOSED, row("reopen-by-responder", "R", "S", 0, 300)],
    # ---- flags ----
    **{
        f"flags {flags or 'none'} first": [row(NEW if flags in ("S", "SU") else NO, "I", flags)]
        for flags in [*POSSIBLE_FLAGS, *IMPOSSIBLE_FLAGS]
    },
    **{
        f"flags {flags or 'none'} in a connection": [*HANDSHAKE, row(NO, "I", flags, 0, 1, 1), ACK]
        for flags in IMPOSSIBLE_FLAGS
    },
}  # fmt: skip
