"""What is kept in etcd is not what dataplane writes: a sentence, and what was in force stays so."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dataplane.cli import app
from dataplane.policy import PolicyError
from dataplane.store import StoreError
from dataplane.store.etcd import canary
from dataplane.store.etcd.address import parsed
from dataplane.store.etcd.cluster import Cluster, delete, put
from dataplane.store.etcd.fleet import fleet
from dataplane.store.etcd.store import EtcdStore
from dataplane.store.etcd.version import key_of
from dataplane.store.kept import UnreadableError
from tests.support.etcd import Members, needs_etcd
from tests.unit.live.scene import filled

from .test_etcd import ADD, changed, following, keep, kept_at, take
from .test_fleet import until

pytestmark = needs_etcd

GARBAGE = ("", "{", "null", "[]", '{"form": "new"}', "[" * 100_000, '{"form": 1, "epoch": 5}', "\udcff\udcfe")
HEAD = {"form": 1, "number": 7, "at": 1.0, "by": "h", "token": "t", "document": "{}"}
HEADS = [
    json.dumps(HEAD | wrong)
    for wrong in ({"number": "x"}, {"at": float("nan")}, {"at": "now"}, {"document": 5}, {"form": None}, {"number": -1})
]
ROWS = [
    "5",
    '["sg"]',
    json.dumps(["sg", "first", "{}", 1, 1]),
    json.dumps(["sg", 0, {}, 1, 1]),
    json.dumps(["sg", 0, "{}", 1, float("inf")]),
]
#: Rows that are rows, of which the parts of the document are none.
BODIES = ["5", "[]", "{", '{"id": "r", "remote_group_id": ["sg"]}', "[" * 100_000]


_numbers = itertools.count()


@pytest.fixture
def url(etcd: Members) -> str:
    """The address of a store that has a policy."""
    made = etcd.url(f"unreadable/{next(_numbers)}")
    with closing(EtcdStore(parsed(made))) as store:
        keep(store, filled().policy)
    return made


def write(url: str, *requests: Callable[[str, str], dict[str, Any]]) -> None:
    """Writes into the store; a request is made of its prefix and the epoch in force."""
    address = parsed(url)
    with closing(Cluster(address)) as cluster:
        epoch = json.loads(cluster.range(f"{address.prefix}current").items[0].value)["epoch"]
        cluster.transaction([], [made(address.prefix, epoch) for made in requests])


def current(text: str) -> Callable[[str, str], dict[str, Any]]:
    return lambda prefix, epoch: put(f"{prefix}current", text)


def head(text: str) -> Callable[[str, str], dict[str, Any]]:
    return lambda prefix, epoch: put(f"{prefix}epochs/{epoch}/head", text)


def rule(text: str) -> Callable[[str, str], dict[str, Any]]:
    return lambda prefix, epoch: put(key_of(prefix, epoch, ("rules", "bad")), text)


@pytest.mark.parametrize("part", [None, "h1"])
def test_it_is_told_in_a_sentence(url: str, part: str | None) -> None:
    """Where, why and what to do; by whoever reads all of it, or a host's part."""
    asked = f"{url}?host={part}" if part else url
    with closing(EtcdStore(parsed(url))) as store:
        good, prefix = store._last, store.address.prefix
    put_right = [
        put(f"{prefix}current", json.dumps({"form": 1, "epoch": good.epoch})),
        put(f"{prefix}epochs/{good.epoch}/head", good.head.text()),
        delete(key_of(prefix, good.epoch, ("rules", "bad"))),
    ]
    for request in (
        *map(head, (*GARBAGE, *HEADS)),
        *map(rule, ROWS),
        *(rule(json.dumps(["sg", 0, body, 1, 1])) for body in BODIES),
        *map(current, GARBAGE),
    ):
        write(url, request)
        with pytest.raises((StoreError, PolicyError)) as caught:
            kept_at(asked)
        if not isinstance(caught.value, PolicyError):
            assert "\n" not in str(caught.value)
            assert "put it right there, or use another prefix" in str(caught.value)
        with closing(Cluster(parsed(url))) as cluster:
            cluster.transaction([], put_right)
    assert kept_at(url) == filled().policy


def test_what_is_in_force_stays_and_goes_on_when_it_is_put_right(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A host that watches goes on by what comes behind it; one that starts begins with its last good copy."""
    monkeypatch.setattr("dataplane.store.etcd.store._UNREADABLE_PAUSE", 0.1)
    monkeypatch.setattr("dataplane.store.etcd.fleet._LEAST_PAUSE", 0.1)
    copy = tmp_path / "copy"
    with following(f"{url}?copy={copy}") as (store, arrived):
        good = store._last
        until(copy.exists)
        write(url, rule("5"))
        until(lambda: "is put right" in caplog.text)
        assert "rules/bad what dataplane does not write there" in store.state()["error"]
        assert store.arrived is None
        with closing(EtcdStore(parsed(f"{url}?copy={copy}"))) as begun:
            assert begun.load() == filled().policy
        write(url, lambda prefix, epoch: delete(key_of(prefix, epoch, ("rules", "bad"))))
        until(lambda: store.state()["error"] is None)
        with closing(EtcdStore(parsed(url))) as other:
            keep(other, changed(other.load(), ADD))
        assert "new" in take(store, arrived).rules_by_id
        assert good.epoch == store._last.epoch


def test_other_keys_under_the_prefix_are_left_alone(url: str) -> None:
    """Also such as are no text."""
    with following(url) as (store, arrived):
        write(
            url,
            lambda prefix, epoch: put(f"{prefix}epochs/{epoch}/rows", "5"),
            lambda prefix, epoch: put(f"{prefix}epochs/{epoch}/note", "\udcff"),
            lambda prefix, epoch: put(f"{prefix}epochs/{epoch}/\udcfe/x", "{"),
            lambda prefix, epoch: put(f"{prefix}elsewhere", "{"),
        )
        assert kept_at(url) == filled().policy
        with closing(EtcdStore(parsed(url))) as other:
            keep(other, changed(other.load(), ADD))
        assert "new" in take(store, arrived).rules_by_id


def test_a_canary_that_is_none_stops_no_host(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The host says of itself what it said, follows changes, and judges by the next one that can be read."""
    monkeypatch.setattr("dataplane.store.etcd.fleet._LEAST_PAUSE", 0.05)
    address = parsed(f"{url}?name=h1")
    with following(f"{url}?name=h1") as (store, arrived), closing(Cluster(address)) as cluster:
        for text in (
            *GARBAGE,
            '{"id": []}',
            '{"id": "x", "hosts": 5, "document": "{}"}',
            '{"id": "x", "hosts": ["h1"]}',
        ):
            cluster.transaction([], [put(canary.key(address.prefix), text)])
            until(lambda text=text: store._unreadable == text)
        assert "no other policy is tried by this host" in caplog.text
        cluster.transaction([], [delete(canary.key(address.prefix))])
        staged = store.staged(store.load(), 1.0)
        begun = canary.Begun(cluster, address.prefix, staged, ["h1"])
        until(lambda: store.canary is not None)
        with pytest.raises(StoreError, match="another policy is being tried"):
            canary.Begun(cluster, address.prefix, staged, ["h2"])
        until(lambda: store.canary is not None and store.canary.id == begun.id)
        begun.end()
        until(lambda: store.canary is None)
        with closing(EtcdStore(parsed(url))) as other:
            keep(other, changed(other.load(), ADD))
        assert "new" in take(store, arrived).rules_by_id
        assert [host.is_there for host in fleet(cluster, address.prefix).hosts] == [True]


def test_a_report_that_is_none_is_an_error_of_its_host(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """`dataplane fleet status` lists it, and what does not print in a name, or in what it says, is escaped."""
    caplog.set_level(logging.WARNING)
    report = {"change": 1, "changed_at": 1.0, "in_force_at": 1.0, "error": "\x1b[2J", "version": "1", "filters": True}
    wrong = (*GARBAGE, *(json.dumps(report | {name: "x"}) for name in ("change", "canary", "changed_at")))
    write(url, *(lambda prefix, _, n=n, t=t: put(f"{prefix}known/h{n}", t) for n, t in enumerate(wrong)))
    write(url, lambda prefix, _: put(f"{prefix}hosts/a\x1b]0;owned\x07b", json.dumps(report)))
    done = CliRunner().invoke(app, ["fleet", "status", "--store", url])
    assert done.exit_code == 1, done.stderr
    assert done.stdout.count("what dataplane does not") == len(wrong)
    assert "\x1b" not in done.stdout
    told = json.loads(CliRunner().invoke(app, ["fleet", "status", "--store", url, "--json"]).stdout)
    assert len(told["hosts"]) == len(wrong) + 1


def test_a_newer_form_is_told_as_such(url: str) -> None:
    write(url, head(json.dumps(HEAD | {"form": 2})))
    with pytest.raises(UnreadableError, match="of a newer dataplane"):
        kept_at(url)
