"""Policies are read in a thread of their own, one at a time, so that a large one keeps nobody waiting who only asks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataplane.policy import Policy


@dataclass(frozen=True, slots=True)
class Reading:
    """A policy that has been read, or could not be: `policy` returns it or raises why. `started` by perf_counter."""

    policy: Callable[[], Policy]
    started: float


class PolicyReader:
    """Reads policies for one event loop."""

    def __init__(self) -> None:
        self._one_at_a_time = asyncio.Lock()

    async def read(self, load: Callable[[], Policy]) -> Reading:
        """Reads what a function returns, once what is being read has been.

        Nobody waits for the thread at the end: a disk may never answer.
        """
        started = time.perf_counter()
        found: asyncio.Future[Callable[[], Policy]] = asyncio.get_running_loop().create_future()
        await self._one_at_a_time.acquire()
        try:
            threading.Thread(target=_tell, args=(load, found), name="reading", daemon=True).start()
        except RuntimeError:
            self._one_at_a_time.release()
            raise
        # Who asked may be gone before it ends.
        found.add_done_callback(lambda _: self._one_at_a_time.release())
        return Reading(await asyncio.shield(found), started)


def _tell(load: Callable[[], Policy], found: asyncio.Future[Callable[[], Policy]]) -> None:
    """Gives a future of another thread's loop what returns a policy, or raises why there is none."""
    read: Future[Policy] = Future()
    try:
        read.set_result(load())
    except Exception as error:
        read.set_exception(error)
    # The loop may have ended meanwhile.
    with contextlib.suppress(RuntimeError):
        found.get_loop().call_soon_threadsafe(found.set_result, read.result)
