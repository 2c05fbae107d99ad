"""The bytes of captures that C does not read itself: compressed files, standard input, pipes, files that still grow."""

from __future__ import annotations

import fcntl
import io
import os
import select
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

from dataplane.replay.ahead import Ahead
from dataplane.replay.decompress import DamagedError, compression_of, decompressed

CHUNK = 1 << 20
_READ = 1 << 18
#: How often a file that is followed is looked at, in seconds.
LOOK_EVERY = 0.1
_RENAMED_AFTER = 1.0
#: How many captures are decompressed ahead at the same time; others are when their bytes are wanted.
_THREADS = os.cpu_count() or 1


class StoppedError(Exception):
    """Reading was asked to end while it waited."""


class Waiting:
    """How a reader waits for input: it says so first, and a byte on `wake` ends it. `ahead` bounds who reads ahead."""

    def __init__(self) -> None:
        self.ahead = threading.Semaphore(_THREADS)
        self.before: Callable[[], None] = lambda: None
        self.wake: int | None = None
        self.stopping = False

    def until_readable(self, fd: int) -> None:
        """Waits until there is something to read. Raises StoppedError."""
        if not self._ready(fd, 0):
            self.before()
            self._ready(fd, None)
        if self.stopping:
            raise StoppedError

    def a_moment(self) -> None:
        """Waits as long as a file that is followed is left alone. Raises StoppedError."""
        self.before()
        self._ready(None, LOOK_EVERY)
        if self.stopping:
            raise StoppedError

    def _ready(self, fd: int | None, timeout: float | None) -> bool:
        poll = select.poll()
        for one in (fd, self.wake):
            if one is not None:
                poll.register(one, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))


class LiveFile(io.RawIOBase):
    """Standard input, a FIFO, a socket or a device: what has come is there at once."""

    def __init__(self, fd: int, waiting: Waiting, *, close: bool) -> None:
        self._fd = fd
        self._close = close
        self._waiting = waiting
        # No pipe, or a user that has enough of them: only the number of readings depends on it.
        with suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, CHUNK)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            self._waiting.until_readable(self._fd)
            try:
                return os.readv(self._fd, [buffer])
            except BlockingIOError:
                continue

    def close(self) -> None:
        if not self.closed and self._close:
            os.close(self._fd)
        super().close()


class KnownFile(io.RawIOBase):
    """A regular file, opened anew for each reading unless it is held: descriptors do not limit how many there are."""

    def __init__(self, path: str, about: os.stat_result, held: io.FileIO | None) -> None:
        self._path = path
        self._about = about
        self._held = held
        self.at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._held:
            got = os.preadv(self._held.fileno(), [buffer], self.at)
        else:
            with io.FileIO(self._path) as file:
                if not os.path.samestat(os.fstat(file.fileno()), self._about):
                    raise DamagedError("cannot be read to its end: another file has taken its name")
                got = os.preadv(file.fileno(), [buffer], self.at)
        self.at += got
        return got


class GrowingFile(io.RawIOBase):
    """A regular file that is followed: behind its end more is waited for.

    Raises DamagedError when it was cut short, and, once all of it was read, when its name leads elsewhere; a file that
    came without one (`path` is None), as standard input, is followed for good.
    """

    def __init__(self, file: io.FileIO, path: str | None, waiting: Waiting) -> None:
        self._file = file
        self._path = path
        self._waiting = waiting
        self._at = 0
        self._gone_since: float | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            got = os.preadv(self._file.fileno(), [buffer], self._at)
            if got:
                self._at += got
                return got
            about = os.fstat(self._file.fileno())
            if about.st_size < self._at:
                raise DamagedError(f"was cut short while it was followed: {self._at} bytes of it had been read")
            if self._replaced(about):
                raise DamagedError("was followed to its end: another file has taken its name")
            self._waiting.a_moment()

    def _replaced(self, about: os.stat_result) -> bool:
        """Whether the name has led elsewhere for a while, in which its writer had time to write the last of it."""
        if self._path is None:
            return False
        try:
            there = os.path.samestat(os.stat(self._path), about)
        except OSError:
            there = False
        now = time.monotonic()
        if there:
            self._gone_since = None
        elif self._gone_since is None:
            self._gone_since = now
        return self._gone_since is not None and now - self._gone_since > _RENAMED_AFTER


def open_stream(name: str, mode: int, waiting: Waiting) -> LiveFile:
    """What is no regular file, for reading; a socket is connected to. Raises OSError."""
    if name == "-":
        return LiveFile(sys.stdin.fileno(), waiting, close=False)
    if stat.S_ISSOCK(mode):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(name)
            return LiveFile(connection.detach(), waiting, close=True)
    return LiveFile(os.open(name, os.O_RDONLY | os.O_CLOEXEC), waiting, close=True)


class Reading:
    """The bytes of one capture, decompressed where they say so, in pieces of at most CHUNK.

    With `ahead`, of which a place is taken, what is compressed is decompressed in a thread of its own, as soon as it
    turns out to be more than a piece. For files that are never waited for: a thread that waits is not asked to stop.
    """

    def __init__(self, file: io.RawIOBase, ahead: threading.Semaphore | None = None) -> None:
        self.compression: str | None = None
        self.fault: str | None = None
        self.given = 0
        self._file = file
        self._pieces: Generator[bytes] | Ahead = self._read()
        self._rest = memoryview(b"")
        self._ahead = ahead

    def next(self) -> memoryview:
        """What comes next; nothing at the end, and where a fault was met, told by `fault`. Raises StoppedError."""
        if self._ahead and self.compression and self.given >= CHUNK:
            self._go_ahead(self._ahead)
        while not self._rest:
            try:
                self._rest = memoryview(next(self._pieces))
            except StopIteration:
                break
            except DamagedError as error:
                self.fault = f"the {f'{self.compression} data' if self.compression else 'file'} {error}"
                break
            except StoppedError:
                raise
            except Exception as error:
                # Whatever makes reading fail is a fault of the capture.
                words = error.strerror if isinstance(error, OSError) and error.strerror else error
                self.fault = f"the {self.compression or 'stream'} data cannot be read: {words}"
                break
        piece, self._rest = self._rest[:CHUNK], self._rest[CHUNK:]
        self.given += len(piece)
        return piece

    def _go_ahead(self, places: threading.Semaphore) -> None:
        if not isinstance(self._pieces, Ahead) and places.acquire(blocking=False):
            self._pieces = Ahead(self._pieces)

    def _read(self) -> Generator[bytes]:
        stream = io.BufferedReader(self._file, _READ)
        magic = b""
        while len(magic) < 4 and (more := stream.read1(4 - len(magic))):
            magic += more
        self.compression = compression_of(magic)
        if self.compression is None:
            yield magic
            while piece := stream.read1(_READ):
                yield piece
        else:
            headed: Any = io.BufferedReader(_Headed(magic, stream), _READ)
            yield from decompressed(self.compression, headed)

    def close(self) -> None:
        """Closes the file, whatever is still to come."""
        self._pieces.close()
        if self._ahead and isinstance(self._pieces, Ahead):
            self._ahead.release()
            self._ahead = None
        self._file.close()


class _Headed(io.RawIOBase):
    """A stream some of whose first bytes have been read already."""

    def __init__(self, head: bytes, stream: Any) -> None:
        self._head = head
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._stream.read1(len(buffer))
        self._head = self._head[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)
