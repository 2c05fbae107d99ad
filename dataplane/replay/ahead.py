"""Reading ahead: what an iterator yields is made in a thread of its own while the last of it is still worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator

#: How many pieces wait for their reader at most.
_PIECES = 8


class Ahead(Iterator[bytes]):
    """A generator of bytes, run in a thread until its end or `close`; what it raises is raised where it is read."""

    def __init__(self, pieces: Generator[bytes]) -> None:
        self._pieces = pieces
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(_PIECES)
        self._closing = False
        self._end: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        end: BaseException = StopIteration()
        try:
            for piece in self._pieces:
                if self._closing:
                    break
                if piece:
                    self._queue.put(piece)
        except BaseException as error:
            end = error
        self._queue.put(end)

    def __next__(self) -> bytes:
        if self._end is not None:
            raise self._end
        found = self._queue.get()
        if isinstance(found, BaseException):
            self._end = found
            raise found
        return found

    def close(self) -> None:
        """Ends the thread, whatever is still to come, and closes the generator."""
        self._closing = True
        while self._end is None:
            # Whoever waits for room sees then that no more is wanted.
            found = self._queue.get()
            if isinstance(found, BaseException):
                self._end = found
        self._thread.join()
        self._pieces.close()
