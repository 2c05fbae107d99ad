"""The API over a firewall without ports: `dataplane api`. It judges nothing, but for a shadow or an explanation.

The service, the operations and the firewall are those of `dataplane run`; there are only no interfaces, so that it
needs no rights.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataplane._core.errors import DataPlaneError
from dataplane.control.rest.app import api
from dataplane.control.rest.server import ApiPlaceError, ApiServers
from dataplane.control.service import Service
from dataplane.live.firewall import Firewall
from dataplane.live.operations import Operations
from dataplane.live.process.notify import notify
from dataplane.live.process.signals import Signals
from dataplane.live.state import StateError
from dataplane.policy import Policy, PolicyError, expiry
from dataplane.store import StoreAwayError, StoreError
from dataplane.store.place import opened

if TYPE_CHECKING:
    from dataplane.control.rest.extensions import Explain, Question
    from dataplane.control.rest.server import ApiOptions
    from dataplane.live.interfaces.port import Port
    from dataplane.store import Store

log = logging.getLogger("dataplane")

_FAILURES = (DataPlaneError, StateError, StoreError)


class SimulationError(Exception):
    """It cannot start; each line says why. `invalid` where the policy or an option is wrong."""

    def __init__(self, message: str, *, invalid: bool) -> None:
        super().__init__(message)
        self.invalid = invalid


class NoPorts:
    """Ports of which there are never any."""

    missing: tuple[str, ...] = ()

    def update(self, policy: Policy) -> NoChanges:
        """No policy changes them."""
        return NoChanges()

    def rehearse(self, policy: Policy) -> tuple[str, ...]:
        """No policy needs any."""
        return ()

    def release(self, port: Port) -> None:
        """There is none."""


class NoChanges:
    """What became of ports that there are not."""

    added = removed = changed = warnings = ()


def serve(policy: Path, options: ApiOptions, explanation: tuple[Question, Explain], store: str | None = None) -> None:
    """Serves the API until SIGTERM or SIGINT; changes are kept in a store, where one is given.

    Raises SimulationError when it cannot start.
    """
    try:
        kept = opened(policy, store, kind="-api")
        loaded = expiry.without_expired(kept.load(), time.time_ns())
        servers = ApiServers.open(options)
    except StoreAwayError as error:
        raise SimulationError(str(error), invalid=False) from None
    except (PolicyError, StoreError, ApiPlaceError) as error:
        raise SimulationError(str(error), invalid=not isinstance(error, ApiPlaceError) or error.invalid) from None
    try:
        with Signals() as signals:
            asyncio.run(_serve(Firewall(loaded), kept, servers, signals, explanation))
    except DataPlaneError as error:
        raise SimulationError(str(error), invalid=False) from None
    finally:
        servers.discard()


async def _serve(
    firewall: Firewall,
    kept: Store,
    servers: ApiServers,
    signals: Signals,
    explanation: tuple[Question, Explain],
) -> None:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    control = ThreadPoolExecutor(1, thread_name_prefix="control")
    ports: Any = NoPorts()
    service = Service(Operations(firewall, ports), kept, control, failures=_FAILURES)
    firewall.start()
    tasks = [asyncio.create_task(work) for work in (service.end_rules(), service.follow_store())]
    try:
        await servers.start(api(service, servers.keys, explanation=explanation))
        signals.tell(lambda: loop.call_soon_threadsafe(_heed, signals, stopping))
        notify(READY=1)
        log.info("serving", extra={"policy": kept.name, "api": servers.names})
        tasks.append(asyncio.create_task(service.prepare()))
        await stopping.wait()
        notify(STOPPING=1)
    finally:
        signals.tell(lambda: None)
        for task in tasks:
            task.cancel()
        await servers.close()
        await service.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        control.shutdown()
        firewall.stop()
        kept.close()
    log.info("stopped")


def _heed(signals: Signals, stopping: asyncio.Event) -> None:
    if signals.stop:
        stopping.set()
    elif signals.take_reload():
        log.info("the policy is not loaded again: changes are made by the API")
