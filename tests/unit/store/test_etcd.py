"""A policy kept in etcd: one order of changes for all hosts, nobody's lost, each seen by all as a whole."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dataplane import Policy
from dataplane.policy.changes import apply, parse_change
from dataplane.policy.write import document
from dataplane.store import StoreAwayError, StoreChangedError, StoreError, StorePartError
from dataplane.store.etcd import copy, writing
from dataplane.store.etcd.address import parsed
from dataplane.store.etcd.cluster import Cluster
from dataplane.store.etcd.part import part_of
from dataplane.store.etcd.store import EtcdStore
from dataplane.store.place import opened
from dataplane.store.rows import Writing, document_of
from tests.support.etcd import Members, members, needs_etcd
from tests.unit.live.scene import POLICY, filled
from tests.unit.rest.served import serving

ADD = {"add_rule": {"security_group": "sg", "rule": {"id": "new", "direction": "ingress", "protocol": "gre"}}}
RULE = {"security_group_rule": {"security_group_id": "sg", "direction": "ingress", "protocol": "udp"}}
_SECONDS = 20


_numbers = itertools.count()


@pytest.fixture
def url(etcd: Members) -> str:
    """The address of a store that nobody has used."""
    return etcd.url(f"test/{next(_numbers)}")


def keep(store: EtcdStore, policy: Policy, now: float = 100.0) -> None:
    with store.keeping(policy, now):
        pass


def kept_at(url: str) -> Policy:
    """What a host that starts now would have."""
    with closing(EtcdStore(parsed(url))) as store:
        return store.load()


def changed(policy: Policy, *changes: dict[str, Any]) -> Policy:
    for change in changes:
        policy = apply(policy, parse_change(change, policy))
    return policy


@contextmanager
def following(url: str, **options: Any) -> Iterator[tuple[EtcdStore, threading.Event]]:
    """A host that watches, and is told when something has arrived."""
    arrived = threading.Event()
    with closing(EtcdStore(parsed(url))) as store:
        store.follow(arrived.set)
        yield store, arrived


def take(store: EtcdStore, arrived: threading.Event) -> Policy:
    """Waits for what arrives, and takes it as in force."""
    assert arrived.wait(_SECONDS)
    arrived.clear()
    version = store.arrived
    assert version
    store.taken(version)
    return version.policy()


# ---- addresses ----


def test_an_address_says_where_and_how() -> None:
    found = parsed("etcd://10.0.0.1,etcd-b:2400,[fd00::1]:2401/cloud/eu?host=h1")
    assert found.members == (("10.0.0.1", 2379), ("etcd-b", 2400), ("fd00::1", 2401))
    assert (found.prefix, found.host, found.label, found.tls) == ("cloud/eu/", "h1", "h1", False)
    assert found.name == "etcd://10.0.0.1:2379,etcd-b:2400,[fd00::1]:2401/cloud/eu?host=h1"
    assert parsed("etcd://a").prefix == "dataplane/"


def test_a_password_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file\n")
    by_file = parsed(f"etcd://a/p?user=u&password-file={tmp_path}/password")
    assert by_file.password == "from a file"
    by_query = parsed("etcd://a/p?user=u&password=secret")
    assert by_query.password == "secret"
    assert "secret" not in by_query.name
    with pytest.raises(StoreError) as refused:
        parsed("etcd://a/p?password=secret")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("etcd://", "is needed"),
        ("etcd://a,,b/p", "nothing is no HOST or HOST:PORT"),
        ("etcd://a:0/p", "a:0 is no HOST"),
        ("etcd://a:99999/p", "a:99999 is no HOST"),
        ("etcd://a/p?colour=red", "there is no option colour"),
        ("etcd://a/p?host=", "host has no value"),
        ("etcd://a/p?host=a&host=b", "host is given twice"),
        ("etcd://a/p?key=/dev/null", "give both"),
        ("etcd://a/p?ca=/no/such/file", "there is no file /no/such/file"),
        ("etcd://a/p?tls=maybe", "tls is 1"),
        ("etcd://a/p?user=u", "given together"),
        ("etcd://a/p?user=u&password-file=/no/such", "No such file"),
    ],
)
def test_a_wrong_address_is_told_in_a_sentence(url: str, why: str) -> None:
    with pytest.raises(StoreError, match=why):
        parsed(url)


# ---- one host ----


@needs_etcd
def test_what_is_kept_is_loaded(url: str, tmp_path: Path) -> None:
    """The same document, sections, groups and rules in their order; a policy file fills an empty store alone."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY + "conntrack: {timeouts: {icmp: 5}}\nregion: eu\nuplinks: [{interface: eth9}]\n")
    policy = Policy.load(file)
    with closing(opened(file, url)) as store:  # type: ignore[type-var]
        assert document(store.load()) == document(policy)
    file.write_text("security_groups: []")
    with closing(opened(file, url)) as store:  # type: ignore[type-var]
        assert document(store.load()) == document(policy)


@needs_etcd
def test_a_change_is_one_transaction_of_what_differs(url: str) -> None:
    """With the times of what it touched."""
    policy = Policy.parse(POLICY)
    address = parsed(url)
    with closing(EtcdStore(address)) as store, closing(Cluster(address)) as cluster:
        keep(store, policy)
        before = cluster.range(address.prefix, prefix=True)
        keep(store, changed(policy, ADD), 200.0)
        after = cluster.range(address.prefix, prefix=True)
        assert after.revision == before.revision + 1
        written = {item.key.rpartition("/")[2] for item in after.items if item.revision == after.revision}
        # The group's time of change is in its row.
        assert written == {"head", "new", "sg"}
        assert store.times["rules", "new"] == (200.0, 200.0)
        assert store.times["security_groups", "sg"] == (100.0, 200.0)
        keep(store, changed(policy, ADD), 300.0)
        assert cluster.range(address.prefix, prefix=True).revision == after.revision


@needs_etcd
def test_what_is_too_much_for_one_transaction_is_seen_as_a_whole(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is another epoch; nothing is left of the one before, nor of one that was not ended."""
    address = parsed(url)
    policy = Policy.parse(POLICY)
    rules = [{"id": f"r{n}", "direction": "ingress", "protocol": "tcp", "multiport": f"{n + 1}"} for n in range(300)]
    large = changed(policy, {"create_group": {"id": "large", "security_group_rules": rules}})
    with ExitStack() as stack:
        store = stack.enter_context(closing(EtcdStore(address)))
        keep(store, policy)
        host, arrived = stack.enter_context(following(url))
        cluster = stack.enter_context(closing(Cluster(address)))
        with monkeypatch.context() as patched:
            # It stops before it is made the current one, and cannot take away what it has written.
            patched.setattr(writing, "_committed", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            patched.setattr(Cluster, "revoke", lambda *_: None)
            patched.setattr(writing, "delete", lambda *_, **__: writing.get("nothing"))
            with pytest.raises(KeyboardInterrupt):
                keep(store, large)
        assert document(kept_at(url)) == document(policy)
        left = {item.key.split("/")[3] for item in cluster.range(f"{address.prefix}epochs/", prefix=True).items}
        assert len(left) == 2
        # Its lease is over.
        for mark in cluster.range(f"{address.prefix}writing/", prefix=True).items:
            cluster.transaction([], [writing.delete(mark.key)])
        keep(store, large, 200.0)
        assert document(take(host, arrived)) == document(large)
        left = {item.key.split("/")[3] for item in cluster.range(f"{address.prefix}epochs/", prefix=True).items}
        assert len(left) == 1
        keep(store, changed(large, {"delete_rule": {"id": "r7"}}))
        assert "r7" not in take(host, arrived).rules_by_id


@needs_etcd
def test_what_cannot_be_put_in_force_is_not_kept(url: str) -> None:
    policy = Policy.parse(POLICY)
    with closing(EtcdStore(parsed(url))) as store:
        keep(store, policy)
        with pytest.raises(OSError, match="no interface"), store.keeping(changed(policy, ADD), 200.0):
            raise OSError("no interface")
        assert document(kept_at(url)) == document(policy)


# ---- several hosts ----


@needs_etcd
def test_of_two_changes_at_once_neither_is_lost(url: str) -> None:
    """The second is refused by the store, until the host has what the first has made."""
    policy = Policy.parse(POLICY)
    with closing(EtcdStore(parsed(url))) as first:
        keep(first, policy)
        with following(url) as (second, arrived):
            keep(first, changed(policy, ADD))
            with pytest.raises(StoreChangedError, match="somebody else has changed the policy meanwhile"):
                keep(second, changed(policy, {"delete_rule": {"id": "web"}}))
            now = take(second, arrived)
            assert "new" in now.rules_by_id
            keep(second, changed(now, {"delete_rule": {"id": "web"}}))
        rules = kept_at(url).rules_by_id
        assert "web" not in rules
        assert "new" in rules


@needs_etcd
def test_changes_of_two_hosts_by_the_api_are_all_made(url: str, tmp_path: Path) -> None:
    """Each is made upon what the other has made; both hosts have the same policy in the end."""
    hosts = [filled(), filled()]
    answers: list[list[int]] = [[], []]
    with ExitStack() as stack:
        seen = []
        for name, firewall in zip("ab", hosts, strict=True):
            (folder := tmp_path / name).mkdir()
            store = stack.enter_context(closing(EtcdStore(parsed(f"{url}?name={name}"))))
            if name == "a":
                keep(store, firewall.policy)
                store = stack.enter_context(closing(EtcdStore(parsed(f"{url}?name={name}"))))
            seen.append(stack.enter_context(serving(folder, firewall, keys=None, store=store)))

        def change(number: int) -> None:
            for port in range(10):
                rule = RULE["security_group_rule"] | {"multiport": str(1000 * (number + 1) + port)}
                answer = seen[number].call("POST", "/vpc/security-group-rules", {"security_group_rule": rule})
                answers[number].append(answer.status)

        threads = [threading.Thread(target=change, args=[number]) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert answers == [[201] * 10] * 2
        kept = kept_at(url)
        assert len(kept.rules_by_id) == len(Policy.parse(POLICY).rules_by_id) + 20
        for served, firewall in zip(seen, hosts, strict=True):
            # What was made last by the other one may be on its way.
            for _ in range(1200):
                if document(firewall.policy) == document(kept):
                    break
                threading.Event().wait(0.05)
            assert document(firewall.policy) == document(kept)
            told = served.call("GET", "/dataplane/status").body["store"]
            assert (told["change"], told["newest"], told["error"]) == (21, 21, None)


@needs_etcd
def test_a_change_of_another_host_ends_one_that_waits_for_its_confirmation(url: str, tmp_path: Path) -> None:
    """There is one order for all: what is not in the store gives way."""
    from dataplane.control import requests
    from dataplane.control.policy_control import PolicyControl
    from dataplane.control.reading import Reading
    from dataplane.live.operations import Operations
    from dataplane.live.simulation import NoPorts

    firewall = filled()
    ports: Any = NoPorts()
    with closing(EtcdStore(parsed(url))) as other:
        keep(other, firewall.policy)
        with following(url) as (store, arrived):
            control = PolicyControl(Operations(firewall, ports), store)
            control.change(requests.ChangePolicy(command="change", change=ADD, confirm=3600))
            assert "new" in firewall.policy.rules_by_id
            keep(other, changed(Policy.parse(POLICY), {"delete_rule": {"id": "web"}}))
            assert arrived.wait(_SECONDS)
            version = store.arrived
            assert version
            control.follow(Reading(version.policy, 0.0), version)
            assert not {"new", "web"} & firewall.policy.rules_by_id.keys()
            with pytest.raises(ValueError, match="no change waits"):
                control.confirm(requests.Confirm(command="confirm"))
            assert control.generation == 3


@needs_etcd
def test_what_was_compacted_is_read_anew(etcd: Members, url: str) -> None:
    """A host that was away for long takes all of it, as it is now."""
    policy = Policy.parse(POLICY)
    with closing(EtcdStore(parsed(url))) as store, closing(Cluster(parsed(url))) as cluster:
        keep(store, policy)
        with closing(EtcdStore(parsed(url))) as late:
            keep(store, changed(policy, ADD))
            keep(store, changed(policy, ADD, {"delete_rule": {"id": "web"}}))
            subprocess.run(
                ["etcdctl", f"--endpoints={etcd.endpoint(0)}", "compact", str(cluster.range("x").revision)],
                env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"},
                check=True,
                capture_output=True,
                timeout=60,
            )
            arrived = threading.Event()
            late.follow(arrived.set)
            assert document(take(late, arrived)) == document(kept_at(url))


@needs_etcd
def test_user_and_password_are_asked_for(tmp_path: Path) -> None:
    with members(tmp_path, 1) as etcd, ExitStack() as stack:
        endpoint = f"--endpoints={etcd.endpoint(0)}"
        for words in ("user add root:secret", "user grant-role root root", "auth enable"):
            subprocess.run(
                ["etcdctl", endpoint, *words.split()],
                env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"},
                check=True,
                capture_output=True,
                timeout=60,
            )
        with pytest.raises(StoreError, match="etcd refuses: etcdserver: user name is empty"):
            EtcdStore(parsed(etcd.url()))
        with pytest.raises(
            StoreError, match="etcd refuses: etcdserver: authentication failed, invalid user ID or password"
        ):
            EtcdStore(parsed(etcd.url(user="root", password="wrong")))
        url = etcd.url(user="root", password="secret")
        with closing(EtcdStore(parsed(url))) as store:
            keep(store, Policy.parse(POLICY))
            host, arrived = stack.enter_context(following(url))
            keep(store, changed(Policy.parse(POLICY), ADD))
            assert "new" in take(host, arrived).rules_by_id
            # Tokens are gone with a restart.
            etcd.kill(0)
            etcd.start(0)
            etcd.await_leader(url)
            keep(store, Policy.parse(POLICY))
            assert "new" not in take(host, arrived).rules_by_id


@needs_etcd
def test_certificates_are_shown_and_asked_for(tmp_path: Path) -> None:
    """TLS with a CA of one's own, and a client without a certificate is refused."""
    request = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    names = ("-subj", "/CN=etcd", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2")
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run([*request, *names, "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=60)
    options = ("--cert-file", cert, "--key-file", key, "--client-cert-auth", "--trusted-ca-file", cert)
    query = f"ca={cert}&cert={cert}&key={key}"
    with members(tmp_path, 1, *options, scheme="https", url=query) as etcd:
        url = etcd.url(ca=cert, cert=cert, key=key)
        with closing(EtcdStore(parsed(url))) as store:
            keep(store, Policy.parse(POLICY))
            with following(url) as (host, arrived):
                keep(store, changed(Policy.parse(POLICY), ADD))
                assert "new" in take(host, arrived).rules_by_id
        with pytest.raises(StoreAwayError, match="etcd does not answer"):
            EtcdStore(parsed(etcd.url(ca=cert)))
        with pytest.raises(StoreAwayError, match="its certificate is not one of the ca"):
            EtcdStore(parsed(etcd.url(tls="1")))


# ---- without etcd ----


@needs_etcd
def test_without_etcd_the_last_good_copy_is_in_force_and_changes_are_refused(tmp_path: Path) -> None:
    """At a start too; when it is there again, the host goes on from where it was."""
    with members(tmp_path, 1) as etcd:
        url = etcd.url(copy=str(tmp_path / "copy"))
        firewall = filled()
        policy = firewall.policy
        with closing(EtcdStore(parsed(url))) as first:
            keep(first, policy)
            first.follow(lambda: None)
        assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
        etcd.kill(0)
        with pytest.raises(StoreAwayError, match="etcd does not answer: connection refused"):
            EtcdStore(parsed(etcd.url()))
        with (
            closing(EtcdStore(parsed(url))) as store,
            serving(tmp_path, firewall, keys=None, store=store) as served,
        ):
            assert document(store.load()) == document(policy) if not store._threads else True
            refused = served.call("POST", "/vpc/security-group-rules", RULE)
            assert (refused.status, refused.code) == (503, "SYS.0503")
            assert "etcd does not answer" in refused.body["error_msg"]
            assert refused.body["error_msg"].endswith("the policy in force stays: ask again when it answers")
            assert firewall.policy is policy
            assert served.call("GET", "/dataplane/status").body["store"]["away_since"]
            etcd.start(0)
            etcd.await_leader()
            for _ in range(1200):
                if not served.call("GET", "/dataplane/status").body["store"]["away_since"]:
                    break
                threading.Event().wait(0.05)
            assert served.call("POST", "/vpc/security-group-rules", RULE).status == 201


@needs_etcd
def test_a_change_that_etcd_may_have_made_is_not_called_refused(tmp_path: Path) -> None:
    """A member that hangs has it already, and may make it when it goes on."""
    with members(tmp_path, 1) as etcd, closing(EtcdStore(parsed(etcd.url()))) as store:
        keep(store, Policy.parse(POLICY))
        etcd.stop(0)
        try:
            with pytest.raises(StoreAwayError, match="it is not known whether the change is kept") as told:
                keep(store, changed(Policy.parse(POLICY), ADD))
        finally:
            etcd.go_on(0)
        assert told.value.is_done is None
        etcd.kill(0)
        with pytest.raises(StoreAwayError, match="the change is refused") as told:
            keep(store, changed(Policy.parse(POLICY), {"delete_rule": {"id": "in6"}}))
        assert told.value.is_done is False


def test_without_etcd_and_without_a_copy_nothing_starts(tmp_path: Path) -> None:
    """The status is that of what may be otherwise later, so that a service manager tries again."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    command = [sys.executable, "-m", "dataplane", "api", str(tmp_path / "policy.yaml"), "--listen", "./api.sock"]
    done = subprocess.run(
        [*command, "--store", "etcd://127.0.0.1:1/p"], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "etcd://127.0.0.1:1/p: etcd does not answer: connection refused" in done.stderr


@needs_etcd
@pytest.mark.parametrize("content", [b"", b"nothing", b"\x1f\x8b\x08\x00\x00"])
def test_a_damaged_copy_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "copy"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="the copy of the policy is damaged: delete it"):
        copy.read(path, "etcd://a:2379/p")
    assert copy.read(tmp_path / "none", "etcd://a:2379/p") is None


# ---- what concerns a host ----

FLEET = """
security_groups:
  - id: web
    security_group_rules:
      - {id: w1, direction: ingress, protocol: tcp, multiport: "80", remote_group_id: clients}
      - {id: w2, direction: ingress, remote_address_group_id: offices}
  - {id: clients, security_group_rules: [{id: c1, direction: egress}]}
  - {id: db, security_group_rules: [{id: d1, direction: ingress, remote_address_group_id: others}]}
address_groups:
  - {id: offices, ip_version: 4, ip_set: [192.0.2.0/24]}
  - {id: others, ip_version: 4, ip_set: [198.51.100.0/24]}
instances:
  - {id: w, addresses: [10.0.0.1], security_groups: [web], interface: tap-w, host: h1}
  - {id: c, addresses: [10.0.0.2], security_groups: [clients], interface: tap-c, host: h2, tap: {mtu: 1400}}
  - {id: d, addresses: [10.0.0.3], security_groups: [db], interface: tap-d, host: h2}
load_balancers:
  - {id: lb-1, addresses: [10.0.0.100], backends: [w, d]}
  - {id: lb-2, addresses: [10.0.0.101], backends: [c]}
uplinks: [{interface: eth0}]
"""


def test_a_host_keeps_what_concerns_its_instances() -> None:
    """Its instances, their groups with the rules, what these name; of others the addresses alone."""
    rows = Writing(Policy.parse(FLEET), {}, None, 1.0).rows
    found = part_of(rows, "h1")
    kept = Policy.parse(json.dumps(document_of("{}", found.rows)))
    assert set(kept.rules_by_id) == {"w1", "w2"}
    assert {group.id for group in kept.address_groups} == {"offices"}
    assert {group.id for group in kept.load_balancers} == {"lb-1"}
    # d is there for the balancer, which forwards to it too.
    assert [(i.id, i.interface) for i in kept.instances] == [("w", "tap-w"), ("c", None), ("d", None)]
    assert [uplink.interface for uplink in kept.uplinks] == ["eth0"]
    assert part_of(found.rows, "h1").rows == found.rows
    assert [i.id for i in Policy.parse(json.dumps(document_of("{}", part_of(rows, "h3").rows))).instances] == []


@needs_etcd
def test_a_part_is_brought_on_as_all_of_it_would_be(url: str) -> None:
    """After each change the part that was watched is the part of what is kept; and a host of a part changes nothing."""
    policy = Policy.parse(FLEET)
    steps: list[dict[str, Any]] = [
        {"add_rule": {"security_group": "db", "rule": {"id": "d2", "direction": "ingress", "protocol": "gre"}}},
        {"update_rule": {"id": "w1", "multiport": "443"}},
        {"add_rule": {"security_group": "web", "rule": {"id": "w3", "direction": "ingress", "remote_group_id": "db"}}},
        {"delete_rule": {"id": "w1"}},
        {"update_instance": {"id": "d", "security_groups": ["clients"]}},
        {"update_instance": {"id": "d", "host": "h1", "security_groups": ["db"]}},
        {"create_instance": {"id": "e", "addresses": ["10.0.0.9"], "security_groups": ["clients"]}},
        {"update_instance": {"id": "w", "host": "h2"}},
    ]
    with closing(EtcdStore(parsed(url))) as store:
        keep(store, policy)
        with following(f"{url}?host=h1") as (host, arrived):
            host.load()
            for step in steps:
                policy = changed(policy, step)
                keep(store, policy)
                take(host, arrived)
                with closing(EtcdStore(parsed(f"{url}?host=h1"))) as anew:
                    assert host._in_force.rows == anew._in_force.rows, step
            with pytest.raises(StorePartError, match="this host keeps its part of the policy alone"):
                keep(host, changed(host._in_force.policy(), {"delete_rule": {"id": "d1"}}))
            with pytest.raises(StorePartError):
                host.expect_changes()
