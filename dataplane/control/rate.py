"""How many requests somebody makes: so many a second, and so many at once before that.

Who asks in turn, the next when the last is answered, is held up a little; who floods is refused.
"""

from __future__ import annotations

from collections import OrderedDict

#: Requests a second of one asker, and how many at once.
RATE, BURST = 200.0, 400.0
#: Nobody waits longer than this for his turn.
WAIT_SECONDS = 1.0
_ASKERS_MAX = 4096


class Rates:
    """A token bucket for each asker; those who asked longest ago are forgotten."""

    def __init__(self, rate: float = RATE, burst: float = BURST) -> None:
        self._rate, self._burst = rate, burst
        # Tokens and the time when there were so many, by asker.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, asker: str, now: float) -> float | None:
        """How long an asker's next request waits, in seconds; None: it is refused. `now` is in seconds."""
        tokens, then = self._buckets.pop(asker, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - then) * self._rate) - 1
        wait = max(0.0, -tokens / self._rate)
        taken = wait <= WAIT_SECONDS
        self._buckets[asker] = (tokens if taken else tokens + 1, now)
        if len(self._buckets) > _ASKERS_MAX:
            self._buckets.popitem(last=False)
        return wait if taken else None
