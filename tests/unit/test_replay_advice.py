"""What a replay's summary says that many packets without a connection, or outside its window, mean (SPEC 4.4)."""

from __future__ import annotations

import struct
from pathlib import Path

from dataplane import DataPlane, Policy
from tests.support.tcp_rows import HANDSHAKE, POLICY, Row, segment

from .test_tcp_outside_the_window import LOST


def advice(rows: list[Row], tmp_path: Path, conntrack: str = "", time: str | None = None) -> list[str]:
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for at, side, flags, length, seq, ack, window, _ in rows:
        frame = segment(side, flags, length, seq, ack, window)
        data += struct.pack("<IIII", 1000 + int(at), round(at % 1 * 1e6), len(frame), len(frame)) + frame
    path = tmp_path / "capture.pcap"
    path.write_bytes(data)
    summary = DataPlane(Policy.parse(POLICY + conntrack), seed=1).replay(path, time=time)
    found = summary.to_dict()["advice"]
    assert isinstance(found, list)
    return found


MIDSTREAM: list[Row] = [(n, "R", "P.", 10, 1 + n * 10, 1, 9000, "") for n in range(20)]
BEYOND: list[Row] = [(n, "R", "P.", 10, 900_000 + n * 10, 1, 9000, "") for n in range(1, 20)]


def test_a_capture_that_began_mid_stream(tmp_path: Path) -> None:
    (sentence,) = advice(MIDSTREAM, tmp_path)
    assert "20 TCP packets" in sentence
    assert "mid-stream" in sentence
    assert "conntrack.tcp_loose" in sentence
    assert advice(MIDSTREAM, tmp_path, "conntrack: {tcp_loose: true}") == []


def test_a_capture_that_lost_packets(tmp_path: Path) -> None:
    (sentence,) = advice([*HANDSHAKE, *BEYOND], tmp_path)
    assert "19 TCP packets" in sentence
    assert "conntrack.tcp_be_liberal" in sentence
    (sentence,) = advice(LOST, tmp_path)
    assert sentence.startswith("Packets are missing")


def test_few_packets_say_nothing(tmp_path: Path) -> None:
    assert advice([*HANDSHAKE, *BEYOND[:2]], tmp_path) == []
    assert advice(MIDSTREAM[:2], tmp_path) == []
    assert advice(HANDSHAKE, tmp_path) == []


def test_a_time_that_leaves_out_every_packet(tmp_path: Path) -> None:
    """SPEC 4.3: times of records, in seconds since 1970, are none of those that --time counts from the first packet."""
    (sentence,) = advice(HANDSHAKE, tmp_path, time="1000..1002")
    assert sentence.startswith("No packet is within --time. The captures begin at 1970-01-01T00:16:40Z: ")
    assert advice(HANDSHAKE, tmp_path, time="1970-01-01T00:16:40Z..") == []
