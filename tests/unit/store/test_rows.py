"""A policy as rows: what is found by looking at the parts that are others is what is found by looking at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane import Policy
from dataplane.policy.changes import apply, parse_change
from dataplane.policy.write import document
from dataplane.store.rows import Key, Row, Writing, document_of

GROUPS = [{"id": f"g{g}", "security_group_rules": []} for g in range(3)]
EMPTY = Policy.parse(json.dumps({"security_groups": GROUPS}))


def loaded(head: str, rows: dict[Key, Row]) -> Policy:
    return Policy.parse(json.dumps(document_of(head, rows)))


def rule(number: int, port: int) -> dict[str, Any]:
    return {"id": f"r{number}", "direction": "ingress", "protocol": "tcp", "multiport": str(port)}


def changes_of(kind: int, number: int, group: int, port: int) -> dict[str, Any]:
    """A change, which the policy may refuse."""
    return [
        {"add_rule": {"security_group": f"g{group}", "rule": rule(number, port)}},
        {"update_rule": {"id": f"r{number}", "multiport": str(port)}},
        {"delete_rule": {"id": f"r{number}"}},
        {"create_group": {"id": f"n{number}", "security_group_rules": [rule(100 + number, port)]}},
        {"update_group": {"id": f"g{group}", "description": f"of {port}"}},
        {"delete_group": {"id": f"n{number}"}},
        {"create_instance": {"id": f"i{number}", "addresses": [f"10.0.0.{number + 1}"], "security_groups": ["g0"]}},
        {"delete_instance": {"id": f"i{number}"}},
    ][kind]


def shuffled(policy: Policy, how: list[int]) -> Policy:
    """The same objects in another order, and rules in another group: as a document does that was edited."""
    groups = list(policy.security_groups)
    groups.sort(key=lambda group: how[sum(group.id.encode()) % len(how)])
    rules = [rule for group in groups for rule in group.security_group_rules]
    rules.sort(key=lambda rule: how[sum(rule.id.encode()) % len(how)])
    cut = how[0] % (len(rules) + 1)
    parts = [tuple(rules[:cut]), tuple(rules[cut:]), *[()] * len(groups)]
    moved = tuple(
        group.model_copy(update={"security_group_rules": part}) for group, part in zip(groups, parts, strict=False)
    )
    return policy.model_copy(update={"security_groups": moved})


STEPS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 7), st.integers(0, 1), st.integers(0, 2), st.integers(1, 9)),
        st.lists(st.integers(0, 9), min_size=1, max_size=6),
    ),
    max_size=16,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_change_upon_any_other_is_found(steps: list[Any]) -> None:
    """Rows changed and gone, with their places and times, as without knowing; and loaded it is the same document."""
    policy, rows = EMPTY, Writing(EMPTY, {}, None, 1.0).rows
    for now, step in enumerate(steps, 2):
        if isinstance(step, list):
            after = shuffled(policy, step)
        else:
            change = changes_of(*step)
            try:
                after = apply(policy, parse_change(change, policy))
            except ValueError:
                continue
        found, whole = (Writing(after, rows, known, float(now)) for known in (policy, None))
        assert found.changed == whole.changed
        assert set(found.gone) == set(whole.gone)
        assert found.is_new is (found.rows != rows)
        policy, rows = after, found.rows
        assert document(loaded(found.head, rows)) == document(policy)


def test_a_rule_that_goes_or_comes_changes_the_time_of_its_group() -> None:
    """And of no other group; one that is deleted takes its rules with it."""
    groups = [{"id": f"g{g}", "security_group_rules": [rule(g, 1)]} for g in range(3)]
    policy = Policy.parse(json.dumps({"security_groups": groups}))
    rows = Writing(policy, {}, None, 1.0).rows
    for now, known in ((2.0, policy), (3.0, None)):
        gone = apply(policy, parse_change({"delete_rule": {"id": "r1"}}, policy))
        found = Writing(gone, rows, known, now)
        assert {key: row.updated for key, row in found.changed.items()} == {("security_groups", "g1"): now}
        assert found.gone == [("rules", "r1")]
        gone = apply(policy, parse_change({"delete_group": {"id": "g1"}}, policy))
        found = Writing(gone, rows, known, now)
        assert not found.changed
        assert set(found.gone) == {("rules", "r1"), ("security_groups", "g1")}


@pytest.mark.parametrize("groups", [4, 400])
def test_a_change_of_a_rule_looks_at_its_group_alone(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rules there are."""
    many = [
        {"id": f"g{g}", "security_group_rules": [rule(10 * g + r, r + 1) for r in range(10)]} for g in range(groups)
    ]
    policy = Policy.parse(json.dumps({"security_groups": many}))
    rows = Writing(policy, {}, None, 1.0).rows
    after = apply(policy, parse_change({"update_rule": {"id": "r25", "multiport": "99"}}))
    looked: list[Key] = []
    add = Writing._add
    monkeypatch.setattr(
        Writing, "_add", lambda self, section, part, *more: looked.append(section) or add(self, section, part, *more)
    )
    found = Writing(after, rows, policy, 2.0)
    assert looked == ["security_groups", "rules"]
    assert set(found.changed) == {("security_groups", "g2"), ("rules", "r25")}
    assert not found.gone


def test_a_policy_that_the_rows_are_not_of_is_not_relied_on() -> None:
    """As where somebody has deleted a row."""
    policy = Policy.parse(json.dumps({"security_groups": [{"id": f"g{g}"} for g in range(3)]}))
    rows = Writing(policy, {}, None, 1.0).rows
    del rows["security_groups", "g1"]
    after = apply(policy, parse_change({"delete_group": {"id": "g2"}}, policy))
    found = Writing(after, rows, policy, 2.0)
    assert set(found.changed) == {("security_groups", "g1")}
    assert found.gone == [("security_groups", "g2")]
