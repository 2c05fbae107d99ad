"""SPEC 3.4: the security group `default`, made on the fly for instances that are given no groups."""

from __future__ import annotations

import pytest

from dataplane.policy import Policy, PolicyError

NO_GROUPS = "instances: [{id: a, addresses: [10.0.0.1]}, {id: b, addresses: [10.0.0.2]}]"


def test_it_is_made_when_the_document_has_none() -> None:
    """Allow ingress from itself and egress to any address, IPv4 and IPv6, priority 100."""
    policy = Policy.parse(NO_GROUPS)
    (group,) = policy.security_groups
    assert group.id == "default"
    assert [instance.security_groups for instance in policy.instances] == [("default",), ("default",)]
    rules = [rule.model_dump(exclude_defaults=True) for rule in group.security_group_rules]
    assert rules == [
        {"id": "default-ingress-ipv4", "direction": "ingress", "priority": 100, "remote_group_id": "default"},
        {
            "id": "default-ingress-ipv6",
            "direction": "ingress",
            "ethertype": "IPv6",
            "priority": 100,
            "remote_group_id": "default",
        },
        {"id": "default-egress-ipv4", "direction": "egress", "priority": 100, "remote_ip_prefix": "0.0.0.0/0"},
        {
            "id": "default-egress-ipv6",
            "direction": "egress",
            "ethertype": "IPv6",
            "priority": 100,
            "remote_ip_prefix": "::/0",
        },
    ]
    assert all(rule.action == "allow" and rule.enabled for rule in group.security_group_rules)


def test_it_comes_after_the_groups_of_the_document() -> None:
    policy = Policy.parse(f"security_groups: [{{id: g}}]\n{NO_GROUPS}")
    assert [group.id for group in policy.security_groups] == ["g", "default"]


def test_it_is_the_documents_own_when_there_is_one() -> None:
    policy = Policy.parse(f"security_groups: [{{id: default, name: ours}}]\n{NO_GROUPS}")
    (group,) = policy.security_groups
    assert (group.name, group.security_group_rules) == ("ours", ())
    assert policy.members("default") == policy.instances


def test_it_is_not_made_when_every_instance_has_groups() -> None:
    policy = Policy.parse(
        "security_groups: [{id: g}]\ninstances: [{id: a, addresses: [10.0.0.1], security_groups: [g]}]"
    )
    assert [group.id for group in policy.security_groups] == ["g"]


def test_rules_and_instances_may_name_it_once_it_is_made() -> None:
    policy = Policy.parse(
        f"""
security_groups:
  - {{id: g, security_group_rules: [{{direction: ingress, remote_group_id: default}}]}}
{NO_GROUPS.removesuffix("]")}, {{id: c, addresses: [10.0.0.3], security_groups: [g, default]}}]
"""
    )
    assert [instance.id for instance in policy.members("default")] == ["a", "b", "c"]


def test_its_rule_ids_avoid_those_of_the_document() -> None:
    taken = "{id: default-ingress-ipv4, direction: ingress}, {id: default-ingress-ipv4-2, direction: ingress}"
    policy = Policy.parse(f"security_groups: [{{id: g, security_group_rules: [{taken}]}}]\n{NO_GROUPS}")
    assert policy.group("default").security_group_rules[0].id == "default-ingress-ipv4-3"


def test_an_empty_list_of_groups_is_an_error() -> None:
    with pytest.raises(PolicyError, match="security_groups is empty: at least one entry is needed"):
        Policy.parse("instances: [{id: a, addresses: [10.0.0.1], security_groups: []}]")


def test_a_policy_with_it_reads_back_as_it_is() -> None:
    policy = Policy.parse(NO_GROUPS)
    assert Policy.parse(policy.model_dump_json(exclude_defaults=True)) == policy
