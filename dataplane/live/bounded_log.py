"""Log lines whose number others choose: who is behind a port can take its link down and up for ever.

What there is to say about one thing is said at once, LINES times in a minute. What is more is left out, and when the
minute is over, a line says how many there were and what the last of them was, so that the log ends with how it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

LINES = 10
MINUTE = 60.0


@dataclass(slots=True)
class _Minute:
    """What was said about one thing since the minute began, and of what was not the number and the last."""

    ends: float
    lines: int = 0
    left_out: int = 0
    level: int = logging.INFO
    last: str = ""


class BoundedLog:
    """All methods are for one thread; `clock` gives seconds."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._minutes: dict[str, _Minute] = {}

    def say(self, level: int, about: str, text: str) -> None:
        """Says a sentence about something, or notes that there was one to say."""
        self.look()
        minute = self._minutes.setdefault(about, _Minute(self._clock() + MINUTE))
        if minute.lines < LINES:
            minute.lines += 1
            self._log.log(level, "%s", text)
            return
        minute.left_out += 1
        minute.level, minute.last = level, text

    def look(self) -> None:
        """Ends the minutes that are over; to be called now and then."""
        now = self._clock()
        for about in [about for about, minute in self._minutes.items() if minute.ends <= now]:
            minute = self._minutes.pop(about)
            if minute.left_out:
                # It counts for the next minute, so that what goes on for ever says no more than before.
                self._minutes[about] = _Minute(now + MINUTE, lines=1)
                self._log.log(
                    minute.level,
                    "%s: %d more lines about it were left out in %d seconds, the last of them: %s",
                    about,
                    minute.left_out,
                    MINUTE,
                    minute.last,
                )
