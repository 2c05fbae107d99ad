"""Keys of other documents (SPEC 2: an unknown key is reported with what is allowed): where the hint leads."""

from __future__ import annotations

import re

import pytest

from dataplane.policy import Policy, PolicyError
from dataplane.policy.base import fields_of
from dataplane.policy.changes import KINDS
from dataplane.policy.document import AddressGroup, Instance, LoadBalancer, SecurityGroup
from dataplane.policy.reading import foreign_names
from dataplane.policy.rule import SecurityGroupRule

RULE = fields_of(SecurityGroupRule)


@pytest.mark.parametrize(
    ("keys", "known", "field"),
    [
        # VPC v3 and OpenStack, their Terraform providers, AWS, and what packet filters say.
        ("ports port port_range_min port_range_max FromPort to_port dport destination-port", RULE, "multiport"),
        ("cidr CidrIp cidr_ipv4 cidr_blocks ipv6_cidr_blocks source_ip IpRanges saddr", RULE, "remote_ip_prefix"),
        ("source_security_group_id ReferencedGroupId remote_group self", RULE, "remote_group_id"),
        ("prefix_list_ids PrefixListId address_group_id", RULE, "remote_address_group_id"),
        ("IpProtocol ip_protocol proto", RULE, "protocol"),
        ("type IsEgress chain", RULE, "direction"),
        ("comment", RULE, "description"),
        ("SecurityGroupRuleId", RULE, "id"),
        ("rules ingress IpPermissions IpPermissionsEgress", fields_of(SecurityGroup), "security_group_rules"),
        ("GroupId", fields_of(SecurityGroup), "id"),
        ("fixed_ips private_ips ip_address", fields_of(Instance), "addresses"),
        ("mac_address hwaddr", fields_of(Instance), "mac"),
        ("security_group_ids vpc_security_group_ids sg", fields_of(Instance), "security_groups"),
        ("vpc_id", fields_of(Instance), "vpc"),
        ("addresses ip_extra_set", fields_of(AddressGroup), "ip_set"),
        ("members targets", fields_of(LoadBalancer), "backends"),
        ("vip_address", fields_of(LoadBalancer), "addresses"),
        ("security_group_rules", Policy.model_fields, "security_group_rules"),
        ("ports", Policy.model_fields, "instances"),
        ("drop_rule remove_rule", KINDS, "delete_rule"),
    ],
)
def test_hint(keys: str, known: dict[str, object], field: str) -> None:
    for key in keys.split():
        found = foreign_names.hint(key, known)
        assert found is not None, key
        assert re.search(rf"\b{field}\b", found), (key, found)


@pytest.mark.parametrize("key", ["created_at", "project_id", "tenant_id", "tags", "revision_number", "OwnerId"])
def test_what_only_a_cloud_has(key: str) -> None:
    assert foreign_names.hint(key, RULE) == "a policy does not have it: leave the key out"


@pytest.mark.parametrize("key", ["security_group_id", "security_group", "GroupId", "group"])
def test_the_own_group_of_a_rule_is_never_its_remote(key: str) -> None:
    """Written as the remote it would open the rule to the group, or close it to all others."""
    with pytest.raises(PolicyError) as caught:
        Policy.parse(
            f"security_groups: [{{id: g, security_group_rules: [{{direction: ingress, {key}: g}}]}}]\ninstances: []"
        )
    (mistake,) = caught.value.mistakes
    assert mistake.message.endswith("a rule belongs to the security group that it stands in: leave the key out")


def test_every_hint_leads_to_a_field_that_exists() -> None:
    """Of a model, a change, or an address pair."""
    from dataplane.policy import document

    types = [part for part in vars(document).values() if isinstance(part, type)]
    parts = [part for part in types if hasattr(part, "__pydantic_fields__")]
    known = {name for part in [*parts, SecurityGroupRule] for name in fields_of(part)}
    known |= {*KINDS, "security_group", "instance", "ip"}
    assert {field for field, _, _ in foreign_names.HINTS} <= known


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("protocl", "did you mean protocol?"),
        ("remote_ip_prefx", "did you mean remote_ip_prefix?"),
        ("remote_ports", "allowed are id, name, "),
        ("prefer", "allowed are id, name, "),
    ],
)
def test_a_key_that_is_only_somewhat_like_a_field_leads_nowhere(key: str, hint: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.parse(f"security_groups: [{{id: g, security_group_rules: [{{direction: ingress, {key}: 5}}]}}]")
    assert f'key "{key}" is not known: {hint}' in str(caught.value)


def test_empty_values_are_told_once_and_as_what_they_are() -> None:
    """Three remotes that are "" are no three remotes given together."""
    with pytest.raises(PolicyError) as caught:
        Policy.parse(
            'security_groups: [{id: g, security_group_rules: [{direction: ingress, protocol: "", multiport: "",'
            ' remote_ip_prefix: "", remote_group_id: "", remote_address_group_id: ""}]}]'
        )
    messages = [mistake.message for mistake in caught.value.mistakes]
    assert len(messages) == 5
    assert all(" is empty: " in message and "leave the key out" in message for message in messages)


def test_a_name_in_place_of_an_id_leads_to_the_id() -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.parse(
            """
            security_groups:
              - {id: 1c8d, name: web, security_group_rules: [{direction: ingress, remote_group_id: web}]}
              - {id: 2c8d, name: twice}
              - {id: 3c8d, name: twice}
            address_groups: [{id: 77aa, name: offices, ip_version: 4, ip_set: [10.0.0.1]}]
            instances: [{id: a, addresses: [10.0.0.9], security_groups: [web, twice]}]
            """
        )
    assert [mistake.message for mistake in caught.value.mistakes] == [
        'remote_group_id "web" is the name of a security group, whose id is needed here: write "1c8d"',
        'security_groups[0] "web" is the name of a security group, whose id is needed here: write "1c8d"',
        'security_groups[1] "twice" is no security group of this policy',
    ]
