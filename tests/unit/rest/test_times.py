"""When parts of the policy came and were changed, whoever did it."""

from __future__ import annotations

from dataplane import Policy
from dataplane.control.times import Lifetime, Times
from dataplane.policy import Policy as PolicyModel
from dataplane.policy.changes import apply, parse_change
from tests.unit.live.scene import POLICY


def changed(policy: PolicyModel, **change: object) -> PolicyModel:
    return apply(policy, parse_change(change, policy))


def test_what_a_change_touches_has_its_time() -> None:
    """And all else that of the start; what goes is forgotten."""
    policy, times = Policy.parse(POLICY), Times(100.0)
    rule = {"security_group": "sg", "rule": {"id": "new", "direction": "ingress"}}
    added = changed(policy, add_rule=rule)
    times.note(policy, added, 200.0)
    assert times.of("rules", "new") == Lifetime(200.0, 200.0)
    assert times.of("security_groups", "sg") == Lifetime(100.0, 200.0)
    assert times.of("rules", "web") == times.of("instances", "a") == Lifetime(100.0, 100.0)

    updated = changed(added, update_rule={"id": "new", "priority": 3})
    times.note(added, updated, 300.0)
    assert times.of("rules", "new") == Lifetime(200.0, 300.0)
    joined = changed(updated, add_instance={"security_group": "other", "instance": "a"})
    times.note(updated, joined, 400.0)
    assert times.of("instances", "a") == Lifetime(100.0, 400.0)
    assert times.of("security_groups", "other") == Lifetime(100.0, 100.0)

    times.note(joined, policy, 500.0)
    assert times.of("instances", "a") == Lifetime(100.0, 500.0)
    assert ("rules", "new") not in times._known


def test_a_rule_that_moves_to_another_group_stays_what_it_was() -> None:
    """By another policy as a whole: the groups are changed, the rule is not. An equal policy changes nothing."""
    policy, times = Policy.parse(POLICY), Times(100.0)
    listed = "{id: listed, direction: ingress, remote_address_group_id: list}"
    moved = POLICY.replace(f"[{listed}]", "[]").replace("      - {id: out,", f"      - {listed}\n      - {{id: out,")
    now = changed(policy, apply_policy=Policy.parse(moved))
    times.note(policy, now, 200.0)
    assert set(times._known) == {("security_groups", "sg"), ("security_groups", "other")}
    same = changed(now, apply_policy=Policy.parse(moved))
    times.note(now, same, 300.0)
    assert {known.updated for known in times._known.values()} == {200.0}
