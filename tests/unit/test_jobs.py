"""How many threads judge a replay (SPEC 7: what comes out is the same)."""

from __future__ import annotations

from dataplane import Policy
from dataplane.replay import jobs

DOCUMENT = """
security_groups: [{id: sg, security_group_rules: []}]
instances:
  - {id: a, addresses: [10.0.0.1], security_groups: [sg]}
  - {id: b, addresses: [10.0.0.2], security_groups: [sg]}
"""


def test_one_thread_judges_unless_more_are_asked_for() -> None:
    assert jobs.jobs_for(None, [Policy.parse(DOCUMENT)], at=None, flows=False) == 1


def test_as_many_threads_as_are_asked_for() -> None:
    assert jobs.jobs_for(3, [Policy.parse(DOCUMENT)], at=None, flows=False) == 3


def test_one_thread_where_frames_cannot_be_judged_beside_each_other() -> None:
    policy = Policy.parse(DOCUMENT)
    virtual = Policy.parse(DOCUMENT.replace("[10.0.0.2]", "[10.0.0.2], allowed_address_pairs: [10.0.0.9]"))
    assert jobs.jobs_for(3, [policy], at="a", flows=False) == 1
    assert jobs.jobs_for(3, [policy], at=None, flows=True) == 1
    assert jobs.jobs_for(3, [policy, virtual], at=None, flows=False) == 1
