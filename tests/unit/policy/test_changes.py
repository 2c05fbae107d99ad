"""SPEC 5 and 7: the changes of a policy. SPEC 5.6: one that is not valid is refused whole, with the reason."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from dataplane.policy import ChangeError, Policy, PolicyError
from dataplane.policy.changes import (
    AddInstance,
    AddRule,
    ApplyPolicy,
    DeleteRule,
    RemoveInstance,
    UpdateAddressGroup,
    UpdateRule,
    apply,
    parse_change,
)
from dataplane.policy.rule import SecurityGroupRule

POLICY = """
region: eu-1
security_groups:
  - id: sg-a
    name: A
    security_group_rules:
      - {id: A01, name: ssh, direction: ingress, protocol: tcp, multiport: "22,25", remote_group_id: sg-b, priority: 5}
      - {id: A02, direction: egress, remote_ip_prefix: 10.0.0.0/8}
  - id: sg-b
    security_group_rules:
      - {direction: ingress, remote_address_group_id: ips}
  - {id: sg-far, region: eu-2}
address_groups:
  - {id: ips, ip_version: 4, ip_set: [10.0.0.1, 10.1.0.0/16]}
  - {id: ips6, ip_version: 6, ip_set: ["::1"]}
instances:
  - {id: ecs-a, addresses: [192.168.0.10], security_groups: [sg-a]}
  - {id: ecs-b, addresses: [192.168.0.11], security_groups: [sg-a, sg-b]}
  - {id: ecs-c, addresses: [192.168.0.12], security_groups: [sg-b]}
"""


@pytest.fixture
def policy() -> Policy:
    return Policy.parse(POLICY)


def changed(policy: Policy, **change: Any) -> Policy:
    """The policy with one change as SPEC 7 writes it; the policy given must stay as it is."""
    before = copy.deepcopy(policy)
    after = apply(policy, parse_change(change))
    assert policy == before
    assert Policy.model_validate(after.model_dump(exclude_defaults=True)) == after, "a change leads to a valid policy"
    return after


def refusal(policy: Policy, **change: Any) -> str:
    """Why one change is refused; the policy must stay as it is, and the reason be one sentence."""
    before = copy.deepcopy(policy)
    with pytest.raises(ChangeError) as caught:
        apply(policy, parse_change(change))
    assert policy == before
    assert str(caught.value).isprintable()
    return str(caught.value)


# ---- add_rule ----


def test_add_rule(policy: Policy) -> None:
    rule = {"id": "A03", "direction": "ingress", "protocol": "tcp", "multiport": "443"}
    after = changed(policy, add_rule={"security_group": "sg-a", "rule": rule})
    assert [r.id for r in after.group("sg-a").security_group_rules] == ["A01", "A02", "A03"]
    assert after.rule("A03") == SecurityGroupRule(id="A03", direction="ingress", protocol="tcp", multiport="443")
    assert after.rules_by_id["A03"][0] is after.group("sg-a")


def test_add_rule_generates_an_id(policy: Policy) -> None:
    """As in a document: the group and the rule's place, or another where that is taken."""
    once = changed(policy, add_rule={"security_group": "sg-b", "rule": {"direction": "egress"}})
    assert [rule.id for rule in once.group("sg-b").security_group_rules] == ["sg-b/1", "sg-b/2"]
    less = changed(once, delete_rule={"id": "sg-b/1"})
    again = changed(less, add_rule={"security_group": "sg-b", "rule": {"direction": "egress"}})
    assert [rule.id for rule in again.group("sg-b").security_group_rules] == ["sg-b/2", "sg-b/2-2"]


@pytest.mark.parametrize(
    ("group", "rule", "reason"),
    [
        ("sg-c", {}, '"sg-c" is no security group of this policy; did you mean "sg-b"?'),
        ("sg-b", {"id": "A01"}, 'rule id "A01" is used already, in security group "sg-a"'),
        ("sg-a", {"priority": 0}, "priority 0 is out of range: 1..100"),
        (
            "sg-a",
            {"priority": 101, "multiport": "22"},
            "priority 101 is out of range: 1..100; multiport is allowed with protocol tcp, udp, sctp, dccp or udplite"
            " only: the rule has"
            " none",
        ),
        ("sg-a", {"directoin": "x"}, 'key "directoin" is not known: did you mean direction?'),
        (
            "sg-a",
            {"remote_group_id": "sg-x"},
            'remote_group_id "sg-x" is no security group of this policy; did you mean "sg-b"?',
        ),
        (
            "sg-a",
            {"remote_group_id": "sg-far"},
            'remote_group_id "sg-far" is of region "eu-2" and the group of this rule is of region "eu-1": a remote'
            " group must be of the same region",
        ),
        (
            "sg-a",
            {"remote_address_group_id": "ips6"},
            'remote_address_group_id "ips6" has ip_version 6 and the ethertype of the rule is IPv4',
        ),
    ],
)
def test_add_rule_refused(policy: Policy, group: str, rule: dict[str, Any], reason: str) -> None:
    assert refusal(policy, add_rule={"security_group": group, "rule": {"direction": "ingress", **rule}}) == reason


def test_a_change_may_not_exceed_a_quota(policy: Policy) -> None:
    """SPEC 6: the 121st counted rule is refused, by add_rule and by update_rule; one that does not count is not."""
    counted = {"direction": "ingress", "protocol": "tcp", "multiport": "1,3"}
    for _ in range(119):
        policy = apply(policy, parse_change({"add_rule": {"security_group": "sg-a", "rule": counted}}))
    reason = (
        'security group "sg-a" has 121 ingress IPv4 rules with a remote group, a remote address group or inconsecutive'
        " ports: up to 120 are allowed"
    )
    assert refusal(policy, add_rule={"security_group": "sg-a", "rule": counted}) == reason
    policy = changed(policy, add_rule={"security_group": "sg-a", "rule": {**counted, "id": "one", "multiport": "1-3"}})
    assert refusal(policy, update_rule={"id": "one", "multiport": "1,3"}) == reason
    assert changed(policy, update_rule={"id": "A02", "multiport": "1,3", "protocol": "tcp"})


# ---- update_rule ----


def test_update_rule_changes_only_the_named_fields(policy: Policy) -> None:
    """SPEC 7: {id: A01, multiport: "443"}."""
    after = changed(policy, update_rule={"id": "A01", "multiport": "443"})
    assert after.rule("A01") == policy.rule("A01").model_copy(update={"multiport": "443"})
    assert after.rule("A01").selectors == ((6 << 16 | 443, 6 << 16 | 443),)
    assert [rule.id for rule in after.group("sg-a").security_group_rules] == ["A01", "A02"]


def test_update_rule_of_several_fields(policy: Policy) -> None:
    values = {
        "direction": "egress",
        "ethertype": "ipv6",
        "action": "deny",
        "priority": 7,
        "enabled": False,
        "name": None,
    }
    rule = changed(policy, update_rule={"id": "A01", **values}).rule("A01")
    assert rule.model_dump(exclude_none=True) == {
        "id": "A01",
        "direction": "egress",
        "ethertype": "IPv6",
        "protocol": "tcp",
        "multiport": "22,25",
        "remote_group_id": "sg-b",
        "action": "deny",
        "priority": 7,
        "enabled": False,
    }


def test_update_rule_null_takes_a_field_away(policy: Policy) -> None:
    after = changed(policy, update_rule={"id": "A01", "multiport": None, "protocol": None, "remote_group_id": None})
    rule = after.rule("A01")
    assert (rule.multiport, rule.protocol, rule.remote_group_id, rule.priority) == (None, None, None, 5)


def test_update_rule_to_another_remote(policy: Policy) -> None:
    """Naming a second remote leaves the first, so that one must be taken away by name."""
    reason = "remote_ip_prefix and remote_group_id are given together: at most one of them is allowed"
    assert refusal(policy, update_rule={"id": "A01", "remote_ip_prefix": "10.0.0.0/8"}) == reason
    values = {"remote_ip_prefix": "10.0.0.0/8", "remote_group_id": None}
    assert changed(policy, update_rule={"id": "A01", **values}).rule("A01").remote_prefix == (b"\x0a\0\0\0", 8)


def test_update_rule_with_the_same_values_changes_nothing(policy: Policy) -> None:
    """SPEC 5.5: also where the values are written in another way."""
    for values in ({}, {"priority": 5}, {"protocol": 6, "multiport": "22, 25", "ethertype": "ipv4"}):
        assert changed(policy, update_rule={"id": "A01", **values}) is policy


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"id": "A09"}, '"A09" is no rule of this policy; did you mean "A02"?'),
        ({"priority": 101}, "priority 101 is out of range: 1..100"),
        ({"priority": None}, "priority is empty: write a whole number 1..100, or leave the key out"),
        ({"action": None}, "action is empty: write allow or deny, or leave the key out"),
        (
            {"protocol": "gre"},
            "multiport is allowed with protocol tcp, udp, sctp, dccp or udplite only: the rule has protocol gre",
        ),
        (
            {"protocol": None},
            "multiport is allowed with protocol tcp, udp, sctp, dccp or udplite only: the rule has none",
        ),
        (
            {"remote_group_id": "sg-x"},
            'remote_group_id "sg-x" is no security group of this policy; did you mean "sg-b"?',
        ),
        ({"prioritee": 3}, 'key "prioritee" is not known: did you mean priority?'),
    ],
)
def test_update_rule_refused(policy: Policy, values: dict[str, Any], reason: str) -> None:
    assert refusal(policy, update_rule={"id": "A01", **values}) == reason


def test_update_rule_needs_an_id(policy: Policy) -> None:
    assert refusal(policy, update_rule={"priority": 3}) == "id is missing: write text"


# ---- delete_rule ----


def test_delete_rule(policy: Policy) -> None:
    after = changed(policy, delete_rule={"id": "A01"})
    assert [rule.id for rule in after.group("sg-a").security_group_rules] == ["A02"]
    assert refusal(after, delete_rule={"id": "A01"}) == '"A01" is no rule of this policy; did you mean "A02"?'


# ---- instances ----


def test_add_instance_appends_the_group(policy: Policy) -> None:
    after = changed(policy, add_instance={"security_group": "sg-b", "instance": "ecs-a"})
    assert after.instance("ecs-a").security_groups == ("sg-a", "sg-b")
    assert [instance.id for instance in after.members("sg-b")] == ["ecs-a", "ecs-b", "ecs-c"]


def test_remove_instance(policy: Policy) -> None:
    after = changed(policy, remove_instance={"security_group": "sg-a", "instance": "ecs-b"})
    assert after.instance("ecs-b").security_groups == ("sg-b",)
    assert [instance.id for instance in after.members("sg-a")] == ["ecs-a"]


def test_add_and_remove_instance_refused(policy: Policy) -> None:
    """SPEC 3.4: an instance always has at least one group."""
    ecs_a = {"security_group": "sg-a", "instance": "ecs-a"}
    assert refusal(policy, add_instance=ecs_a) == 'instance "ecs-a" is in security group "sg-a" already'
    assert refusal(policy, remove_instance={**ecs_a, "security_group": "sg-b"}) == (
        'instance "ecs-a" is not in security group "sg-b"'
    )
    assert refusal(policy, remove_instance=ecs_a) == (
        'security group "sg-a" is the last one of instance "ecs-a": an instance always has at least one'
    )
    for kind in ("add_instance", "remove_instance"):
        assert refusal(policy, **{kind: {**ecs_a, "instance": "ecs-x"}}).startswith(
            '"ecs-x" is no instance of this policy'
        )
        assert refusal(policy, **{kind: {**ecs_a, "security_group": "x"}}) == '"x" is no security group of this policy'


# ---- update_address_group ----


def test_update_address_group(policy: Policy) -> None:
    after = changed(policy, update_address_group={"id": "ips", "ip_set": ["10.9.0.0/16", "10.0.0.1-10.0.0.2"]})
    assert after.address_group("ips").ip_set == ("10.9.0.0/16", "10.0.0.1-10.0.0.2")
    assert changed(policy, update_address_group={"id": "ips", "ip_set": []}).address_group("ips").prefixes == ()


def test_update_address_group_with_the_same_set_changes_nothing(policy: Policy) -> None:
    assert changed(policy, update_address_group={"id": "ips", "ip_set": ["10.0.0.1/32", "10.1.0.0/16"]}) is policy


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"id": "ip", "ip_set": []}, '"ip" is no address group of this policy; did you mean "ips"?'),
        ({"id": "ips", "ip_set": ["::1"]}, 'ip_set[0] "::1" is IPv6 and ip_version is 4'),
        ({"id": "ips", "ip_set": ["10.0.0.1/8"]}, 'ip_set[0] "10.0.0.1/8" has host bits set: write "10.0.0.0/8"'),
        ({"id": "ips"}, "ip_set is missing: write a list"),
    ],
)
def test_update_address_group_refused(policy: Policy, values: dict[str, Any], reason: str) -> None:
    assert refusal(policy, update_address_group=values) == reason


# ---- clone_group ----


def test_clone_group(policy: Policy) -> None:
    """Rules have ids of their own, the first free ones; who is in the group is not in the copy."""
    policy = changed(policy, add_rule={"security_group": "sg-b", "rule": {"id": "new/2", "direction": "egress"}})
    after = changed(policy, clone_group={"security_group": "sg-a", "id": "new"})
    copy, original = after.group("new"), after.group("sg-a")
    assert [rule.id for rule in copy.security_group_rules] == ["new/1", "new/2-2"]
    assert copy.name == original.name
    for rule, of in zip(copy.security_group_rules, original.security_group_rules, strict=True):
        assert rule.model_copy(update={"id": of.id}) == of
    assert after.members("new") == ()
    assert after.instances is policy.instances


def test_clone_group_follows_references_to_itself(policy: Policy) -> None:
    rule = {"id": "self", "direction": "ingress", "remote_group_id": "sg-a"}
    policy = changed(policy, add_rule={"security_group": "sg-a", "rule": rule})
    after = changed(policy, clone_group={"security_group": "sg-a", "id": "new"})
    assert [r.remote_group_id for r in after.group("new").security_group_rules] == ["sg-b", None, "new"]
    assert after.rule("self").remote_group_id == "sg-a"


def test_clone_group_refused(policy: Policy) -> None:
    unknown = refusal(policy, clone_group={"security_group": "x", "id": "new"})
    assert unknown == '"x" is no security group of this policy'
    used = refusal(policy, clone_group={"security_group": "sg-a", "id": "sg-b"})
    assert used == 'security group id "sg-b" is used already'


# ---- apply_policy ----


def test_apply_policy(policy: Policy) -> None:
    other = Policy.parse(POLICY.replace("priority: 5", "priority: 6").replace("[sg-a, sg-b]", "[sg-b, sg-a]"))
    after = apply(policy, ApplyPolicy(policy=other))
    assert after == other
    assert after.rule("A01").priority == 6
    assert after.instance("ecs-b").security_groups == ("sg-b", "sg-a")


def test_apply_policy_that_is_equal_changes_nothing(policy: Policy) -> None:
    assert apply(policy, ApplyPolicy(policy=Policy.parse(POLICY))) is policy


def test_apply_policy_by_file_name_and_by_value(policy: Policy, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(POLICY.replace("priority: 5", "priority: 6"))
    after = changed(policy, apply_policy=str(tmp_path / "other.yaml"))
    assert after.rule("A01").priority == 6
    assert changed(policy, apply_policy=after) == after
    with pytest.raises(PolicyError, match=r"none\.yaml: the file cannot be read"):
        parse_change({"apply_policy": str(tmp_path / "none.yaml")})


# ---- what stays ----


def test_a_rule_change_leaves_all_else_the_same_objects(policy: Policy) -> None:
    members = policy.members("sg-a")
    after = changed(policy, update_rule={"id": "A01", "priority": 9})
    assert after.instances is policy.instances
    assert after.address_groups is policy.address_groups
    assert after.conntrack is policy.conntrack
    assert after.group("sg-b") is policy.group("sg-b")
    assert after.rule("A02") is policy.rule("A02")
    assert after.rule("A01") is not policy.rule("A01")
    assert after.members("sg-a") is members


def test_a_membership_change_leaves_all_else_the_same_objects(policy: Policy) -> None:
    members = {group: policy.members(group) for group in ("sg-a", "sg-b", "sg-far")}
    after = changed(policy, remove_instance={"security_group": "sg-a", "instance": "ecs-b"})
    assert after.security_groups is policy.security_groups
    assert after.instance("ecs-a") is policy.instance("ecs-a")
    assert after.instance("ecs-c") is policy.instance("ecs-c")
    assert after.members("sg-a") is not members["sg-a"]
    assert after.members("sg-far") is members["sg-far"]
    only_a = changed(policy, add_instance={"security_group": "sg-far", "instance": "ecs-a"})
    assert only_a.members("sg-b") is members["sg-b"]
    assert [instance.id for instance in only_a.members("sg-far")] == ["ecs-a"]


def test_another_policy_shares_what_is_equal(policy: Policy) -> None:
    members = policy.members("sg-b")
    other = Policy.parse(POLICY.replace("priority: 5", "priority: 6"))
    after = apply(policy, ApplyPolicy(policy=other))
    assert after.instances is policy.instances
    assert after.address_groups is policy.address_groups
    assert after.load_balancers is policy.load_balancers
    assert after.conntrack is policy.conntrack
    assert after.members("sg-b") is members
    assert after.group("sg-b") is policy.group("sg-b")
    assert after.rule("A02") is policy.rule("A02")
    assert after.rule("A01") is not policy.rule("A01")


def test_lookups_after_a_change(policy: Policy) -> None:
    """Those that were worked out before the change are not carried over where it concerns them."""
    assert policy.rule("A01")
    assert policy.instance("ecs-a")
    assert policy.address_group("ips")
    after = changed(policy, delete_rule={"id": "A01"})
    assert "A01" not in after.rules_by_id
    assert after.rules_by_id["A02"][0] is after.group("sg-a") is after.security_groups[0]
    after = changed(after, update_address_group={"id": "ips", "ip_set": []})
    assert after.address_group("ips") is after.address_groups[0]
    after = changed(after, add_instance={"security_group": "sg-b", "instance": "ecs-a"})
    assert after.instance("ecs-a") is after.instances[0]


# ---- changes as values ----


def test_parse_change() -> None:
    rule = {"direction": "ingress"}
    assert parse_change({"add_rule": {"security_group": "g", "rule": rule}}) == AddRule(
        security_group="g", rule=SecurityGroupRule(direction="ingress")
    )
    assert parse_change({"update_rule": {"id": "r", "priority": 2}}) == UpdateRule(id="r", priority=2)
    assert parse_change({"delete_rule": {"id": "r"}}) == DeleteRule(id="r")
    names = {"security_group": "g", "instance": "i"}
    assert parse_change({"add_instance": names}) == AddInstance(security_group="g", instance="i")
    assert parse_change({"remove_instance": names}) == RemoveInstance(security_group="g", instance="i")
    update = {"id": "s", "ip_set": ["10.0.0.1"]}
    assert parse_change({"update_address_group": update}) == UpdateAddressGroup(id="s", ip_set=("10.0.0.1",))


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (
            {"update_address_group": {"id": "ips", "ip_set": ["::1", "10.0.0.9-10.0.0.1", "::2"]}},
            {
                'ip_set[1] "10.0.0.9-10.0.0.1" runs backwards: the first address must not be above the last',
                'ip_set[0] "::1" is IPv6 and ip_version is 4',
                'ip_set[2] "::2" is IPv6 and ip_version is 4',
            },
        ),
        (
            {"update_address_group": {"id": "ip", "ip_set": ["10.0.0.1/8"]}},
            {
                'ip_set[0] "10.0.0.1/8" has host bits set: write "10.0.0.0/8"',
                '"ip" is no address group of this policy; did you mean "ips"?',
            },
        ),
        (
            {"update_rule": {"id": "A01", "priority": 101, "remote_group_id": "sg-x", "protocol": "gre"}},
            {
                "priority 101 is out of range: 1..100",
                "multiport is allowed with protocol tcp, udp, sctp, dccp or udplite only: the rule has protocol gre",
                'remote_group_id "sg-x" is no security group of this policy; did you mean "sg-b"?',
            },
        ),
        (
            {
                "add_rule": {
                    "security_group": "sg-a",
                    "rule": {"id": "A02", "direction": "egress", "priority": 0, "remote_address_group_id": "ips7"},
                }
            },
            {
                "priority 0 is out of range: 1..100",
                'rule id "A02" is used already, in security group "sg-a"',
                'remote_address_group_id "ips7" is no address group of this policy; did you mean "ips"?',
            },
        ),
        ({"update_address_group": {"id": "ips", "ip_set": 4}}, None),
        ({"update_address_group": {"id": "ips"}}, {"ip_set is missing: write a list"}),
        ({"update_rule": {"id": "A01", "remote_group_id": 5, "multiport": {}}}, None),
        ({"add_instance": {"security_group": "sg-x", "instance": 5}}, None),
        ({"add_rule": {"security_group": "sg-a", "rule": [1]}, "delete_rule": {"id": 7}}, None),
        ({"update_rule": {"id": ["A01"]}, "update_address_group": {"id": {}, "ip_set": 4}}, None),
    ],
)
def test_no_reason_hides_another(policy: Policy, change: dict[str, Any], reasons: set[str] | None) -> None:
    """Values that are not allowed by themselves, and what the policy has against the others."""
    with pytest.raises(ChangeError) as caught:
        parse_change(change, policy)
    if reasons is not None:
        assert {conflict.message for conflict in caught.value.conflicts} == reasons
        assert all(reason in str(caught.value) for reason in reasons)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {},
            "no change is given: write one of add_rule, update_rule, delete_rule, fast_add_rules, create_group,"
            " update_group, delete_group, clone_group, add_instance, remove_instance, create_address_group,"
            " update_address_group, delete_address_group, create_instance, update_instance, delete_instance,"
            " create_load_balancer, update_load_balancer, delete_load_balancer or apply_policy",
        ),
        ({"add_rule": None}, "no change is given: write one of add_rule, "),
        (
            {"delete_rule": {"id": "a"}, "update_rule": {"id": "b"}},
            "delete_rule is one change too many: update_rule is given already",
        ),
        ({"delete_rule": "A01"}, 'delete_rule "A01" is not allowed: write a mapping: {id: A01}'),
        ({"delete_rule": {"id": "A01"}, "at": 5}, 'key "at" is not known: allowed are add_rule, update_rule'),
        ({"drop_rule": {"id": "A01"}}, 'key "drop_rule" is not known: write delete_rule; no change is given'),
        ({"apply_policy": {"region": "a"}}, "apply_policy is a mapping: write text"),
    ],
)
def test_parse_change_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ChangeError) as caught:
        parse_change(change)
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize(
    ("change", "summary"),
    [
        ({"add_rule": {"security_group": "g", "rule": {"id": "r", "direction": "ingress"}}}, "add rule r to g"),
        ({"add_rule": {"security_group": "g", "rule": {"direction": "ingress"}}}, "add a rule to g"),
        ({"update_rule": {"id": "r", "priority": 2, "multiport": "1"}}, "update rule r: multiport, priority"),
        ({"update_rule": {"id": "r"}}, "update rule r: nothing"),
        ({"delete_rule": {"id": "r"}}, "delete rule r"),
        ({"add_instance": {"security_group": "g", "instance": "i"}}, "add i to g"),
        ({"remove_instance": {"security_group": "g", "instance": "i"}}, "remove i from g"),
        ({"update_address_group": {"id": "s", "ip_set": []}}, "update address group s"),
        ({"apply_policy": Policy()}, "apply policy"),
    ],
)
def test_summaries(change: dict[str, Any], summary: str) -> None:
    assert parse_change(change).summary == summary
