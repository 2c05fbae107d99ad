"""Captures that come while they are replayed, that grow, that are many, or that somebody changes (SPEC 7)."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import lz4.frame
import pytest
import zstandard

ROOT = Path(__file__).resolve().parents[2]
CASE = ROOT / "examples" / "ssh-cut"
POLICY = CASE / "policy.yaml"
CAPTURE = (ROOT / "pcaps" / "ssh-cut.pcap").read_bytes()


def split(data: bytes) -> list[bytes]:
    """The file header of a pcap, then each of its records."""
    parts, at = [data[:24]], 24
    while at < len(data):
        end = at + 16 + struct.unpack_from("<I", data, at + 8)[0]
        parts.append(data[at:end])
        at = end
    return parts


HEADER, *RECORDS = split(CAPTURE)


@contextmanager
def replaying(*arguments: object, stdin: int | None = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "dataplane", "replay", POLICY, *arguments, "--verdicts", "-"]
    with subprocess.Popen(
        [str(word) for word in command], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def read_lines(stream: IO[bytes] | None, n: int) -> list[int]:
    """The packet numbers of the next records; a test that hangs here is ended by whoever runs it."""
    assert stream is not None
    return [json.loads(stream.readline())["packet"] for _ in range(n)]


def put(stream: IO[bytes] | None, data: bytes) -> None:
    assert stream is not None
    stream.write(data)
    stream.flush()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_records_come_as_packets_come_and_a_signal_ends_the_reading(number: int, status: int) -> None:
    """SPEC 7, `-`: a record is out before the next packet is in; what was seen is summed up at the end."""
    with replaying("-") as process:
        put(process.stdin, HEADER)
        for n, record in enumerate(RECORDS[:5], 1):
            put(process.stdin, record)
            assert read_lines(process.stdout, 1) == [n]
        put(process.stdin, RECORDS[5][:20])
        process.send_signal(number)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, b"")
    assert b"5 packets, " in error
    assert b"Traceback" not in error


@pytest.mark.parametrize("pack", ["gzip", "zstd"])
def test_a_compressed_stream_is_judged_as_far_as_it_has_come(pack: str) -> None:
    """SPEC 7, `-`, gzip/zstd: whatever the writer has flushed."""
    import zlib

    packer = zlib.compressobj(wbits=31) if pack == "gzip" else zstandard.ZstdCompressor().compressobj()
    flush = zlib.Z_SYNC_FLUSH if pack == "gzip" else zstandard.COMPRESSOBJ_FLUSH_BLOCK
    with replaying("-") as process:
        put(process.stdin, packer.compress(HEADER + RECORDS[0]) + packer.flush(flush))
        assert read_lines(process.stdout, 1) == [1]
        put(process.stdin, packer.compress(b"".join(RECORDS[1:4])) + packer.flush(flush))
        assert read_lines(process.stdout, 3) == [2, 3, 4]
        put(process.stdin, packer.flush())
        process.communicate(timeout=60)
    assert process.returncode == 0


def accepted(server: socket.socket) -> IO[bytes]:
    connection, _ = server.accept()
    with connection:
        return connection.makefile("wb")


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_a_fifo_and_a_socket_are_live_too(kind: str, tmp_path: Path) -> None:
    """SPEC 7: sources that are named by a path."""
    path = tmp_path / kind
    server = socket.socket(socket.AF_UNIX)
    if kind == "fifo":
        os.mkfifo(path)
    else:
        server.bind(str(path))
        server.listen()
    with server, replaying(path) as process:
        with open(path, "wb") if kind == "fifo" else accepted(server) as stream:
            put(stream, HEADER + RECORDS[0])
            assert read_lines(process.stdout, 1) == [1]
            put(stream, RECORDS[1])
            assert read_lines(process.stdout, 1) == [2]
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_file_is_followed_as_it_grows(tmp_path: Path) -> None:
    """`--follow`: an incomplete record at the end waits for its rest; Ctrl-C ends it without a fault."""
    path = tmp_path / "growing.pcap"
    path.write_bytes(HEADER + RECORDS[0] + RECORDS[1][:7])
    with replaying(path, "--follow") as process, open(path, "ab", buffering=0) as file:
        assert read_lines(process.stdout, 1) == [1]
        file.write(RECORDS[1][7:] + RECORDS[2][:30])
        assert read_lines(process.stdout, 1) == [2]
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"cut short" not in error


def test_a_file_on_standard_input_is_followed_for_good(tmp_path: Path) -> None:
    """`--follow`: it has no name that could lead elsewhere, whatever time goes by."""
    path = tmp_path / "growing.pcap"
    path.write_bytes(HEADER + RECORDS[0])
    with (
        open(path, "rb") as read,
        replaying("-", "--follow", stdin=read.fileno()) as process,
        open(path, "ab", buffering=0) as file,
    ):
        assert read_lines(process.stdout, 1) == [1]
        # Longer than a file may be without its name.
        time.sleep(1.5)
        assert process.poll() is None
        file.write(RECORDS[1])
        assert read_lines(process.stdout, 1) == [2]
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"another file" not in error


def test_what_is_in_its_place_only_at_the_end_is_told(tmp_path: Path) -> None:
    """`--follow`: a file of before stays until the new one is whole; what is asked for is told how to have."""
    path, out = tmp_path / "growing.pcap", tmp_path / "frames.pcapng"
    path.write_bytes(HEADER + RECORDS[0])
    with replaying(path, "--follow", "--annotate", out) as process:
        assert read_lines(process.stdout, 1) == [1]
        assert not out.exists()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    told = f"{out}: it is in its place when the reading ends: --annotate - writes as packets come\n"
    assert error.decode().startswith(told)
    assert out.exists()


@pytest.mark.parametrize(("action", "words"), [("cut", "was cut short while"), ("rename", "another file has taken")])
def test_a_followed_file_that_is_taken_away_is_a_fault(action: str, words: str, tmp_path: Path) -> None:
    """`--follow`: exit status 3 and a sentence, with what had come."""
    path = tmp_path / "growing.pcap"
    path.write_bytes(HEADER + RECORDS[0])
    with replaying(path, "--follow") as process:
        assert read_lines(process.stdout, 1) == [1]
        if action == "cut":
            os.truncate(path, 10)
        else:
            path.rename(tmp_path / "old.pcap")
        _, error = process.communicate(timeout=60)
    assert process.returncode == 3
    assert words in error.decode()
    assert b"1 packet, " in error


def test_a_file_that_shrinks_while_it_is_read_is_a_fault(tmp_path: Path) -> None:
    """SPEC 7, status 3: never a signal. A FIFO beside it holds the reading up in the middle."""
    path, fifo = tmp_path / "long.pcap", tmp_path / "fifo"
    record = struct.pack("<IIII", 1700000000, 0, 1500, 1500) + bytes(1500)
    path.write_bytes(HEADER + record * 2000)
    os.mkfifo(fifo)
    with replaying(path, fifo) as process:
        with open(fifo, "wb") as stream:
            put(stream, HEADER)
            time.sleep(1)
            os.truncate(path, 1000)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "long.pcap: at byte " in error.decode()
    assert "the file was cut short while it was read" in error.decode()


PACKERS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, lzma.compress, zstandard.compress]


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("overlapping", [True, False])
def test_captures_may_be_more_than_descriptors(
    pack: Callable[[bytes], bytes], overlapping: bool, tmp_path: Path
) -> None:
    """SPEC 7, captures merged by time: 300 of them where 64 files may be open."""
    for n in range(300):
        records = [bytearray(record) for record in RECORDS[:3]]
        for i, record in enumerate(records):
            struct.pack_into("<I", record, 0, 1700000000 + (i * 300 + n if overlapping else n * 3 + i))
        (tmp_path / f"{n:03}.pcap").write_bytes(pack(HEADER + b"".join(records)))
    command = [sys.executable, "-m", "dataplane", "replay", POLICY, *sorted(tmp_path.iterdir()), "--verdicts", "-"]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        cwd=ROOT,
        check=False,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )
    assert done.returncode == 0, done.stderr
    times = [json.loads(line)["time"] for line in done.stdout.splitlines()]
    assert [round(t) - 1700000000 for t in times] == list(range(900))


LATE_WRITERS: list[Callable[[bytes], bytes]] = [
    lzma.compress,
    bz2.compress,
    lz4.frame.compress,
    lambda data: lzma.compress(data[:500]) + lzma.compress(data[500:]) + bytes(8),
    lambda data: bz2.compress(data[:500]) + bz2.compress(data[500:]),
    lambda data: lz4.frame.compress(data[:500]) + lz4.frame.compress(data[500:]),
]


@pytest.mark.parametrize("n", range(6))
def test_xz_bzip2_and_lz4_are_read_and_truncation_is_told(n: int, tmp_path: Path) -> None:
    """SPEC 7: compressed captures, also of several members; a cut one is a fault behind what can be had."""
    from dataplane import DataPlane, Policy

    firewall = DataPlane(Policy.load(POLICY))
    packed = LATE_WRITERS[n](CAPTURE)
    (tmp_path / "whole").write_bytes(packed)
    (status,) = firewall.replay(tmp_path / "whole").captures
    assert (status.packets, status.fault) == (len(RECORDS), None)
    (tmp_path / "cut").write_bytes(packed[:-20])
    (status,) = firewall.replay(tmp_path / "cut").captures
    assert "data is cut short (the offset counts decompressed bytes)" in str(status.fault)


def test_a_long_zstd_window_is_read(tmp_path: Path) -> None:
    """As `zstd --long=31` writes it, which other readers refuse."""
    from dataplane import DataPlane, Policy

    parameters = zstandard.ZstdCompressionParameters(window_log=31, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "long").write_bytes(packer.compress(CAPTURE) + packer.flush())
    (status,) = DataPlane(Policy.load(POLICY)).replay(tmp_path / "long").captures
    assert (status.packets, status.fault) == (len(RECORDS), None)


def test_a_directory_is_all_captures_in_it(tmp_path: Path) -> None:
    """SPEC 7, CAPTURE...: by name, whatever the names end in; what is no capture is passed over aloud."""
    folder = tmp_path / "ring"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a").write_bytes(HEADER + RECORDS[0])
    (folder / "b.pcap").write_bytes(gzip.compress(HEADER + RECORDS[1] + RECORDS[2]))
    (folder / "c.pcap").write_text("no capture")
    (folder / "d.gz").write_bytes(gzip.compress(b"a log"))
    (folder / "e").touch()
    os.mkfifo(folder / "f")
    (folder / "g").symlink_to("nowhere")
    (folder / "deeper" / "h.pcap").write_bytes(HEADER + RECORDS[3])
    with replaying(folder, "--json", stdin=None) as process:
        out, error = process.communicate(timeout=60)
    *said, summary = error.decode().splitlines()
    assert process.returncode == 0
    assert [capture["name"] for capture in json.loads(summary)["captures"]] == [
        str(folder / n) for n in ("a", "b.pcap")
    ]
    assert len(out.splitlines()) == 3
    reasons = ["is no capture", "is no capture", "is a directory", "is empty", "is no regular file", "leads nowhere"]
    names = ["c.pcap", "d.gz", "deeper", "e", "f", "g"]
    for line, name, reason in zip(said, names, reasons, strict=True):
        assert line.startswith(f"{folder / name}: it is ")
        assert reason in line
        assert line.endswith(": passed over")


def test_a_directory_without_captures_is_a_fault(tmp_path: Path) -> None:
    """SPEC 7, exit status 3; and no output destroys a capture of a directory."""
    (tmp_path / "empty").mkdir()
    with replaying(tmp_path / "empty", stdin=None) as process:
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (3, b"")
    assert error.decode() == f"{tmp_path / 'empty'}: there is no capture in this directory\n"
    (tmp_path / "empty" / "notes").write_bytes(b"none")
    with replaying(tmp_path / "empty", stdin=None) as process:
        _, error = process.communicate(timeout=60)
    assert error.decode().splitlines() == [
        f"{tmp_path / 'empty' / 'notes'}: it is no capture: passed over",
        f"{tmp_path / 'empty'}: there is no capture in this directory",
    ]
    (tmp_path / "x.pcap").write_bytes(CAPTURE)
    command = [
        sys.executable,
        "-m",
        "dataplane",
        "replay",
        POLICY,
        tmp_path,
        "--verdicts",
        tmp_path / "x.pcap",
        "--force",
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert b"which is read" in done.stderr
    assert (tmp_path / "x.pcap").read_bytes() == CAPTURE


def block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def ng_packet(record: bytes) -> bytes:
    seconds, micro, captured, length = struct.unpack("<IIII", record[:16])
    time_us = seconds * 1_000_000 + micro
    return block(6, struct.pack("<IIIII", 0, time_us >> 32, time_us & 0xFFFFFFFF, captured, length) + record[16:])


NG_HEADER = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)) + block(1, struct.pack("<HHI", 1, 0, 0))


def test_a_pcapng_is_followed_as_it_grows(tmp_path: Path) -> None:
    """`--follow`: a block that is cut short waits for its rest, also in the header of a new section."""
    path = tmp_path / "growing.pcapng"
    blocks = [ng_packet(record) for record in RECORDS]
    path.write_bytes(NG_HEADER + blocks[0] + blocks[1][:9])
    with replaying(path, "--follow") as process, open(path, "ab", buffering=0) as file:
        assert read_lines(process.stdout, 1) == [1]
        file.write(blocks[1][9:-2])
        file.write(blocks[1][-2:] + NG_HEADER[:13])
        assert read_lines(process.stdout, 1) == [2]
        file.write(NG_HEADER[13:] + blocks[2])
        assert read_lines(process.stdout, 1) == [3]
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"cut short" not in error
    assert b"3 packets, " in error


@pytest.mark.parametrize(("action", "words"), [("cut", "was cut short while"), ("rename", "another file has taken")])
def test_a_followed_pcapng_that_is_taken_away_is_a_fault(action: str, words: str, tmp_path: Path) -> None:
    """`--follow`: what a ring of files or a rotation does, with half a block at the end."""
    path = tmp_path / "growing.pcapng"
    path.write_bytes(NG_HEADER + ng_packet(RECORDS[0]) + ng_packet(RECORDS[1])[:20])
    with replaying(path, "--follow") as process:
        assert read_lines(process.stdout, 1) == [1]
        if action == "cut":
            os.truncate(path, 10)
        else:
            path.rename(tmp_path / "old.pcapng")
            path.write_bytes(NG_HEADER)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 3
    assert words in error.decode()
    assert b"1 packet, " in error


def test_parquet_of_live_input_has_few_row_groups(tmp_path: Path) -> None:
    """SPEC 7, `--verdicts`: packets that come one by one are collected."""
    parquet = pytest.importorskip("pyarrow.parquet")
    from dataplane import DataPlane, Policy
    from dataplane._core import ffi
    from dataplane.replay.parquet import ParquetWriter

    writer = ParquetWriter(str(tmp_path / "v.parquet"), DataPlane(Policy.load(POLICY)).names, ["-"], lambda known: [])
    records, flows, seen = (ffi.new(f"struct dp_{name}[]", 1) for name in ("record", "flow", "seen"))
    for n in range(300):
        records[0].time_ns = n
        writer.write(records, flows, seen, 1)
        writer.flush()
    writer.close()
    file = parquet.ParquetFile(tmp_path / "v.parquet")
    assert file.metadata.num_row_groups == 1
    assert file.read(["packet"])["packet"].to_pylist() == list(range(1, 301))
