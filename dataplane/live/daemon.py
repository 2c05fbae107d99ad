"""The start of `dataplane run`: what is asked for is checked, and what needs rights is opened.

That happens in one thread: ports, the control socket, the state file's connections. What comes then, until the firewall
stops, is in `event_loop`. What was opened is closed in the end, so that as little stays as there was before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dataplane._core.errors import DataPlaneError
from dataplane.atomic import is_replaceable, without_folder
from dataplane.control.unix import ControlError, control_socket
from dataplane.lines import FLOW_FORMATS
from dataplane.live import (
    BUSY_POLL,
    CONTROL_SOCKET,
    FLOW_INTERVAL,
    FLOW_LOG_KEEP,
    FLOW_LOG_SIZE,
    ctl_words,
    metrics,
    readiness,
    state,
)
from dataplane.live.event_loop import EventLoop
from dataplane.live.firewall import WORKERS_MAX, Firewall
from dataplane.live.flow_file import FlowFile, FlowFileError
from dataplane.live.flows import Flows
from dataplane.live.interfaces import leftovers
from dataplane.live.interfaces.ports import PortError, Ports
from dataplane.live.interfaces.required import required_by
from dataplane.live.operations import Operations
from dataplane.live.process import privileges
from dataplane.live.process.signals import Signals, StoppedError
from dataplane.live.rule_uses import RuleUses
from dataplane.policy import Policy, PolicyError, expiry
from dataplane.store import StoreAwayError, StoreError
from dataplane.store.place import opened

if TYPE_CHECKING:
    from dataplane.control.rest.extensions import Explain, Question
    from dataplane.control.rest.server import ApiOptions, ApiServers
    from dataplane.live.replication import Replication, ReplicationOptions
    from dataplane.live.state import State
    from dataplane.store import Store

log = logging.getLogger("dataplane")


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
    replication: ReplicationOptions | None = None


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
        replication = _replication(options.replication) if options.replication else None
        store = opened(options.policy, options.store, _beside(options.state, ".policy"))
        policy = _in_force(store.load() if options.store else Policy.load(options.policy))
        shadow = _in_force(Policy.load(options.shadow)) if options.shadow else None
        before = _held_back(options)
    except StoreAwayError as error:
        raise StartError(str(error)) from None
    except (metrics.MetricsError, PolicyError, StoreError) as error:
        raise StartError(str(error), invalid=True) from None
    _refuse_first(readiness.rights())
    try:
        with Signals() as signals, contextlib.ExitStack() as stack:
            if replication:
                stack.enter_context(replication)
            _run(before or policy, store, shadow, options, stack, signals, replication, held_back=before is not None)
    except StoppedError:
        log.info("stopped before it ran")
    except metrics.MetricsError as error:
        raise StartError(str(error), invalid=True) from None
    except (PortError, ControlError, DataPlaneError) as error:
        raise StartError(str(error)) from None


def _beside(state: Path | None, ending: str) -> Path | None:
    """A file beside that of the state."""
    return state.with_name(state.name + ending) if state else None


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
            "%s is not in force: its last reload was not confirmed, and the policy before is in force; %s reload"
            " puts it in force",
            options.store or options.policy,
            shlex.join(ctl_words(str(options.control or CONTROL_SOCKET))),
        )
    return before


def _run(
    policy: Policy,
    store: Store,
    shadow: Policy | None,
    options: Options,
    stack: contextlib.ExitStack,
    signals: Signals,
    replication: Replication | None,
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
    for use, found in (
        ("api", servers and servers.certificate),
        ("replication", replication and replication.certificate),
    ):
        if found:
            operations.certificates[use] = found
    if shadow:
        operations.begin_shadow(shadow, str(options.shadow))
    # Threads that are started from here on have no other rights.
    privileges.keep_only()
    if file:
        file.start()
    loop = EventLoop(
        operations,
        ports,
        store,
        signals,
        flows,
        state=options.state,
        control=options.control,
        explanation=options.explanation,
        replication=replication,
        held_back=held_back,
    )
    asyncio.run(loop.run(listening, scraped, servers))


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


def _replication(options: ReplicationOptions) -> Replication:
    """What replication needs, and the place that a standby listens at."""
    from dataplane.live.replication import Replication, ReplicationError

    try:
        return Replication.open(options)
    except ReplicationError as error:
        raise StartError(str(error), invalid=True) from None


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
