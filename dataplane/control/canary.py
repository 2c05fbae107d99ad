"""A policy that is tried before it is in force on all hosts of a fleet: a shadow judges by it on some of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from dataplane.control import audit
from dataplane.control.audit import STORE

if TYPE_CHECKING:
    from dataplane.control.operations import Operations
    from dataplane.policy import Policy
    from dataplane.store import SharedStore

#: What a shadow is called that judges for the fleet.
_CANARY = "canary of the fleet"
#: How often is looked whether there is one, and what has come of it.
_LOOK_SECONDS = 1.0


class Canary:
    """Has a shadow judge here by what the store says is tried; `do` runs something in the control thread."""

    def __init__(self, shared: SharedStore, operations: Operations, do: Callable[..., Awaitable[Any]]) -> None:
        self._shared, self._operations, self._do = shared, operations, do

    async def run(self) -> None:
        """Judges, and tells the store what came of it, until it is cancelled."""
        judging, began = "", 0.0
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            wanted = self._shared.canary
            wanted_id = wanted.id if wanted else ""
            try:
                if judging and judging != wanted_id:
                    judging = ""
                    await self._do(self._end)
                if wanted is None:
                    self._shared.tell_canary(None)
                    continue
                if not judging:
                    policy = await asyncio.to_thread(wanted.policy)
                    await self._do(self._begin, policy)
                    judging, began = wanted_id, time.monotonic()
                seconds = time.monotonic() - began
                packets = (await self._do(self._report))["packets"]
                told = {"seconds": round(seconds, 3), "same": packets["same"], "changed": packets["changed"]}
                self._shared.tell_canary({"id": wanted_id, **told})
            except Exception as error:
                self._shared.tell_canary({"id": wanted_id, "error": " ".join(str(error).split())})

    def _begin(self, policy: Policy) -> None:
        with contextlib.suppress(ValueError):
            self._operations.shadow_report(0)
            raise RuntimeError("another shadow judges there: dataplane ctl shadow off ends it")
        self._operations.begin_shadow(policy, _CANARY)
        audit.done("shadow judges beside the policy in force", STORE, file=_CANARY)

    def _report(self) -> dict[str, Any]:
        found = self._operations.shadow_report(0)
        if found["policy"] != _CANARY:
            raise ValueError("another shadow has taken its place there")
        return found

    def _end(self) -> None:
        # Somebody may have ended it, or begun another one.
        with contextlib.suppress(ValueError):
            self._report()
            self._operations.end_shadow()
            audit.done("shadow ended", STORE)
