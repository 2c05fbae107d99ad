"""How many threads judge a replay (SPEC 7: what comes out is the same)."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataplane import Policy
from dataplane.replay import jobs

DOCUMENT = """
security_groups: [{id: sg, security_group_rules: []}]
instances:
  - {id: a, addresses: [10.0.0.1], security_groups: [sg]}
  - {id: b, addresses: [10.0.0.2], security_groups: [sg]}
"""


@pytest.fixture
def capture(tmp_path: Path) -> str:
    path = tmp_path / "capture.pcap"
    path.write_bytes(b"")
    return str(path)


def test_small_captures_are_judged_by_one_thread(capture: str) -> None:
    assert jobs.jobs_for(None, [Policy.parse(DOCUMENT)], [capture], at=None, flows=False) == 1


def test_large_captures_are_judged_by_all_processors(capture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    with Path(capture).open("wb") as file:
        file.truncate(64 << 20)
    policy = Policy.parse(DOCUMENT)
    assert jobs.jobs_for(None, [policy], [capture, "-", "missing"], at=None, flows=False) == jobs.JOBS_MAX
    assert jobs.jobs_for(1, [policy], [capture], at=None, flows=False) == 1


def test_as_many_threads_as_are_asked_for(capture: str) -> None:
    assert jobs.jobs_for(3, [Policy.parse(DOCUMENT)], [capture], at=None, flows=False) == 3


def test_one_thread_where_frames_cannot_be_judged_beside_each_other(capture: str) -> None:
    policy = Policy.parse(DOCUMENT)
    virtual = Policy.parse(DOCUMENT.replace("[10.0.0.2]", "[10.0.0.2], allowed_address_pairs: [10.0.0.9]"))
    assert jobs.jobs_for(3, [policy], [capture], at="a", flows=False) == 1
    assert jobs.jobs_for(3, [policy], [capture], at=None, flows=True) == 1
    assert jobs.jobs_for(3, [policy, virtual], [capture], at=None, flows=False) == 1
