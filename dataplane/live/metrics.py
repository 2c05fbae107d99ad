"""Metrics for Prometheus: the C side's counters, read when somebody scrapes them.

A scrape is served by a thread of prometheus-client; what it reads is read by the control thread, as everything is. The
connection table is walked in steps, so that packets wait for none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from dataplane._core import lib
from dataplane.live.records import DROP_WORDS, checks_of
from dataplane.verdict import CAUSE_WORDS, DIRECTION_WORDS

if TYPE_CHECKING:
    from dataplane.live.operations import Operations

_BURSTS = [str(2 ** (k + 1) - 1) for k in range(lib.DP_BURST_SIZES - 1)] + ["+Inf"]
_SCRAPE_SECONDS = 30.0


class MetricsError(Exception):
    """Metrics cannot be served: one sentence that says why."""


class FirewallCollector(Collector):
    """All metrics of a firewall; `control` runs what it is given in the control thread."""

    def __init__(self, operations: Operations, control: Executor) -> None:
        self._operations = operations
        self._control = control

    def describe(self) -> list[Metric]:
        """Nothing: names are known by collecting only, so registering does not ask the firewall."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Reads everything in the control thread. Raises TimeoutError when that is busy for too long."""
        yield from self._control.submit(lambda: list(_metrics(self._operations))).result(_SCRAPE_SECONDS)


def place(address: str) -> tuple[str, int]:
    """The two parts of ``host:port``. Raises MetricsError."""
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise MetricsError(f"--metrics {address}: an address and a port are needed, as in 127.0.0.1:9477")
    return host.strip("[]"), int(port)


def serve(address: str, operations: Operations, control: Executor) -> Callable[[], None]:
    """Serves metrics at ``host:port``; returns what stops it. Raises MetricsError."""
    host, port = place(address)
    registry = CollectorRegistry()
    registry.register(FirewallCollector(operations, control))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise MetricsError(f"--metrics {address}: metrics cannot be served there: {error.strerror}") from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


class _Traffic:
    """Packets and bytes of one thing, as two counters with the same labels."""

    def __init__(self, name: str, what: str, labels: list[str]) -> None:
        self._packets = CounterMetricFamily(f"dataplane_{name}_packets", f"Packets {what}.", labels=labels)
        self._bytes = CounterMetricFamily(f"dataplane_{name}_bytes", f"Bytes {what}.", labels=labels)

    def add(self, labels: list[str], counter: Any) -> None:
        self._packets.add_metric(labels, counter.packets)
        self._bytes.add_metric(labels, counter.bytes)

    def __iter__(self) -> Iterator[Metric]:
        return iter((self._packets, self._bytes))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"dataplane_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"dataplane_{name}", text, value=value)


def _metrics(operations: Operations) -> Iterator[Metric]:
    yield from _ports(operations)
    yield from _table(operations)
    yield from _policy(operations)
    yield from _workers(operations)


def _ports(operations: Operations) -> Iterator[Metric]:
    firewall = operations.firewall
    received = _Traffic("received", "received from a port", ["port"])
    sent = _Traffic("sent", "sent to a port", ["port"])
    checked = _Traffic(
        "port", "judged at a port, by direction, verdict and reason", ["port", "direction", "verdict", "reason"]
    )
    drops = CounterMetricFamily(
        "dataplane_drops", "Frames that a port did not take or give, by cause.", labels=["port", "cause"]
    )
    up = GaugeMetricFamily(
        "dataplane_port_up", "1 while a port's interface can be read, 0 when it fails.", labels=["port"]
    )
    for number, port in firewall.ports.items():
        counters = firewall.port_counters(number)
        received.add([port.name], counters.received)
        sent.add([port.name], counters.sent)
        for d, direction in enumerate(DIRECTION_WORDS):
            for verdict, reason, counter in checks_of(counters.check[d]):
                checked.add([port.name, direction, verdict, reason], counter)
        for drop, word in DROP_WORDS.items():
            drops.add_metric([port.name, word], counters.drop[drop])
        up.add_metric([port.name], int(counters.error == 0))
    for family in (received, sent, checked):
        yield from family
    yield drops
    yield up


def _table(operations: Operations) -> Iterator[Metric]:
    firewall = operations.firewall
    counters = firewall.counters()
    causes = _Traffic("invalid", "denied as invalid or malformed, by cause", ["cause"])
    for cause, counter in zip(CAUSE_WORDS, counters.cause, strict=True):
        if counter.packets:
            causes.add([cause], counter)
    yield from causes
    live = GaugeMetricFamily(
        "dataplane_connections", "Live connections, by instance and state.", labels=["instance", "state"]
    )
    for (instance, state), number in sorted(firewall.connections.census().items()):
        live.add_metric([instance, state], number)
    yield live
    yield _gauge("table_entries", "Entries in the connection table, some perhaps expired.", counters.entries)
    yield _gauge("table_limit", "Entries that the connection table can hold.", counters.max_entries)
    yield _gauge("table_bytes", "Memory of the connection table.", counters.table_bytes)
    for name, text in (
        ("opened", "Connections opened."),
        ("expired", "Connections that ended because their time was over."),
        ("replaced", "Closed connections replaced by a new one on the same addresses and ports."),
        ("disconnected", "Inbound connections disconnected by a change."),
    ):
        yield _counter(f"connections_{name}", text, getattr(counters, f"connections_{name}"))
    yield _counter("early_drops", "Connections dropped early to make room in a full table.", counters.early_drops)
    yield _counter("table_full", "New connections denied because the table was full.", counters.table_full)
    yield _counter(
        "fragment_datagrams_evicted", "Fragmented datagrams given up to make room.", counters.datagrams_evicted
    )
    yield _gauge("fragments_waiting", "Fragments that wait for their datagram's first.", counters.fragments_waiting)


def _policy(operations: Operations) -> Iterator[Metric]:
    policy, reloads = operations.firewall.policy, operations.reloads
    yield _gauge("policy_generation", "Number of the policy in force, from 1 at the start.", operations.generation)
    yield _gauge("policy_instances", "Instances in the policy in force.", len(policy.instances))
    yield _gauge("policy_rules", "Rules in the policy in force.", len(policy.rules_by_id))
    yield _gauge("policy_loaded_timestamp_seconds", "When the policy file was last loaded.", reloads.loaded_at)
    yield _gauge("reload_seconds", "How long the last successful reload took.", reloads.seconds)
    total = CounterMetricFamily("dataplane_reloads", "Reloads of the policy file, by result.", labels=["result"])
    total.add_metric(["success"], reloads.succeeded)
    total.add_metric(["failure"], reloads.failed)
    yield total


def _workers(operations: Operations) -> Iterator[Metric]:
    firewall = operations.firewall
    bursts = HistogramMetricFamily("dataplane_burst_frames", "Frames that a worker took at once.", labels=["worker"])
    wakeups = CounterMetricFamily("dataplane_worker_wakeups", "Times that a worker woke.", labels=["worker"])
    lost = CounterMetricFamily(
        "dataplane_feed_lost", "Events, drops and captured frames that nobody took in time.", labels=["worker"]
    )
    for worker in range(firewall.workers):
        counters = firewall.worker_counters(worker)
        buckets, total = [], 0
        for bound, number in zip(_BURSTS, counters.bursts, strict=True):
            total += number
            buckets.append((bound, float(total)))
        bursts.add_metric([str(worker)], buckets, counters.burst_frames)
        wakeups.add_metric([str(worker)], counters.wakeups)
        lost.add_metric([str(worker)], counters.feed_lost)
    yield bursts
    yield wakeups
    yield lost
