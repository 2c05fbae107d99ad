"""A database that another program holds: a change waits for it, and nobody else waits for the change."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dataplane.control import requests, service
from dataplane.control.service import Service
from dataplane.live.event_loop import FAILURES
from dataplane.live.operations import Operations
from dataplane.live.simulation import NoPorts
from dataplane.store import StoreBusyError
from dataplane.store.sqlite import SqliteStore, path_of
from tests.unit.live.scene import filled

ADD = {"add_rule": {"security_group": "sg", "rule": {"id": "new", "direction": "ingress", "protocol": "gre"}}}


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Service, SqliteStore, sqlite3.Connection]]:
    """A service whose store another program writes to."""
    ports: Any = NoPorts()
    firewall = filled()
    with closing(SqliteStore(tmp_path / "policy.db")) as store:
        with store.keeping(firewall.policy, 100.0):
            pass
        with closing(sqlite3.connect(path_of(store.name), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with ThreadPoolExecutor(1) as control:
                yield Service(Operations(firewall, ports), store, control, failures=FAILURES), store, other


def test_nobody_waits_for_a_change_that_waits(held: tuple[Service, SqliteStore, sqlite3.Connection]) -> None:
    """SPEC 5.1: the change is in force, and kept, as soon as the other program has ended."""
    asked, store, other = held

    async def story() -> float:
        change = asyncio.create_task(asked.answer(requests.ChangePolicy(command="change", change=ADD)))
        longest = 0.0
        for _ in range(10):
            started = time.monotonic()
            await asked.answer(requests.Status(command="status"))
            longest = max(longest, time.monotonic() - started)
            await asyncio.sleep(0.1)
        assert not change.done()
        other.execute("ROLLBACK")
        assert (await change)["generation"] == 2
        return longest

    # The database itself would wait for five seconds.
    assert asyncio.run(story()) < 3
    assert "new" in store.load().rules_by_id
    assert "new" in asked.operations.policy.rules_by_id


def test_a_change_that_has_waited_long_is_refused_in_a_sentence(
    held: tuple[Service, SqliteStore, sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC 5.6: and nothing has happened."""
    monkeypatch.setattr(service, "_BUSY_SECONDS", 0.2)
    asked, store, _ = held
    with pytest.raises(StoreBusyError, match=r"cannot be kept there: .* locked: another process writes there: do it"):
        asyncio.run(asked.answer(requests.ChangePolicy(command="change", change=ADD)))
    assert "new" not in store.load().rules_by_id
    assert "new" not in asked.operations.policy.rules_by_id
