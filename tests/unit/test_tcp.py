"""TCP connections in time: states, timeouts, settings, the edges of the window (SPEC 2, 4.2, 4.4).

What conversations come to without these, the stories in tests/support/tcp_stories.py tell: model, engine and kernel
play them.
"""

from __future__ import annotations

import pytest

from dataplane import DataPlane, Policy
from tests.support.tcp_rows import HANDSHAKE, POLICY, Row, outcome, play, segment, states


def test_handshake_data_and_close_on_both_sides() -> None:
    """SPEC 4.4: each state in turn; after both FINs are acknowledged the connection is fully closed."""
    firewall = play(HANDSHAKE)
    assert states(firewall) == ["ESTABLISHED"]
    rows: list[tuple[Row, str]] = [
        ((1.0, "I", "P.", 100, 1, 1, 8000, "ok"), "ESTABLISHED"),
        ((1.1, "R", "P.", 500, 1, 101, 9000, "ok"), "ESTABLISHED"),
        ((1.2, "I", "F.", 0, 101, 501, 8000, "ok"), "FIN_WAIT"),
        ((1.3, "R", ".", 0, 501, 101, 9000, "ok"), "FIN_WAIT"),
        ((1.4, "R", ".", 0, 501, 102, 9000, "ok"), "CLOSE_WAIT"),
        ((1.5, "R", "P.", 50, 501, 102, 9000, "ok"), "CLOSE_WAIT"),
        ((1.6, "R", "F.", 0, 551, 102, 9000, "ok"), "LAST_ACK"),
        ((1.7, "I", ".", 0, 102, 551, 8000, "ok"), "LAST_ACK"),
        ((1.8, "I", ".", 0, 102, 552, 8000, "ok"), "TIME_WAIT"),
    ]
    for (at, side, flags, length, seq, ack, window, expected), state in rows:
        assert outcome(firewall, at, segment(side, flags, length, seq, ack, window)) == expected
        assert states(firewall) == [state], at


@pytest.mark.parametrize(
    ("rows", "timeout"),
    [
        (HANDSHAKE[:1], 30),
        (HANDSHAKE[:2], 30),
        (HANDSHAKE, 600),
        ([*HANDSHAKE, (0.3, "R", "F.", 0, 1, 1, 9000, "ok")], 30),
        ([*HANDSHAKE, (0.3, "R", "R", 0, 1, 0, 0, "ok")], 10),
        (
            [
                *HANDSHAKE,
                (0.3, "I", "F.", 0, 1, 1, 8000, "ok"),
                (0.4, "R", "F.", 0, 1, 2, 9000, "ok"),
                (0.5, "I", ".", 0, 2, 2, 8000, "ok"),
            ],
            10,
        ),
    ],
    ids=["SYN", "SYN-ACK", "established", "FIN", "RST", "full close"],
)
def test_timeouts_by_state(rows: list[Row], timeout: int) -> None:
    """SPEC 4.2: an entry lives while now - last packet < timeout of its state."""
    last = rows[-1][0]
    firewall = play(rows)
    firewall.advance(round((last + timeout) * 1e9) - 1)
    assert len(firewall.connections) == 1
    firewall.advance(round((last + timeout) * 1e9))
    assert len(firewall.connections) == 0


HALF_CLOSED: list[Row] = [
    *HANDSHAKE,
    (0.3, "I", "F.", 0, 1, 1, 8000, "ok"),
    (0.4, "R", ".", 0, 1, 2, 9000, "ok"),
]


def test_half_closed_has_a_timeout_of_its_own() -> None:
    """SPEC 4.2: tcp_close_wait from the FIN's acknowledgement on; before it, and after the second FIN, tcp_fin_wait."""
    timeouts = "conntrack: {timeouts: {tcp_close_wait: 120}}"
    slow: list[Row] = [
        *HALF_CLOSED,
        (120.3, "R", "P.", 9, 1, 2, 9000, "ok"),
        (240.2, "I", ".", 0, 2, 10, 8000, "ok"),
        (240.3, "R", "F.", 0, 10, 2, 9000, "ok"),
        (270.4, "I", ".", 0, 2, 11, 8000, "tcp-no-connection"),
    ]
    play(slow, timeouts)
    play([*HALF_CLOSED, (30.5, "R", "P.", 9, 1, 2, 9000, "tcp-no-connection")])
    play([*HALF_CLOSED[:-1], (30.4, "R", ".", 0, 1, 2, 9000, "tcp-no-connection")], timeouts)
    play([*HALF_CLOSED, (120.4, "R", "P.", 9, 1, 2, 9000, "tcp-no-connection")], timeouts)


def test_each_valid_packet_restarts_the_timer_and_an_invalid_one_does_not() -> None:
    """SPEC 4.2, 4.4: a refused segment changes neither state nor timer."""
    rows: list[Row] = [
        *HANDSHAKE,
        (500.0, "I", "P.", 10, 1, 1, 8000, "ok"),
        (1000.0, "R", ".", 0, 1, 11, 9000, "ok"),
        (1500.0, "R", "R", 0, 900000, 0, 0, "tcp-window"),
        (1599.9, "I", "P.", 10, 900000, 1, 8000, "tcp-window"),
        (1600.0, "I", "P.", 10, 11, 1, 8000, "tcp-no-connection"),
    ]
    play(rows)


def test_a_server_may_fill_the_window_of_the_syn_before_it_is_acknowledged() -> None:
    """SPEC 4.4, RFC 7413: several segments behind the SYN-ACK, up to what the SYN offered and no further."""
    rows: list[Row] = [
        *HANDSHAKE[:2],
        (0.1, "R", "P.", 4000, 1, 1, 9000, "ok"),
        (0.1, "R", "P.", 4000, 4001, 1, 9000, "ok"),
        (0.1, "R", "P.", 10, 8002, 1, 9000, "tcp-window"),
        (0.2, "I", ".", 0, 1, 8001, 8000, "ok"),
    ]
    assert states(play(rows)) == ["ESTABLISHED"]


@pytest.mark.parametrize("seq", [0, 1])
def test_an_initiator_that_gives_up(seq: int) -> None:
    """SPEC 4.4: it resets with its SYN's own number or the next, which no blind attacker knows."""
    assert states(play([HANDSHAKE[0], (0.1, "I", "R", 0, seq, 0, 0, "ok")])) == ["CLOSE"]
    assert states(play([HANDSHAKE[0], (0.1, "I", "R", 0, seq + 7, 0, 0, "tcp-window")])) == ["SYN_SENT"]


def test_simultaneous_close() -> None:
    """SPEC 4.4: both FINs cross; each is acknowledged on its own."""
    firewall = play([*HANDSHAKE, (1.0, "I", "F.", 0, 1, 1, 8000, "ok"), (1.0, "R", "F.", 0, 1, 1, 9000, "ok")])
    assert states(firewall) == ["CLOSING"]
    assert outcome(firewall, 1.1, segment("I", ".", 0, 2, 2, 8000)) == "ok"
    assert states(firewall) == ["LAST_ACK"]
    assert outcome(firewall, 1.1, segment("R", ".", 0, 2, 2, 9000)) == "ok"
    assert states(firewall) == ["TIME_WAIT"]


@pytest.mark.parametrize("closing", [["F"], ["F", "f"], ["R"]], ids=["after a FIN", "after both FINs", "after a RST"])
def test_a_new_syn_on_a_closing_connection_is_a_new_connection(closing: list[str]) -> None:
    """SPEC 4.4: port reuse; judged afresh, with a fresh life."""
    steps: dict[str, Row] = {
        "F": (1.0, "I", "F.", 0, 1, 1, 8000, "ok"),
        "f": (1.1, "R", "F.", 0, 1, 2, 9000, "ok"),
        "R": (1.0, "I", "R", 0, 1, 0, 0, "ok"),
    }
    again: list[Row] = [
        (2.0, "I", "S", 0, 90000, 0, 8000, "new"),
        (2.1, "R", "S.", 0, 70000, 90001, 9000, "ok"),
        (2.2, "I", ".", 0, 90001, 70001, 8000, "ok"),
    ]
    firewall = play([*HANDSHAKE, *(steps[c] for c in closing), *again])
    assert states(firewall) == ["ESTABLISHED"]
    firewall.advance(round(602.1 * 1e9))
    assert len(firewall.connections) == 1


def test_port_reuse_that_the_rules_deny_leaves_the_old_connection() -> None:
    """SPEC 4.4: judged afresh; a denied one changes nothing."""
    firewall = play([*HANDSHAKE, (1.0, "I", "F.", 0, 1, 1, 8000, "ok")])
    syn_from_the_server = segment("R", "S", 0, 90000, 0, 9000)
    assert outcome(firewall, 2.0, syn_from_the_server) == "no-rule-matched"
    assert states(firewall) == ["FIN_WAIT"]
    assert outcome(firewall, 3.0, segment("R", "P.", 10, 1, 2, 9000)) == "ok"


def test_mid_stream_pick_up() -> None:
    """SPEC 2, tcp_loose: a packet that is no SYN may open a connection; the rules judge it; RST never opens one."""
    loose = "conntrack: {tcp_loose: true}\n"
    rows: list[Row] = [
        (0.0, "I", "R", 0, 1, 0, 0, "tcp-no-connection"),
        (0.0, "I", "P.", 100, 5000, 7000, 100, "new"),
        (0.1, "R", "P.", 60000, 7000, 5100, 50, "ok"),
        (0.2, "I", ".", 0, 5100, 67000, 100, "ok"),
    ]
    assert states(play(rows, loose)) == ["ESTABLISHED"]
    firewall = DataPlane(Policy.parse(POLICY + loose), seed=1)
    assert outcome(firewall, 0.0, segment("R", "P.", 10, 1, 1, 8000)) == "no-rule-matched"


BY_BOTH: list[Row] = [
    (0.0, "I", "P.", 100, 5000, 7000, 100, "new"),
    (0.1, "R", ".", 0, 7000, 5100, 50, "ok"),
]


@pytest.mark.parametrize("rows", [BY_BOTH[:1], BY_BOTH], ids=["one side seen", "both sides seen"])
@pytest.mark.parametrize(("side", "exact", "far"), [("R", 7000, 2**30), ("I", 5100, 2**30), ("I", 5100, 2**31 + 9000)])
def test_a_blind_rst_ends_no_connection_that_was_picked_up(rows: list[Row], side: str, exact: int, far: int) -> None:
    """SPEC 4.4: also where no window is known; said twice it is no better. At the exact place it closes."""
    loose = "conntrack: {tcp_loose: true}\n"
    firewall = play(rows, loose)
    for at in (1.0, 2.0):
        assert outcome(firewall, at, segment(side, "R", 0, exact + far, 0, 0)) in ("ok", "tcp-window")
        assert states(firewall) == ["ESTABLISHED"]
    assert outcome(firewall, 15.0, segment("R", "P.", 10, 7000, 5100, 50)) == "ok"
    firewall = play(rows, loose)
    assert outcome(firewall, 1.0, segment(side, "R", 0, exact, 0, 0)) == "ok"
    assert states(firewall) == ["CLOSE"]


@pytest.mark.parametrize(
    ("flags", "length", "seq", "expected"),
    [
        ("P.", 1400, 9001, "tcp-window"),
        ("P.", 2, 9001, "tcp-window"),
        ("P.", 1, 9001, "ok"),
        ("F.", 0, 9001, "ok"),
        (".", 0, 9001, "ok"),
        ("P.", 1400, 9000, "ok"),
        (".", 0, 9002, "tcp-window"),
    ],
)
def test_the_edge_of_the_window(flags: str, length: int, seq: int, expected: str) -> None:
    """SPEC 4.4: what begins where it ends lies outside, but for a probe's byte or a FIN (RFC 9293, 3.8.6.1)."""
    assert outcome(play(HANDSHAKE), 1.0, segment("I", flags, length, seq, 1, 8000)) == expected


def test_reevaluate_judges_a_new_connection_in_place_of_a_closed_one() -> None:
    """SPEC 4.4, 5.7: a new SYN of the initiator's is judged by the rules of now; with `hold` it waits (5.3)."""
    more = {"add_rule": {"security_group": "sg", "rule": {"direction": "egress"}}}
    closed: list[Row] = [*HANDSHAKE, (1.0, "I", "R", 0, 1, 0, 0, "ok")]
    again = segment("I", "S", 0, 90000, 0, 8000)
    for mode, expected in (("hold", "disconnected"), ("reevaluate", "new")):
        firewall = play(closed, f"conntrack: {{on_change: {mode}}}\n")
        firewall.apply(more, 2)
        assert outcome(firewall, 3.0, again) == expected
        assert outcome(firewall, 4.0, segment("R", "S.", 0, 0, 90001, 9000)) == (
            "ok" if expected == "new" else expected
        )
    firewall = play(closed, "conntrack: {on_change: reevaluate}\n")
    firewall.apply({"delete_rule": {"id": "in"}}, 2)
    assert outcome(firewall, 3.0, again) == "disconnected"


@pytest.mark.parametrize(
    ("side", "flags", "length", "seq", "ack"),
    [
        ("I", "R", 0, 10000, 0),
        ("I", "R", 0, -1, 0),
        ("R", "R.", 0, 8002, 1),
        ("I", "P.", 10, 9002, 1),
        ("I", "P.", 10, 1, 70000),
        ("I", "P.", 10, 1, -70000),
        ("R", "S", 0, 200000, 0),
        ("I", "S.", 0, 200000, 1),
        ("R", "F.", 0, 300000, 1),
    ],
    ids=[
        "RST beyond",
        "RST before",
        "RST of the other side",
        "data beyond",
        "ack of what could not be sent",
        "ack too old",
        "SYN of the responder",
        "SYN-ACK",
        "FIN",
    ],
)
def test_segments_outside_the_window(side: str, flags: str, length: int, seq: int, ack: int) -> None:
    """SPEC 4.4: denied as invalid, and nothing changes: the connection goes on, and its state is as it was."""
    firewall = play(HANDSHAKE)
    assert outcome(firewall, 1.0, segment(side, flags, length, seq, ack, 8000)) == "tcp-window"
    assert states(firewall) == ["ESTABLISHED"]
    assert [c.last_ns for c in firewall.connections] == [200_000_000]
    assert outcome(firewall, 2.0, segment("I", "P.", 100, 1, 1, 8000)) == "ok"


def test_be_liberal_has_no_window_check() -> None:
    """SPEC 2, tcp_be_liberal."""
    rows: list[Row] = [*HANDSHAKE, (1.0, "I", "P.", 10, 900000, 1, 8000, "ok")]
    play(rows, "conntrack: {tcp_be_liberal: true}\n")


@pytest.mark.parametrize("flags", ["SF", ""])
def test_the_cause_of_impossible_flags(flags: str) -> None:
    """SPEC 4.4: with and without a connection."""
    firewall = play(HANDSHAKE)
    assert outcome(firewall, 1.0, segment("I", flags, 0, 1, 1, 8000)) == "tcp-flags"
    assert outcome(firewall, 1.0, segment("I", flags, 0, 1, 1, 8000, port=40001)) == "tcp-flags"
