"""etcd whose members are set back to a copy of before, as after the loss of their disks: what is kept is in force."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dataplane import Policy
from dataplane.cli import app
from dataplane.policy.write import document
from dataplane.store.etcd.address import parsed
from dataplane.store.etcd.store import EtcdStore
from dataplane.store.etcd.version import Head, Version, epoch_prefix
from tests.support.etcd import members, needs_etcd, until

from .test_etcd import ADD, POLICY, changed, following, keep, kept_at


@needs_etcd
def test_what_is_kept_after_that_is_in_force(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A host that had more has it until then, which the fleet is told; changes go on from what is kept."""
    policy = Policy.parse(POLICY)
    with members(tmp_path, 1) as etcd:
        with closing(EtcdStore(parsed(etcd.url()))) as first:
            keep(first, policy)
        with following(etcd.url(name="h")) as (store, _):
            etcd.kill(0)
            shutil.copytree(tmp_path / "m0", tmp_path / "before")
            etcd.start(0)
            etcd.await_leader()
            with closing(EtcdStore(parsed(etcd.url()))) as other:
                for number in range(5):
                    keep(other, changed(policy, {"update_group": {"id": "sg", "name": f"n{number}"}}))
            while store.state()["change"] < 6:
                put_in_force(store)
            etcd.kill(0)
            shutil.rmtree(tmp_path / "m0")
            (tmp_path / "before").rename(tmp_path / "m0")
            etcd.start(0)
            etcd.await_leader()
            until(lambda: fleet(etcd.url()) == "ahead")
            assert document(put_in_force(store)) == document(kept_at(etcd.url())) == document(policy)
            assert "etcd was set back, as to a copy of before: change 1 is kept there" in caplog.text
            assert store.state()["newest"] == store.state()["change"] == 1
            keep(store, changed(store.load(), ADD))
            assert "new" in kept_at(etcd.url()).rules_by_id
            until(lambda: fleet(etcd.url()) == "up to date")


def put_in_force(store: EtcdStore) -> Policy:
    """What has arrived, when it has."""
    until(lambda: store.arrived)
    version = store.arrived
    assert version
    store.taken(version)
    return version.policy()


def fleet(url: str) -> str:
    """The state of host h, as people are told it."""
    told = CliRunner().invoke(app, ["fleet", "status", "--store", url, "--json"]).stdout
    return str({host["host"]: host["state"] for host in json.loads(told or '{"hosts": []}')["hosts"]}.get("h"))


def test_a_change_upon_another_one_is_not_made_upon_this() -> None:
    """The watch may go on where etcd was set back and then changed more often than the host has seen."""
    seen = Version("store", "e", 1, Head(6, token="six"), revision=12)
    place = f"{epoch_prefix('p/', 'e')}head"
    for upon, is_brought in (("six", True), (None, True), ("other", False)):
        brought = seen.brought_on("p/", [(place, Head(7, token="seven", upon=upon).text())], 13)
        assert (brought is not None) is is_brought
