"""A disk that is full: what was answered with success is kept, what is refused says why, and it recovers."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dataplane import Policy, atomic
from dataplane.store.etcd import copy
from dataplane.store.etcd import store as store_module
from dataplane.store.etcd.address import parsed
from dataplane.store.etcd.store import EtcdStore
from dataplane.store.sqlite import SqliteStore
from tests.support.etcd import Members, needs_etcd
from tests.unit.live.scene import POLICY
from tests.unit.store.test_etcd import ADD, changed, keep
from tests.unit.store.test_fleet import until
from tests.unit.store.test_sqlite import over

needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="mounts are root's, in a namespace of unshare's"
)
RULES = "/vpc/security-group-rules"


@contextmanager
def api_on_a_small_disk(folder: Path) -> Iterator[tuple[Path, Any]]:
    """`dataplane api` whose store is on a disk of 1 MB that it alone sees; that disk, and what asks the API."""
    (policy := folder / "policy.yaml").write_text(POLICY)
    (disk := folder / "disk").mkdir()
    words = f"mount -t tmpfs -o size=1m none {disk} && exec {sys.executable} -m dataplane api {policy}"
    words += f" --listen {folder}/api.sock --store sqlite://{disk}/policy.db"
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(["unshare", "--mount", "sh", "-c", words], stderr=log) as process,
    ):
        try:
            until = time.monotonic() + 60
            while "serving" not in (told := (folder / "log").read_text()):
                assert process.poll() is None, told
                assert time.monotonic() < until, told
                time.sleep(0.02)
            yield Path(f"/proc/{process.pid}/root{disk}"), over(folder / "api.sock")
        finally:
            process.kill()


def ask(served: Any, port: int) -> Any:
    rule = {"security_group_id": "sg", "direction": "ingress", "protocol": "udp", "multiport": str(port)}
    return served.call("POST", RULES, {"security_group_rule": rule})


@needs_mounts
def test_a_full_disk_refuses_changes_until_there_is_room(tmp_path: Path) -> None:
    """SQLite's database: each rule that was answered is there, each that was refused is not, in force and kept."""
    with api_on_a_small_disk(tmp_path) as (disk, served):
        made = {ask(served, 1).body["security_group_rule"]["id"]}
        with (disk / "filler").open("wb", 0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(b"x" * 4096)
        answers = [ask(served, port) for port in range(2, 40)]
        made |= {answer.body["security_group_rule"]["id"] for answer in answers if answer.status == 201}
        refused = [answer for answer in answers if answer.status != 201]
        assert refused, "the disk is not full"
        assert {(answer.status, answer.code) for answer in refused} == {(500, "SYS.0500")}
        assert f"sqlite://{tmp_path}/disk/policy.db: the policy cannot be kept there: " in refused[0].body["error_msg"]
        assert "make room there, and do it again" in refused[0].body["error_msg"]
        listed = served.call("GET", RULES).body["security_group_rules"]
        assert made == {rule["id"] for rule in listed} - set(Policy.parse(POLICY).rules_by_id)
        (disk / "filler").unlink()
        again = ask(served, 400)
        assert again.status == 201
        made.add(again.body["security_group_rule"]["id"])
        subprocess.run(["cp", "-r", disk, tmp_path / "copy"], check=True)
    # It was killed; what is on the disk is what was answered.
    with closing(SqliteStore(tmp_path / "copy" / "policy.db")) as store:
        assert set(store.load().rules_by_id) == made | set(Policy.parse(POLICY).rules_by_id)


@needs_etcd
def test_the_copy_is_written_when_there_is_room_again(
    etcd: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a policy in etcd; that of before stays meanwhile, and the log says once that it could not be written."""
    monkeypatch.setattr(store_module, "_COPY_PAUSE", 0.02)
    caplog.set_level("INFO", "dataplane")
    full = [True]

    @contextmanager
    def replacing(path: Path) -> Iterator[Any]:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with atomic.replacing(path) as file:
            yield file

    copy_file = tmp_path / "copy"
    policy = Policy.parse(POLICY)
    url = f"{etcd.url('room')}?copy={copy_file}"
    with closing(EtcdStore(parsed(url))) as store:
        keep(store, policy)
        store.follow(lambda: None)
        until(copy_file.exists)
        before = copy_file.read_bytes()
        monkeypatch.setattr(copy, "replacing", replacing)
        keep(store, changed(policy, ADD))
        until(lambda: "cannot be written" in caplog.text)
        time.sleep(0.1)
        assert copy_file.read_bytes() == before
        assert (
            caplog.text.count("cannot be written: No space left on device: make room there; that of before stays") == 1
        )
        full.clear()
        until(lambda: copy_file.read_bytes() != before)
        until(lambda: "is written again" in caplog.text)
        found = copy.read(copy_file, store.name)
        assert found
        assert "new" in found.policy().rules_by_id
