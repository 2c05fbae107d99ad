"""The live firewall: a policy in force between ports, judged by one worker thread for each queue.

Everything here is called by one thread at a time, the control thread; what needs a worker's tables is carried out by
the worker between two bursts, so that no call stalls the packets.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataplane import conntrack
from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.live import BUSY_POLL
from dataplane.plane import Plane, seed_words
from dataplane.port_bindings import describe_port
from dataplane.update import Disconnected

if TYPE_CHECKING:
    from dataplane.live.interfaces.port import Port
    from dataplane.policy.model import Policy

WORKERS_MAX = lib.DP_WORKERS_MAX
_STATIONS_MAX = 65536
_FEED_TURNS, _FEED_BYTES = 256, 1 << 20
_KINDS = {"tap": lib.DP_PORT_TAP, "packet": lib.DP_PORT_PACKET}


@dataclass(frozen=True, slots=True)
class Station:
    """A MAC that the switch has learned in a VLAN (0: none), or knows from the policy (`fixed`): `port` leads to it.

    `age` is in seconds.
    """

    mac: str
    port: str
    vlan: int
    fixed: bool
    age: int


class Firewall(Plane):
    """A policy in force between live ports.

    `workers` threads share the traffic, each connection kept on one of them. `io_uring` lets them read and write TAPs
    through it, many frames a call, where the kernel gives it. While they have little to do they look for frames for
    `busy_poll` microseconds before they sleep. With a `flow_interval` flows are gathered, denied ones for so many
    seconds (`flows.Flows` takes them). `seed` keys the hash of the connection tables; None takes a fresh one
    (SPEC 4.9).
    """

    def __init__(
        self,
        policy: Policy,
        *,
        workers: int = 1,
        io_uring: bool = True,
        busy_poll: int = BUSY_POLL,
        flow_interval: float | None = None,
        seed: int | None = None,
    ) -> None:
        words = ffi.new("uint64_t[2]", seed_words(seed))
        out = ffi.new("struct dp_firewall **")
        config = conntrack.settings(policy.conntrack, verify_checksums=True)
        check(lib.dp_firewall_new(config, words, workers, out), "making the firewall")
        self.handle = ffi.gc(out[0], lib.dp_firewall_free)
        self._ports: dict[int, Port] = {}
        self._described: dict[int, bytes] = {}
        self.workers, self.busy_poll = workers, busy_poll
        #: Takes some of what the workers tell, and names it; `Feed` does it for its readers.
        self.take_feed: Callable[[], object] = self._drop_feed
        #: The same of flow records; forgets what is kept of them; and how many it could not hand on, or write.
        self.take_flows: Callable[[], object] = lambda: None
        self.forget_flows: Callable[[], object] = lambda: None
        self.flow_losses: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self.gathers_flows = flow_interval is not None
        # Of the change that is being made.
        self._changed: dict[int, Port] = {}
        self._closed: set[int] = set()
        self._describing: dict[int, bytes] = {}
        super().__init__(policy, verify_checksums=True, driven=_plane_of(self.handle))
        lib.dp_firewall_want_uring(self.handle, io_uring)
        lib.dp_firewall_busy_poll(self.handle, busy_poll * 1000)
        if flow_interval is not None:
            interval_ns = round(flow_interval * conntrack.NANOSECONDS)
            check(lib.dp_firewall_gather_flows(self.handle, interval_ns), "gathering flows")

    @staticmethod
    def now() -> int:
        """Nanoseconds of the clock by which connections live: the monotonic one."""
        return lib.dp_firewall_now()

    @staticmethod
    def to_wall_clock() -> int:
        """What to add to a time of the firewall's clock to have nanoseconds since 1970."""
        return time.time_ns() - lib.dp_firewall_now()

    # ---- life ----

    def start(self) -> None:
        """Starts the workers. Raises DataPlaneError when the system gives no thread."""
        check(lib.dp_firewall_start(self.handle), "starting the workers")

    def stop(self) -> None:
        """Stops the workers; connections and counters stay as they are."""
        lib.dp_firewall_stop(self.handle)

    def io_uring(self) -> tuple[bool, str | None]:
        """Whether the workers use io_uring; and why the system refuses it, if it does."""
        answer = lib.dp_firewall_uring(self.handle)
        return answer > 0, os.strerror(-answer) if answer < 0 else None

    # ---- ports ----

    def add_port(self, port: Port) -> None:
        """Makes the switch serve a port. Raises LimitError when there are too many."""
        c = self._describe(port, self.policy)
        number = check(lib.dp_firewall_add_port(self.handle, c, ffi.new("int[]", port.fds)), f"adding port {port.name}")
        self._ports[number], self._described[number] = port, bytes(ffi.buffer(c))

    def remove_port(self, port: Port) -> None:
        """Stops serving a port; only then may its descriptors be closed. Raises KeyError for one that is not served."""
        number = self._number_of(port)
        del self._ports[number], self._described[number]
        check(lib.dp_firewall_remove_port(self.handle, number), f"removing port {port.name}")

    def ports_wanting_tunnels(self) -> list[Port]:
        """Ports by which super-packets of tunnels left in pieces since this was asked last: `set_tunnel` helps."""
        wants = ffi.new("uint8_t[]", lib.DP_PORTS_MAX)
        lib.dp_firewall_want_tunnels(self.handle, wants)
        return [port for number, port in self._ports.items() if wants[number]]

    def set_tunnel(self, port: Port, fd: int) -> None:
        """Has super-packets of tunnels leave a port by this descriptor (`tunnel_tap`) until the port is removed."""
        check(lib.dp_firewall_set_tunnel(self.handle, self._number_of(port), fd), f"setting up port {port.name}")

    @property
    def ports(self) -> Mapping[int, Port]:
        """The ports that are served, by number."""
        return self._ports

    def port_number(self, name: str) -> int | None:
        """The number of a port by its interface's name, or None."""
        return next((number for number, port in self._ports.items() if port.name == name), None)

    def _number_of(self, port: Port) -> int:
        # A port that comes may have the name of one that goes, but no descriptors in common.
        for number, served in self._ports.items():
            if served.fds == port.fds:
                return number
        raise KeyError(port.name)

    def _told_of_numbers(self) -> bool:
        marks = ffi.new("uint64_t[]", 2 * WORKERS_MAX)
        lib.dp_firewall_feed_mark(self.handle, marks)
        for _ in range(_FEED_TURNS * self.workers):
            if lib.dp_firewall_feed_is_past(self.handle, marks):
                self.forget_flows()
                return True
            self.take_feed()
            self.take_flows()
        return False

    def _drop_feed(self) -> None:
        buffer = ffi.new("uint8_t[]", _FEED_BYTES)
        check(lib.dp_firewall_feed(self.handle, buffer, _FEED_BYTES), "reading the feed")

    def _describe(self, port: Port, policy: Policy) -> Any:
        """What stands behind a port under a policy, as a `struct dp_port`; nobody where the policy does not know it."""
        c = describe_port(
            policy,
            self.names,
            instance=port.instance.id if port.instance else None,
            balancer=port.balancer.id if port.balancer else None,
        )
        c.kind = _KINDS[port.kind]
        return c

    # ---- changes ----

    def replace(
        self, policy: Policy, *, time_ns: int = 0, changed: Iterable[Port] = (), closed: Iterable[Port] = ()
    ) -> Disconnected:
        """Puts another policy in force now, and with it, for every frame at once, what stands behind the ports.

        `changed` are ports that are somebody else's under it, as they are from then on; nothing passes by those that
        are `closed`, until they are removed. `time_ns` is not used.
        """
        if policy is self.policy:
            return Disconnected({}, 0, 0)
        self._changed = {self._number_of(port): port for port in changed}
        self._closed = {self._number_of(port) for port in closed}
        result = super().replace(policy)
        self._ports |= self._changed
        self._described |= self._describing
        return result

    def _behind_ports(self, policy: Policy) -> list[dict[str, Any]]:
        self._describing = {}
        updates = []
        for number, port in (self._ports | self._changed).items():
            c = self._describe(port, policy)
            c.closed |= number in self._closed
            described = bytes(ffi.buffer(c))
            # Most changes concern no port.
            if described != self._described[number]:
                self._describing[number] = described
                updates.append({"number": number, "port": c[0]})
        return updates

    def _swap(self, update: Any) -> int:
        return lib.dp_firewall_update(self.handle, update)

    # ---- what it sees ----

    def counters(self) -> Any:
        """As of any enforcement, and the flow records that were lost on their way from the workers."""
        counters = super().counters()
        refused, unwritten = self.flow_losses()
        counters.flow_records_lost[lib.DP_FLOW_LOST_QUEUE_FULL] += refused
        counters.flow_records_lost[lib.DP_FLOW_LOST_NOT_WRITTEN] += unwritten
        return counters

    def port_counters(self) -> Any:
        """Counters of all ports (`struct dp_port_counters`), by number."""
        n = max(self._ports, default=-1) + 1
        counters = ffi.new("struct dp_port_counters[]", n)
        check(lib.dp_firewall_port_counters(self.handle, 0, n, counters), "reading the ports' counters")
        return counters

    def port_failures(self) -> Any:
        """Of the same all that tells which ports fail (`struct dp_port_failures`)."""
        n = max(self._ports, default=-1) + 1
        failures = ffi.new("struct dp_port_failures[]", n)
        check(lib.dp_firewall_port_failures(self.handle, failures, n), "asking which ports fail")
        return failures

    def worker_counters(self, worker: int) -> Any:
        """Counters of one worker (`struct dp_worker_counters`)."""
        counters = ffi.new("struct dp_worker_counters *")
        check(lib.dp_firewall_worker_counters(self.handle, worker, counters), "reading a worker's counters")
        return counters

    def stations(self) -> list[Station]:
        """The switch's table of MACs."""
        found = ffi.new("struct dp_station[]", _STATIONS_MAX)
        n = check(lib.dp_firewall_stations(self.handle, found, _STATIONS_MAX), "reading the switch's table")
        return [
            Station(bytes(ffi.buffer(s.mac)).hex(":"), self._ports[s.port].name, s.vlan, bool(s.fixed), s.age_s)
            for s in found[0:n]
            if s.port in self._ports
        ]


def _plane_of(handle: Any) -> Any:
    """The plane of a firewall, which lives as long as this is used."""

    def keep(_: Any, firewall: Any = handle) -> None:
        """Whose it is goes no sooner."""

    return ffi.gc(lib.dp_firewall_plane(handle), keep)
