"""What hosts that share a store say of themselves, and what people see of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from typer.testing import CliRunner

from dataplane import Policy
from dataplane.cli.fleet import app
from dataplane.store.etcd import fleet as fleet_module
from dataplane.store.etcd.address import parsed
from dataplane.store.etcd.cluster import Cluster
from dataplane.store.etcd.fleet import fleet
from dataplane.store.etcd.store import EtcdStore
from tests.support.etcd import Members, members, needs_etcd
from tests.unit.live.scene import POLICY
from tests.unit.store.test_etcd import ADD, changed, keep

pytestmark = needs_etcd


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    with members(tmp_path_factory.mktemp("etcd"), 1) as made:
        yield made


def told(url: str, *words: str, status: int = 0) -> Any:
    """What `dataplane fleet` prints."""
    done = CliRunner().invoke(app, [*words, "--store", url])
    assert done.exit_code == status, done.output
    return json.loads(done.stdout) if "json" in words else done.output


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_hosts_their_changes_and_what_is_wrong(etcd: Members) -> None:
    """One is up to date, one cannot put a change in force, and one is gone; the status says whether all is well."""
    url = etcd.url("status")
    policy = Policy.parse(POLICY)
    with ExitStack() as stack:
        cluster = stack.enter_context(closing(Cluster(parsed(url))))

        def state() -> dict[str, tuple[bool, int, str | None]]:
            return {h.name: (h.is_there, h.change, h.error) for h in fleet(cluster, "status/").hosts}

        stores = [stack.enter_context(closing(EtcdStore(parsed(f"{url}?name=h{number}")))) for number in (1, 2, 3)]
        keep(stores[0], policy)
        for store in stores[1:]:
            store.read_again()
        for store in stores:
            store.follow(lambda: None)
        until(lambda: state() == dict.fromkeys(("h1", "h2", "h3"), (True, 1, None)))
        assert {host["state"] for host in told(url, "status", "-o", "json")["hosts"]} == {"up to date"}
        keep(stores[0], changed(policy, ADD), time.time())
        until(lambda: stores[1].arrived and stores[2].arrived)
        version = stores[1].arrived
        assert version
        stores[1].failed(version, "there is no interface tap-a")
        # It goes, and says so; one that is killed is gone when its lease is over.
        stores[2].close()
        until(
            lambda: (
                state()
                == {"h1": (True, 2, None), "h2": (True, 1, "there is no interface tap-a"), "h3": (False, 1, None)}
            )
        )
        answer = told(url, "status", "-o", "json", status=1)
        assert answer["change"] == 2
        assert answer["changed_by"] == "h1"
        first, second, third = answer["hosts"]
        assert (first["state"], first["behind"], first["error"]) == ("up to date", 0, None)
        assert (second["state"], second["behind"]) == ("behind", 1)
        assert third["state"] == "gone"
        # How long it has been behind goes on.
        assert 0 < second["lag"] < 60
        assert "there is no interface tap-a" in told(url, "status", status=1)
        assert "2 of them not up to date" in told(url, "status", status=1)
        assert "host h1 is there: stop it first" in told(url, "forget", "h1", status=2)
        told(url, "forget", "h3")
        assert "there was no host h3" in told(url, "forget", "h3", status=2)
        assert set(state()) == {"h1", "h2"}


def test_a_report_comes_back_when_its_lease_is_lost(etcd: Members) -> None:
    """As after an etcd that was away for longer than that."""
    url = etcd.url("lease")
    with closing(EtcdStore(parsed(f"{url}?name=h1"))) as store, closing(Cluster(parsed(url))) as cluster:
        keep(store, Policy.parse(POLICY))
        store.follow(lambda: None)
        until(lambda: fleet(cluster, "lease/").hosts)
        reports = fleet_module.Reports(cluster, "lease/", "h2")
        reports.say({"change": 1, "changed_at": 0.0, "in_force_at": 0.0, "error": None, "version": "1"})
        cluster.revoke(reports._lease)
        assert [host.is_there for host in fleet(cluster, "lease/").hosts] == [True, False]
        reports._alive_at = 0.0
        reports.say({"change": 1, "changed_at": 0.0, "in_force_at": 0.0, "error": None, "version": "1"})
        assert [host.is_there for host in fleet(cluster, "lease/").hosts] == [True, True]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:///tmp/policy.db", "hosts share a store in etcd alone"),
        ("etcd://127.0.0.1:1/p", "etcd does not answer: connection refused"),
    ],
)
def test_a_store_that_cannot_be_asked_is_told_in_a_sentence(url: str, why: str) -> None:
    assert why in told(url, "status", status=2)
