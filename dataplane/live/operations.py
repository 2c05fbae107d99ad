"""The firewall and its ports as one thing that is asked and changed: the one place where live changes are made, one
after the other.

Everything here runs in the control thread and answers with JSON values. A policy is in force, as a whole, or nothing
has happened (SPEC 5.1, 5.6).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataplane.control import requests
from dataplane.control.operations import Effect
from dataplane.live import state
from dataplane.live.capture import Capture
from dataplane.live.feed import ConnectionEvents, Drops, Feed, Subscription
from dataplane.live.flows import FollowedFlows
from dataplane.live.moving import Arrival
from dataplane.live.port_health import PortHealth
from dataplane.live.records import counters_record, difference_record, disconnected_record, row_record
from dataplane.live.rule_uses import RuleUses
from dataplane.live.shadow import Shadow

if TYPE_CHECKING:
    from dataplane.control.answers import Saved
    from dataplane.control.requests import FlowState, Streaming
    from dataplane.control.selection import Selection
    from dataplane.control.tls import Validity
    from dataplane.flow import FlowRecord
    from dataplane.live.firewall import Firewall
    from dataplane.live.flows import Flows
    from dataplane.live.interfaces.port import Changes, Port
    from dataplane.live.interfaces.ports import Ports
    from dataplane.live.replication.sender import Sender
    from dataplane.live.replication.standby import Standby
    from dataplane.policy import Policy


_LISTED_AT_ONCE = 512


class Operations:
    """A firewall and its ports, with all that the service offers of them."""

    def __init__(
        self,
        firewall: Firewall,
        ports: Ports,
        *,
        state_path: Path | None = None,
        uses: RuleUses | None = None,
        flows: Flows | None = None,
    ) -> None:
        self.firewall = firewall
        self.uses = uses or RuleUses(firewall)
        self.feed = Feed(firewall)
        self._flows = flows
        self._shadow: Shadow | None = None
        #: How a standby learns of connections, or this firewall does as one.
        self.replication: Sender | Standby | None = None
        #: How long the certificates that it shows hold, by what they are for.
        self.certificates: dict[str, Validity] = {}
        #: System calls that the kernel refuses to this process; none for a reason.
        self.refused_calls = 0
        self.unfiltered_because: str | None = None
        self._ports = ports
        self._state_path = state_path
        self._started = time.time()
        self.port_health = PortHealth(firewall, ports)

    # ---- the policy ----

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.firewall.policy

    def changed(self, *changes: Mapping[str, Any]) -> Policy:
        """The policy in force with changes made in their order, which is not in force yet. Raises ChangeError."""
        return self.firewall.changed(*changes)

    def rehearse(self, policy: Policy) -> Effect:
        """What putting a policy in force would do. Raises PortError for an interface that it would find missing."""
        warnings = self._ports.rehearse(policy)
        return Effect(disconnected_record(self.firewall.rehearse(policy)), warnings)

    def difference(self, policy: Policy) -> dict[str, Any]:
        """What putting a policy in force would do to connections, and some of those that it would judge otherwise."""
        return difference_record(self.firewall, policy)

    def put_in_force(self, policy: Policy) -> Effect:
        """Interfaces that a policy newly names are opened before it is in force: where that fails, all stays."""
        # What was hit until now, was hit as it was.
        self.uses.look()
        ports = self._ports.update(policy)
        try:
            result = self.firewall.replace(policy)
        except BaseException:
            self._follow(ports)
            self._follow(self._ports.update(self.firewall.policy))
            raise
        self._follow(ports)
        self.uses.follow()
        return Effect(disconnected_record(result), ports.warnings)

    def hold_back(self, policy: Policy | None) -> bool:
        """Has a restart begin with this policy, or for None with that of its file. Raises StateError."""
        if self._state_path is None:
            return False
        try:
            state.hold_back(self._state_path, policy)
        except OSError as error:
            path = state.held_back_path(self._state_path)
            raise state.StateError(f"{path}: the policy before cannot be kept: {error.strerror}") from None
        return True

    def refresh_ports(self) -> None:
        """Takes out ports whose interface is gone, and serves those whose interface is back."""
        self._follow(self._ports.refresh())
        self._serve_tunnels()
        self.port_health.look()

    def _serve_tunnels(self) -> None:
        """Has super-packets of tunnels leave whole, where the kernel can, by ports that such have left in pieces."""
        for port in self.firewall.ports_wanting_tunnels():
            fd = self._ports.open_tunnel(port)
            if fd is not None:
                self.firewall.set_tunnel(port, fd)

    def look_at_rules(self) -> None:
        """Notes which rules were hit since this was called last."""
        self.uses.look()

    def rules(self, unused: float | None) -> list[dict[str, Any]]:
        """The rules in force with the times of their use; those alone that were not used for so many seconds."""
        self.uses.look()
        now_ns = time.time_ns()
        then_ns = None if unused is None else now_ns - round(unused * 1e9)
        return [
            {
                "rule": rule,
                "security_group": group,
                "enabled": self.policy.rules_by_id[rule][1].enabled,
                "since": use.since_ns / 1e9,
                "last_hit": None if use.last_ns is None else use.last_ns / 1e9,
            }
            for rule, group, use in self.uses
            if then_ns is None or use.is_unused_since(then_ns)
        ]

    @property
    def missing_interfaces(self) -> tuple[str, ...]:
        """Interfaces that the policy names and that are not there now."""
        return self._ports.missing

    def _follow(self, changes: Changes) -> None:
        """Makes the switch serve what is open. A port that comes may have the name of one that goes."""
        for port in changes.removed:
            self.firewall.remove_port(port)
            self._ports.release(port)
        for port in changes.added:
            self.firewall.add_port(port)

    # ---- connections ----

    def connections(self, selection: Selection) -> Iterator[list[dict[str, Any]]]:
        """The chosen connections, some at a time; the table goes on changing meanwhile."""
        for view in selection.views(self.firewall.connections):
            for rows in view.rows():
                now_ns = self.firewall.now()
                while batch := [row_record(row, now_ns) for row in islice(rows, _LISTED_AT_ONCE)]:
                    yield batch
        yield []

    def count(self, selection: Selection) -> dict[str, Any]:
        """How many of the chosen connections there are, in all and by state."""
        by_state: dict[str, int] = {}
        for view in selection.views(self.firewall.connections):
            for word, number in view.count_by_state().items():
                by_state[word] = by_state.get(word, 0) + number
        counters = self.firewall.counters()
        return {"count": sum(by_state.values()), "by_state": by_state, "limit": counters.max_entries}

    def delete(self, selection: Selection) -> tuple[int, dict[str, int]]:
        """Takes the chosen connections out of the table; their next packets are new.

        How many, and how many of each instance there were.
        """
        by_instance: Counter[str] = Counter()
        views = selection.views(self.firewall.connections)
        for view in views:
            for (instance, _), number in view.census().items():
                by_instance[instance] += number
            if self.replication and self.replication.role == "active":
                self.replication.deleted(view.saved())
        return sum(view.flush() for view in views), dict(by_instance)

    # ---- flows ----

    @property
    def flows(self) -> Flows:
        """The flows that are gathered. Raises ValueError where none are."""
        if self._flows is None:
            raise ValueError("flows are not gathered: start the firewall with --flows, or --flow-log FILE")
        return self._flows

    def flows_listed(self, request: requests.Flows) -> Iterator[list[dict[str, Any]]]:
        """The chosen flows, some at a time. Raises ValueError for a selection that cannot be meant."""
        return self.flows.listed(self._chosen(request))

    def _chosen(self, request: requests.Flows) -> Callable[[FlowRecord], bool]:
        chosen = request.selection.of_flows(self.firewall.connections)
        return lambda flow: request.verdict in (None, flow.verdict) and chosen(flow)

    # ---- the shadow ----

    def begin_shadow(self, policy: Policy, name: str) -> dict[str, Any]:
        """Has another policy judge all packets beside the one in force, in place of the shadow that there is."""
        before, self._shadow = self._shadow, Shadow(self.firewall, policy, name)
        if before:
            before.replaced()
        return {"taken_over": self._shadow.taken_over}

    def end_shadow(self) -> None:
        """Ends it. Raises ValueError where there is none."""
        self._there_is_a_shadow().end()
        self._shadow = None

    def shadow_report(self, top: int) -> dict[str, Any]:
        """What it has judged otherwise. Raises ValueError where there is none."""
        return self._there_is_a_shadow().report(top)

    def keep_up(self) -> None:
        """Keeps the table, and the shadow's, where connections are; to be called every now and then."""
        self.firewall.balance()
        if self._shadow:
            self._shadow.keep_up()

    def prepare(self) -> None:
        """Makes what the next change goes on from; to be called when nobody waits for anything."""
        self.firewall.prepare()

    def _there_is_a_shadow(self) -> Shadow:
        if self._shadow is None:
            raise ValueError("there is no shadow: `dataplane ctl shadow FILE` begins one")
        return self._shadow

    # ---- state ----

    def flow(self, request: FlowState) -> state.State:
        """The policy in force with the connections that packets of a flow, in either direction, may belong to."""
        source = request.source, request.source_port
        destination = request.destination, request.destination_port
        # A packet of an instance to itself is in one view, however often it is named.
        sides = dict.fromkeys([(source, destination), (destination, source)])
        views = [
            self.firewall.connections.filter(
                protocol=request.protocol,
                local=local,
                local_port=local_port,
                remote=remote,
                remote_port=remote_port,
            )
            for (local, local_port), (remote, remote_port) in sides
        ]
        return state.taken(self.firewall, views)

    def exported(self, selection: Selection) -> state.State:
        """The policy in force with the chosen connections. Raises ValueError for a selection that cannot be meant."""
        return state.taken(self.firewall, selection.views(self.firewall.connections))

    def encoded(self, taken: state.State) -> bytes:
        """What is known of connections, in the form of the state file; for any thread."""
        return b"".join(state.encoded(taken))

    @property
    def import_bytes(self) -> int:
        """How much what is imported may be at most: as many connections as the table holds."""
        return state.most_bytes(self.policy.conntrack.max_entries)

    def arriving(self, data: bytes) -> Arrival:
        """Connections of another firewall; for any thread. Raises ValueError where that is damaged."""
        try:
            return Arrival(self.firewall, state.decoded(data, "state.json"))
        except state.StateError as error:
            raise ValueError(f"the connections cannot be imported, and none is taken: {error}") from None

    def save(self) -> state.State:
        """The state to be written to the state file. Raises ValueError where no file was named at the start."""
        if self._state_path is None:
            raise ValueError("there is no state file: start the firewall with --state FILE")
        self.uses.look()
        return state.taken(self.firewall, uses=self.uses.saved())

    def write(self, taken: state.State) -> Saved:
        """Writes the state file; for any thread. Raises StateError."""
        assert self._state_path
        try:
            state.write(self._state_path, taken)
        except OSError as error:
            raise state.StateError(f"{self._state_path}: the state cannot be written: {error.strerror}") from None
        return {"file": str(self._state_path), "connections": taken.connections}

    # ---- what it tells while somebody wants to know ----

    def port_number(self, name: str | None) -> int:
        """The number of a port by its interface's name; -1 for None. Raises ValueError for one that is not there."""
        if name is None:
            return -1
        number = self.firewall.port_number(name)
        if number is None:
            known = ", ".join(port.name for port in self.firewall.ports.values())
            raise ValueError(f"there is no port {name}: the ports are {known or 'none'}")
        return number

    def source(self, request: Streaming) -> Feed | Flows:
        """Where what a request wants to be told of comes from. Raises ValueError where there is nothing of it."""
        return self.flows if isinstance(request, requests.Flows) else self.feed

    def subscription(self, request: Streaming, notify: Callable[[], None]) -> Subscription | FollowedFlows:
        """A subscription for what a request wants to be told of; the feed does not know it yet. Raises ValueError."""
        match request:
            case requests.Events():
                return ConnectionEvents(self.firewall, notify)
            case requests.Drops():
                return Drops(self.firewall, notify, port=self.port_number(request.port), rate=request.rate)
            case requests.Capture():
                return Capture(self.firewall, notify, port=self.port_number(request.port))
            case requests.Flows():
                return FollowedFlows(notify, self._chosen(request))

    # ---- what it does ----

    def status(self) -> dict[str, Any]:
        """The firewall at a glance."""
        from dataplane import __version__

        policy, counters = self.firewall.policy, self.firewall.counters()
        io_uring, io_uring_error = self.firewall.io_uring()
        troubles = self.port_health.troubles()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started": self._started,
            "uptime": time.time() - self._started,
            "workers": self.firewall.workers,
            "io_uring": io_uring,
            "io_uring_error": io_uring_error,
            "busy_poll": self.firewall.busy_poll,
            "refused_system_calls": self.refused_calls,
            "unfiltered_because": self.unfiltered_because,
            "state_file": str(self._state_path) if self._state_path else None,
            "security_groups": len(policy.security_groups),
            "rules": len(policy.rules_by_id),
            "instances": len(policy.instances),
            "connections": counters.entries,
            "connections_limit": counters.max_entries,
            "table_bytes": counters.table_bytes,
            "early_drops": counters.early_drops,
            "ports": [_port_record(port, troubles.get(number)) for number, port in self.firewall.ports.items()],
            "missing_interfaces": list(self.missing_interfaces),
            "replication": self.replication.record() if self.replication else None,
            "shadow": {"policy": self._shadow.name, "began": self._shadow.began} if self._shadow else None,
        }

    def counters(self) -> dict[str, Any]:
        """All counters: by verdict and reason, rule, port, worker."""
        return counters_record(self.firewall)

    def stations(self) -> list[dict[str, Any]]:
        """The MACs that the switch knows."""
        return [
            {"mac": s.mac, "port": s.port, "vlan": s.vlan, "fixed": s.fixed, "age": s.age}
            for s in self.firewall.stations()
        ]


def _port_record(port: Port, trouble: str | None) -> dict[str, Any]:
    return {
        "port": port.name,
        "kind": port.kind,
        "instance": port.instance.id if port.instance else None,
        "load_balancer": port.balancer.id if port.balancer else None,
        "made": port.made,
        "error": trouble,
    }
