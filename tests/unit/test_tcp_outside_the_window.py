"""What passes outside the sequence window (SPEC 4.4): old data, a restarted client's SYN, and a place that both sides
agree on; and what somebody gains who can forge one side only: nothing.

Rows are those of tcp_rows.py.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane import DataPlane, Policy
from tests.support.segment import OUTSIDE
from tests.support.tcp_rows import HANDSHAKE, POLICY, Row, outcome, play, segment, states

OPEN: list[Row] = [*HANDSHAKE, (0.3, "I", "P.", 100, 1, 1, 8000, "ok"), (0.4, "R", "P.", 50, 1, 101, 9000, "ok")]
#: Both sides a million bytes on, which the capture has lost.
LOST: list[Row] = [
    *OPEN,
    (0.5, "R", "P.", 1000, 1_000_051, 101, 9000, "tcp-window"),
    (0.6, "I", ".", 0, 101, 1_001_051, 8000, "ok"),
]


def at(firewall: DataPlane) -> list[int]:
    return [connection.last_ns for connection in firewall.connections]


@pytest.mark.parametrize("seq", [-9_100, -90_000, -2_000_000_000])
@pytest.mark.parametrize("ack", [51, 1, -70_000])
@pytest.mark.parametrize(("flags", "length"), [("P.", 100), (".", 0), (".", 1), ("F.", 20), ("U.", 5)])
def test_old_data_passes_and_changes_nothing(flags: str, length: int, seq: int, ack: int) -> None:
    """SPEC 4.4: however far behind; neither state nor window nor timer. A FIN that was acknowledged is old data too."""
    firewall = play([*OPEN, (0.5, "I", ".", 0, 101, 51, 8000, "ok")])
    for _ in range(3):
        assert outcome(firewall, 300.0, segment("I", flags, length, seq, ack, 65000)) == "ok"
    assert (states(firewall), at(firewall)) == (["ESTABLISHED"], [500_000_000])
    # Nor is the window wider by what it advertised.
    assert outcome(firewall, 301.0, segment("R", "P.", 10, 8_052, 101, 9000)) == "tcp-window"
    assert outcome(firewall, 600.5, segment("I", "P.", 1, 101, 51, 8000)) == "tcp-no-connection"


@pytest.mark.parametrize(
    ("flags", "length", "seq", "ack"),
    [("R", 0, -9_100, 0), ("R.", 0, -9_100, 51), ("S.", 0, -9_100, 51), ("P.", 9_300, -9_150, -70_000)],
    ids=["RST", "RST-ACK", "SYN-ACK", "data that goes on into what is new"],
)
def test_what_is_not_old_data_is_refused_there(flags: str, length: int, seq: int, ack: int) -> None:
    """SPEC 4.4: a blind RST, and what the receiver has not acknowledged yet with an acknowledgement that cannot be."""
    firewall = play(OPEN)
    assert outcome(firewall, 1.0, segment("I", flags, length, seq, ack, 8000)) == "tcp-window"
    assert (states(firewall), at(firewall)) == (["ESTABLISHED"], [400_000_000])


def test_old_data_that_acknowledges_what_was_never_sent_is_refused() -> None:
    """RFC 5961, 5: nobody could have sent it."""
    firewall = play(OPEN)
    assert outcome(firewall, 1.0, segment("I", "P.", 10, -90_000, 70_000, 8000)) == "tcp-window"


@pytest.mark.parametrize("seq", [0, 500, 200_000, 3_000_000_000, -1_000_000])
def test_a_restarted_client_gets_its_challenge(seq: int) -> None:
    """SPEC 4.4: SYN, challenge ACK, RST, new SYN; the SYN restarts no timer, wherever it stands."""
    firewall = play(OPEN)
    for _ in range(2):
        assert outcome(firewall, 60.0, segment("I", "S", 0, seq, 0, 64240)) == "ok"
    assert (states(firewall), at(firewall)) == (["ESTABLISHED"], [400_000_000])
    assert outcome(firewall, 60.1, segment("R", ".", 0, 51, 101, 9000)) == "ok"
    assert outcome(firewall, 60.2, segment("I", "R", 0, 101, 0, 0)) == "ok"
    assert states(firewall) == ["CLOSE"]
    assert outcome(firewall, 61.0, segment("I", "S", 0, seq, 0, 64240)) == "new"
    assert outcome(firewall, 61.1, segment("R", "S.", 0, 900_000, seq + 1, 65160)) == "ok"
    assert outcome(firewall, 61.2, segment("I", ".", 0, seq + 1, 900_001, 64240)) == "ok"
    assert states(firewall) == ["ESTABLISHED"]


def test_the_window_is_taken_from_a_place_that_both_sides_agree_on() -> None:
    """SPEC 4.4: at most one packet a side; from then on the window is there, with the sizes that both offered."""
    firewall = play(LOST)
    assert firewall.counters().connections_resynchronised == 1
    rows: list[tuple[str, str, int, int, int, str]] = [
        ("R", "P.", 1000, 1_001_051, 101, "ok"),
        ("R", "P.", 10, 1_001_051 + 8_001, 101, "tcp-window"),
        ("I", "P.", 10, 101 + 9_001, 1_001_051, "tcp-window"),
        ("I", "R", 0, 101 + 9_001, 0, "tcp-window"),
        ("I", "P.", 10, 101, 1_002_051, "ok"),
        ("R", "R", 0, 51, 0, "tcp-window"),
        ("R", "R", 0, 1_002_051, 0, "ok"),
    ]
    for number, (side, flags, length, seq, ack, expected) in enumerate(rows):
        assert outcome(firewall, 1.0, segment(side, flags, length, seq, ack, 8000)) == expected, number
    assert states(firewall) == ["CLOSE"]


def test_a_long_flight_is_acknowledged_late() -> None:
    """SPEC 4.4: where the sender was captured, its first segment is acknowledged when many more are under way."""
    for first in (1, 2, 5, 30, 60):
        firewall = play(OPEN)
        for n in range(60):
            assert outcome(firewall, 1.0, segment("R", ".", 100, 900_051 + n * 100, 101, 9000)) == "tcp-window"
        assert outcome(firewall, 1.1, segment("I", ".", 0, 101, 900_051 + first * 100, 60_000)) == "ok", first
        assert outcome(firewall, 1.2, segment("R", ".", 100, 906_051, 101, 9000)) == "ok"


@pytest.mark.parametrize(
    ("flags", "length", "seq", "ack"),
    [
        (".", 0, 101, 1_001_050),
        (".", 0, 101, 1_001_052),
        (".", 0, 101, 1_000_500),
        (".", 0, 100, 1_001_051),
        ("P.", 10, 102, 1_001_051),
        ("R.", 0, 101, 1_001_051),
        ("S.", 0, 101, 1_001_051),
        ("S", 0, 101, 1_001_051),
    ],
)
def test_nearly_agreeing_is_not_enough(flags: str, length: int, seq: int, ack: int) -> None:
    """SPEC 4.4: each acknowledges exactly the other's, and neither is a SYN or RST."""
    firewall = play(LOST[:-1])
    found = outcome(firewall, 1.0, segment("I", flags, length, seq, ack, 8000))
    assert found == ("ok" if flags == "S" else "tcp-window")
    assert firewall.counters().connections_resynchronised == 0
    assert outcome(firewall, 1.1, segment("R", "P.", 10, 51, 101, 9000)) == "ok"


def test_both_sides_may_lose_a_packet_first() -> None:
    """SPEC 4.4: whoever of the two speaks third agrees with who spoke second."""
    rows: list[Row] = [
        *OPEN,
        (1.0, "R", "P.", 10, 700_000, 500_000, 9000, "tcp-window"),
        (1.1, "I", ".", 0, 600_000, 700_000, 8000, "tcp-window"),
        (1.2, "R", "P.", 10, 700_000, 600_000, 9000, "ok"),
        (1.3, "I", ".", 0, 600_000, 700_010, 8000, "ok"),
    ]
    play(rows)


def test_between_two_instances_both_connections_find_their_place() -> None:
    """SPEC 1, 4.4: a packet that its sender's check refuses does not arrive, and yet counts at its receiver's."""
    document = POLICY.replace(
        "instances: [", f"instances: [{{id: client, addresses: [{OUTSIDE}], security_groups: [sg]}}, "
    )
    document = document.replace('multiport: "80"}]', 'multiport: "80"}, {id: out, direction: egress}]')
    firewall = DataPlane(Policy.parse(document), seed=1)

    def verdict(row: Row) -> str:
        return firewall.process(segment(*row[1:7]), time_ns=round(row[0] * 1e9)).verdict

    assert [verdict(row) for row in OPEN] == ["allow"] * 5
    assert [verdict(row) for row in LOST[5:]] == ["deny", "allow"]
    assert firewall.counters().connections_resynchronised == 2
    assert verdict((2.0, "R", "P.", 10, 1_001_051, 101, 9000, "")) == "allow"


def test_a_segment_of_the_window_ends_what_was_proposed() -> None:
    """SPEC 4.4: only the other side's next one agrees."""
    rows: list[Row] = [
        *LOST[:-1],
        (0.55, "I", "P.", 10, 101, 51, 8000, "ok"),
        (0.6, "I", ".", 0, 101, 1_001_051, 8000, "tcp-window"),
    ]
    assert play(rows).counters().connections_resynchronised == 0


NUMBERS = st.integers(0, 2**32 - 1) | st.integers(-300, 300) | st.integers(-100_000, 100_000)
FORGED = st.tuples(
    st.sampled_from([".", "P.", "F.", "R", "R.", "S", "S.", "U.", ""]),
    st.sampled_from([0, 1, 100, 1400]),
    NUMBERS,
    NUMBERS,
    st.integers(0, 65535),
)


@settings(max_examples=60, deadline=None)
@given(side=st.sampled_from("IR"), forged=st.lists(st.lists(FORGED, max_size=12), min_size=8, max_size=8))
def test_who_forges_one_side_gains_nothing(side: str, forged: list[list[tuple[str, int, int, int, int]]]) -> None:
    """SPEC 4.4: whatever lies outside the window of his side changes nothing about what both sides send."""
    other = "R" if side == "I" else "I"
    alone, attacked = (play(HANDSHAKE) for _ in range(2))
    sent = {"I": 1, "R": 1}
    for number, round_ in enumerate(forged):
        time = 1.0 + number
        for flags, length, seq, ack, window in round_:
            # What he could only send inside the window, he would have to know.
            if abs((seq - sent[side] + 2**31) % 2**32 - 2**31) <= 20_000 and (side, flags) != ("I", "S"):
                seq += 60_000
            before = states(attacked), at(attacked)
            outcome(attacked, time, segment(side, flags, length, seq, ack, window))
            assert (states(attacked), at(attacked)) == before
        for speaker, listener in ((side, other), (other, side)):
            frame = segment(speaker, "P.", 10, sent[speaker], sent[listener], 9000)
            assert outcome(attacked, time + 0.5, frame) == outcome(alone, time + 0.5, frame) == "ok"
            sent[speaker] += 10
    assert attacked.counters().connections_resynchronised == 0
    for speaker, listener in ((side, other), (other, side)):
        beyond = segment(speaker, "P.", 10, sent[speaker] + 9_010, sent[listener], 9000)
        assert outcome(attacked, 20.0, beyond) == outcome(alone, 20.0, beyond) == "tcp-window"
