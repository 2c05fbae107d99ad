"""What a change goes on from is there before the first one comes, where somebody waits for it: in a live firewall
(SPEC 5.1: in force at once)."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from dataplane import DataPlane, Policy
from dataplane.live.operations import Operations
from dataplane.policy.rule_list import RuleList

from .scene import POLICY, filled
from .served import NoPorts

CHANGE = {"add_rule": {"security_group": "sg", "rule": {"id": "new", "direction": "ingress", "protocol": "udp"}}}


def test_the_first_change_of_a_firewall_makes_no_index() -> None:
    ports: Any = NoPorts()
    firewall = filled()
    before = firewall.policy
    group = before.security_groups[0].id
    change = {"add_rule": {**CHANGE["add_rule"], "security_group": group}}
    Operations(firewall, ports).prepare()
    assert firewall.policy is before
    assert before == Policy.parse(POLICY)
    with patch("dataplane.policy.rule_index.RuleIndex.__init__", side_effect=AssertionError("made at the change")):
        firewall.apply(change)
    assert firewall.policy.rule("new").protocol == "udp"


def test_who_makes_no_change_does_not_pay_for_it() -> None:
    firewall = DataPlane(Policy.parse(POLICY), seed=1)
    firewall.process(bytes(64), time_ns=0)
    firewall.rehearse(Policy.parse(POLICY))
    assert "rules_by_id" not in firewall.policy.__dict__


def test_very_many_rules_are_in_parts_before_one_is_replaced() -> None:
    rules = [{"id": str(i), "direction": "ingress"} for i in range(3000)]
    policy = Policy.model_validate({"security_groups": [{"id": "sg", "security_group_rules": rules}]})
    firewall = DataPlane(policy, seed=1)
    firewall.prepare()
    assert isinstance(policy.group("sg").security_group_rules, RuleList)
    assert policy == Policy.model_validate({"security_groups": [{"id": "sg", "security_group_rules": rules}]})
    firewall.apply(CHANGE)
    assert [rule.id for rule in firewall.policy.group("sg").security_group_rules] == [*map(str, range(3000)), "new"]
