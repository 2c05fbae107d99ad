"""A policy kept in SQLite: what was answered is kept, as a whole, in its order; nobody's change is lost."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from dataplane import Policy
from dataplane.cli.ctl.text import print_change
from dataplane.control import requests
from dataplane.control.policy_control import PolicyControl
from dataplane.live.operations import Operations
from dataplane.live.simulation import NoPorts
from dataplane.policy.changes import apply, parse_change
from dataplane.policy.write import document
from dataplane.store import StoreError
from dataplane.store.place import opened
from dataplane.store.sqlite import MIGRATIONS, SqliteStore, path_of
from tests.unit.live.scene import POLICY, filled
from tests.unit.rest.served import serving


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / "policy.db")) as made:
        yield made


def keep(store: SqliteStore, policy: Any, now: float = 100.0) -> None:
    with store.keeping(policy, now):
        pass


def fail_to_keep(store: SqliteStore, policy: Any, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Keeps a policy that cannot be put in force."""
    with store.keeping(policy, 200.0):
        meanwhile()
        raise ZeroDivisionError


def changed(policy: Any, *changes: dict[str, Any]) -> Any:
    for change in changes:
        policy = apply(policy, parse_change(change, policy))
    return policy


def again(store: SqliteStore) -> SqliteStore:
    """The same database, opened anew."""
    return SqliteStore(path_of(store.name))


ADD = {"add_rule": {"security_group": "sg", "rule": {"id": "new", "direction": "ingress", "protocol": "gre"}}}


def test_what_is_kept_is_loaded(store: SqliteStore) -> None:
    """The same document, sections, groups and rules in their order; and nobody else may read it."""
    assert store.is_empty
    with pytest.raises(StoreError, match=r"no policy is kept there yet: fill it \(dataplane policy apply"):
        store.load()
    policy = Policy.parse(POLICY + "conntrack: {timeouts: {icmp: 5}}\nregion: eu\nuplinks: [{interface: eth9}]\n")
    keep(store, policy)
    with closing(again(store)) as other:
        assert not other.is_empty
        assert document(other.load()) == document(policy)
    assert path_of(store.name).stat().st_mode & 0o777 == 0o600


def test_a_change_writes_what_differs(store: SqliteStore) -> None:
    """One transaction of few rows; with the times of what it touched."""
    policy = Policy.parse(POLICY)
    keep(store, policy)
    written: list[str] = []
    store._database.set_trace_callback(written.append)
    keep(store, changed(policy, ADD), 200.0)
    store._database.set_trace_callback(None)
    rows = [statement for statement in written if "INTO item" in statement]
    assert len(rows) == 2, "the rule, and the time of its group"
    with closing(again(store)) as other:
        assert other.times["rules", "new"] == (200.0, 200.0)
        assert other.times["security_groups", "sg"] == (100.0, 200.0)
        assert other.times["rules", "web"] == other.times["security_groups", "other"] == (100.0, 100.0)
        assert [rule.id for rule in other.load().group("sg").security_group_rules] == [
            "web",
            "in6",
            "self",
            "out",
            "new",
        ]


def test_any_policy_follows_any(store: SqliteStore) -> None:
    """Another order, rules that move, groups that go: what is loaded is what was kept last."""
    policy = Policy.parse(POLICY)
    moved = POLICY.replace(
        '- {id: web, direction: ingress, protocol: tcp, multiport: "80"}',
        "- {id: late, direction: egress, protocol: tcp}",
    )
    reordered = document(policy)
    reordered["security_groups"].reverse()
    reordered["security_groups"][1]["security_group_rules"].reverse()
    policies = [
        policy,
        changed(policy, {"delete_rule": {"id": "in6"}}, ADD),
        Policy.parse(moved),
        Policy.parse(json.dumps(reordered)),
        changed(policy, {"delete_rule": {"id": "listed"}}, {"delete_address_group": {"id": "list"}}),
        Policy(),
        policy,
    ]
    for one in policies:
        keep(store, one)
        assert document(store.load()) == document(one)


def test_what_fails_is_not_kept(store: SqliteStore) -> None:
    """As a whole: what is done within fails, and the transaction is taken back."""
    policy = Policy.parse(POLICY)
    keep(store, policy)
    with pytest.raises(ZeroDivisionError), store.keeping(changed(policy, ADD), 200.0):
        raise ZeroDivisionError
    assert document(store.load()) == document(policy)
    keep(store, changed(policy, {"delete_rule": {"id": "in6"}}), 300.0)
    assert "in6" not in store.load().rules_by_id


def test_another_process_has_written(store: SqliteStore) -> None:
    """Its change is not lost: ours is refused, until what is there is loaded."""
    policy = Policy.parse(POLICY)
    keep(store, policy)
    with closing(again(store)) as other:
        keep(other, changed(policy, ADD), 200.0)
    with pytest.raises(StoreError, match="another process has changed the policy there: load it again first"):
        keep(store, changed(policy, {"delete_rule": {"id": "in6"}}), 300.0)
    loaded = store.load()
    assert "new" in loaded.rules_by_id
    keep(store, loaded, 400.0)
    keep(store, changed(loaded, {"delete_rule": {"id": "in6"}}), 500.0)
    assert {"new"} == set(store.load().rules_by_id) - {"web", "self", "out", "listed"}


def test_it_is_loaded_while_it_is_written(store: SqliteStore) -> None:
    """From another thread: the new policy, whole, from when it is kept; it is put in force then."""
    policy = Policy.parse(POLICY)
    keep(store, policy)
    found: list[Any] = []
    with store.keeping(changed(policy, ADD), 200.0):
        reader = threading.Thread(target=lambda: found.append(store.load()))
        reader.start()
        reader.join(60)
    assert [document(one) for one in found] == [document(changed(policy, ADD))]
    assert "new" in store.load().rules_by_id


def test_what_is_taken_back_is_as_it_was(store: SqliteStore) -> None:
    """With its times, and so that another process that read it meanwhile finds out."""
    policy = Policy.parse(POLICY)
    keep(store, policy)
    times = store.times
    replaced = changed(policy, ADD, {"delete_rule": {"id": "in6"}}, {"update_rule": {"id": "web", "multiport": "81"}})
    seen: list[SqliteStore] = []
    with pytest.raises(ZeroDivisionError):
        fail_to_keep(store, replaced, lambda: seen.append(again(store)))
    with closing(seen[0]) as other:
        assert other.kept_elsewhere()
        assert document(other.load()) == document(policy)
    with closing(again(store)) as later:
        assert later.times == store.times == times


def test_what_another_process_writes_before_it_is_taken_back_stays(store: SqliteStore) -> None:
    policy = Policy.parse(POLICY)
    keep(store, policy)
    theirs = changed(policy, {"delete_rule": {"id": "in6"}})

    def keep_theirs() -> None:
        with closing(again(store)) as other:
            keep(other, theirs)

    with pytest.raises(ZeroDivisionError):
        fail_to_keep(store, changed(policy, ADD), keep_theirs)
    assert document(store.load()) == document(theirs)
    assert store.kept_elsewhere()


def test_an_empty_one_is_empty_again(store: SqliteStore) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_to_keep(store, Policy.parse(POLICY))
    assert store.is_empty
    with closing(again(store)) as other:
        assert other.is_empty
    keep(store, Policy.parse(POLICY))
    assert document(store.load()) == document(Policy.parse(POLICY))


@pytest.mark.parametrize("url", ["policy.db", "sqlite://policy.db", "sqlite:///", "mysql://a/b"])
def test_addresses_that_are_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(StoreError, match=r"sqlite:///var/lib/dataplane/policy\.db is needed"):
        opened(tmp_path / "policy.yaml", url)


def test_databases_that_are_none(tmp_path: Path) -> None:
    """Of a newer form, of something else, in no folder: a sentence, and they stay as they are."""
    newer, other = tmp_path / "newer.db", tmp_path / "other.db"
    with closing(sqlite3.connect(newer)) as made:
        made.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    other.write_text("a text that is no database at all" * 100)
    for path, words in (
        (newer, "of a newer dataplane"),
        (other, "file is not a database: name another file"),
        (tmp_path / "a/b", "No such file or directory: make its folder, or name another place"),
        (tmp_path, "Is a directory: name a file"),
    ):
        with pytest.raises(StoreError, match=words) as caught:
            SqliteStore(path)
        assert str(path) in str(caught.value)
    assert other.read_text().startswith("a text")


# ---- behind a firewall ----


@pytest.mark.parametrize(
    "statement",
    [
        *(
            f"UPDATE item SET {what}"
            for what in (
                "body = '{' WHERE section = 'rules'",
                "body = '[]'",
                "body = 'null'",
                "body = x'ff00'",
                "body = '{}'",
                "body = '{\"id\": \"another\"}' WHERE section = 'rules'",
                "section = 'nothing'",
                "owner = 'nobody' WHERE section = 'rules'",
                "place = 'x'",
                "place = -1",
                "created = 'x'",
                "updated = 1e300",
            )
        ),
        "DELETE FROM item WHERE section = 'security_groups'",
        "UPDATE head SET body = 'x'",
        "UPDATE head SET body = '[]'",
        "UPDATE head SET revision = 'x'",
        "UPDATE head SET revision = -1",
        "DELETE FROM head",
    ],
)
def test_what_dataplane_does_not_write_is_told_and_kept(tmp_path: Path, statement: str) -> None:
    """In a sentence, whoever has damaged it; nothing of it is lost, nor is the policy file put in its place."""
    path, policy = tmp_path / "policy.db", tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    with closing(SqliteStore(path)) as store:
        keep(store, Policy.parse(POLICY))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement)
    before = path.read_bytes()
    with pytest.raises(
        StoreError, match=r"^the database has at sqlite:/.* what dataplane does not write there \(.*: put it"
    ):
        opened(policy, f"sqlite://{path}").load()
    assert path.read_bytes() == before


def test_a_revision_that_is_none_is_told_to_who_follows(store: SqliteStore) -> None:
    keep(store, Policy.parse(POLICY))
    with closing(sqlite3.connect(path_of(store.name))) as database, database:
        database.execute("UPDATE head SET revision = 'x'")
    with pytest.raises(StoreError, match="what dataplane does not write there"):
        store.kept_elsewhere()


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE bookmarks (id)",),
        ("CREATE TABLE bookmarks (id)", "PRAGMA user_version = 1"),
        ("CREATE TABLE bookmarks (id)", "PRAGMA user_version = 57"),
        ("PRAGMA user_version = -1",),
    ],
)
def test_the_database_of_another_program_is_left_as_it_is(tmp_path: Path, statements: tuple[str, ...]) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"another program's database|of a newer dataplane"):
        SqliteStore(path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["other.db"]


def test_the_policy_fills_an_empty_store_and_no_other(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    url = f"sqlite://{tmp_path}/policy.db"
    assert document(opened(policy, url).load()) == document(Policy.parse(POLICY))
    policy.write_text("{}")
    assert document(opened(policy, url).load()) == document(Policy.parse(POLICY))


def test_a_change_that_cannot_be_kept_is_not_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC 5.6: refused whole; the API says that it could not be carried out. Dry runs keep nothing."""
    store, firewall = SqliteStore(tmp_path / "policy.db"), filled()
    keep(store, firewall.policy)
    rule = {"security_group_rule": {"security_group_id": "sg", "direction": "ingress", "protocol": "udp"}}
    with closing(store), serving(tmp_path, firewall, keys=None, store=store) as served:
        assert served.call("POST", "/vpc/security-group-rules", {**rule, "dry_run": True}).status == 202
        store._database.execute(
            "CREATE TEMP TRIGGER full BEFORE INSERT ON main.item BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        before = firewall.policy
        answer = served.call("POST", "/vpc/security-group-rules", rule)
        assert (answer.status, answer.code) == (500, "SYS.0500")
        assert "the policy cannot be kept there: full" in answer.body["error_msg"]
        assert firewall.policy is before
        assert served.call("GET", "/dataplane/status").body["generation"] == 1
        store._database.execute("DROP TRIGGER full")
        made = served.call("POST", "/vpc/security-group-rules", rule)
        assert made.status == 201
        assert served.call("GET", "/dataplane/status").body["unsaved_changes"] == 0
        assert made.body["security_group_rule"]["id"] in store.load().rules_by_id


@pytest.mark.parametrize("replaced", [False, True])
def test_a_database_that_has_gone_keeps_nothing_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """What is written to a file that nobody finds again is lost: it is refused, and told. Put back, it goes on."""
    monkeypatch.setattr("dataplane.control.service._LOOK_SECONDS", 0.01)
    path, firewall = tmp_path / "policy.db", filled()
    rule = {"security_group_rule": {"security_group_id": "sg", "direction": "ingress", "protocol": "udp"}}
    with closing(SqliteStore(path)) as store, serving(tmp_path, firewall, keys=None, store=store) as served:
        keep(store, firewall.policy)
        before = firewall.policy
        path.rename(tmp_path / "away.db")
        if replaced:
            path.touch()
        answer = served.call("POST", "/vpc/security-group-rules", rule)
        assert (answer.status, answer.code) == (500, "SYS.0500")
        assert "has gone, or another one has taken its place: put it back" in answer.body["error_msg"]
        with pytest.raises(StoreError, match="has gone"):
            store.load()
        assert firewall.policy is before
        assert path.exists() is replaced
        while not any(record.levelname == "ERROR" and "has gone" in record.getMessage() for record in caplog.records):
            time.sleep(0.01)
        (tmp_path / "away.db").rename(path)
        assert served.call("POST", "/vpc/security-group-rules", rule).status == 201


def test_all_of_it_is_in_one_file_when_it_is_closed(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "policy.db")) as store:
        keep(store, Policy.parse(POLICY))
    assert [path.name for path in tmp_path.iterdir()] == ["policy.db"]


class Full:
    """A database whose transactions cannot be ended while its disk is full."""

    def __init__(self, store: SqliteStore) -> None:
        self._within, self.is_full = store._database, True
        store._database = cast("Any", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._within, name)

    def execute(self, sql: str, *arguments: Any) -> Any:
        """As the database does."""
        if sql == "COMMIT" and self.is_full:
            raise sqlite3.OperationalError("database or disk is full")
        return self._within.execute(sql, *arguments)


def controlled(store: SqliteStore, firewall: Any) -> PolicyControl:
    """The control of a firewall whose policy is kept there."""
    ports: Any = NoPorts()
    keep(store, firewall.policy)
    return PolicyControl(Operations(firewall, ports), store)


def test_a_change_that_cannot_be_kept_disconnects_nobody(store: SqliteStore) -> None:
    """SPEC 5.6: it is refused, and nothing happens, for no packet and for no connection."""
    firewall = filled()
    control = controlled(store, firewall)
    before, connections = firewall.policy, list(firewall.connections)
    disk = Full(store)
    with pytest.raises(StoreError, match="full"):
        control.change(requests.ChangePolicy(command="change", change=ADD))
    assert firewall.policy is before
    assert list(firewall.connections) == connections
    assert not any(connection.disconnected for connection in connections)
    disk.is_full = False
    assert control.change(requests.ChangePolicy(command="change", change=ADD))["changed"]
    assert "new" in store.load().rules_by_id


def test_what_cannot_be_put_in_force_nor_taken_back_is_told(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept as if another process had: it is put in force as soon as that is possible."""
    control = controlled(store, filled())

    def fail(policy: Any) -> None:
        Full(store)
        raise OSError("no interface")

    monkeypatch.setattr(control.operations, "put_in_force", fail)
    with pytest.raises(StoreError, match=r"no interface; but it is kept, .* cannot be undone: .* full"):
        control.change(requests.ChangePolicy(command="change", change=ADD))
    assert "new" in store.load().rules_by_id
    assert store.kept_elsewhere()


@pytest.mark.parametrize("hindered_by", ["a full disk", "another process"])
def test_a_change_that_waits_is_taken_back_whatever_the_store_is_like(store: SqliteStore, hindered_by: str) -> None:
    """It was not kept, so the way back needs nothing of the store."""
    firewall = filled()
    control = controlled(store, firewall)
    before = document(firewall.policy)
    control.change(requests.ChangePolicy(command="change", change=ADD, confirm=3600))
    if hindered_by == "a full disk":
        Full(store)
    else:
        with closing(again(store)) as other:
            keep(other, changed(other.load(), {"delete_rule": {"id": "in6"}}))
    with pytest.raises(StoreError):
        control.confirm(requests.Confirm(command="confirm"))
    assert "new" in firewall.policy.rules_by_id
    control.confirm(requests.Confirm(command="confirm", revert=True))
    assert document(firewall.policy) == before


def test_a_rule_ends_though_the_disk_is_full(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """And takes a change that waits for its confirmation into the store no sooner than that."""
    firewall = filled()
    control = controlled(store, firewall)
    ends = {"id": "ends", "direction": "ingress", "protocol": "gre", "expires_at": "2100-01-01T00:00:00Z"}
    control.change(requests.ChangePolicy(command="change", change={"add_rule": {"security_group": "sg", "rule": ends}}))
    control.change(requests.ChangePolicy(command="change", change=ADD, confirm=3600))
    disk = Full(store)
    monkeypatch.setattr("time.time_ns", lambda: 4_102_444_800 * 10**9)
    assert control.expire()
    assert {"ends", "new"} & firewall.policy.rules_by_id.keys() == {"new"}
    assert control.expire() is None
    disk.is_full = False
    assert "new" not in store.load().rules_by_id
    control.confirm(requests.Confirm(command="confirm"))
    assert {"ends", "new"} & store.load().rules_by_id.keys() == {"new"}


def test_a_change_that_waits_is_kept_when_it_is_confirmed(
    store: SqliteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that a restart before that begins with the policy before; one that is taken back was never kept."""
    firewall = filled()
    keep(store, firewall.policy)
    ports: Any = NoPorts()
    control = PolicyControl(Operations(firewall, ports), store)
    waiting = requests.ChangePolicy(command="change", change=ADD, confirm=3600)
    for revert in (True, False):
        print_change(control.change(waiting))
        assert "It is kept in sqlite:///" in (told := capsys.readouterr().out)
        assert told.rstrip().endswith("policy.db once it is confirmed.")
        assert "new" in firewall.policy.rules_by_id
        assert "new" not in store.load().rules_by_id
        control.confirm(requests.Confirm(command="confirm", revert=revert))
        assert ("new" in store.load().rules_by_id) is not revert
        assert document(store.load()) == document(firewall.policy)


@pytest.mark.parametrize("confirm", [None, 3600.0])
def test_the_time_that_is_told_is_the_one_that_is_kept(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, confirm: float | None
) -> None:
    """However long a change takes, or waits for its confirmation: after a restart it has come at the same time."""
    ticks = count(1_000)
    firewall, ports = filled(), cast("Any", NoPorts())
    keep(store, firewall.policy)
    control = PolicyControl(Operations(firewall, ports), store)
    monkeypatch.setattr("time.time", lambda: float(next(ticks)))
    control.change(requests.ChangePolicy(command="change", change=ADD, confirm=confirm))
    if confirm:
        control.confirm(requests.Confirm(command="confirm"))
    assert control.times.of("rules", "new") == again(store).times["rules", "new"]


def test_what_was_answered_outlives_a_kill(tmp_path: Path) -> None:
    """kill -9 right behind the answer; the next start has the rule, with the time that it came."""
    policy, path = tmp_path / "policy.yaml", tmp_path / "api.sock"
    policy.write_text(POLICY)
    command = [sys.executable, "-m", "dataplane", "api", str(policy), "--listen", str(path), "--log-format", "json"]
    rule = {"security_group_rule": {"security_group_id": "sg", "direction": "ingress", "protocol": "udp"}}
    told = []
    for how in (signal.SIGKILL, signal.SIGTERM):
        with subprocess.Popen(
            [*command, "--store", f"sqlite://{tmp_path}/policy.db"], stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stderr
                assert json.loads(process.stderr.readline())["policy"] == f"sqlite://{tmp_path}/policy.db"
                served: Any = over(path)
                if how == signal.SIGKILL:
                    told.append(served.call("POST", "/vpc/security-group-rules", rule).body["security_group_rule"])
                else:
                    name = told[0]["id"]
                    told.append(served.call("GET", f"/vpc/security-group-rules/{name}").body["security_group_rule"])
            finally:
                os.kill(process.pid, how)
                process.wait(60)
    assert told[0] == told[1]


def over(path: Path) -> Any:
    from tests.unit.rest.served import Served

    unused: Any = None
    return Served(unused, 0, path, unused)
