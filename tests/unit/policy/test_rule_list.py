"""The rules of a large group are a list in parts that is as a tuple of the same rules (SPEC 2, 5.1)."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.policy import Policy
from dataplane.policy.changes import apply, parse_change
from dataplane.policy.document import SecurityGroup
from dataplane.policy.rule import SecurityGroupRule
from dataplane.policy.rule_list import RuleList, place_of, with_replaced


def rules(first: int, n: int) -> tuple[SecurityGroupRule, ...]:
    return tuple(SecurityGroupRule(id=str(first + i), direction="ingress") for i in range(n))


STEPS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12), st.integers(0, 12)), max_size=8)


@given(st.integers(0, 40), STEPS)
def test_a_list_of_rules_is_as_a_tuple(n: int, steps: list[tuple[int, int, int]]) -> None:
    with patch("dataplane.policy.rule_list._TUPLE_MOST", 0), patch("dataplane.policy.rule_list._PART", 4):
        plain: tuple[SecurityGroupRule, ...] = rules(0, n)
        parts: Sequence[SecurityGroupRule] = plain
        for number, (first, removed, added) in enumerate(steps, 1):
            first = min(first, len(plain))
            last = min(first + removed, len(plain))
            others = rules(100 * number, added)
            parts = with_replaced(parts, first, last, others)
            plain = (*plain[:first], *others, *plain[last:])
            assert parts == plain
            assert plain == parts
            assert hash(parts) == hash(plain)
            assert (len(parts), list(parts)) == (len(plain), list(plain))
            assert list(reversed(parts)) == list(reversed(plain))
            for place, rule in enumerate(plain):
                assert parts[place] is rule
                assert parts[place - len(plain)] is rule
                for near in (0, place, place + 30):
                    assert place_of(parts, rule, near) == place_of(plain, rule, near) == place
            for begin in range(len(plain) + 1):
                assert parts[begin : begin + 5] == plain[begin : begin + 5]
            assert parts[::-2] == plain[::-2]
            for beyond in (len(plain), -len(plain) - 1):
                with pytest.raises(IndexError):
                    parts[beyond]


@pytest.mark.parametrize("at", [0, 0.5, 1])
def test_parts_stay_neither_long_nor_many(at: float) -> None:
    """Wherever rules are added, one at a time: what one more costs depends on both."""
    with patch("dataplane.policy.rule_list._PART", 4):
        listed = RuleList((rules(0, 1),))
        for number in range(1, 200):
            place = round(at * len(listed))
            listed = listed.with_replaced(place, place, rules(number, 1))
        assert len(listed) == 200
        assert max(map(len, listed._parts)) <= 8
        assert len(listed._parts) <= 100


def test_who_is_not_there_has_no_place() -> None:
    there, other = rules(0, 9), rules(0, 1)[0]
    for listed in (there, RuleList((there[:4], there[4:]))):
        with pytest.raises(ValueError, match="rule 0 is not here"):
            place_of(listed, other, 3)


def test_a_large_group_is_written_as_any_other() -> None:
    """Of which rules a change has left a list in parts."""
    document: dict[str, Any] = {
        "security_groups": [
            {"id": "g", "security_group_rules": [{"id": str(i), "direction": "ingress"} for i in range(3000)]}
        ]
    }
    policy = Policy.model_validate(document)
    changed = apply(policy, parse_change({"update_rule": {"id": "2000", "protocol": "udp"}}))
    group = changed.group("g")
    assert isinstance(group.security_group_rules, RuleList)
    document["security_groups"][0]["security_group_rules"][2000]["protocol"] = "udp"
    anew = Policy.model_validate(document)
    assert changed == anew
    assert anew == changed
    assert changed != policy
    assert changed.model_dump() == anew.model_dump()
    assert changed.model_dump(exclude_defaults=True) == anew.model_dump(exclude_defaults=True)
    assert json.loads(changed.model_dump_json()) == json.loads(anew.model_dump_json())
    without = {"exclude": {"security_group_rules"}}
    assert group.model_dump(**without) == anew.group("g").model_dump(**without)
    copied = pickle.loads(pickle.dumps(group))
    assert type(copied.security_group_rules) is tuple
    assert copied == group
    again = SecurityGroup.model_validate({"id": "g", "security_group_rules": group.security_group_rules})
    assert again.security_group_rules == group.security_group_rules
