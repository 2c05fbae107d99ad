"""Captures of live traffic: our own replay reads what is written."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from dataplane import Check, DataPlane, Policy, Verdict, pcapng
from dataplane.verdict import comment_of
from tests.property.frames import datagram, ethernet, packet

from .scene import POLICY, UDP

OUTSIDE, INSIDE = "10.0.0.1", "192.0.2.53"


def frame(data: int) -> bytes:
    body = datagram(INSIDE, OUTSIDE, UDP, (5000 + data, 53))
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packet(INSIDE, OUTSIDE, UDP, body))


def test_our_replay_reads_it_to_the_nanosecond(tmp_path: Path) -> None:
    """Two interfaces, the second described after a packet of the first; frames of all lengths modulo 4."""
    start = 1_700_000_000_123_456_789
    blocks = [pcapng.section("dataplane x"), pcapng.interface("tap-a", "instance a")]
    frames = [frame(n) + bytes(n) for n in range(4)]
    for n, data in enumerate(frames):
        if n == 2:
            blocks.append(pcapng.interface("eth1", "uplink"))
        comment = f"deny: {'é' * n}"
        blocks.append(pcapng.packet(n // 2, start + n, data, len(data), sent=n % 2 == 1, comment=comment))
    blocks.append(pcapng.statistics(0, start + 9, 3))
    path = tmp_path / "capture.pcapng"
    path.write_bytes(b"".join(blocks))
    verdicts = tmp_path / "verdicts.jsonl"
    summary = DataPlane(Policy.parse(POLICY)).replay(path, verdicts=verdicts)
    assert not summary.faults
    assert summary.bytes == sum(map(len, frames))
    times = [json.loads(line)["time"] for line in verdicts.read_text().splitlines()]
    assert len(times) == 4
    assert times[0] == 1_700_000_000.123456789
    for block in blocks:
        assert len(block) % 4 == 0
        assert struct.unpack_from("<I", block, 4) == struct.unpack_from("<I", block, len(block) - 4) == (len(block),)
    assert [pcapng.kind_of(block) for block in blocks].count(pcapng.PACKET) == 4


def test_a_frame_that_was_cut_says_how_long_it_was() -> None:
    block = pcapng.packet(0, 0, b"\0" * 60, 1514, sent=False, comment="")
    assert struct.unpack_from("<II", block, 20) == (60, 1514)


def test_a_comment_says_what_the_packet_met() -> None:
    out = Check("a", "egress", "allow", "established", "connection", "out", "sg", "outbound")
    into = Check("b", "ingress", "deny", "invalid", "invalid", None, None, None, "tcp-window")
    assert comment_of(Verdict("deny", 0, 60, (out, into)), (12, 0)) == (
        "deny invalid\n"
        "egress a: allow established connection rule=out group=sg connection=outbound opened-by=12\n"
        "ingress b: deny invalid invalid tcp-window"
    )
    assert comment_of(Verdict("allow", 0, 60, (out,))).splitlines() == [
        "allow connection",
        "egress a: allow established connection rule=out group=sg connection=outbound",
    ]
    assert comment_of(Verdict("bypass", 0, 60, ())) == "bypass"
    assert comment_of(Verdict("deny", 0, 60, ())) == "deny invalid"


def test_lost_frames_are_read_back() -> None:
    block = pcapng.statistics(3, 1, 1 << 40)
    assert pcapng.kind_of(block) == pcapng.STATISTICS
    assert pcapng.dropped_of(block) == 1 << 40
