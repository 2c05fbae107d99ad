"""Annotated captures (SPEC 8.1): frames of a replay with what they met as a comment."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dataplane import DataPlane, Policy
from tests.property.frames import datagram, ethernet, packet

OUTSIDE, INSIDE = "192.0.2.9", "10.0.0.1"
POLICY = """
security_groups:
  - id: sg
    security_group_rules: [{id: dns, direction: ingress, protocol: udp, multiport: "53"}]
instances:
  - {id: a, addresses: [10.0.0.1], security_groups: [sg]}
"""
ALLOWED = "allow rule\ningress a: allow new rule rule=dns group=sg connection=inbound opened-by=1"
KNOWN = "allow connection\negress a: allow established connection rule=dns group=sg connection=inbound opened-by=1"
DENIED = "deny no-rule-matched\ningress a: deny new no-rule-matched"


def udp(source: str, destination: str, ports: tuple[int, int], payload: bytes = b"x") -> bytes:
    body = datagram(source, destination, 17, ports, payload)
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packet(source, destination, 17, body))


#: Allowed, its answer, denied, and nobody's.
FRAMES = [
    udp(OUTSIDE, INSIDE, (4000, 53)),
    udp(INSIDE, OUTSIDE, (53, 4000), b"answer"),
    udp(OUTSIDE, INSIDE, (4000, 54)),
    udp(OUTSIDE, "10.0.0.9", (4000, 53)),
]
COMMENTS = [ALLOWED, KNOWN, DENIED, "bypass"]


class Block(NamedTuple):
    """A block of pcapng by its type: what stands before the options, and these by code."""

    kind: int
    fixed: bytes
    options: list[tuple[int, bytes]]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + padded(value)


def block(order: str, kind: int, body: bytes) -> bytes:
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def read(path: Path) -> list[Block]:
    """The blocks of a little-endian file, each checked for its lengths."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        assert struct.unpack_from("<I", data, at + size - 4) == (size,)
        body = data[at + 8 : at + size - 4]
        captured = struct.unpack_from("<I", body, 12)[0] if kind == 6 else 0
        start = {0x0A0D0D0A: 16, 1: 8, 6: 20 + captured + -captured % 4}.get(kind, len(body))
        options, place = [], start
        while place < len(body):
            code, length = struct.unpack_from("<HH", body, place)
            if code:
                options.append((code, body[place + 4 : place + 4 + length]))
            place += 4 + length + -length % 4
        found.append(Block(kind, body[:start], options))
        at += size
    return found


def packets(path: Path) -> list[tuple[int, int, bytes, list[str]]]:
    """Interface, timestamp, bytes and comments of each packet."""
    found = []
    for one in read(path):
        if one.kind == 6:
            interface, high, low, captured, _ = struct.unpack_from("<5I", one.fixed)
            comments = [value.decode() for code, value in one.options if code == 1]
            found.append((interface, high << 32 | low, one.fixed[20 : 20 + captured], comments))
    return found


def pcap(path: Path, frames: list[bytes], start: int = 1000) -> Path:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    records = [struct.pack("<IIII", start + n, 7, len(frame), len(frame)) + frame for n, frame in enumerate(frames)]
    path.write_bytes(head + b"".join(records))
    return path


def pcapng(path: Path, order: str) -> Path:
    """Two interfaces with clocks of their own, comments, names, flags, a simple packet, in either byte order."""
    end = bytes(4)
    section = struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
    first = struct.pack(order + "HHI", 1, 0, 100)
    second = struct.pack(order + "HHI", 1, 0, 0)
    blocks = [
        block(order, 0x0A0D0D0A, section + option(order, 1, b"of the file") + option(order, 4, b"a sniffer") + end),
        block(
            order,
            1,
            first
            + option(order, 2, b"eth7")
            + option(order, 8, struct.pack(order + "Q", 10**9))
            + option(order, 14, struct.pack(order + "q", 100))
            + end,
        ),
        block(order, 1, second + option(order, 2, b"eth8") + option(order, 9, b"\x0c") + end),
        block(order, 4, struct.pack(order + "HH", 1, 9) + padded(bytes([192, 0, 2, 9]) + b"peer\0") + end),
    ]
    times = [(0, 900_000_001), (1, 1_001_000_000_000_123), (0, 902_000_000)]
    for (interface, time), frame in zip(times, FRAMES, strict=False):
        head = struct.pack(order + "IIIII", interface, time >> 32, time & 0xFFFFFFFF, len(frame), len(frame) + 9)
        flags = option(order, 2, struct.pack(order + "I", 0x201))
        options = option(order, 1, b"mine") + flags + option(order, 4, struct.pack(order + "Q", 5)) + end
        blocks.append(block(order, 6, head + padded(frame) + options))
    blocks.append(block(order, 3, struct.pack(order + "I", len(FRAMES[3])) + padded(FRAMES[3])))
    path.write_bytes(b"".join(blocks))
    return path


def replay(*captures: Path, **options: Any) -> None:
    assert not DataPlane(Policy.parse(POLICY)).replay(*captures, **options).faults


def test_each_frame_says_what_it_met(tmp_path: Path) -> None:
    """SPEC 8.1: in capture order, bytes and timestamps unchanged; --allowed and --denied have only those."""
    files = {key: tmp_path / f"{key}.pcapng" for key in ("annotate", "allowed", "denied")}
    replay(pcap(tmp_path / "in.pcap", FRAMES), **files)
    assert packets(files["annotate"]) == [
        (0, (1000 + n) * 10**9 + 7000, frame, [comment])
        for n, (frame, comment) in enumerate(zip(FRAMES, COMMENTS, strict=True))
    ]
    assert [comments for *_, comments in packets(files["allowed"])] == [[ALLOWED], [KNOWN]]
    assert [frame for _, _, frame, _ in packets(files["denied"])] == [FRAMES[2]]


def test_deny_is_a_word_of_denied_packets_alone(tmp_path: Path) -> None:
    """SPEC 8.1: a filter for it finds exactly these, whatever instances, rules and groups are called."""
    policy = POLICY.replace("id: sg", "id: sg-deny-rest").replace("[sg]", "[sg-deny-rest]")
    policy = policy.replace("id: dns", "id: no-deny").replace("id: a", "id: denys")
    out = tmp_path / "out.pcapng"
    DataPlane(Policy.parse(policy)).replay(pcap(tmp_path / "in.pcap", FRAMES), annotate=out)
    escaped = r"\u0064en"
    under = f"rule=no-{escaped}y group=sg-{escaped}y-rest connection=inbound opened-by=1"
    assert [comment for *_, (comment,) in packets(out)] == [
        f"allow rule\ningress {escaped}ys: allow new rule {under}",
        f"allow connection\negress {escaped}ys: allow established connection {under}",
        "deny no-rule-matched\ningress denys: deny new no-rule-matched",
        "bypass",
    ]


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_a_pcapng_says_survives(tmp_path: Path, order: str) -> None:
    """Comments, bytes, timestamps, lengths, flags, interfaces with their options, names, the head of the section."""
    out = tmp_path / "out.pcapng"
    replay(pcapng(tmp_path / "in.pcapng", order), annotate=out)
    blocks = read(out)
    assert blocks[0].options == [(1, b"of the file"), (4, b"a sniffer")]
    assert [one for one in blocks if one.kind == 1] == [
        Block(
            1,
            struct.pack("<HHI", 1, 0, 100),
            [(2, b"eth7"), (8, struct.pack("<Q", 10**9)), (14, struct.pack("<q", 100))],
        ),
        Block(1, struct.pack("<HHI", 1, 0, 0), [(2, b"eth8"), (9, b"\x0c")]),
    ]
    (names,) = [one for one in blocks if one.kind == 4]
    assert names.fixed.startswith(struct.pack("<HH", 1, 9) + bytes([192, 0, 2, 9]) + b"peer\0")
    times = [900_000_001, 1_001_000_000_000_123, 902_000_000, 902_000_000]
    assert packets(out) == [
        (int(n == 1), times[n], frame, [COMMENTS[n]] + ["mine"] * (n < 3)) for n, frame in enumerate(FRAMES)
    ]
    for one in [one for one in blocks if one.kind == 6][:3]:
        assert one.options[1:] == [(1, b"mine"), (2, struct.pack("<I", 0x201)), (4, struct.pack("<Q", 5))]
        captured, length = struct.unpack_from("<II", one.fixed, 12)
        assert length == captured + 9
    again = tmp_path / "again.jsonl"
    replay(out, verdicts=again)
    records = [json.loads(line) for line in again.read_text().splitlines()]
    assert [record["verdict"] for record in records] == ["allow", "allow", "deny", "bypass"]
    assert [record["interface"] for record in records] == ["eth7", "eth8", "eth7", "eth7"]


def test_merged_captures_keep_their_interfaces_apart(tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    first, second = pcapng(tmp_path / "one.pcapng", "<"), pcapng(tmp_path / "two.pcapng", ">")
    replay(first, pcap(tmp_path / "three.pcap", FRAMES[2:3], start=5000), second, annotate=out)
    assert sum(one.kind == 1 for one in read(out)) == 5
    assert sum(one.kind == 4 for one in read(out)) == 2
    assert [interface for interface, *_ in packets(out)] == [0, 1, 2, 3, 0, 0, 1, 1, 4]


def test_frames_behind_one_that_waits_are_in_order(tmp_path: Path) -> None:
    """SPEC 4.6: a later fragment has its verdict when the first has come; its frame stands where it was."""
    pieces = []
    body = datagram(OUTSIDE, INSIDE, 17, (4000, 53), bytes(56))
    for start, more in ((32, 0), (0, 1)):
        piece = bytearray(packet(OUTSIDE, INSIDE, 17, body[start : start + 32]))
        struct.pack_into("!HH", piece, 4, 7, start // 8 | more << 13)
        pieces.append(ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", bytes(piece)))
    frames = [pieces[0], FRAMES[2], pieces[1]]
    replay(pcap(tmp_path / "in.pcap", frames), annotate=tmp_path / "out.pcapng")
    found = packets(tmp_path / "out.pcapng")
    assert [frame for _, _, frame, _ in found] == frames
    assert [comments[0].split()[0] for *_, comments in found] == ["allow", "deny", "allow"]


def test_no_frame_is_a_capture_too(tmp_path: Path) -> None:
    denied = tmp_path / "denied.pcapng"
    replay(pcap(tmp_path / "in.pcap", FRAMES[:1]), denied=denied)
    assert [one.kind for one in read(denied)] == [0x0A0D0D0A]
    replay(denied, annotate=tmp_path / "none.pcapng")


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
@pytest.mark.parametrize("order", ["<", ">"])
def test_tshark_finds_the_denied(tmp_path: Path, order: str) -> None:
    """SPEC 8.1: `frame.comment contains "deny"` finds exactly the denied packets."""
    out = tmp_path / "out.pcapng"
    replay(pcapng(tmp_path / "in.pcapng", order), pcap(tmp_path / "in.pcap", FRAMES, start=5000), annotate=out)
    command = ["tshark", "-r", str(out), "-Y", 'frame.comment contains "deny"', "-T", "fields", "-e", "frame.number"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["3", "7"]
