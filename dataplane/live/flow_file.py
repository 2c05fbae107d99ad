"""The file of a live flow log: lines are appended by a thread of its own, so that nobody waits for a disk.

What is handed over waits in a bounded queue. A file that grows beyond its size becomes FILE.1, FILE.1 becomes FILE.2,
and so on; whoever moves it away himself has it opened anew. While it cannot be written what comes is lost and counted;
that is told once, and once when it can be written again. There is never a part of a line in it.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

log = logging.getLogger("dataplane")

QUEUE_BYTES = 16 << 20
_MODE = 0o640
_NOT_REGULAR = "it is no regular file"


class FlowFileError(Exception):
    """The flow log cannot be written: one sentence that says why."""


class FlowFile:
    """A flow log at `path` that is at most `size` bytes long (0: however long), with `keep` generations beside it.

    A file of before is continued, where it begins as one of this form does: with one of `begins`. What is something
    else, or a symbolic link, is not added to, whenever it is opened: whoever may write the folder could lead elsewhere
    what is written. `header` begins each file. Raises FlowFileError.
    """

    def __init__(
        self, path: Path, *, size: int = 0, keep: int = 5, header: bytes = b"", begins: tuple[bytes, ...] = ()
    ) -> None:
        self.path = path
        #: Records that found the queue full, and that could not be written.
        self.refused = self.unwritten = 0
        self._size, self._keep, self._header, self._begins = size, keep, header, begins
        self._queue: deque[tuple[bytes, int]] = deque()
        self._queued = 0
        self._changed = threading.Condition()
        self._reopen = self._stopping = self._failing = self._stays = False
        self._told_unwritten = 0
        self._fd = -1
        self._thread: threading.Thread | None = None
        try:
            self._open()
        except OSError as error:
            raise FlowFileError(f"{path}: {error.strerror}: name another place") from None

    # ---- for other threads ----

    def start(self) -> None:
        """Begins to write."""
        self._thread = threading.Thread(target=self._run, name="flow log", daemon=True)
        self._thread.start()

    def put(self, lines: bytes, records: int) -> None:
        """Hands over lines of so many records; waits for nothing."""
        with self._changed:
            if self._queued + len(lines) > QUEUE_BYTES:
                self.refused += records
                return
            self._queue.append((lines, records))
            self._queued += len(lines)
            self._changed.notify()

    def reopen(self) -> None:
        """What comes from now on goes to a file that is at the path."""
        with self._changed:
            self._reopen = True
            self._changed.notify()

    def close(self, seconds: float) -> None:
        """Writes what is queued and ends; what takes longer is given up."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread:
            self._thread.join(seconds)
        if self._queued:
            log.error("flow log %s takes too long: what is left of it is lost", self.path)

    # ---- the thread ----

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._reopen or self._stopping)
                again, self._reopen = self._reopen, False
                lines, records = self._queue.popleft() if self._queue else (b"", 0)
                if not (lines or again):
                    break
            if again:
                self._close()
                self._try(self._open, 0)
            if lines:
                self._try(partial(self._append, lines), records)
                with self._changed:
                    self._queued -= len(lines)
        self._close()

    def _try(self, work: Callable[[], None], records: int) -> None:
        try:
            work()
        except OSError as error:
            self.unwritten += records
            if not self._failing:
                log.error(
                    "flow log %s cannot be written (%s): records are lost until it can", self.path, error.strerror
                )
            self._failing = True
        else:
            if self._failing:
                lost = self.unwritten - self._told_unwritten
                log.info("flow log %s is written again, and lacks %d records", self.path, lost)
                self._told_unwritten = self.unwritten
            self._failing = False

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        try:
            self._fd = os.open(self.path, flags, _MODE)
        except OSError as error:
            known = {errno.ELOOP: "it is a symbolic link", errno.ENXIO: _NOT_REGULAR, errno.EISDIR: _NOT_REGULAR}
            raise OSError(error.errno, known.get(error.errno or 0, error.strerror)) from None
        try:
            self._refuse()
            if self._header and os.fstat(self._fd).st_size == 0:
                self._write(self._header)
        except OSError:
            self._close()
            raise

    def _refuse(self) -> None:
        """Nothing is appended to what is something else."""
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise OSError(errno.EINVAL, _NOT_REGULAR)
        first = os.pread(self._fd, max(map(len, self._begins), default=1), 0)
        if first and not first.startswith(self._begins):
            raise OSError(errno.EINVAL, "it is no flow log of this format and is not added to")

    def _close(self) -> None:
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
        self._fd = -1

    def _append(self, lines: bytes) -> None:
        """Appends lines, in another file where one is full. What was written stays, also where the rest fails."""
        if self._fd < 0:
            self._open()
        while lines:
            used = os.fstat(self._fd).st_size
            end = self._fitting(lines, used)
            if not end:
                if self._rotate():
                    continue
                end = len(lines)
            self._write(lines[:end])
            lines = lines[end:]

    def _fitting(self, lines: bytes, used: int) -> int:
        """How much of the lines the file takes: all, as many whole ones as fit, at least one in a file without any."""
        room = self._size - used
        if not self._size or len(lines) <= room:
            return len(lines)
        end = lines.rfind(b"\n", 0, max(room, 0)) + 1
        if not end and used <= len(self._header):
            return lines.index(b"\n") + 1
        return end

    def _write(self, data: bytes) -> None:
        """Writes all of it or nothing."""
        before = os.fstat(self._fd).st_size
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, before)
            raise

    def _rotate(self) -> bool:
        """Makes room by another file; whether there is one. Else the file goes on, which is told once."""
        try:
            for number in range(self._keep - 1, 0, -1):
                with suppress(FileNotFoundError):
                    self._generation(number).rename(self._generation(number + 1))
            if self._keep:
                self.path.rename(self._generation(1))
            else:
                self.path.unlink()
        except FileNotFoundError:
            # Somebody has moved it away.
            pass
        except OSError as error:
            if not self._stays:
                log.warning("flow log %s cannot be rotated (%s): it grows", self.path, error.strerror)
            self._stays = True
            return False
        self._stays = False
        self._close()
        self._open()
        return True

    def _generation(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
