"""etcd whose database is as large as it may be: nothing new is kept, and what is wrong is told with what to do."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dataplane import Policy
from dataplane.cli import app
from dataplane.store import StoreError
from dataplane.store.etcd.address import parsed
from dataplane.store.etcd.cluster import Cluster, put
from dataplane.store.etcd.store import EtcdStore
from tests.support.etcd import Members, members, needs_etcd, until

from .test_etcd import ADD, POLICY, changed, keep

_MOST = 3_000_000


def fill(etcd: Members) -> None:
    with closing(Cluster(parsed(etcd.url()))) as cluster, contextlib.suppress(StoreError):
        for number in range(2 * _MOST // 500_000):
            cluster.transaction([], [put(f"else/{number}", "x" * 500_000)])


def status(etcd: Members, expected: int) -> dict[str, object]:
    done = CliRunner().invoke(app, ["fleet", "status", "--store", etcd.url(), "--json"])
    assert done.exit_code == expected, done.stdout
    return dict(json.loads(done.stdout))


@needs_etcd
def test_hosts_go_on_and_what_they_cannot_say_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is not read again and again meanwhile, and a host that begins has it."""
    with (
        members(tmp_path, 1, "--quota-backend-bytes", str(_MOST)) as etcd,
        closing(EtcdStore(parsed(etcd.url(name="h")))) as store,
    ):
        keep(store, Policy.parse(POLICY))
        store.follow(lambda: None)
        assert status(etcd, 0)["error"] is None
        fill(etcd)
        told = status(etcd, 1)["error"]
        assert isinstance(told, str)
        assert "etcd has no room, and takes nothing that is new: make room there (etcdctl compact --physical" in told
        with pytest.raises(StoreError, match="etcd has no room: make room there"):
            keep(store, changed(Policy.parse(POLICY), ADD))
        read: list[object] = []
        really = store._read
        monkeypatch.setattr(store, "_read", lambda cluster: read.append(1) or really(cluster))
        # It has something new to say, and nobody hears it.
        store._reports._said = ""
        store._to_report.set()
        until(lambda: "the fleet is not told how this host is" in caplog.text)
        time.sleep(8)
        # A member that is slow for once is left, and then it is read.
        assert len(read) <= 1
        assert "no room" in str(store.state()["error"])
        with closing(EtcdStore(parsed(etcd.url(name="late")))) as late:
            late.claim_name()
            assert late.load().rules_by_id
        until(lambda: make_room(etcd) and store.state()["error"] is None)
        keep(store, changed(Policy.parse(POLICY), ADD))
        until(lambda: CliRunner().invoke(app, ["fleet", "status", "--store", etcd.url()]).exit_code == 0)


def make_room(etcd: Members) -> bool:
    """As an operator does, and again where etcd had not written down yet what went when it was told to do without."""
    for words in ("del --prefix else/", f"compact --physical {revision(etcd)}", "defrag", "alarm disarm"):
        command = ["etcdctl", f"--endpoints={etcd.endpoint(0)}", "--command-timeout=60s", *words.split()]
        subprocess.run(command, check=False, capture_output=True, timeout=90)
    time.sleep(1)
    return True


def revision(etcd: Members) -> str:
    with closing(Cluster(parsed(etcd.url()))) as cluster:
        return str(cluster.range("x").revision)
