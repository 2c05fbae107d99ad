"""Compressed captures that cannot be read to their end (SPEC 7, exit status 3): all that decompresses is replayed."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from dataplane import DataPlane, Policy
from dataplane.replay import Summary
from tests.property.frames import datagram, ethernet, packet

POLICY = "instances: [{id: server, addresses: [10.0.0.1]}]"
PACKETS = 3000


@pytest.fixture(scope="module")
def capture() -> bytes:
    """Packets of many sizes that compress badly, so that damage has a place of its own."""
    data = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    noise = zlib.compress(b"noise") * 7
    for n in range(PACKETS):
        body = bytes((b * (n % 251) + n) % 256 for b in noise[: n % len(noise)])
        frame = ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", udp(n, body))
        data += struct.pack("<IIII", n, 0, len(frame), len(frame)) + frame
    return data


def udp(n: int, body: bytes) -> bytes:
    return packet("192.0.2.1", "10.0.0.1", 17, datagram("192.0.2.1", "10.0.0.1", 17, (1024 + n, 53), body))


def whole_packets(data: bytes) -> int:
    """How many packet records stand in the first bytes of a capture."""
    at = 24
    packets = 0
    while at + 16 <= len(data) and (at := at + 16 + struct.unpack_from("<I", data, at + 8)[0]) <= len(data):
        packets += 1
    return packets


def replay(folder: Path, data: bytes) -> Summary:
    (folder / "capture").write_bytes(data)
    return DataPlane(Policy.parse(POLICY)).replay(folder / "capture")


def with_small_blocks(data: bytes) -> bytes:
    """Zstd in many blocks and two frames."""
    parts = []
    for half in (data[: len(data) // 2], data[len(data) // 2 :]):
        packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
        for start in range(0, len(half), 1500):
            parts.append(packer.compress(half[start : start + 1500]))
            parts.append(packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
        parts.append(packer.flush())
    return b"".join(parts)


def in_members(data: bytes) -> bytes:
    """Gzip in two members, padded with zeros as tapes are."""
    middle = len(data) // 2
    return gzip.compress(data[:middle], mtime=0) + gzip.compress(data[middle:], mtime=0) + bytes(512)


def behind_a_skippable_frame(data: bytes) -> bytes:
    """Zstd as pzstd writes it."""
    return b"\x50\x2a\x4d\x18" + struct.pack("<II", 4, 1234) + zstandard.compress(data)


WRITERS = [gzip.compress, in_members, zstandard.compress, with_small_blocks, behind_a_skippable_frame]


@pytest.mark.parametrize("pack", WRITERS)
def test_a_sound_one_is_read_whole(pack: Callable[[bytes], bytes], capture: bytes, tmp_path: Path) -> None:
    """SPEC 7: gzip/zstd compressed, also in several members or frames."""
    (status,) = replay(tmp_path, pack(capture)).captures
    assert (status.packets, status.fault) == (PACKETS, None)


@pytest.mark.parametrize("pack", [gzip.compress, in_members])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.8, 0.999])
def test_a_truncated_gzip_gives_all_that_zcat_gives(
    pack: Callable[[bytes], bytes], share: float, capture: bytes, tmp_path: Path
) -> None:
    """SPEC 7, status 3: what was read before the fault is still reported; the fault is named with its byte offset."""
    packed = pack(capture).rstrip(b"\0")
    cut = packed[: int(len(packed) * share)]
    expected, left = b"", cut
    while left:
        unpacker = zlib.decompressobj(wbits=31)
        expected += unpacker.decompress(left)
        left = unpacker.unused_data
    (status,) = replay(tmp_path, cut).captures
    assert status.packets == whole_packets(expected)
    assert status.fault == "the gzip data is cut short (the offset counts decompressed bytes)"
    assert status.offset == len(expected)


def test_a_truncated_zstd_says_so(capture: bytes, tmp_path: Path) -> None:
    """SPEC 7, status 3: never "the file is empty"."""
    packed = with_small_blocks(capture)
    for length in (4, 7, 40, len(packed) // 3, len(packed) - 2):
        (status,) = replay(tmp_path, packed[:length]).captures
        assert status.fault == "the zstd data is cut short (the offset counts decompressed bytes)"
        assert status.offset is not None
        assert status.packets == whole_packets(capture[: status.offset])
        # A block that is not there as a whole gives nothing; these have 1,500 bytes.
        assert status.offset > len(capture) * length // len(packed) * 0.8 - 3000
    assert status.packets == PACKETS


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_damaged_gzip_gives_what_stands_before_the_damage(share: float, capture: bytes, tmp_path: Path) -> None:
    """SPEC 7, status 3. Blocks of gzip are not told apart by length: what is damaged may decompress to nonsense."""
    packer = zlib.compressobj(wbits=31)
    middle = int(len(capture) * share)
    packed = packer.compress(capture[:middle]) + packer.flush(zlib.Z_FULL_FLUSH)
    # A block of a type that there is not.
    packed += b"\xff" + packer.compress(capture[middle:]) + packer.flush()
    (status,) = replay(tmp_path, packed).captures
    assert status.fault == "the gzip data is damaged: invalid block type (the offset counts decompressed bytes)"
    assert (status.packets, status.offset) == (whole_packets(capture[:middle]), middle)


def test_a_gzip_with_a_wrong_checksum_is_replayed_whole(capture: bytes, tmp_path: Path) -> None:
    """SPEC 7, status 3: the sum stands behind the data and says only that something is wrong."""
    packed = bytearray(gzip.compress(capture))
    packed[-8] ^= 1
    (status,) = replay(tmp_path, bytes(packed)).captures
    assert (status.packets, status.offset) == (PACKETS, len(capture))
    assert status.fault == "the gzip data is damaged: incorrect data check (the offset counts decompressed bytes)"


def test_a_damaged_zstd_gives_all_blocks_before_the_damage(capture: bytes, tmp_path: Path) -> None:
    """SPEC 7, status 3."""
    packed = bytearray(with_small_blocks(capture))
    packed[len(packed) // 3 : len(packed) // 3 + 1000] = b"\xff" * 1000
    (status,) = replay(tmp_path, bytes(packed)).captures
    assert status.fault is not None
    assert status.fault.startswith("the zstd data is damaged: ")
    assert status.offset is not None
    assert status.packets == whole_packets(capture[: status.offset])
    assert status.offset > len(capture) // 4


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_what_comes_behind_a_sound_one_is_a_fault(
    pack: Callable[[bytes], bytes], capture: bytes, tmp_path: Path
) -> None:
    """SPEC 7, status 3: bytes that are not read are not passed over in silence."""
    (status,) = replay(tmp_path, pack(capture) + b"more").captures
    assert (status.packets, status.offset) == (PACKETS, len(capture))
    assert "is followed by bytes that are no" in str(status.fault)


def test_a_fault_of_the_capture_within_goes_before_damage_behind_it(capture: bytes, tmp_path: Path) -> None:
    """SPEC 7: the fault that stopped the reading is named."""
    middle = 24 + 16 + struct.unpack_from("<I", capture, 32)[0]
    broken = capture[:middle] + struct.pack("<IIII", 0, 0, 1 << 30, 1 << 30) + bytes(5000)
    (status,) = replay(tmp_path, gzip.compress(broken)[:-9]).captures
    assert (status.packets, status.offset) == (1, middle)
    assert "a packet record claims 1073741824 captured bytes" in str(status.fault)
    assert "(the offset counts decompressed bytes)" in str(status.fault)


@pytest.mark.parametrize("pack", [gzip.compress, in_members, with_small_blocks])
def test_damage_at_any_place_is_a_fault_and_loses_nothing_before_it(
    pack: Callable[[bytes], bytes], capture: bytes, tmp_path: Path
) -> None:
    """SPEC 7, status 3."""
    packed = pack(capture)
    for n in range(40):
        at = len(packed) * n // 40
        damaged = packed[:at] + bytes(b ^ 0x5A for b in packed[at : at + 8]) + packed[at + 8 :]
        summary = replay(tmp_path, damaged)
        (status,) = summary.captures
        assert status.fault is not None
        assert "cannot be read" not in status.fault
        assert summary.packets == status.packets
        if n > 2:
            assert status.packets > PACKETS * (n - 2) // 40 // 2
