"""Compressed captures are decompressed in a thread: the same bytes and faults, an end at any time, bounded threads."""

from __future__ import annotations

import gzip
import random
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from dataplane.replay.ahead import Ahead
from dataplane.replay.reading import CHUNK, KnownFile, Reading

DATA = random.Random(1).randbytes(3 * CHUNK + 12345)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def opened(path: Path, data: bytes, places: int) -> tuple[Reading, threading.Semaphore]:
    path.write_bytes(data)
    semaphore = threading.Semaphore(places)
    return Reading(KnownFile(str(path), path.stat(), None), semaphore), semaphore


def all_of(reading: Reading) -> bytes:
    return b"".join(iter(lambda: bytes(reading.next()), b""))


@pytest.mark.parametrize("places", [0, 1])
def test_the_bytes_are_the_same(tmp_path: Path, places: int) -> None:
    """With and without a thread; the place is free again at the end."""
    reading, semaphore = opened(tmp_path / "x", gzip.compress(DATA, 1), places)
    assert all_of(reading) == DATA
    assert (reading.given, reading.fault, reading.compression) == (len(DATA), None, "gzip")
    assert bytes(reading.next()) == b""
    assert semaphore.acquire(blocking=False) is False
    reading.close()
    assert semaphore.acquire(blocking=False) is bool(places)


@pytest.mark.parametrize("places", [0, 1])
def test_a_fault_comes_behind_the_last_good_byte(tmp_path: Path, places: int) -> None:
    """SPEC 7, exit status 3: the fault has its offset in decompressed bytes."""
    reading, _ = opened(tmp_path / "x", gzip.compress(DATA, 1)[:-1000], places)
    read = all_of(reading)
    assert DATA.startswith(read)
    assert CHUNK < reading.given == len(read) < len(DATA)
    assert reading.fault == "the gzip data is cut short"
    reading.close()


def test_what_is_small_or_not_compressed_has_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    for name, data in (("small", gzip.compress(DATA[: CHUNK // 2])), ("plain", DATA)):
        reading, _ = opened(tmp_path / name, data, 1)
        while reading.next():
            assert threading.active_count() == before
        reading.close()


def test_an_end_in_the_middle(tmp_path: Path) -> None:
    """Also while the thread waits for room; the file is closed then."""
    reading, semaphore = opened(tmp_path / "x", gzip.compress(DATA * 4, 1), 1)
    while not isinstance(reading._pieces, Ahead):
        reading.next()
    time.sleep(0.05)
    reading.close()
    assert semaphore.acquire(blocking=False)
    reading.close()


def test_no_more_than_a_few_pieces_are_made_ahead() -> None:
    made = 0

    def pieces() -> Generator[bytes]:
        nonlocal made
        for number in range(1, 1001):
            made = number
            yield b"x"

    ahead = Ahead(pieces())
    next(ahead)
    time.sleep(0.05)
    assert made <= 12
    ahead.close()
    with pytest.raises(StopIteration):
        next(ahead)


def test_any_error_is_raised_where_it_is_read() -> None:
    def pieces() -> Generator[bytes]:
        yield b"x"
        raise MemoryError("no room")

    ahead = Ahead(pieces())
    assert next(ahead) == b"x"
    for _ in range(2):
        with pytest.raises(MemoryError):
            next(ahead)
    ahead.close()
