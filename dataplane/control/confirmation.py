"""A change that waits for its confirmation: what is in force again where that does not come.

It waits by the monotonic clock, which no setting of the wall's clock moves.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataplane.control.answers import Waiting
    from dataplane.control.audit import Asker
    from dataplane.policy import Policy

#: So long a change may wait for its confirmation.
CONFIRM_SECONDS_MAX = 7 * 86400


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A change that is taken back when the monotonic clock is at `until`, in seconds, and what was before it.

    `before` was in force, `loaded` was what had been loaded from the store at `loaded_at`, and `unsaved` changes had
    been made to that in memory. `is_reload` where the change came from the store. `made_at` is in seconds since 1970.
    """

    what: str
    asker: Asker
    generation: int
    made_at: float
    until: float
    before: Policy
    loaded: Policy
    loaded_at: float
    unsaved: int
    is_reload: bool

    def left(self) -> float:
        """How many seconds there are to confirm it."""
        return max(0.0, self.until - time.monotonic())

    def record(self) -> Waiting:
        """As `ctl status` tells it."""
        left = self.left()
        return {
            "change": self.what,
            "generation": self.generation,
            "by": self.asker.extra(),
            "until": time.time() + left,
            "seconds_left": left,
        }

    def refusal(self, ctl: str) -> str:
        """Why no other change is made meanwhile; `ctl` is what a command to this firewall begins with."""
        return (
            f"a change waits for its confirmation for {self.left():.0f} s more ({self.what}): {ctl} confirm"
            " keeps it, and with --revert takes it back; other changes can be made then"
        )
