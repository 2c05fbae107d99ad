"""Metrics: names, help texts, and that they are what the firewall counts."""

from __future__ import annotations

import platform
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import inf
from pathlib import Path
from types import MappingProxyType
from urllib.request import urlopen

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

import dataplane
from dataplane._core import lib
from dataplane.control.tls import Validity
from dataplane.live import metrics
from dataplane.live.firewall import Firewall
from dataplane.live.operations import Operations
from dataplane.live.records import DROP_WORDS

from .scene import filled, saved
from .served import NoPorts, scraped, service_of

Families = dict[str, Metric]


@pytest.fixture
def families(tmp_path: Path) -> Families:
    """What one scrape brings."""
    return scrape(tmp_path)


def scrape(tmp_path: Path, query: str = "") -> Families:
    """What one scrape brings, perhaps only some of all."""
    firewall = filled()
    firewall.apply({"add_rule": {"security_group": "sg", "rule": {"direction": "ingress", "protocol": "gre"}}})
    with metrics_of(firewall) as scraped_once:
        return scraped_once(query)


@contextmanager
def metrics_of(
    firewall: Firewall, certificates: Mapping[str, Validity] = MappingProxyType({})
) -> Iterator[Callable[[str], Families]]:
    """What brings one scrape of a firewall after the other."""
    ports: object = NoPorts()
    operations = Operations(firewall, ports)  # type: ignore[arg-type]
    operations.certificates |= certificates
    with (
        ThreadPoolExecutor(1) as control,
        scraped(metrics.app(operations, service_of(operations, control), control)) as port,
    ):

        def once(query: str) -> Families:
            with urlopen(f"http://127.0.0.1:{port}/metrics{query}", timeout=60) as answer:
                return {family.name: family for family in text_string_to_metric_families(answer.read().decode())}

        yield once


def test_certificates_are_told_until_when_they_hold() -> None:
    """By what they are for; without any there is no value."""
    name = "dataplane_certificate_not_after_timestamp_seconds"
    with metrics_of(filled(), {"api": Validity("cert.pem", 100.0, 2000.5)}) as scraped_once:
        assert [(sample.labels, sample.value) for sample in scraped_once("")[name].samples] == [
            ({"use": "api"}, 2000.5)
        ]
    with metrics_of(filled()) as scraped_once:
        assert not scraped_once("")[name].samples


def value(families: Families, name: str, **labels: str) -> float:
    family = families[name]
    return next(s.value for s in family.samples if s.labels == labels)


def test_names_and_texts(families: Families) -> None:
    """Every name is ours, every counter ends in _total, every metric says what it is in a sentence."""
    for family in families.values():
        assert family.name.startswith("dataplane_")
        assert family.documentation.endswith(".")
        assert family.documentation[0].isalnum()
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name


def test_what_is_there(families: Families) -> None:
    """Every name that dashboards and alerts are made from."""
    expected = {
        *("received_packets", "received_bytes", "sent_packets", "sent_bytes", "port_packets", "port_bytes"),
        *("connections", "table_entries", "table_limit", "early_drops"),
        *("policy_generation", "reload_seconds", "policy_loaded_timestamp_seconds", "reloads"),
        *("burst_frames", "invalid_packets", "drops", "feed_lost"),
    }
    assert {f"dataplane_{name}" for name in expected} <= families.keys()


def test_rules_and_instances_that_are_gone_leave_a_scrape_as_it_was() -> None:
    """A sample of each rule or instance that ever was would let a scrape grow for as long as the firewall runs."""

    def samples(families: Families) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        return {(s.name, tuple(sorted(s.labels.items()))) for family in families.values() for s in family.samples}

    firewall = filled()
    with metrics_of(firewall) as once:
        before = samples(once(""))
        for turn in range(300):
            rule = {"id": f"r{turn}", "direction": "ingress", "protocol": "gre"}
            new = {"id": f"i{turn}", "addresses": [f"10.9.{turn // 250}.{turn % 250 + 1}"], "security_groups": ["sg"]}
            firewall.apply({"add_rule": {"security_group": "sg", "rule": rule}})
            firewall.apply({"create_instance": new})
            assert firewall.restore([saved(firewall, f"i{turn}", new["addresses"][0], "192.0.2.9")], 0) == 1
            firewall.apply({"delete_instance": {"id": f"i{turn}"}})
            firewall.apply({"delete_rule": {"id": f"r{turn}"}})
        assert samples(once("")) == before


def test_what_runs_is_told(families: Families) -> None:
    """As is the custom: 1, and labels that say which build it is."""
    (sample,) = families["dataplane_build_info"].samples
    assert sample.value == 1
    assert sample.labels == {
        "version": dataplane.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def test_every_name_is_known_beforehand(families: Families) -> None:
    assert {family.name for family in metrics.FirewallCollector(None, None, None).describe()} == families.keys()  # type: ignore[arg-type]


def test_some_can_be_asked_for_by_name(tmp_path: Path) -> None:
    names = ("dataplane_connections", "dataplane_burst_frames_sum", "dataplane_reloads_total", "dataplane_none")
    found = scrape(tmp_path, "?" + "&".join(f"name[]={name}" for name in names))
    assert {sample.name for family in found.values() for sample in family.samples} == set(names[:3])


def test_every_cause_of_a_drop_has_a_word() -> None:
    assert DROP_WORDS.keys() == set(range(lib.DP_PORT_DROPS))
    assert len(set(DROP_WORDS.values())) == lib.DP_PORT_DROPS


def test_values(families: Families) -> None:
    assert value(families, "dataplane_connections", instance="a", state="ESTABLISHED") == 2
    assert value(families, "dataplane_connections", instance="b", state="ESTABLISHED") == 1
    assert value(families, "dataplane_table_entries") == 5
    assert value(families, "dataplane_table_limit") == 1048576
    assert value(families, "dataplane_connections_disconnected") == 2
    assert value(families, "dataplane_policy_rules") == 6
    for kind in ("denied", "connections", "frames"):
        assert value(families, "dataplane_feed_lost", worker="0", kind=kind) == 0
    bursts = families["dataplane_burst_frames"].samples
    bounds = [float(s.labels["le"]) for s in bursts if s.name.endswith("_bucket")]
    assert bounds == [1, 3, 7, 15, 31, 63, 127, inf]
    assert {s.name.removeprefix("dataplane_burst_frames_") for s in bursts} == {"bucket", "count", "sum"}


@pytest.mark.parametrize("address", ["9477", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:http", "127.0.0.1:70000"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(metrics.MetricsError, match=r"as in 127\.0\.0\.1:9477"):
        metrics.listening(address)


def test_an_address_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(metrics.MetricsError, match="cannot be served there: Address already in use: give an"):
            metrics.listening(address)
