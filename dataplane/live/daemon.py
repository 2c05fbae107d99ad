"""The life of `dataplane run`: open what needs rights, serve until told to stop, leave as little as there was before.

What needs root happens first, in one thread: ports, the control socket, the state file's connections. Then come the
threads: workers, the control thread, metrics. At the end the workers stop before the state is written, so that it is
the last word about each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from dataplane._core.errors import DataPlaneError
from dataplane.atomic import is_replaceable, without_folder
from dataplane.control import requests
from dataplane.control.audit import Asker
from dataplane.control.service import Service
from dataplane.control.unix import ControlError, ControlServer, control_socket
from dataplane.lines import FLOW_FORMATS
from dataplane.live import (
    BUSY_POLL,
    CONTROL_SOCKET,
    FLOW_INTERVAL,
    FLOW_LOG_KEEP,
    FLOW_LOG_SIZE,
    metrics,
    readiness,
    state,
)
from dataplane.live.bounded_log import BoundedLog
from dataplane.live.firewall import WORKERS_MAX, Firewall
from dataplane.live.flow_file import FlowFile, FlowFileError
from dataplane.live.flows import Flows
from dataplane.live.interfaces import leftovers
from dataplane.live.interfaces.ports import PortError, Ports
from dataplane.live.interfaces.required import required_by
from dataplane.live.metrics_server import ScrapeServer
from dataplane.live.operations import Operations
from dataplane.live.process import privileges, seccomp
from dataplane.live.process.notify import Reloading, notify, watchdog_seconds
from dataplane.live.process.signals import Signals, StoppedError
from dataplane.live.rule_uses import RuleUses
from dataplane.policy import Policy, PolicyError, expiry
from dataplane.store import StoreError
from dataplane.store.place import opened

if TYPE_CHECKING:
    from dataplane.control.rest.extensions import Explain, Question
    from dataplane.control.rest.server import ApiOptions, ApiServers
    from dataplane.live.state import State
    from dataplane.store import Store

log = logging.getLogger("dataplane")

#: What can happen although what is asked for is valid.
FAILURES = (DataPlaneError, PortError, state.StateError, StoreError)

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


@dataclass(frozen=True, slots=True)
class Options:
    """What a firewall is started with; `uplinks` are besides those of the policy, `metrics` is ``host:port``.

    `explanation` is what the API explains packets by. `store` is the address of a store that keeps changes, which the
    policy fills when it is empty.
    """

    policy: Path
    uplinks: tuple[str, ...] = ()
    workers: int = 1
    io_uring: bool = True
    busy_poll: int = BUSY_POLL
    control: Path | None = None
    group: str | None = None
    state: Path | None = None
    metrics: str | None = None
    shadow: Path | None = None
    flows: bool = False
    flow_log: Path | None = None
    flow_format: str = "json"
    flow_log_size: int = FLOW_LOG_SIZE
    flow_log_keep: int = FLOW_LOG_KEEP
    flow_interval: float = FLOW_INTERVAL
    api: ApiOptions | None = None
    explanation: tuple[Question, Explain] | None = None
    store: str | None = None


class StartError(Exception):
    """The firewall cannot start; each line says why. `invalid` where the policy or an option is wrong."""

    def __init__(self, message: str, *, invalid: bool = False) -> None:
        super().__init__(message)
        self.invalid = invalid


def run(options: Options) -> None:
    """Runs a firewall until SIGTERM or SIGINT. Raises StartError when it cannot start."""
    if not 1 <= options.workers <= WORKERS_MAX:
        raise StartError(f"--workers {options.workers}: 1 to {WORKERS_MAX} are possible", invalid=True)
    try:
        # Interfaces are changed by being opened: no mistake of the user may be found after that.
        if options.metrics:
            metrics.place(options.metrics)
        if options.state and not is_replaceable(options.state):
            raise StartError(f"--state {options.state}: it is no regular file: name another place", invalid=True)
        if options.state and state.is_something_else(options.state):
            raise StartError(
                f"--state {options.state}: it is no state file and would be overwritten: name another place",
                invalid=True,
            )
        if options.state and (why := without_folder(options.state)):
            raise StartError(f"--state {options.state}: {why}", invalid=True)
        if options.flow_log and (why := without_folder(options.flow_log)):
            raise StartError(f"--flow-log {options.flow_log}: {why}", invalid=True)
        if options.control and (why := _without_control_folder(options.control)):
            raise StartError(f"--control {options.control}: {why}", invalid=True)
        store = opened(options.policy, options.store)
        policy = _in_force(store.load() if options.store else Policy.load(options.policy))
        shadow = _in_force(Policy.load(options.shadow)) if options.shadow else None
        before = _held_back(options)
    except (metrics.MetricsError, PolicyError, StoreError) as error:
        raise StartError(str(error), invalid=True) from None
    _refuse_first(readiness.rights())
    try:
        with Signals() as signals, contextlib.ExitStack() as stack:
            _run(before or policy, store, shadow, options, stack, signals, held_back=before is not None)
    except StoppedError:
        log.info("stopped before it ran")
    except metrics.MetricsError as error:
        raise StartError(str(error), invalid=True) from None
    except (PortError, ControlError, DataPlaneError) as error:
        raise StartError(str(error)) from None


def _without_control_folder(path: Path) -> str | None:
    """Why the control socket cannot be made in its folder; that of the usual place is made with it."""
    folder = path.absolute().parent
    if folder == Path(CONTROL_SOCKET).parent or folder.is_dir():
        return None
    return f"there is no folder {folder}: make it (mkdir -p {folder}), or name another place"


def _in_force(policy: Policy) -> Policy:
    """A policy without the rules whose time is over; the log says which these are."""
    now_ns = time.time_ns()
    for sentence in expiry.warnings(policy, now_ns):
        log.warning("%s", sentence)
    return expiry.without_expired(policy, now_ns)


def _held_back(options: Options) -> Policy | None:
    """The policy that was in force before a reload that nobody confirmed; None without one."""
    try:
        found = state.held_back(options.state) if options.state else None
        before = found and _in_force(found)
    except state.StateError as error:
        log.warning("%s", error)
        return None
    if before:
        log.warning(
            "%s is not in force: its last reload was not confirmed, and the policy before is in force; dataplane ctl"
            " reload puts it in force",
            options.store or options.policy,
        )
    return before


def _run(
    policy: Policy,
    store: Store,
    shadow: Policy | None,
    options: Options,
    stack: contextlib.ExitStack,
    signals: Signals,
    *,
    held_back: bool,
) -> None:
    places = len(options.api.places) if options.api else 0
    _refuse_first(readiness.limits(len(required_by(policy, options.uplinks)), options.workers, places))
    file = _flow_file(options)
    servers = _api(options.api, stack) if options.api else None
    scraped = stack.enter_context(metrics.listening(options.metrics)) if options.metrics else None
    listening = stack.enter_context(_listening(options)) if options.control else None
    ports = Ports(options.workers)
    opened = ports.open(policy, options.uplinks, between=signals.check)
    stack.callback(ports.close)
    signals.check()
    _put_back_leftovers()
    firewall, uses = _firewall(policy, options)
    for port in opened:
        signals.check()
        firewall.add_port(port)
    flows = Flows(firewall, file, options.flow_format) if firewall.gathers_flows else None
    operations = Operations(firewall, ports, state_path=options.state, uses=uses, flows=flows)
    if shadow:
        operations.begin_shadow(shadow, str(options.shadow))
    # Threads that are started from here on have no other rights.
    privileges.keep_only()
    if file:
        file.start()
    daemon = _Daemon(operations, ports, store, options, signals, flows, held_back=held_back)
    asyncio.run(daemon.run(listening, scraped, servers))


def _api(options: ApiOptions, stack: contextlib.ExitStack) -> ApiServers:
    """The places of the API, open until the end."""
    # Only who serves the API has what it needs.
    from dataplane.control.rest.server import ApiPlaceError, ApiServers

    try:
        servers = ApiServers.open(options)
    except ApiPlaceError as error:
        raise StartError(str(error), invalid=error.invalid) from None
    stack.callback(servers.discard)
    return servers


def _put_back_leftovers() -> None:
    """Interfaces of a firewall that was killed, but those that this one serves: it puts them back in the end."""
    try:
        for name in leftovers.put_back():
            log.info("interface %s is as it was before a firewall that was killed", name)
    except PortError as error:
        for line in str(error).splitlines():
            log.warning("%s", line)


def _refuse_first(sentences: Iterable[str]) -> None:
    """Raises StartError for the first thing that is missing."""
    for sentence in sentences:
        raise StartError(sentence)


@contextlib.contextmanager
def _listening(options: Options) -> Iterator[socket.socket]:
    assert options.control
    with control_socket(options.control, options.group) as listening:
        try:
            yield listening
        finally:
            with contextlib.suppress(OSError):
                options.control.unlink()


def _flow_file(options: Options) -> FlowFile | None:
    if not options.flow_log:
        return None
    form = FLOW_FORMATS[options.flow_format]
    try:
        return FlowFile(
            options.flow_log,
            size=options.flow_log_size,
            keep=options.flow_log_keep,
            header=form.header,
            begins=form.begins,
        )
    except FlowFileError as error:
        raise StartError(f"--flow-log {error}", invalid=True) from None


def _firewall(policy: Policy, options: Options) -> tuple[Firewall, RuleUses]:
    """A firewall under the policy, with the connections of the state file if there is one (SPEC 5: see `state`).

    And the times of its rules' use.
    """
    found = _read_state(options.state) if options.state else None
    firewall = Firewall(
        found.policy if found else policy,
        workers=options.workers,
        io_uring=options.io_uring,
        busy_poll=options.busy_poll,
        flow_interval=options.flow_interval if options.flows or options.flow_log else None,
    )
    if found is None:
        return firewall, RuleUses(firewall)
    taken = state.restore(firewall, found)
    cut = firewall.replace(firewall.changed({"apply_policy": policy}))
    log.info(
        "connections restored",
        extra={
            "file": str(options.state),
            "restored": taken,
            "saved": found.connections,
            "seconds_ago": round(found.passed_ns() / 1e9, 3),
            "disconnected": cut.total,
        },
    )
    return firewall, RuleUses(firewall, found.policy, found.uses)


def _read_state(path: Path) -> State | None:
    try:
        return state.read(path)
    except state.StateError as error:
        log.warning("%s", error)
        return None


class _Daemon:
    """The event loop around a firewall that is ready to start."""

    def __init__(
        self,
        operations: Operations,
        ports: Ports,
        store: Store,
        options: Options,
        signals: Signals,
        flows: Flows | None,
        *,
        held_back: bool = False,
    ) -> None:
        self._flows = flows
        self._signals = signals
        self._operations = operations
        self._firewall = operations.firewall
        self._ports = ports
        self._options = options
        self._control = ThreadPoolExecutor(1, thread_name_prefix="control")
        self._service = Service(
            operations,
            store,
            self._control,
            failures=FAILURES,
            held_back=held_back,
            reloading=Reloading(),
        )
        self._server = ControlServer(self._service)
        self._store = store
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
                await self._server.start(listening)
            if scraped:
                scrapes.start(scraped)
            if servers:
                from dataplane.control.rest.app import api

                await servers.start(api(self._service, servers.keys, explanation=self._options.explanation))
                self._api_places = servers.names
            self._begin(self._follow_interfaces())
            self._begin(self._service.end_rules())
            self._begin(self._service.follow_store())
            if self._flows:
                self._begin(self._take_flows(self._flows))
            self._begin(self._keep_up())
            if limit := watchdog_seconds():
                self._begin(self._tell_alive(limit / _SIGNS_OF_LIFE))
            # All threads are there, and what they do from now on they do again and again.
            self._refuse_calls()
            self._tell_ready()
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
            if self._options.state and self._stopping.is_set():
                await self._save()
            self._control.shutdown()
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
        if self._options.control:
            self._options.control.unlink(missing_ok=True)
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
                "control": str(self._options.control),
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
