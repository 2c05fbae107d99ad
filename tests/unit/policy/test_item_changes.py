"""SPEC 5.6, 7: groups, address groups, instances and load balancers created, updated and deleted as values."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from dataplane.policy import ChangeError, Policy
from dataplane.policy.changes import KINDS, apply, parse_change

POLICY = """
region: eu-1
security_groups:
  - id: sg-a
    security_group_rules:
      - {id: A01, direction: ingress, remote_group_id: sg-b}
      - {id: A02, direction: egress, remote_group_id: sg-a}
      - {direction: egress}
  - {id: sg-b, name: B, security_group_rules: [{id: B01, direction: ingress, remote_address_group_id: ips}]}
  - {id: sg-free, name: free}
address_groups:
  - {id: ips, ip_version: 4, ip_set: [10.0.0.1]}
  - {id: spare, ip_version: 6, ip_set: []}
instances:
  - {id: ecs-a, addresses: [192.168.0.10], mac: fa:16:3e:00:00:01, security_groups: [sg-a], interface: tap-a}
  - {id: ecs-b, addresses: [192.168.0.11, fd00::11], security_groups: [sg-b]}
  - {id: far, vpc: two, addresses: [192.168.0.20], security_groups: [sg-b]}
load_balancers:
  - {id: elb, addresses: [192.168.0.100], backends: [ecs-a]}
uplinks: [{interface: eth9}]
"""


@pytest.fixture
def policy() -> Policy:
    return Policy.parse(POLICY)


def changed(policy: Policy, **change: Any) -> Policy:
    """The policy with one change; the policy given must stay as it is, and the new one be valid as a whole."""
    before = copy.deepcopy(policy)
    after = apply(policy, parse_change(change, policy))
    assert policy == before
    assert Policy.model_validate(after.model_dump(exclude_defaults=True)) == after
    assert apply(policy, parse_change({"apply_policy": after})) == after
    return after


def refusal(policy: Policy, **change: Any) -> str:
    """Why one change is refused; the policy must stay as it is."""
    before = copy.deepcopy(policy)
    with pytest.raises(ChangeError) as caught:
        apply(policy, parse_change(change, policy))
    assert policy == before
    return str(caught.value)


# ---- created ----


def test_a_group_is_created_with_its_rules(policy: Policy) -> None:
    """Rules have ids by their places, as in a document."""
    rules = [{"direction": "egress"}, {"id": "N1", "direction": "ingress", "remote_group_id": "sg-n"}]
    after = changed(policy, create_group={"id": "sg-n", "name": "N", "security_group_rules": rules})
    assert [rule.id for rule in after.group("sg-n").security_group_rules] == ["sg-n/1", "N1"]
    assert after.instances is policy.instances
    assert [group.id for group in after.security_groups] == ["sg-a", "sg-b", "sg-free", "sg-n"]


def test_an_instance_is_created(policy: Policy) -> None:
    """SPEC 3.4: one without groups gets `default`, which is made where there is none."""
    after = changed(policy, create_instance={"id": "n", "addresses": ["192.168.0.12"]})
    assert after.instance("n").security_groups == ("default",)
    assert len(after.group("default").security_group_rules) == 4
    again = changed(after, create_instance={"id": "m", "addresses": ["192.168.0.13"]})
    assert again.group("default") is after.group("default")
    assert [i.id for i in again.members("default")] == ["n", "m"]


def test_the_others_are_created(policy: Policy) -> None:
    after = changed(policy, create_address_group={"id": "n", "ip_version": 4, "ip_set": ["10.0.0.0/8"]})
    assert after.address_group("n").prefixes == ((b"\x0a\0\0\0", 8),)
    after = changed(after, create_load_balancer={"id": "n", "mac": "FA:16:3E:00:0E:02", "backends": ["ecs-b"]})
    assert after.load_balancers_by_id["n"].mac == "fa:16:3e:00:0e:02"
    assert after.load_balancers_by_id["elb"] is policy.load_balancers[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"create_group": {"id": "sg-a"}}, 'security group id "sg-a" is used already'),
        (
            {"create_address_group": {"id": "ips", "ip_version": 4, "ip_set": []}},
            'address group id "ips" is used already',
        ),
        ({"create_instance": {"id": "far", "addresses": ["10.0.0.9"]}}, 'instance id "far" is used already'),
        ({"create_load_balancer": {"id": "elb", "mac": "02:00:00:00:00:01"}}, 'load balancer id "elb" is used already'),
        (
            {"create_group": {"id": "n", "security_group_rules": [{"id": "A01", "direction": "egress"}]}},
            'rule id "A01" is used already, in security group "sg-a"',
        ),
        (
            {"create_group": {"id": "n", "security_group_rules": [{"id": "N", "direction": "egress"}] * 2}},
            'rule id "N" is used twice',
        ),
        (
            {
                "create_group": {
                    "id": "n",
                    "region": "eu-2",
                    "security_group_rules": [{"direction": "egress", "remote_group_id": "sg-a"}],
                }
            },
            'remote_group_id "sg-a" is of region "eu-1" and the group of this rule is of region "eu-2": a remote group'
            " must be of the same region",
        ),
        (
            {"create_address_group": {"id": "n", "ip_version": 4, "ip_set": ["::1"]}},
            'ip_set[0] "::1" is IPv6 and ip_version is 4',
        ),
        (
            {"create_instance": {"id": "n", "addresses": ["192.168.0.100"]}},
            'load balancer "elb": addresses[0] "192.168.0.100" is taken in vpc "default": instance "n" has it already',
        ),
        (
            {"create_instance": {"id": "n", "addresses": ["10.9.9.9"], "interface": "eth9"}},
            'uplink: interface "eth9" is taken: instance "n" has it already',
        ),
        (
            {"create_instance": {"id": "n", "addresses": ["10.9.9.9"], "allowed_address_pairs": ["192.168.0.10"]}},
            'allowed_address_pairs[0] "192.168.0.10" is taken in vpc "default": instance "ecs-a" has it already',
        ),
        (
            {"create_instance": {"id": "n", "addresses": ["10.9.9.9"], "security_groups": []}},
            "security_groups is empty: at least one entry is needed, or leave the key out",
        ),
        (
            {"create_instance": {"id": "n", "addresses": ["10.9.9.9"], "tap": {"mtu": 9000}}},
            "tap is allowed with an interface only: it says how that is made",
        ),
        (
            {"create_load_balancer": {"id": "n", "addresses": ["192.168.0.11"], "backends": ["ecs-b", "x"]}},
            'backends[1] "x" is no instance of this policy; addresses[0] "192.168.0.11" is taken in vpc "default":'
            ' instance "ecs-b" has it already',
        ),
        (
            {"create_load_balancer": {"id": "n", "backends": ["ecs-b"]}},
            "a load balancer needs an address, a mac or an interface: it is recognised by one of them",
        ),
        ({"create_instance": {"name": "n"}}, "id is missing: write text; addresses is missing: write a list"),
    ],
    ids=str,
)
def test_what_cannot_be_created(policy: Policy, change: dict[str, Any], reason: str) -> None:
    """SPEC 2, 5.6: whole, with every reason."""
    assert refusal(policy, **change) == reason


# ---- updated ----


def test_only_the_named_fields_change(policy: Policy) -> None:
    after = changed(policy, update_group={"id": "sg-b", "description": "text"})
    assert (after.group("sg-b").name, after.group("sg-b").description) == ("B", "text")
    assert after.group("sg-b").security_group_rules is policy.group("sg-b").security_group_rules
    after = changed(policy, update_instance={"id": "ecs-a", "mac": None, "addresses": ["192.168.0.30"]})
    instance = after.instance("ecs-a")
    assert (instance.mac, instance.addresses, instance.interface) == (None, ("192.168.0.30",), "tap-a")
    assert [i.id for i in after.instances] == ["ecs-a", "ecs-b", "far"]
    assert after.members("sg-b") is policy.members("sg-b")
    after = changed(policy, update_load_balancer={"id": "elb", "transfer_client_ip": True})
    assert after.load_balancers[0].backends == ("ecs-a",)
    after = changed(policy, update_address_group={"id": "spare", "ip_version": 4, "ip_set": ["10.0.0.0/8"]})
    assert after.address_group("spare").ip_version == 4


def test_another_list_of_rules_keeps_those_that_stay(policy: Policy) -> None:
    """A rule without an id that says the same is the same."""
    rules = [{"direction": "egress"}, {"id": "A01", "direction": "ingress", "remote_group_id": "sg-b"}]
    after = changed(policy, update_group={"id": "sg-a", "security_group_rules": [*rules, {"direction": "ingress"}]})
    assert [rule.id for rule in after.group("sg-a").security_group_rules] == ["sg-a/3", "A01", "sg-a/3-2"]
    assert after.rule("A01") is policy.rule("A01")
    assert after.rule("sg-a/3") is policy.rule("sg-a/3")


@pytest.mark.parametrize(
    "change",
    [
        {"update_group": {"id": "sg-b", "name": "B"}},
        {"update_address_group": {"id": "ips", "ip_version": 4, "ip_set": ["10.0.0.1/32"]}},
        {"update_instance": {"id": "ecs-b", "addresses": ["192.168.0.11", "FD00:0::11"], "vpc": "default"}},
        {"update_instance": {"id": "ecs-b"}},
        {"update_load_balancer": {"id": "elb", "backends": ["ecs-a"], "mac": None}},
    ],
    ids=str,
)
def test_the_same_values_change_nothing(policy: Policy, change: dict[str, Any]) -> None:
    """SPEC 5.5."""
    assert changed(policy, **change) is policy


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"update_group": {"id": "sg-b", "region": "eu-2"}},
            'rule "A01": remote_group_id "sg-b" is of region "eu-2" and the group of this rule is of region "eu-1": a'
            " remote group must be of the same region",
        ),
        (
            {"update_address_group": {"id": "ips", "ip_version": 6, "ip_set": []}},
            'rule "B01": remote_address_group_id "ips" has ip_version 6 and the ethertype of the rule is IPv4',
        ),
        (
            {"update_address_group": {"id": "ips", "ip_version": 6}},
            'ip_set[0] "10.0.0.1" is IPv4 and ip_version is 6; rule "B01": remote_address_group_id "ips" has ip_version'
            " 6 and the ethertype of the rule is IPv4",
        ),
        (
            {"update_instance": {"id": "ecs-a", "addresses": ["192.168.0.11"]}},
            'addresses[0] "192.168.0.11" is taken in vpc "default": instance "ecs-b" has it already',
        ),
        (
            {"update_instance": {"id": "far", "vpc": "default", "addresses": ["192.168.0.10"]}},
            'addresses[0] "192.168.0.10" is taken in vpc "default": instance "ecs-a" has it already',
        ),
        (
            {"update_instance": {"id": "ecs-a", "security_groups": ["sg-a", "sg-a", "sg-x"]}},
            'security_groups[1] "sg-a" is in the list already; security_groups[2] "sg-x" is no security group of this'
            ' policy; did you mean "sg-b"?',
        ),
        (
            {"update_instance": {"id": "ecs-a", "security_groups": None}},
            "security_groups is empty: write a list, or leave the key out",
        ),
        (
            {"update_instance": {"id": "ecs-x", "name": "x"}},
            '"ecs-x" is no instance of this policy; did you mean "ecs-b"?',
        ),
        (
            {"update_load_balancer": {"id": "elb", "addresses": []}},
            "a load balancer needs an address, a mac or an interface: it is recognised by one of them",
        ),
        (
            {"update_group": {"id": "sg-b", "rules": []}},
            'key "rules" is not known: write rules as security_group_rules, each with its direction',
        ),
    ],
    ids=str,
)
def test_what_cannot_be_updated(policy: Policy, change: dict[str, Any], reason: str) -> None:
    """SPEC 2, 5.6."""
    assert refusal(policy, **change) == reason


# ---- deleted ----


def test_what_is_not_used_is_deleted(policy: Policy) -> None:
    after = changed(policy, delete_group={"id": "sg-free"})
    assert [group.id for group in after.security_groups] == ["sg-a", "sg-b"]
    assert after.group("sg-a") is policy.group("sg-a")
    after = changed(policy, delete_address_group={"id": "spare"})
    assert [group.id for group in after.address_groups] == ["ips"]
    after = changed(policy, delete_load_balancer={"id": "elb"})
    assert after.load_balancers == ()
    after = changed(after, delete_instance={"id": "ecs-a"})
    assert [instance.id for instance in after.instances] == ["ecs-b", "far"]
    # Its own rules may name it.
    after = changed(after, delete_group={"id": "sg-a"})
    assert "A02" not in after.rules_by_id


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"delete_group": {"id": "sg-b"}},
            'security group "sg-b" is still used: instances "ecs-b", "far" are in it, and rule "A01" names it as'
            " remote_group_id: take it out there first",
        ),
        (
            {"delete_address_group": {"id": "ips"}},
            'address group "ips" is still used: rule "B01" names it as remote_address_group_id: take it out there'
            " first",
        ),
        (
            {"delete_instance": {"id": "ecs-a"}},
            'instance "ecs-a" is still used: load balancer "elb" has it as a backend: take it out there first',
        ),
        ({"delete_group": {"id": "B"}}, '"B" is the name of a security group, whose id is needed here: write "sg-b"'),
        ({"delete_load_balancer": {"id": "x"}}, '"x" is no load balancer of this policy'),
    ],
    ids=str,
)
def test_what_is_used_is_not_deleted(policy: Policy, change: dict[str, Any], reason: str) -> None:
    """SPEC 5.6: the reason says by whom."""
    assert refusal(policy, **change) == reason


def test_many_users_are_counted(policy: Policy) -> None:
    for n in range(30):
        instance = {"id": f"i{n}", "addresses": [f"10.1.1.{n}"], "security_groups": ["sg-free"]}
        policy = apply(policy, parse_change({"create_instance": instance}))
    reason = refusal(policy, delete_group={"id": "sg-free"})
    assert '"i8", "i9" and 20 more are in it' in reason


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_tells_what_it_does(kind: str) -> None:
    """In a docstring, from which the page and the help are made, and in a few words for each change."""
    assert KINDS[kind].kind == kind
    assert (KINDS[kind].__doc__ or "").rstrip().endswith(".")
    if kind.startswith(("create", "delete")):
        thing = kind.partition("_")[2].replace("_", " ").replace("group", "security group", kind.endswith("e_group"))
        value = {"id": "x", "addresses": ["10.0.0.1"], "ip_version": 4, "ip_set": []}
        fields = {name: part for name, part in value.items() if name in KINDS[kind].model_fields}
        assert parse_change({kind: fields}).summary == f"{kind.partition('_')[0]} {thing} x"
