"""What hosts that share a store say of themselves, and what people see of it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dataplane import Policy
from dataplane.cli.fleet import app
from dataplane.store import StoreAwayError
from dataplane.store.etcd import fleet as fleet_module
from dataplane.store.etcd.address import parsed
from dataplane.store.etcd.canary import chosen, judged
from dataplane.store.etcd.cluster import Cluster, delete, put
from dataplane.store.etcd.fleet import NameTakenError, fleet
from dataplane.store.etcd.session import Session
from dataplane.store.etcd.store import EtcdStore
from dataplane.store.place import opened
from tests.support.etcd import Members, needs_etcd, until
from tests.unit.live.scene import POLICY
from tests.unit.store.test_etcd import ADD, changed, keep

pytestmark = needs_etcd


def told(url: str, *words: str, status: int = 0) -> Any:
    """What `dataplane fleet` prints."""
    done = CliRunner().invoke(app, [*words, "--store", url])
    assert done.exit_code == status, done.output
    return json.loads(done.stdout) if "json" in words else done.output


def here(url: str) -> Session:
    return Session.of_this_process(parsed(url).members)


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
        reports = fleet_module.Reports(cluster, "lease/", "h2", here(url))
        reports.say(REPORT)
        cluster.revoke(reports._lease)
        assert [host.is_there for host in fleet(cluster, "lease/").hosts] == [True, False]
        reports._alive_at = 0.0
        reports.say(REPORT)
        assert [host.is_there for host in fleet(cluster, "lease/").hosts] == [True, True]


REPORT: dict[str, Any] = {"change": 1, "changed_at": 0.0, "in_force_at": 0.0, "error": None, "version": "1"}


def test_a_host_that_always_has_something_new_to_say_keeps_its_lease(
    etcd: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sign of life lengthens it; more hosts are asked for fewer of them."""
    with closing(Cluster(parsed(etcd.url("new")))) as cluster:
        kept: list[float] = []
        now = 100.0
        monkeypatch.setattr(cluster, "keep_alive", lambda lease: kept.append(now) or True)
        monkeypatch.setattr(fleet_module.time, "monotonic", lambda: now)
        reports = fleet_module.Reports(cluster, "new/", "h1", here(etcd.url("new")))
        for number in range(20):
            reports.say(REPORT | {"change": number})
            now += 1.0
        assert len(kept) >= 5
        done = cluster.transaction([], reports.looking)
        reports.look(done)
        assert reports.pause == 2.0
        reports.look(done._replace(answers=[{"response_range": {"count": "1000"}}, done.answers[1]]))
        assert reports.pause == 10.0
        first = reports._lease
        reports.say(REPORT)
        assert reports._lease != first


def host(name: str, *, is_there: bool = True, **report: Any) -> fleet_module.HostState:
    return fleet_module.HostState(name, is_there, 1, 0.0, 0.0, None, "1", {"filters": True, **report})


def test_some_of_the_hosts_that_filter_are_chosen() -> None:
    """At least one, and none that is gone or filters nothing."""
    hosts = [host(f"h{n}") for n in range(40)] + [host("gone", is_there=False), host("api", filters=False)]
    assert len(chosen(hosts, 0.05)) == 2
    assert len(chosen(hosts, 0.001)) == 1
    assert chosen(hosts, 1.0) == sorted(f"h{n}" for n in range(40))
    assert chosen(hosts[40:], 1.0) == []


@pytest.mark.parametrize(
    ("reports", "why"),
    [
        ([{"id": "c", "seconds": 9, "same": 99, "changed": 1}] * 2, None),
        ([{"id": "c", "seconds": 9, "same": 98, "changed": 2}, None], "host a would judge 2 packets otherwise, 2.00%"),
        ([None, {"id": "c", "error": "no memory"}], "host b cannot judge by it: no memory"),
        ([{"id": "before", "seconds": 9, "same": 0, "changed": 9}, None], None),
    ],
)
def test_each_host_is_held_to_the_bound(reports: list[Any], why: str | None) -> None:
    hosts = {name: host(name, canary=report) for name, report in zip("ab", reports, strict=True)}
    found = judged("c", ["a", "b"], hosts, 0.01)
    assert (found.why_not or "").startswith(why or "")
    assert (found.why_not is None) == (why is None)
    assert judged("c", ["a", "b", "lost"], hosts, 1.0).why_not is not None
    if why is None and reports[1]:
        assert (found.judging, found.same, found.changed, found.seconds) == (2, 198, 2, 9)


def test_what_hosts_say_of_a_policy_is_one_sentence() -> None:
    """Whoever writes into the cluster chooses their names, and what they say is wrong."""
    forged = "h\n\x1b[2Jhost a is gone\r"
    for canary in (None, {"id": "c", "error": forged}, {"id": "c", "seconds": 9, "same": 0, "changed": 2}):
        told_all = judged("c", [forged], {forged: host(forged, canary=canary)} if canary else {}, 0.1).why_not
        assert told_all
        assert told_all.isprintable()


def test_without_hosts_that_filter_a_policy_goes_nowhere(etcd: Members, tmp_path: Path) -> None:
    """And what is left of it is taken away; so is what a host was to judge when somebody is in the way."""
    url = etcd.url("canary")
    address = parsed(url)
    file = tmp_path / "new.yaml"
    file.write_text(POLICY.replace('"80"', '"81"'))
    with ExitStack() as stack:
        cluster = stack.enter_context(closing(Cluster(address)))
        store = stack.enter_context(closing(EtcdStore(parsed(f"{url}?name=h1"))))
        keep(store, Policy.parse(POLICY))
        words = ("apply", str(file), "--canary", "5%", "--yes")
        assert "no host that shares the store filters now" in told(url, *words, status=1)
        assert "--canary 200%: it is no share" in told(url, "apply", str(file), "--canary", "200%", "--yes", status=2)
        assert "nobody can be asked here" in told(url, "apply", str(file), "--canary", "5%", status=2)
        store.follow(lambda: None)
        until(lambda: fleet(cluster, "canary/").hosts)
        cluster.transaction([], [put("canary/canary", '{"id": "another", "hosts": [], "document": "{}"}')])
        assert "another policy is being tried by some hosts" in told(url, *words, status=2)
        cluster.transaction([], [delete("canary/canary")])
        epochs = {item.key.split("/")[2] for item in cluster.range("canary/epochs/", prefix=True).items}
        assert len(epochs) == 1
        assert not cluster.range("canary/writing/", prefix=True).items


@needs_etcd
def test_what_a_killed_roll_out_has_written_is_taken_away(etcd: Members) -> None:
    """By the next one, when the time that it had is over: it would fill etcd."""
    url = etcd.url("killed")
    policy = Policy.parse(POLICY)
    with closing(EtcdStore(parsed(url))) as store, closing(Cluster(parsed(url))) as cluster:

        def epochs() -> set[str]:
            found = cluster.range("killed/epochs/", prefix=True, limit=1000).items
            return {item.key.split("/")[2] for item in found}

        with store.keeping(policy, 1.0):
            pass
        (in_force,) = epochs()
        killed, goes_on = store.staged(policy, 2.0), store.staged(policy, 3.0)
        cluster.revoke(killed.lease)
        staged = store.staged(policy, 4.0)
        assert epochs() == {in_force, goes_on.epoch, staged.epoch}


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:///tmp/policy.db", "hosts share a store in etcd alone"),
        ("etcd://127.0.0.1:1/p", "etcd does not answer: connection refused"),
    ],
)
def test_a_store_that_cannot_be_asked_is_told_in_a_sentence(url: str, why: str) -> None:
    assert why in told(url, "status", status=2)


# ---- names ----


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of a second, and looks as often as is needed for them."""
    monkeypatch.setattr(fleet_module, "_LEASE_SECONDS", 1)
    monkeypatch.setattr(fleet_module, "_LEAST_PAUSE", 0.25)


def elsewhere(url: str, **other: Any) -> Session:
    """A process of another machine."""
    return replace(here(url), **({"boot": "another", "address": "192.0.2.7", "pid": 7} | other))


@pytest.mark.usefixtures("short")
def test_the_second_host_of_a_name_is_refused_at_its_start(
    etcd: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told who has the name, and what to do; what the first one says of itself stays, and so does the store."""
    monkeypatch.setattr(fleet_module, "_CLAIM_SPARE", 0.3)
    url = etcd.url("names")
    (file := tmp_path / "policy.yaml").write_text(POLICY)
    with closing(opened(file, f"{url}?name=h1")) as first, closing(Cluster(parsed(url))) as cluster:  # type: ignore[type-var]
        assert isinstance(first, EtcdStore)
        first.follow(lambda: None)
        with pytest.raises(NameTakenError) as refused:
            opened(file, f"{url}?name=h1")
        process, since = f"process {os.getpid()}, since 20", ", boot "
        assert str(refused.value).startswith(f"host h1 is there already (127.0.0.1, {process}")
        assert since in str(refused.value)
        assert str(refused.value).endswith(
            "stop that one, or call this one otherwise (name=NAME in the address of the store)"
        )
        found = fleet(cluster, "names/")
        assert [(host.name, host.is_there, host.error) for host in found.hosts] == [("h1", True, None)]
        assert found.newest.number == 1
        (told_host,) = told(url, "status", "-o", "json")["hosts"]
        assert (told_host["address"], told_host["process"]) == ("127.0.0.1", os.getpid())
        assert time.time() - 60 < told_host["since"] < time.time()
        assert "127.0.0.1" in told(url, "status")
    # It has gone, and the name is free.
    with closing(opened(file, f"{url}?name=h1")):  # type: ignore[type-var]
        pass


def test_a_host_that_was_killed_has_its_name_again_at_once(etcd: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its lease lives on, where it ran is looked at: on this machine its process is gone, or not waited for yet."""
    url = etcd.url("again")
    with closing(Cluster(parsed(url))) as cluster, subprocess.Popen(["sleep", "60"]) as process:
        dead = replace(here(url), pid=process.pid, began=0)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        before = fleet_module.Reports(cluster, "again/", "h1", dead)
        before.claim(REPORT)
        process.wait()
        after = fleet_module.Reports(cluster, "again/", "h1", here(url))
        monkeypatch.setattr(fleet_module.time, "sleep", lambda _: pytest.fail("it waits"))
        after.claim(REPORT)
        (found,) = fleet(cluster, "again/").hosts
        assert found.session == after._session


@pytest.mark.usefixtures("short")
def test_a_host_that_was_killed_elsewhere_is_waited_for(etcd: Members) -> None:
    """Until its lease is over: a machine that begins again, another container."""
    url = etcd.url("elsewhere")
    with closing(Cluster(parsed(url))) as cluster:
        fleet_module.Reports(cluster, "elsewhere/", "h1", elsewhere(url)).claim(REPORT)
        fleet_module.Reports(cluster, "elsewhere/", "h1", here(url)).claim(REPORT)
        (found,) = fleet(cluster, "elsewhere/").hosts
        assert found.session
        assert found.session.address == "127.0.0.1"


def test_who_loses_its_name_says_so_beside_it_and_has_it_again(etcd: Members, caplog: pytest.LogCaptureFixture) -> None:
    """As one that was cut off for longer than its lease, or begins while etcd is away; nobody's report is lost."""
    url = etcd.url("lost")
    with closing(Cluster(parsed(url))) as cluster:
        first, second = (fleet_module.Reports(cluster, "lost/", "h1", s) for s in (here(url), elsewhere(url)))

        def names() -> dict[str, str | None]:
            return {host.name: host.error for host in fleet(cluster, "lost/").hosts}

        def look(reports: fleet_module.Reports) -> None:
            reports.say(REPORT)
            reports.look(cluster.transaction([], reports.looking))
            reports.say(REPORT)

        first.say(REPORT)
        second.say(REPORT)
        aside, why = "h1@192.0.2.7:7", f"host h1 is there already (127.0.0.1, process {os.getpid()}"
        assert second.name == aside
        assert second.taken.startswith(why)
        assert names()["h1"] is None
        assert (names()[aside] or "").startswith(why)
        for _ in range(3):
            look(second)
            look(first)
        assert (first.name, first.taken, second.name) == ("h1", "", aside)
        assert caplog.text.count("is there already") == 1
        first.end()
        look(second)
        assert (second.name, second.taken) == ("h1", "")
        assert names() == {"h1": None}


def test_a_copy_of_a_host_is_told_from_it(etcd: Members) -> None:
    """A machine that is cloned with its memory: both have the lease, and what was said last."""
    url = etcd.url("clone")
    with closing(Cluster(parsed(url))) as cluster:
        host_itself = fleet_module.Reports(cluster, "clone/", "h1", here(url))
        host_itself.claim(REPORT)
        clone = fleet_module.Reports(cluster, "clone/", "h1", host_itself._session)
        clone.__dict__.update({name: value for name, value in vars(host_itself).items() if name != "_sent"})
        clone.say(REPORT | {"change": 2})
        assert not clone.taken
        host_itself.look(cluster.transaction([], host_itself.looking))
        host_itself.say(REPORT)
        assert "a copy of this process: was the machine cloned?" in host_itself.taken


def test_what_a_lost_member_has_written_is_known_again(etcd: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was answered with nothing, and made: it is no other host's."""
    url = etcd.url("ambiguous")
    with closing(Cluster(parsed(url))) as cluster:
        reports = fleet_module.Reports(cluster, "ambiguous/", "h1", here(url))
        reports.say(REPORT)
        transaction = cluster.transaction

        def lost(*arguments: Any) -> Any:
            transaction(*arguments)
            raise StoreAwayError("lost")

        with monkeypatch.context() as patched:
            patched.setattr(cluster, "transaction", lost)
            with pytest.raises(StoreAwayError):
                reports.say(REPORT | {"change": 2})
        reports.say(REPORT | {"change": 3})
        assert reports.taken == ""
        assert [host.change for host in fleet(cluster, "ambiguous/").hosts] == [3]
