"""Metrics for Prometheus: the C side's counters, read when somebody scrapes them.

A scrape is answered by `metrics_server`; what it reads is read by the control thread, as everything is. The connection
table is walked in steps, so that packets wait for none of it.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from dataplane import __version__
from dataplane._core import lib
from dataplane.counters import COUNTERS, UNITS
from dataplane.live.records import DROP_WORDS, checks_of
from dataplane.verdict import DIRECTION_WORDS

if TYPE_CHECKING:
    from dataplane.control.service import Service
    from dataplane.live.metrics_server import App
    from dataplane.live.operations import Operations

_TRAFFIC: dict[str, tuple[str, tuple[str, ...]]] = {
    "received": ("received from a port", ("port",)),
    "sent": ("sent to a port", ("port",)),
    "segmented": ("of those sent to a port, super-packets that went in pieces", ("port",)),
    "port": (
        "judged at a port, by direction, verdict and reason",
        ("port", "direction", "verdict", "reason"),
    ),
}
_BUILD = {"version": __version__, "python": platform.python_version(), "machine": platform.machine()}
_COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "drops": ("Frames that a port did not take or give, by cause.", ("port", "cause")),
    "reloads": ("Reloads of the policy file, by result.", ("result",)),
    "worker_wakeups": ("Times that a worker woke.", ("worker",)),
    "worker_busy_polls": (
        "Times that a worker looked for frames before sleeping, by what came of it.",
        ("worker", "result"),
    ),
    "port_failures": ("Times that a port began to fail.", ("port",)),
    "replication_connections": (
        "Connections told to a standby (sent), or what became of those that this one was told of.",
        ("outcome",),
    ),
    "replication_deletions": ("Deletions of connections that were told to a standby, or done by it.", ()),
    "replication_lost": ("Deletions that could not be told to a standby, which began afresh then.", ()),
    "replication_resyncs": ("Times that a standby was told of all connections.", ()),
    "feed_lost": ("Events, drops and captured frames that nobody took in time.", ("worker", "kind")),
}
_GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "build_info": ("1; the labels say what runs: dataplane's version, Python's, the machine.", tuple(_BUILD)),
    "port_up": (
        "1 while a port works, 0 while it fails, nobody is at its other end, or its interface is missing.",
        ("port",),
    ),
    "replication_connected": ("1 while connections are replicated, by this firewall's role.", ("role",)),
    "replication_same_policy": ("1 where the other firewall has the same policy in force, else 0.", ("role",)),
    "replication_lag_seconds": ("How far a standby is behind, or since when it has heard nothing.", ("role",)),
    "certificate_not_after_timestamp_seconds": ("Until when a certificate that is shown holds, by use.", ("use",)),
    "connections": ("Live connections, by instance and state.", ("instance", "state")),
    "policy_generation": ("Number of the policy in force, from 1 at the start.", ()),
    "policy_instances": ("Instances in the policy in force.", ()),
    "policy_rules": ("Rules in the policy in force.", ()),
    "policy_rules_unused": ("Rules that are there for so many days and were not hit since.", ("days",)),
    "policy_loaded_timestamp_seconds": ("When the policy file was last loaded.", ()),
    "reload_seconds": ("How long the last successful reload took.", ()),
}
_HISTOGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "burst_frames": ("Frames that a worker took at once.", ("worker",)),
}
_TRAFFIC |= {c.metric: (c.help, c.label_names) for c in COUNTERS if c.is_traffic}
_COUNTERS |= {c.metric: (c.help, c.label_names) for c in COUNTERS if c.kind == "counter" and not c.is_traffic}
_COUNTERS |= {
    f"{name}_{unit}": (f"{unit.capitalize()} {what}.", labels)
    for name, (what, labels) in _TRAFFIC.items()
    for unit in UNITS
}
_GAUGES |= {c.metric: (c.help, c.label_names) for c in COUNTERS if c.kind == "gauge"}

#: All metrics by name, without what all names begin with: kind, what it is, labels.
FAMILIES = {
    name: (kind, *told)
    for kind, families in (
        (CounterMetricFamily, _COUNTERS),
        (GaugeMetricFamily, _GAUGES),
        (HistogramMetricFamily, _HISTOGRAMS),
    )
    for name, told in families.items()
}

_UNUSED_DAYS = (1, 7, 30, 90)
#: In the order of `enum dp_busy_poll`.
_BUSY_POLLS = ("found", "in-vain")
_FEED_KINDS = ("denied", "connections", "frames")
_BURSTS = [str(2 ** (k + 1) - 1) for k in range(lib.DP_BURST_SIZES - 1)] + ["+Inf"]
_SCRAPE_SECONDS = 30.0


class MetricsError(Exception):
    """Metrics cannot be served: one sentence that says why."""


class FirewallCollector(Collector):
    """All metrics of a firewall; `control` runs what it is given in the control thread."""

    def __init__(self, operations: Operations, service: Service, control: Executor) -> None:
        self._service = service
        self._operations = operations
        self._control = control

    def describe(self) -> list[Metric]:
        """All metrics without a value: a scrape that asks for some by name (``name[]=``) is for whoever has that."""
        return [_family(name) for name in FAMILIES]

    def collect(self) -> Iterator[Metric]:
        """Reads everything in the control thread. Raises TimeoutError when that is busy for too long."""
        yield from self._control.submit(lambda: list(_metrics(self._operations, self._service))).result(_SCRAPE_SECONDS)


def place(address: str) -> tuple[str, int]:
    """The two parts of ``host:port``. Raises MetricsError."""
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise MetricsError(f"--metrics {address}: an address and a port are needed, as in 127.0.0.1:9477")
    return host.strip("[]"), int(port)


def listening(address: str) -> socket.socket:
    """A socket that listens at ``host:port`` and does not block. Raises MetricsError."""
    host, port = place(address)
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        made = socket.create_server(where[:2], family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
            # Python puts the address into the system's words; names that are not found have numbers of their own.
            reason = os.strerror(error.errno)
        raise MetricsError(
            f"--metrics {address}: metrics cannot be served there: {reason}: give an address of this host and a free"
            " port"
        ) from None
    made.setblocking(False)
    return made


def app(operations: Operations, service: Service, control: Executor) -> App:
    """What answers a scrape; it waits for `control`, 30 seconds at most."""
    registry = CollectorRegistry()
    registry.register(FirewallCollector(operations, service, control))
    made: App = make_wsgi_app(registry)
    return made


def _family(name: str) -> Any:
    """A metric that has no value yet."""
    kind, text, labels = FAMILIES[name]
    return kind(f"dataplane_{name}", text, labels=labels)


def _value(name: str, value: float) -> Metric:
    """A metric without labels."""
    family = _family(name)
    family.add_metric([], value)
    made: Metric = family
    return made


class _Traffic:
    """Packets and bytes of one thing, as two counters with the same labels."""

    def __init__(self, name: str) -> None:
        self._packets, self._bytes = _family(f"{name}_packets"), _family(f"{name}_bytes")

    def add(self, labels: list[str], counter: Any) -> None:
        self._packets.add_metric(labels, counter.packets)
        self._bytes.add_metric(labels, counter.bytes)

    def __iter__(self) -> Iterator[Metric]:
        return iter((self._packets, self._bytes))


def _metrics(operations: Operations, service: Service) -> Iterator[Metric]:
    build = _family("build_info")
    build.add_metric(list(_BUILD.values()), 1)
    yield build
    yield from _ports(operations)
    yield from _table(operations)
    yield from _policy(operations, service)
    yield from _workers(operations)
    yield from _replication(operations)
    certificates = _family("certificate_not_after_timestamp_seconds")
    for use, found in operations.certificates.items():
        certificates.add_metric([use], found.ends)
    yield certificates


def _ports(operations: Operations) -> Iterator[Metric]:
    firewall = operations.firewall
    received, sent, checked = _Traffic("received"), _Traffic("sent"), _Traffic("port")
    segmented = _Traffic("segmented")
    drops, up, failures = _family("drops"), _family("port_up"), _family("port_failures")
    all_counters, troubles = firewall.port_counters(), operations.port_health.troubles()
    for number, port in firewall.ports.items():
        counters = all_counters[number]
        received.add([port.name], counters.received)
        sent.add([port.name], counters.sent)
        for d, direction in enumerate(DIRECTION_WORDS):
            for verdict, reason, counter in checks_of(counters.check[d]):
                checked.add([port.name, direction, verdict, reason], counter)
        for drop, word in DROP_WORDS.items():
            drops.add_metric([port.name, word], counters.drop[drop])
        segmented.add([port.name], counters.segmented)
        up.add_metric([port.name], int(number not in troubles))
        failures.add_metric([port.name], counters.failures)
    for name in operations.missing_interfaces:
        up.add_metric([name], 0)
    for family in (received, sent, segmented, checked):
        yield from family
    yield drops
    yield up
    yield failures


def _table(operations: Operations) -> Iterator[Metric]:
    firewall = operations.firewall
    counters = firewall.counters()
    families: dict[str, Any] = {}
    for counter in COUNTERS:
        for unit in UNITS if counter.is_traffic else ("",):
            name = f"{counter.metric}_{unit}" if unit else counter.metric
            family = families.setdefault(name, _family(name))
            for words, value in counter.values(counters):
                labels = [*words, *counter.labels.values()]
                family.add_metric(labels, value[unit] if isinstance(value, dict) else value)
    yield from families.values()
    live = _family("connections")
    for (instance, state), number in sorted(firewall.connections.census().items()):
        live.add_metric([instance, state], number)
    yield live


def _policy(operations: Operations, service: Service) -> Iterator[Metric]:
    policy, reloads = service.operations.policy, service.reloads
    yield _value("policy_generation", service.generation)
    yield _value("policy_instances", len(policy.instances))
    yield _value("policy_rules", len(policy.rules_by_id))
    operations.uses.look()
    unused = _family("policy_rules_unused")
    for days in _UNUSED_DAYS:
        unused.add_metric([str(days)], operations.uses.unused(days * 86400))
    yield unused
    yield _value("policy_loaded_timestamp_seconds", reloads.loaded_at)
    yield _value("reload_seconds", reloads.seconds)
    total = _family("reloads")
    total.add_metric(["success"], reloads.succeeded)
    total.add_metric(["failure"], reloads.failed)
    yield total


def _workers(operations: Operations) -> Iterator[Metric]:
    firewall = operations.firewall
    bursts, lost = _family("burst_frames"), _family("feed_lost")
    wakeups, busy_polls = _family("worker_wakeups"), _family("worker_busy_polls")
    for worker in range(firewall.workers):
        counters = firewall.worker_counters(worker)
        buckets, total = [], 0
        for bound, number in zip(_BURSTS, counters.bursts, strict=True):
            total += number
            buckets.append((bound, float(total)))
        bursts.add_metric([str(worker)], buckets, counters.burst_frames)
        wakeups.add_metric([str(worker)], counters.wakeups)
        for result, number in zip(_BUSY_POLLS, counters.busy_polls, strict=True):
            busy_polls.add_metric([str(worker), result], number)
        for kind, number in zip(_FEED_KINDS, counters.feed_lost, strict=True):
            lost.add_metric([str(worker), kind], number)
    yield bursts
    yield wakeups
    yield busy_polls
    yield lost


def _replication(operations: Operations) -> Iterator[Metric]:
    """Without values where there is no standby."""
    side = operations.replication
    connected, lag, told = (_family(f"replication_{name}") for name in ("connected", "lag_seconds", "connections"))
    same_policy = _family("replication_same_policy")
    deletions, resyncs, lost = (_family(f"replication_{name}") for name in ("deletions", "resyncs", "lost"))
    if side:
        connected.add_metric([side.role], int(side.connected))
        if (seconds := side.lag) is not None:
            lag.add_metric([side.role], seconds)
        if side.same_policy is not None:
            same_policy.add_metric([side.role], int(side.same_policy))
        for word, number in ({"sent": side.updates} if side.role == "active" else side.received).items():
            told.add_metric([word], number)
        deletions.add_metric([], side.deletions)
        resyncs.add_metric([], side.resyncs)
        if side.role == "active":
            lost.add_metric([], side.lost)
    yield from (connected, lag, same_policy, told, deletions, resyncs, lost)
