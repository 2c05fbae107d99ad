"""What readers are told of as it happens: events, drops, captures; each has a subscription of his own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane.control.operations import Feed, Operations, Source, Subscription
    from dataplane.control.requests import Streaming

log = logging.getLogger("dataplane")

Do = Callable[..., Awaitable[Any]]

#: Pause between two readings of a feed of drops, so that a flood of them costs little.
_PAUSE_SECONDS = 0.05


class Readers:
    """Those who follow; while one wants what the workers tell, it is moved to the subscriptions.

    `do` runs a function in the control thread, which is `control`'s. `failures` are the exceptions that mean that the
    feed cannot be read.
    """

    def __init__(
        self, operations: Operations, do: Do, control: Executor, failures: tuple[type[Exception], ...]
    ) -> None:
        self._operations = operations
        self._do = do
        self._control = control
        self._failures = failures
        self._pump: asyncio.Task[None] | None = None
        self._number = 0

    async def close(self) -> None:
        """Moves nothing more."""
        if self._pump:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def following(self, request: Streaming) -> AsyncIterator[Following]:
        """What a request wants to be told of, from now on. Raises ValueError."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()

        def notify() -> None:
            loop.call_soon_threadsafe(ready.set)

        source, feed = self._operations.source(request), self._operations.feed
        subscription = self._operations.subscription(request, notify)
        await self._do(source.subscribe, subscription)
        pumped = source is feed
        self._number += pumped
        if pumped and self._pump is None:
            self._pump = asyncio.create_task(self._pump_feed(feed))
        try:
            yield Following(self._do, source, subscription, ready)
        finally:
            self._number -= pumped
            self._control.submit(source.unsubscribe, subscription)

    async def _pump_feed(self, feed: Feed) -> None:
        """Moves items from the workers to the subscriptions as long as there are any."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        fd = feed.fd

        def on_readable() -> None:
            loop.remove_reader(fd)
            readable.set()

        try:
            while self._number:
                readable.clear()
                loop.add_reader(fd, on_readable)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(readable.wait(), 1)
                taken = await self._do(feed.pump)
                if taken is None or not feed.is_dense:
                    await asyncio.sleep(_PAUSE_SECONDS)
        except self._failures:
            log.exception("the feed cannot be read: events, drops and captures get nothing more")
        finally:
            loop.remove_reader(fd)
            self._pump = None


class Following:
    """A subscription as its reader has it."""

    def __init__(self, do: Do, source: Source, subscription: Subscription, ready: asyncio.Event) -> None:
        self._do = do
        self._source = source
        self._subscription = subscription
        self._ready = ready

    async def take(self) -> bytes:
        """Waits until there is something, and takes it."""
        await self._ready.wait()
        self._ready.clear()
        return self._subscription.take()

    async def end(self) -> tuple[bytes, int]:
        """What is left, with the ending, and how many items were lost."""
        await self._do(self._source.look_for_losses)
        return self._subscription.take() + self._subscription.ending(), self._subscription.lost
