"""What real TCP and real captures show, and must not be taken for a forgery."""

from __future__ import annotations

import struct

import pytest

from dataplane import DataPlane, Policy
from dataplane._core import ffi, lib
from tests.property.frames import ethernet, packed, packet, tcp
from tests.support.segment import BASE, INSIDE, OUTSIDE
from tests.support.tcp_rows import HANDSHAKE, POLICY, Row, outcome, play, segment, states

SERVER6, CLIENT6 = "fd00::1", "2001:db8::9"
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")


def with_options(frame: bytes, options: bytes) -> bytes:
    """A segment without options, with some."""
    body = frame[34:46] + bytes([(20 + len(options)) << 2]) + frame[47:54] + options + frame[54:]
    source, destination = (".".join(map(str, frame[at : at + 4])) for at in (26, 30))
    return ethernet(*MACS, packet(source, destination, 6, body))


def sack(*blocks: tuple[int, int]) -> bytes:
    """SACK blocks of the responder, relative to the initiator's numbers."""
    edges = b"".join(struct.pack("!II", BASE["I"] + left, BASE["I"] + right) for left, right in blocks)
    return b"\1\1\5" + bytes([2 + len(edges)]) + edges


def test_loss_and_selective_acknowledgement() -> None:
    """SPEC 4.4, SACK-tolerant: a hole, duplicate acknowledgements with SACK, a retransmission, a jump."""
    firewall = play([*HANDSHAKE, (1.0, "I", "P.", 1000, 1, 1, 8000, "ok")])
    for n in range(2, 7):
        # The second segment is lost behind us; the later ones arrive.
        assert outcome(firewall, 1.1, segment("I", "P.", 1000, 1 + 1000 * n, 1, 8000)) == "ok"
        duplicate = with_options(segment("R", ".", 0, 1, 1001, 9000), sack((2001, 2001 + 1000 * (n - 1))))
        assert outcome(firewall, 1.2, duplicate) == "ok"
    assert outcome(firewall, 1.4, segment("I", "P.", 1000, 1001, 1, 8000)) == "ok"
    assert outcome(firewall, 1.5, segment("R", ".", 0, 1, 7001, 9000)) == "ok"
    assert outcome(firewall, 1.6, segment("I", "P.", 1000, 1, 1, 8000)) == "ok"
    assert states(firewall) == ["ESTABLISHED"]


def test_a_capture_that_lost_packets() -> None:
    """SPEC 4.4: whole windows that were not captured, of data and of acknowledgements, are no reason for `invalid`."""
    rows: list[Row] = [
        *HANDSHAKE,
        (1.0, "I", "P.", 100, 1, 1, 8000, "ok"),
        # Lost: 4,000 bytes of the initiator, and that they were acknowledged.
        (1.1, "R", ".", 0, 1, 4101, 9000, "ok"),
        (1.2, "I", "P.", 100, 8101, 1, 8000, "ok"),
        (1.3, "R", "P.", 500, 3001, 8201, 9000, "ok"),
        (1.4, "I", ".", 0, 8201, 3501, 8000, "ok"),
        (1.5, "I", "F.", 0, 9201, 3501, 8000, "ok"),
        (1.6, "R", "F.", 0, 4501, 9202, 9000, "ok"),
        (1.7, "I", ".", 0, 9202, 4502, 8000, "ok"),
    ]
    assert states(play(rows)) == ["TIME_WAIT"]


@pytest.mark.parametrize("lost", [(2,), (1, 2)], ids=["the ACK", "SYN-ACK and ACK, and the client sends"])
def test_a_handshake_that_was_not_captured_whole(lost: tuple[int, ...]) -> None:
    """SPEC 4.4: what follows a lost ACK stands in for it; without a SYN-ACK nothing is established (SPEC 4.4)."""
    rows = [row for n, row in enumerate(HANDSHAKE) if n not in lost]
    firewall = play([*rows, (1.0, "R", "P.", 100, 1, 1, 9000, "ok")])
    whole = len(lost) == 1
    expected = "ok" if whole else "tcp-state"
    assert outcome(firewall, 1.1, segment("I", "P.", 10, 1, 101, 8000)) == expected
    assert states(firewall) == (["ESTABLISHED"] if whole else ["SYN_SENT"])


def test_options_that_the_snap_length_has_cut() -> None:
    """SPEC 4.4, truncated capture: without the SYN's options nobody knows the scale, so there is no window."""
    for cut in (0, 4):
        firewall = DataPlane(Policy.parse(POLICY), seed=1)
        shake = [
            segment("I", "S", 0, 0, 0, 1000, 7),
            segment("R", "S.", 0, 0, 1, 1000, 7),
            segment("I", ".", 0, 1, 1, 1000),
        ]
        far = segment("I", "P.", 10, 1 + (1000 << 7) + 100_000, 1, 1000)
        frames, records = ffi.new("struct dp_frame[4]"), ffi.new("struct dp_record[4]")
        kept = [ffi.from_buffer("uint8_t[]", frame) for frame in (*shake, far)]
        for n, (c, data) in enumerate(zip(frames, kept, strict=True)):
            c.data, c.captured, c.length = data, len(data) - (cut if n < 2 else 0), len(data)
        assert lib.dp_engine_process(firewall.handle, frames, 4, records, ffi.NULL) == 0
        assert records[3].check[0].cause == (0 if cut else lib.DP_CAUSE_TCP_WINDOW)


def super_segment(seq: int, ack: int, size: int, six: bool, back: bool = False) -> bytes:
    """A segmentation-offloaded segment whose IP header leaves its length to the card."""
    ends, ports = ((CLIENT6, SERVER6) if six else (OUTSIDE, INSIDE)), (40000, 80)
    bases = (BASE["I"], BASE["R"])
    if back:
        ends, ports, bases = ends[::-1], ports[::-1], bases[::-1]
    flags = 2 if (seq, ack) == (0, 0) else 16
    flags |= 2 if back and seq == 0 else 0
    head = struct.pack("!HHIIBBHHH", *ports, bases[0] + seq, bases[1] + ack if ack else 0, 80, flags, 65535, 0, 0)
    if size < 60_000:
        return ethernet(*MACS, packet(*ends, 6, head + bytes(size)))
    if six:
        # RFC 2675: a payload length of 0, and the jumbo payload option.
        option = bytes([6, 0, 0xC2, 4]) + struct.pack("!I", 8 + len(head) + size)
        ip = struct.pack("!IHBB", 6 << 28, 0, 0, 64) + packed(ends[0]) + packed(ends[1]) + option
    else:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 0, 1, 0x4000, 64, 6, 0) + packed(ends[0]) + packed(ends[1])
    return ethernet(*MACS, ip + head + bytes(size), 0x86DD if six else 0x0800)


@pytest.mark.parametrize("six", [False, True], ids=["IPv4 total length 0", "IPv6 jumbo payload"])
def test_super_packets_move_the_window_by_all_that_they_carry(six: bool) -> None:
    """SPEC 4.4: GSO super-packets, also those that leave the IP length to the card, give no false `invalid`."""
    policy = Policy.parse(
        "security_groups:\n  - {id: sg, security_group_rules: [{id: in4, direction: ingress},"
        " {id: in6, direction: ingress, ethertype: IPv6}]}\n"
        f'instances: [{{id: server, addresses: [{INSIDE}, "{SERVER6}"], security_groups: [sg]}}]\n'
    )
    firewall = DataPlane(policy, seed=1)
    steps = [(0, 0, 0, False), (0, 1, 0, True), (1, 1, 0, False)]
    assert [outcome(firewall, 0, super_segment(s, a, n, six, b)) for s, a, n, b in steps] == ["new", "ok", "ok"]
    at = 1
    for _ in range(4):
        assert outcome(firewall, 1, super_segment(at, 1, 65_000, six)) == "ok"
        at += 65_000
        assert outcome(firewall, 1, super_segment(1, at, 0, six, back=True)) == "ok"
    assert outcome(firewall, 1, super_segment(at + 200_000, 1, 10, six)) == "tcp-window"
    # A RST closes at the end of what was sent: all of the super-packet counts, before it is acknowledged.
    assert outcome(firewall, 1, super_segment(at, 1, 65_000, six)) == "ok"
    ends = (CLIENT6, SERVER6) if six else (OUTSIDE, INSIDE)
    reset = packet(*ends, 6, tcp(*ends, (40000, 80), 4, BASE["I"] + at + 65_000, 0))
    assert outcome(firewall, 1, ethernet(*MACS, reset)) == "ok"
    assert states(firewall) == ["CLOSE"]


def test_a_syn_inside_the_window_is_left_to_be_challenged() -> None:
    """RFC 5961 section 4: it passes and changes nothing; the challenge passes; a RST at the exact place then closes."""
    rows: list[Row] = [
        *HANDSHAKE,
        (1.0, "I", "S", 0, 8000, 0, 100, "ok"),
        (1.1, "R", ".", 0, 1, 1, 9000, "ok"),
        (1.2, "I", "P.", 10, 1, 1, 8000, "ok"),
        (1.3, "R", ".", 0, 1, 9000, 9000, "ok"),
        (1.4, "I", "R", 0, 9000, 0, 0, "ok"),
    ]
    assert states(play(rows)) == ["CLOSE"]
    firewall = play([*HANDSHAKE, (1.0, "I", "S", 0, 8000, 0, 100, "ok"), (1.2, "I", "R", 0, 8001, 0, 0, "ok")])
    assert states(firewall) == ["ESTABLISHED"]


def test_a_challenged_rst_is_followed_by_the_exact_one() -> None:
    """RFC 5961 section 3: RST in the window, challenge ACK, RST at what that acknowledges."""
    rows: list[Row] = [
        *HANDSHAKE,
        (1.0, "R", "P.", 100, 1, 1, 9000, "ok"),
        (1.1, "R", "R", 0, 500, 0, 0, "ok"),
        (1.2, "I", ".", 0, 1, 101, 8000, "ok"),
        (1.3, "R", "R", 0, 101, 0, 0, "ok"),
    ]
    assert states(play(rows[:-1])) == ["ESTABLISHED"]
    assert states(play(rows)) == ["CLOSE"]


def test_keep_alives_with_and_without_a_byte_for_hours() -> None:
    """SPEC 4.4: each restarts the 600 s (RFC 9293, 3.8.4)."""
    firewall = play([*HANDSHAKE, (1.0, "I", "P.", 100, 1, 1, 8000, "ok"), (1.1, "R", ".", 0, 1, 101, 9000, "ok")])
    for n in range(1, 30):
        assert outcome(firewall, n * 599.0, segment("I", ".", n % 2, 100, 1, 8000)) == "ok"
        assert outcome(firewall, n * 599.0, segment("R", ".", 0, 1, 101, 9000)) == "ok"
    assert states(firewall) == ["ESTABLISHED"]


def test_numbers_wrap_on_both_sides_in_the_middle_of_a_window() -> None:
    """SPEC 4.4: in sequence and acknowledgement numbers, with a hole over the wrap, and a forgery on either side."""
    near = (1 << 32) - BASE["I"] - 300
    back = (1 << 32) - BASE["R"] - 200
    rows: list[Row] = [
        (0.0, "I", "S", 0, near, 0, 8000, "new"),
        (0.1, "R", "S.", 0, back, near + 1, 9000, "ok"),
        (0.2, "I", ".", 0, near + 1, back + 1, 8000, "ok"),
        (0.3, "I", "P.", 100, near + 401, back + 1, 8000, "ok"),
        (0.4, "R", "P.", 300, back + 1, near + 1, 9000, "ok"),
        (0.5, "I", "P.", 400, near + 1, back + 301, 8000, "ok"),
        (0.6, "R", ".", 0, back + 301, near + 501, 9000, "ok"),
        (0.7, "I", "P.", 10, near + 501 + 9001, back + 301, 8000, "tcp-window"),
        (0.8, "R", "R", 0, back + 1, 0, 0, "tcp-window"),
        (0.9, "R", "R", 0, back + 301, 0, 0, "ok"),
    ]
    assert states(play(rows)) == ["CLOSE"]


@pytest.mark.parametrize("segments", [["R"], ["F", "f", "a"]], ids=["after a RST", "after a full close"])
def test_port_reuse_has_a_fresh_life(segments: list[str]) -> None:
    """SPEC 4.4: 600 s from the new connection's last packet, not 10 s; the old one's segments change nothing."""
    steps: dict[str, Row] = {
        "R": (1.0, "I", "R", 0, 1, 0, 0, "ok"),
        "F": (1.0, "I", "F.", 0, 1, 1, 8000, "ok"),
        "f": (1.1, "R", "F.", 0, 1, 2, 9000, "ok"),
        "a": (1.2, "I", ".", 0, 2, 2, 8000, "ok"),
    }
    rows: list[Row] = [
        *HANDSHAKE,
        *(steps[s] for s in segments),
        (5.0, "I", "S", 0, 900_000, 0, 8000, "new"),
        (5.1, "R", ".", 0, 1, 2, 9000, "ok"),
        (5.2, "R", "S.", 0, 700_000, 900_001, 9000, "ok"),
        (5.3, "I", ".", 0, 900_001, 700_001, 8000, "ok"),
        (5.4, "R", "P.", 10, 1, 2, 9000, "ok"),
        (605.299, "R", "P.", 10, 700_001, 900_001, 9000, "ok"),
        (1205.298, "I", ".", 0, 900_001, 700_011, 8000, "ok"),
    ]
    assert states(play(rows)) == ["ESTABLISHED"]
