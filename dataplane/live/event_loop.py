"""The life of a running firewall: it serves until it is told to stop.

The threads are started here: workers, the control thread, metrics. At the end the workers stop before the state is
written, so that it is the last word about each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from dataplane._core.errors import DataPlaneError
from dataplane.control import requests
from dataplane.control.audit import Asker
from dataplane.control.service import Service
from dataplane.control.unix import ControlServer
from dataplane.live import CONTROL_SOCKET, ctl_words, metrics
from dataplane.live.bounded_log import BoundedLog
from dataplane.live.flows import Flows
from dataplane.live.interfaces.ports import PortError, Ports
from dataplane.live.metrics_server import ScrapeServer
from dataplane.live.operations import Operations
from dataplane.live.process import seccomp
from dataplane.live.process.notify import Reloading, notify, watchdog_seconds
from dataplane.live.process.signals import Signals
from dataplane.live.state import StateError
from dataplane.policy import PolicyError
from dataplane.store import StoreError

if TYPE_CHECKING:
    from dataplane.control.rest.extensions import Explain, Question
    from dataplane.control.rest.server import ApiServers
    from dataplane.live.replication import Replication
    from dataplane.store import Store

log = logging.getLogger("dataplane")

#: What can happen although what is asked for is valid.
FAILURES = (DataPlaneError, PortError, StateError, StoreError)

#: Interfaces are looked at when the kernel tells of a change, and at least, and at most, so often.
_REFRESH_SECONDS, _REFRESH_PAUSE_SECONDS = 2.0, 0.1
#: How often the workers' flow records are taken.
_FLOW_SECONDS = 0.25
#: What one worker does not use of the connection table is another's after so many seconds.
_KEEP_UP_SECONDS = 0.5
#: How long the control thread may take to end what it does when the firewall stops.
_STOP_SECONDS = 10.0
#: Signs of life in the time that a service manager waits for one: a reload may take most of it.
_SIGNS_OF_LIFE = 4


class EventLoop:
    """What serves a firewall that is ready to start.

    `state` is where the connections are kept in the end, `control` the path of the control socket, `explanation` what
    the API explains packets by; `replication` is how a standby learns of connections, or this one does as a standby;
    `held_back` as of `Service`.
    """

    def __init__(
        self,
        operations: Operations,
        ports: Ports,
        store: Store,
        signals: Signals,
        flows: Flows | None,
        *,
        state: Path | None = None,
        control: Path | None = None,
        explanation: tuple[Question, Explain] | None = None,
        replication: Replication | None = None,
        held_back: bool = False,
    ) -> None:
        self._flows = flows
        self._signals = signals
        self._operations = operations
        self._firewall = operations.firewall
        self._ports = ports
        self._state_path, self._control_path = state, control
        self._explanation = explanation
        self._control = ThreadPoolExecutor(1, thread_name_prefix="control")
        self._service = Service(
            operations,
            store,
            self._control,
            failures=FAILURES,
            held_back=held_back,
            reloading=Reloading(),
            ctl=shlex.join(ctl_words(str(control or CONTROL_SOCKET))),
        )
        self._server = ControlServer(self._service)
        self._store = store
        if replication:
            operations.replication = replication.begun(self._firewall, self._service.do)
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._io_uring = "off"
        self._api_places: list[str] = []

    async def run(
        self, listening: socket.socket | None, scraped: socket.socket | None, servers: ApiServers | None = None
    ) -> None:
        """Starts everything, waits for the end, stops everything."""
        loop = asyncio.get_running_loop()
        scrapes = ScrapeServer(metrics.app(self._operations, self._service, self._control))
        try:
            self._signals.tell(lambda: loop.call_soon_threadsafe(self._heed))
            await self._do(self._start)
            if listening:
                self._server.start(listening)
            if scraped:
                scrapes.start(scraped)
            if servers:
                from dataplane.control.rest.app import api

                await servers.start(api(self._service, servers.keys, explanation=self._explanation))
                self._api_places = servers.names
            self._begin(self._follow_interfaces())
            self._begin(self._service.end_rules())
            self._begin(self._service.follow_store())
            if self._flows:
                self._begin(self._take_flows(self._flows))
            self._begin(self._keep_up())
            if self._operations.replication:
                self._begin(self._operations.replication.run())
            if limit := watchdog_seconds():
                self._begin(self._tell_alive(limit / _SIGNS_OF_LIFE))
            # All threads are there, and what they do from now on they do again and again.
            self._refuse_calls()
            self._tell_ready()
            self._begin(self._service.prepare())
            await self._stopping.wait()
            notify(STOPPING=1)
            log.info("stopping")
        finally:
            for task in self._tasks:
                task.cancel()
            if servers:
                await servers.close()
            await self._server.close()
            await self._service.close()
            await scrapes.close()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._do(self._firewall.stop)
            except TimeoutError:
                self._abandon()
            if self._flows:
                await self._do(partial(self._flows.finish, _STOP_SECONDS))
            if self._state_path and self._stopping.is_set():
                await self._save()
            self._control.shutdown()
            self._store.close()
            self._signals.tell(lambda: None)
        log.info("stopped")

    def _heed(self) -> None:
        """Does what signals ask for."""
        if self._signals.stop:
            self._stopping.set()
        if self._signals.take_reload() and not self._stopping.is_set():
            if self._flows:
                self._flows.reopen()
            self._begin(self._reload())

    def _abandon(self) -> NoReturn:
        """Ends the process although one of its threads does not: what hangs there can neither be asked nor ended."""
        log.error(
            "what was asked for has not ended within %g seconds: interfaces are put back, and the state is not saved",
            _STOP_SECONDS,
        )
        self._ports.put_back()
        if self._control_path:
            self._control_path.unlink(missing_ok=True)
        logging.shutdown()
        os._exit(1)

    def _start(self) -> None:
        self._firewall.start()
        used, refused = self._firewall.io_uring()
        self._io_uring = "on" if used else refused or "off"

    async def _do(self, function: Callable[[], object]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._control, function)

    def _begin(self, work: asyncio._CoroutineLike[None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refuse_calls(self) -> None:
        try:
            self._operations.refused_calls = seccomp.install()
        except seccomp.FilterError as error:
            self._operations.unfiltered_because = str(error)
            log.warning("system calls are not filtered: %s", error)

    def _tell_ready(self) -> None:
        ports = [port.name for port in self._firewall.ports.values()]
        notify(READY=1, STATUS=f"filtering {len(ports)} ports")
        log.info(
            "running",
            extra={
                "policy": self._store.name,
                "ports": ports,
                "workers": self._firewall.workers,
                "io_uring": self._io_uring,
                "busy_poll": self._firewall.busy_poll,
                "control": str(self._control_path),
                **({"api": self._api_places} if self._api_places else {}),
                "refused_system_calls": self._operations.refused_calls,
            },
        )

    async def _reload(self) -> None:
        """SIGHUP: as `ctl reload`; what is wrong goes to the log, and the old policy stays."""
        # What came of it, and why, is in the log already.
        with contextlib.suppress(PolicyError, PortError, DataPlaneError, OSError, ValueError):
            await self._service.answer(requests.Reload(command="reload"), Asker(signal="SIGHUP"))

    async def _follow_interfaces(self) -> None:
        """Closes ports whose interface goes, and opens them when it comes back."""
        loop, changed, fd = asyncio.get_running_loop(), asyncio.Event(), self._ports.watch_fd
        said = BoundedLog(log)

        def on_readable() -> None:
            # It stays readable until `refresh_ports` has looked.
            loop.remove_reader(fd)
            changed.set()

        while True:
            changed.clear()
            loop.add_reader(fd, on_readable)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), _REFRESH_SECONDS)
            try:
                await self._do(self._operations.refresh_ports)
                await self._do(self._operations.look_at_rules)
            except (DataPlaneError, PortError, OSError) as error:
                said.say(logging.ERROR, "interfaces", str(error))
            # Who is behind a port may change its link all the time: others want the control thread too.
            await asyncio.sleep(_REFRESH_PAUSE_SECONDS)

    async def _take_flows(self, flows: Flows) -> None:
        """Takes what workers have gathered, before their rings are full."""
        while True:
            await asyncio.sleep(_FLOW_SECONDS)
            try:
                await self._do(flows.take_all)
            except DataPlaneError as error:
                log.error("%s", error)

    async def _keep_up(self) -> None:
        """Keeps the connection tables where connections are, and ends a shadow's rules."""
        while True:
            await asyncio.sleep(_KEEP_UP_SECONDS)
            try:
                await self._do(self._operations.keep_up)
            except DataPlaneError as error:
                log.error("the shadow's rules whose time is over cannot be taken out: %s", error)

    async def _tell_alive(self, pause: float) -> None:
        """Tells the service manager, as long as this loop, the control thread and every worker do what they are asked.

        A worker answers between two bursts.
        """
        while True:
            for worker in range(self._firewall.workers):
                await self._do(partial(self._firewall.worker_counters, worker))
            notify(WATCHDOG=1)
            await asyncio.sleep(pause)

    async def _save(self) -> None:
        try:
            await self._service.save(Asker(signal=self._signals.stopped_by))
        except Exception as error:
            log.error("%s", error)
