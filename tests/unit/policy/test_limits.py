"""SPEC 6: the quotas of a security group, and what is allowed with a warning."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane.policy import Policy
from dataplane.policy.limits import QUOTA, counts, used_quota, warnings
from dataplane.policy.model import Instance, SecurityGroup
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
    assert [counts(rule) for rule in policy.group("Sg-A").security_group_rules] == [True] * 4
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
    assert counts(SecurityGroupRule.model_validate({"direction": "ingress", **fields})) is counted


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
        security_groups=tuple(SecurityGroup(id=f"g{n}") for n in range(groups)),
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
security_groups: [{{id: g, security_group_rules: [{{id: r, {rule}}}]}}]
instances: [{{id: a, addresses: [10.0.0.1], security_groups: [g]}}]
"""
    )
    expected = (
        'rule "r" of security group "g" opens TCP port 22 to every IPv4 address: name the addresses that may log in'
    )
    assert warnings(policy) == ((expected,) if warned else ())
