"""SPEC 6: the quotas of a security group, and what is allowed with a warning."""

from __future__ import annotations

import json
import sys
from types import FrameType
from typing import Any

import pytest

from dataplane.insight.exposure import open_logins
from dataplane.policy import Policy
from dataplane.policy.document import Instance, SecurityGroup
from dataplane.policy.limits import QUOTA, used_quota, warnings
from dataplane.policy.rule import SecurityGroupRule

from .conftest import Finds

#: Table 3 of the source, inbound rules of Sg-A: each rule and whether it uses quota.
TABLE_3 = """
security_groups:
  - id: Sg-A
    security_group_rules:
      - {id: A01, direction: ingress, remote_group_id: Sg-A}
      - {id: A02, direction: ingress, protocol: tcp, multiport: "22,25,27", remote_group_id: Sg-B}
      - {id: A03, direction: ingress, protocol: tcp, multiport: "80-82", remote_address_group_id: ipGroup-A}
      - {id: A04, direction: ingress, protocol: tcp, multiport: "22-24,25", remote_ip_prefix: 192.168.0.0/16}
  - id: Sg-B
address_groups:
  - {id: ipGroup-A, ip_version: 4, ip_set: [192.168.10.0/24]}
"""


def test_table_3() -> None:
    """Each of its four rules counts, A02 once although it has a remote group and inconsecutive ports."""
    policy = Policy.parse(TABLE_3)
    assert [rule.uses_quota for rule in policy.group("Sg-A").security_group_rules] == [True] * 4
    assert used_quota(policy.group("Sg-A")) == {("ingress", "IPv4"): 4}
    assert used_quota(policy.group("Sg-B")) == {}


@pytest.mark.parametrize(
    ("fields", "counted"),
    [
        ({}, False),
        ({"remote_ip_prefix": "10.0.0.0/8"}, False),
        ({"protocol": "tcp", "multiport": "22"}, False),
        ({"protocol": "tcp", "multiport": "80-82"}, False),
        ({"protocol": "tcp", "multiport": "22,23"}, True),
        ({"protocol": "tcp", "multiport": "22-24,25"}, True),
        ({"remote_group_id": "g"}, True),
        ({"remote_address_group_id": "g"}, True),
        ({"remote_group_id": "g", "protocol": "tcp", "multiport": "22,25"}, True),
        ({"remote_group_id": "g", "enabled": False}, True),
    ],
)
def test_what_counts(fields: dict[str, Any], counted: bool) -> None:
    """A remote group, a remote address group, a `multiport` with a comma."""
    assert SecurityGroupRule.model_validate({"direction": "ingress", **fields}).uses_quota is counted


def test_quotas_are_by_direction_and_ethertype() -> None:
    rules = [
        SecurityGroupRule.model_validate(
            {"direction": direction, "ethertype": ethertype, "protocol": "tcp", "multiport": "1,3"}
        )
        for direction, ethertype, n in (("ingress", "IPv4", 1), ("ingress", "IPv6", 2), ("egress", "IPv4", 3))
        for _ in range(n)
    ]
    group = SecurityGroup(id="g", security_group_rules=tuple(rules))
    assert used_quota(group) == {("ingress", "IPv4"): 1, ("ingress", "IPv6"): 2, ("egress", "IPv4"): 3}


def _rules(n: int, direction: str = "ingress", ethertype: str = "IPv4") -> str:
    rule = f'{{direction: {direction}, ethertype: {ethertype}, protocol: tcp, multiport: "22,25"}}'
    return ", ".join([rule] * n)


def test_120_are_allowed_for_each() -> None:
    rules = ", ".join(_rules(120, d, e) for d in ("ingress", "egress") for e in ("IPv4", "IPv6"))
    policy = Policy.parse(f"security_groups: [{{id: g, security_group_rules: [{rules}]}}]")
    assert set(used_quota(policy.group("g")).values()) == {QUOTA} == {120}


def _exceeded(group: str, used: int, quota: str) -> str:
    return (
        f'security group "{group}" has {used} {quota} rules with a remote group, a remote address group or'
        " inconsecutive ports: up to 120 are allowed"
    )


def test_121_are_an_error_at_the_group(finds: Finds) -> None:
    """Reported together with other mistakes, and for each quota that is exceeded."""
    finds(
        f"""
        security_groups:
          - id: f
          - §§id: g
            security_group_rules: [{_rules(121)}, {_rules(122, "egress", "IPv6")}]
          - §id: h
            security_group_rules: [{_rules(121)}, {{direction: ingress, priority: §0}}]
        """,
        _exceeded("g", 121, "ingress IPv4"),
        _exceeded("g", 122, "egress IPv6"),
        _exceeded("h", 121, "ingress IPv4"),
        "priority 0 is out of range: 1..100",
    )


def test_many_rules_that_do_not_count() -> None:
    rules = ", ".join(["{direction: ingress, protocol: tcp, multiport: 22, remote_ip_prefix: 10.0.0.0/8}"] * 1000)
    assert len(Policy.parse(f"security_groups: [{{id: g, security_group_rules: [{rules}]}}]").rules_by_id) == 1000


def _policy(groups: int, groups_of_a: int, instances: int) -> Policy:
    return Policy(
        security_groups=tuple(
            SecurityGroup(id=f"g{n}", security_group_rules=(SecurityGroupRule(direction="egress"),))
            for n in range(groups)
        ),
        instances=(
            Instance(id="a", addresses=("10.0.0.1",), security_groups=tuple(f"g{n}" for n in range(groups_of_a))),
            *(
                Instance(id=f"i{n}", addresses=(f"10.1.{n >> 8}.{n & 255}",), security_groups=("g0",))
                for n in range(instances - 1)
            ),
        ),
    )


def test_more_than_five_groups_on_an_instance_is_a_warning() -> None:
    assert warnings(_policy(5, 5, 1)) == ()
    assert warnings(_policy(6, 6, 1)) == ('instance "a" has 6 security groups: more than 5 slow its traffic down',)


def test_more_than_6000_instances_in_a_group_is_a_warning() -> None:
    assert warnings(_policy(1, 1, 6000)) == ()
    assert warnings(_policy(1, 1, 6001)) == ('security group "g0" has 6001 instances: more than 6000 slow it down',)


def test_a_group_that_nothing_uses_is_a_warning() -> None:
    policy = Policy.parse(
        """
        security_groups:
          - {id: in-use, security_group_rules: [{direction: ingress, remote_group_id: named}]}
          - {id: named}
          - {id: itself, security_group_rules: [{direction: ingress, remote_group_id: itself}]}
        instances: [{id: a, addresses: [10.0.0.1], security_groups: [in-use]}]
        """
    )
    assert warnings(policy) == (
        'security group "itself" is not used: no instance is in it and no rule elsewhere names it',
    )


@pytest.mark.parametrize(
    ("rule", "warned"),
    [
        ("direction: ingress, protocol: tcp, multiport: 22", True),
        ("direction: ingress", True),
        ("direction: ingress, remote_ip_prefix: 0.0.0.0/0, protocol: tcp", True),
        ("direction: ingress, protocol: tcp, multiport: 20-25", True),
        ("direction: egress, protocol: tcp, multiport: 22", False),
        ("direction: ingress, protocol: udp, multiport: 22", False),
        ("direction: ingress, protocol: tcp, multiport: 23", False),
        ("direction: ingress, action: deny", False),
        ("direction: ingress, enabled: false", False),
        ("direction: ingress, remote_ip_prefix: 10.0.0.0/8", False),
        ("direction: ingress, remote_group_id: g", False),
    ],
)
def test_login_from_every_address_is_a_warning(rule: str, warned: bool) -> None:
    """The source's recommendations: do not allow remote login over port 22 from 0.0.0.0/0."""
    policy = Policy.parse(
        f"""
security_groups: [{{id: g, security_group_rules: [{{id: r, {rule}}}, {{direction: egress}}]}}]
instances: [{{id: a, addresses: [10.0.0.1], security_groups: [g]}}]
"""
    )
    expected = (
        'rule "r" of security group "g" opens TCP port 22 to every IPv4 address: name the addresses that may log in'
    )
    assert open_logins(policy) == ((expected,) if warned else ())


OPEN = {"protocol": "tcp", "multiport": "22", "priority": 1}


@pytest.mark.parametrize(
    ("groups", "of_a", "warned"),
    [
        # SPEC 3.1: at the same priority deny before allow; a smaller priority is tried first.
        ({"g": [OPEN, {"action": "deny", "protocol": "tcp", "multiport": "22"}]}, ["g"], False),
        ({"g": [OPEN | {"priority": 1}, {"action": "deny", "priority": 2}]}, ["g"], True),
        ({"g": [OPEN | {"priority": 2}, {"action": "deny", "priority": 1}]}, ["g"], False),
        # Not shut: of the other direction, family or port, off, for some addresses only.
        ({"g": [OPEN, {"action": "deny", "direction": "egress"}]}, ["g"], True),
        ({"g": [OPEN, {"action": "deny", "ethertype": "IPv6"}]}, ["g"], True),
        ({"g": [OPEN, {"action": "deny", "protocol": "tcp", "multiport": "23"}]}, ["g"], True),
        ({"g": [OPEN, {"action": "deny", "enabled": False}]}, ["g"], True),
        ({"g": [OPEN, {"action": "deny", "remote_ip_prefix": "0.0.0.0/1"}]}, ["g"], True),
        ({"g": [OPEN, {"action": "deny", "remote_group_id": "g"}]}, ["g"], True),
        # Shut in two halves, one of them by an address group.
        (
            {
                "g": [
                    OPEN,
                    {"action": "deny", "remote_ip_prefix": "0.0.0.0/1"},
                    {"action": "deny", "remote_address_group_id": "upper"},
                ]
            },
            ["g"],
            False,
        ),
        # Shut by a group that is tried first; one behind it comes too late.
        ({"g": [OPEN], "first": [{"action": "deny", "multiport": "22", "protocol": "tcp"}]}, ["first", "g"], False),
        ({"g": [OPEN], "last": [{"action": "deny"}]}, ["g", "last"], True),
    ],
)
def test_a_login_that_other_rules_shut_is_no_warning(
    groups: dict[str, list[dict[str, object]]], of_a: list[str], warned: bool
) -> None:
    policy = Policy.model_validate(
        {
            "security_groups": [
                {"id": name, "security_group_rules": [{"direction": "ingress"} | rule for rule in rules]}
                for name, rules in groups.items()
            ],
            "address_groups": [{"id": "upper", "ip_version": 4, "ip_set": ["128.0.0.0/1"]}],
            "instances": [{"id": "a", "addresses": ["10.0.0.1"], "security_groups": of_a}],
        }
    )
    assert bool(open_logins(policy)) is warned


def test_an_address_without_a_rule_of_its_family_is_a_warning() -> None:
    """One sentence for each family of an instance; a rule that is off is none."""
    policy = Policy.parse(
        """
        security_groups:
          - id: g
            security_group_rules:
              - {direction: egress}
              - {direction: ingress, ethertype: IPv6, enabled: false}
        instances:
          - {id: a, addresses: [10.0.0.1, "2001:db8::1", "2001:db8::2"], security_groups: [g]}
          - {id: b, addresses: [10.0.0.2], security_groups: [g]}
          - {id: c, addresses: ["2001:db8::3"]}
        """
    )
    assert warnings(policy) == (
        'instance "a" has the address 2001:db8::1, and its security groups have no IPv6 rule: nothing passes to or from'
        " it",
    )


def test_large_policies_are_looked_through_a_rule_and_an_instance_at_a_time() -> None:
    """Warnings cost a look at each rule and at each instance, not at each rule for each instance."""
    families = ["IPv6"] * 999 + ["IPv4"]
    rules = [{"id": f"r{n}", "direction": "egress", "ethertype": family} for n, family in enumerate(families)]
    instances = [
        {"id": f"i{n}", "addresses": [f"10.0.{n >> 8}.{n & 255}"], "security_groups": ["g"]} for n in range(2000)
    ]
    text = json.dumps({"security_groups": [{"id": "g", "security_group_rules": rules}], "instances": instances})
    policy = Policy.parse(text)
    lines = 0

    def count(_frame: FrameType, _event: str, _argument: object) -> Any:
        nonlocal lines
        lines += 1
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        assert warnings(policy) == ()
    finally:
        sys.settrace(before)
    assert lines < 100 * (len(rules) + len(instances))
