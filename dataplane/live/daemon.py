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
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dataplane._core.errors import DataPlaneError
from dataplane.atomic import is_replaceable
from dataplane.live import BUSY_POLL, metrics, privileges, seccomp, state
from dataplane.live.control import ControlError, ControlServer, control_socket
from dataplane.live.firewall import WORKERS_MAX, Firewall
from dataplane.live.notify import notify
from dataplane.live.operations import Operations
from dataplane.live.ports import PortError, Ports
from dataplane.policy import Policy, PolicyError

if TYPE_CHECKING:
    from dataplane.live.state import State

log = logging.getLogger("dataplane")

_REFRESH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a firewall is started with; `uplinks` are besides those of the policy, `metrics` is ``host:port``."""

    policy: Path
    uplinks: tuple[str, ...] = ()
    workers: int = 1
    io_uring: bool = True
    busy_poll: int = BUSY_POLL
    control: Path | None = None
    group: str | None = None
    state: Path | None = None
    metrics: str | None = None


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
        policy = Policy.load(options.policy)
    except (metrics.MetricsError, PolicyError) as error:
        raise StartError(str(error), invalid=True) from None
    _need_rights()
    try:
        with contextlib.ExitStack() as stack:
            _run(policy, options, stack)
    except metrics.MetricsError as error:
        raise StartError(str(error), invalid=True) from None
    except (PortError, ControlError, DataPlaneError) as error:
        raise StartError(str(error)) from None


def _run(policy: Policy, options: Options, stack: contextlib.ExitStack) -> None:
    listening = stack.enter_context(_listening(options)) if options.control else None
    ports = Ports(options.workers)
    opened = ports.open(policy, options.uplinks)
    stack.callback(ports.close)
    firewall = _firewall(policy, options)
    for port in opened:
        firewall.add_port(port)
    operations = Operations(firewall, ports, options.policy, state_path=options.state)
    # Threads that are started from here on have no other rights.
    privileges.keep_only()
    asyncio.run(_Daemon(operations, ports, options).run(listening))


def _need_rights() -> None:
    if os.geteuid() != 0 and not _has_net_admin():
        raise StartError(
            "live traffic needs the rights of root (CAP_NET_ADMIN and CAP_NET_RAW): start it as root, as in sudo"
            " dataplane run"
        )
    if not Path("/dev/net/tun").exists():
        raise StartError(
            "/dev/net/tun is missing: load the kernel's module (modprobe tun), or give the container the device"
            " (--device /dev/net/tun)"
        )


def _has_net_admin() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> 12 & 1)
    return False


@contextlib.contextmanager
def _listening(options: Options) -> Iterator[socket.socket]:
    assert options.control
    with control_socket(options.control, options.group) as listening:
        try:
            yield listening
        finally:
            with contextlib.suppress(OSError):
                options.control.unlink()


def _firewall(policy: Policy, options: Options) -> Firewall:
    """A firewall under the policy, with the connections of the state file if there is one (SPEC 5: see `state`)."""
    found = _read_state(options.state) if options.state else None
    firewall = Firewall(
        found.policy if found else policy,
        workers=options.workers,
        io_uring=options.io_uring,
        busy_poll=options.busy_poll,
    )
    if found is None:
        return firewall
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
    return firewall


def _read_state(path: Path) -> State | None:
    try:
        return state.read(path)
    except state.StateError as error:
        log.warning("%s", error)
        return None


class _Daemon:
    """The event loop around a firewall that is ready to start."""

    def __init__(self, operations: Operations, ports: Ports, options: Options) -> None:
        self._operations = operations
        self._firewall = operations.firewall
        self._ports = ports
        self._options = options
        self._control = ThreadPoolExecutor(1, thread_name_prefix="control")
        self._server = ControlServer(operations, self._control)
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._io_uring = "off"

    async def run(self, listening: socket.socket | None) -> None:
        """Starts everything, waits for the end, stops everything."""
        loop = asyncio.get_running_loop()
        stop_metrics: Callable[[], None] | None = None
        await self._do(self._start)
        try:
            if listening:
                await self._server.start(listening)
            if self._options.metrics:
                stop_metrics = metrics.serve(self._options.metrics, self._operations, self._control)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stopping.set)
            loop.add_signal_handler(signal.SIGHUP, lambda: self._begin(self._reload()))
            self._begin(self._follow_interfaces())
            # All threads are there, and what they do from now on they do again and again.
            self._refuse_calls()
            self._tell_ready()
            await self._stopping.wait()
            notify(STOPPING=1)
            log.info("stopping")
        finally:
            for task in self._tasks:
                task.cancel()
            await self._server.close()
            if stop_metrics:
                await asyncio.to_thread(stop_metrics)
            await self._do(self._firewall.stop)
            if self._options.state and self._stopping.is_set():
                await self._save()
            self._control.shutdown()
        log.info("stopped")

    def _start(self) -> None:
        self._firewall.start()
        used, refused = self._firewall.io_uring()
        self._io_uring = "on" if used else refused or "off"

    async def _do(self, function: Callable[[], None]) -> None:
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
                "policy": str(self._options.policy),
                "ports": ports,
                "workers": self._firewall.workers,
                "io_uring": self._io_uring,
                "busy_poll": self._firewall.busy_poll,
                "control": str(self._options.control),
                "refused_system_calls": self._operations.refused_calls,
            },
        )

    async def _reload(self) -> None:
        """SIGHUP: as `ctl reload`; what is wrong goes to the log, and the old policy stays."""
        try:
            answer = await self._server.do(self._operations.reload)
        except PolicyError as error:
            for mistake in error.mistakes:
                log.error("%s", mistake)
            log.error("the policy is not valid: the one before stays in force")
        except (PortError, DataPlaneError, OSError, ValueError) as error:
            log.error("%s: the policy before stays in force", error)
        else:
            log.info("policy reloaded", extra=answer)

    async def _follow_interfaces(self) -> None:
        """Closes ports whose interface goes, and opens them when it comes back."""
        loop, changed, fd = asyncio.get_running_loop(), asyncio.Event(), self._ports.watch_fd

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
            except (DataPlaneError, PortError, OSError) as error:
                log.error("%s", error)

    async def _save(self) -> None:
        try:
            await self._server.save()
        except Exception as error:
            log.error("%s", error)
