"""The vendor's SDK, as it is, against the API: the whole life of what it knows.

Facts about names, statuses and codes are those of its models and of the vendor's guides.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkvpc.v3 import (
    AddSecurityGroupsRequest,
    AddSecurityGroupsRequestBody,
    BatchCreateSecurityGroupRulesOption,
    BatchCreateSecurityGroupRulesRequest,
    BatchCreateSecurityGroupRulesRequestBody,
    CreateAddressGroupOption,
    CreateAddressGroupRequest,
    CreateAddressGroupRequestBody,
    CreateSecurityGroupOption,
    CreateSecurityGroupRequest,
    CreateSecurityGroupRequestBody,
    CreateSecurityGroupRuleOption,
    CreateSecurityGroupRuleRequest,
    CreateSecurityGroupRuleRequestBody,
    DeleteAddressGroupRequest,
    DeleteIpAddressGroupForceRequest,
    DeleteSecurityGroupRequest,
    DeleteSecurityGroupRuleRequest,
    InsertSecurityGroupOption,
    IpExtraSetOption,
    ListAddressGroupRequest,
    ListAddressGroupsDependencyRequest,
    ListPortsRequest,
    ListSecurityGroupRulesRequest,
    ListSecurityGroupsRequest,
    RemoveSecurityGroupOption,
    RemoveSecurityGroupsRequest,
    RemoveSecurityGroupsRequestBody,
    ResourceTag,
    ShowAddressGroupRequest,
    ShowPortRequest,
    ShowQuotaRequest,
    ShowSecurityGroupRequest,
    ShowSecurityGroupRuleRequest,
    UpdateAddressGroupOption,
    UpdateAddressGroupRequest,
    UpdateAddressGroupRequestBody,
    UpdateSecurityGroupOption,
    UpdateSecurityGroupRequest,
    UpdateSecurityGroupRequestBody,
)

from .served import Served

REMOTES = ("remote_group_id", "remote_address_group_id")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def new_group(client: Any, name: str = "web", **fields: Any) -> Any:
    body = CreateSecurityGroupRequestBody(security_group=CreateSecurityGroupOption(name=name, **fields))
    return client.create_security_group(CreateSecurityGroupRequest(body)).security_group


def new_rule(client: Any, group: str, *, dry_run: bool = False, direction: str = "ingress", **fields: Any) -> Any:
    option = CreateSecurityGroupRuleOption(security_group_id=group, direction=direction, **fields)
    body = CreateSecurityGroupRuleRequestBody(security_group_rule=option, dry_run=dry_run or None)
    return client.create_security_group_rule(CreateSecurityGroupRuleRequest(body))


def new_address_group(client: Any, **fields: Any) -> Any:
    option = CreateAddressGroupOption(**{"name": "office", "ip_version": 4, **fields})
    return client.create_address_group(
        CreateAddressGroupRequest(CreateAddressGroupRequestBody(address_group=option))
    ).address_group


def refused(function: Any, *arguments: Any, **fields: Any) -> tuple[int, str, str]:
    """Status, code and sentence of the exception that the SDK makes of a refusal."""
    with pytest.raises(ClientRequestException) as caught:
        function(*arguments, **fields)
    assert re.fullmatch(r"[0-9a-f]{32}", caught.value.request_id)
    return caught.value.status_code, caught.value.error_code, caught.value.error_msg


def test_a_security_group(served: Served) -> None:
    """It is made with four rules, listed without them, renamed, and deleted."""
    client = served.sdk()
    group = new_group(client, "网络_a-1.x", description="ü and spaces", tags=[ResourceTag("k", "v")])
    assert (group.name, group.description, group.project_id) == ("网络_a-1.x", "ü and spaces", "p1")
    assert [(tag.key, tag.value) for tag in group.tags] == [("k", "v")]
    rules = [
        (r.direction, r.ethertype, r.action, r.priority, r.remote_group_id, r.remote_ip_prefix, r.protocol, r.multiport)
        for r in group.security_group_rules
    ]
    assert rules == [
        ("ingress", "IPv4", "allow", 100, group.id, None, None, None),
        ("ingress", "IPv6", "allow", 100, group.id, None, None, None),
        ("egress", "IPv4", "allow", 100, None, "0.0.0.0/0", None, None),
        ("egress", "IPv6", "allow", 100, None, "::/0", None, None),
    ]
    answer = client.show_security_group(ShowSecurityGroupRequest(group.id))
    assert answer.status_code == 200
    raw = answer.to_json_object()["security_group"]
    assert TIME.fullmatch(raw["created_at"])
    assert TIME.fullmatch(raw["updated_at"])
    # Nulls are there, not left out.
    assert raw["security_group_rules"][0]["remote_ip_prefix"] is None

    listed = client.list_security_groups(ListSecurityGroupsRequest(name=["网络_a-1.x", "nothing"]))
    assert [found.id for found in listed.security_groups] == [group.id]
    assert "security_group_rules" not in listed.to_json_object()["security_groups"][0]

    option = UpdateSecurityGroupOption(name="other")
    request = UpdateSecurityGroupRequest(group.id, UpdateSecurityGroupRequestBody(security_group=option))
    updated = client.update_security_group(request).security_group
    assert (updated.name, updated.description, len(updated.security_group_rules)) == ("other", "ü and spaces", 4)
    assert client.delete_security_group(DeleteSecurityGroupRequest(group.id)).status_code == 204
    assert group.id not in served.firewall.policy.groups_by_id
    gone = refused(client.show_security_group, ShowSecurityGroupRequest(group.id))
    assert gone[:2] == (404, "VPC.9904")


def test_a_rule(served: Served) -> None:
    """It is read back in one form, is in force, and is found by its filters."""
    client = served.sdk()
    answer = new_rule(client, "sg", protocol="6", multiport="22,80-82", remote_ip_prefix="192.0.2.1", description="ssh")
    assert answer.status_code == 201
    rule = answer.security_group_rule
    assert (rule.protocol, rule.multiport, rule.remote_ip_prefix) == ("tcp", "22,80-82", "192.0.2.1/32")
    assert (rule.ethertype, rule.action, rule.priority, rule.enabled) == ("IPv4", "allow", 1, True)
    assert (rule.project_id, rule.security_group_id, rule.description) == ("p1", "sg", "ssh")
    in_force = served.firewall.policy.rule(rule.id)
    assert (in_force.protocol, in_force.multiport, in_force.remote_ip_prefix) == ("tcp", "22,80-82", "192.0.2.1/32")
    # GRE is a number in the API, and a name in the document.
    gre = new_rule(client, "sg", protocol="47", ethertype="ipv6", priority=7, action="deny").security_group_rule
    assert (gre.protocol, gre.ethertype, gre.priority, gre.action) == ("47", "IPv6", 7, "deny")
    assert served.firewall.policy.rule(gre.id).protocol == "gre"

    def found(**filters: Any) -> set[str]:
        listed = client.list_security_group_rules(ListSecurityGroupRulesRequest(**filters))
        return {found.id for found in listed.security_group_rules}

    everything = set(served.firewall.policy.rules_by_id)
    assert found() == everything
    assert found(protocol=["tcp"], remote_ip_prefix="192.0.2.1/32") == {rule.id}
    assert found(protocol=["6"], description=["ssh"]) == {rule.id}
    assert found(security_group_id=["sg"], direction="ingress") == {rule.id, gre.id, "web", "in6", "self"}
    assert found(remote_group_id=["sg"]) == {"self"}
    assert found(remote_address_group_id=["list"]) == {"listed"}
    assert found(ethertype=["IPv6"], action="deny") == {gre.id}
    # The SDK sorts and signs numbers as numbers: 7 before 100.
    assert found(priority=[100, 7]) == {gre.id}
    assert found(enabled=True) == everything
    assert found(enabled=False) == set()
    assert found(id=["web", "out", "nothing"]) == {"web", "out"}

    shown = client.show_security_group_rule(ShowSecurityGroupRuleRequest(rule.id)).security_group_rule
    assert shown == rule
    assert client.delete_security_group_rule(DeleteSecurityGroupRuleRequest(rule.id)).status_code == 204
    assert refused(client.delete_security_group_rule, DeleteSecurityGroupRuleRequest(rule.id))[:2] == (404, "VPC.9904")
    assert found() == everything - {rule.id}


def test_many_rules_at_once(served: Served) -> None:
    """All or none; what is there already is passed over where that is asked for."""
    client, before = served.sdk(), served.firewall.policy

    def create(*options: dict[str, Any], ignore: bool | None = None) -> Any:
        rules = [BatchCreateSecurityGroupRulesOption(**{"direction": "ingress", **option}) for option in options]
        body = BatchCreateSecurityGroupRulesRequestBody(security_group_rules=rules, ignore_duplicate=ignore)
        return client.batch_create_security_group_rules(BatchCreateSecurityGroupRulesRequest("sg", body))

    web = {"protocol": "tcp", "multiport": "80"}
    status, code, sentence = refused(create, {"protocol": "udp"}, web)
    assert (status, code) == (409, "VPC.9902")
    assert sentence == "Security group rule already exists. Rule id is web."
    assert refused(create, {"protocol": "udp"}, {"remote_ip_prefix": "10.0.0.1/8"})[:2] == (400, "VPC.9901")
    assert served.firewall.policy is before

    answer = create({"protocol": "udp"}, web, {"protocol": "udp"}, {"protocol": "icmp"}, ignore=True)
    assert answer.status_code == 201
    assert [rule.protocol for rule in answer.security_group_rules] == ["udp", "icmp"]
    new = set(served.firewall.policy.rules_by_id) - set(before.rules_by_id)
    assert new == {rule.id for rule in answer.security_group_rules}


def test_an_address_group(served: Served) -> None:
    """With remarks, a capacity, what depends on it; deleted alone, and with the rules that name it."""
    client = served.sdk()
    entries = ["192.0.2.0/24", "192.0.2.7-192.0.2.9", "198.51.100.1"]
    group = new_address_group(client, ip_set=entries, description="x")
    assert (group.ip_set, group.ip_version, group.max_capacity, group.status) == (entries, 4, 20, "NORMAL")
    assert group.tenant_id == "p1"
    assert new_rule(client, "sg", remote_address_group_id=group.id).status_code == 201

    extra = [IpExtraSetOption("192.0.2.0/25", "office"), IpExtraSetOption("198.51.100.2")]
    option = UpdateAddressGroupOption(name="offices", ip_extra_set=extra)
    request = UpdateAddressGroupRequest(group.id, UpdateAddressGroupRequestBody(address_group=option))
    updated = client.update_address_group(request).address_group
    assert [(entry.ip, entry.remarks) for entry in updated.ip_extra_set] == [
        ("192.0.2.0/25", "office"),
        ("198.51.100.2", ""),
    ]
    assert served.firewall.policy.address_group(group.id).ip_set == ("192.0.2.0/25", "198.51.100.2")
    assert client.show_address_group(ShowAddressGroupRequest(group.id)).address_group == updated
    listed = client.list_address_group(ListAddressGroupRequest(name=["offices"], ip_version=4)).address_groups
    assert [found.id for found in listed] == [group.id]
    (depending,) = client.list_address_groups_dependency(ListAddressGroupsDependencyRequest(group.id)).address_groups
    assert [(used.type, used.instance_id) for used in depending.dependency] == [("sg", "sg")]

    assert refused(client.delete_address_group, DeleteAddressGroupRequest(group.id))[:2] == (409, "VPC.9907")
    rules = len(served.firewall.policy.rules_by_id)
    assert client.delete_ip_address_group_force(DeleteIpAddressGroupForceRequest(group.id)).status_code == 204
    assert len(served.firewall.policy.rules_by_id) == rules - 1
    assert group.id not in served.firewall.policy.address_groups_by_id
    unused = new_address_group(client)
    assert unused.ip_set == []
    assert client.delete_address_group(DeleteAddressGroupRequest(unused.id)).status_code == 204


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ip_set": ["10.0.0.1", "10.0.0.1"]}, (400, "VPC.9901")),
        ({"ip_set": ["10.0.0.1", "10.0.0.1/32"]}, (400, "VPC.9901")),
        ({"ip_set": ["fd00::1"]}, (400, "VPC.9901")),
        ({"ip_set": ["10.0.0.256"]}, (400, "VPC.9901")),
        ({"ip_version": 5}, (400, "VPC.9901")),
        ({"ip_set": [f"10.0.0.{n}" for n in range(21)]}, (409, "VPC.9905")),
        ({"ip_set": ["10.0.0.1", "10.0.0.2"], "max_capacity": 1}, (409, "VPC.9905")),
        ({"name": "a b"}, (400, "VPC.9901")),
    ],
)
def test_an_address_group_that_is_not_valid(
    unchanged: Served, fields: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert refused(new_address_group, unchanged.sdk(), **fields)[:2] == expected


def test_the_security_groups_of_a_port(served: Served) -> None:
    """They are put in where the index says, and the last one stays."""
    client = served.sdk()
    first, second = new_group(client, "first").id, new_group(client, "second").id

    def insert(*groups: str, index: int | None = None) -> Any:
        body = AddSecurityGroupsRequestBody(InsertSecurityGroupOption(list(groups), index))
        return client.add_security_groups(AddSecurityGroupsRequest("a", body))

    def remove(*groups: str) -> Any:
        body = RemoveSecurityGroupsRequestBody(RemoveSecurityGroupOption(list(groups)))
        return client.remove_security_groups(RemoveSecurityGroupsRequest("a", body))

    assert insert(first, index=0).port.security_groups == [first, "sg"]
    assert insert("other", index=1).port.security_groups == [first, "other", "sg"]
    assert insert(second).port.security_groups == [first, "other", "sg", second]
    assert served.firewall.policy.instance("a").security_groups == (first, "other", "sg", second)
    assert refused(insert, "nothing")[:2] == (404, "VPC.9904")
    assert refused(insert, "sg")[:2] == (400, "VPC.9901")
    used = refused(client.delete_security_group, DeleteSecurityGroupRequest(first))
    assert used[:2] == (409, "VPC.9902")
    assert 'instance "a" is in it' in used[2]
    assert remove(first, "other", "sg").port.security_groups == [second]
    assert refused(remove, second)[:2] == (400, "VPC.0607")
    assert refused(remove, "sg")[:2] == (400, "VPC.9901")

    port = client.show_port(ShowPortRequest("a")).port
    assert [ip.ip_address for ip in port.private_ips] == ["10.0.0.1", "fd00::1"]
    assert (port.device_id, port.status, port.vpc_id, port.port_security_enabled) == ("a", "ACTIVE", "default", True)
    assert {found.id for found in client.list_ports(ListPortsRequest()).ports} == {"a", "b"}
    assert [found.id for found in client.list_ports(ListPortsRequest(security_groups=[second])).ports] == ["a"]
    by_address = client.list_ports(ListPortsRequest(private_ips=["10.0.0.2"])).ports
    assert [found.id for found in by_address] == ["b"]


def test_pages(served: Served) -> None:
    """With the last id as the marker until a page is empty, as the Terraform provider does; each item comes once."""
    client = served.sdk()
    for number in range(5):
        new_group(client, f"g{number}")
    found, pages, marker = [], [], None
    while True:
        page = client.list_security_groups(ListSecurityGroupsRequest(limit=3, marker=marker))
        pages.append(page.to_json_object()["page_info"])
        if not page.security_groups:
            break
        found += [group.id for group in page.security_groups]
        marker = found[-1]
    assert found == sorted(served.firewall.policy.groups_by_id)
    assert [page["current_count"] for page in pages] == [3, 3, 1, 0]
    assert [page.get("next_marker") for page in pages] == [found[2], found[5], None, None]
    assert "next_marker" not in pages[2]
    # What it stood for may be gone meanwhile.
    assert client.delete_security_group(DeleteSecurityGroupRequest(_deletable(served, found))).status_code == 204
    for limit in (-1, 2001):
        assert refused(client.list_security_groups, ListSecurityGroupsRequest(limit=limit))[:2] == (400, "VPC.9901")
    assert client.list_security_groups(ListSecurityGroupsRequest(limit=0)).security_groups == []


def _deletable(served: Served, groups: list[str]) -> str:
    return next(group for group in groups if not served.firewall.policy.members(group))


def test_words_that_mean_what_is_read_back(served: Served) -> None:
    """A port as a number, an address without its /32; no port has what the cloud's networks have."""
    client = served.sdk()
    made = new_rule(client, "sg", protocol="tcp", multiport=22, remote_ip_prefix="192.0.2.7").security_group_rule
    assert (made.multiport, made.remote_ip_prefix) == ("22", "192.0.2.7/32")
    for word, expected in (("192.0.2.7", [made.id]), ("192.0.2.7/32", [made.id]), ("192.0.2.8", []), ("x", [])):
        found = client.list_security_group_rules(ListSecurityGroupRulesRequest(remote_ip_prefix=word))
        assert [rule.id for rule in found.security_group_rules] == expected
    assert client.list_ports(ListPortsRequest(virsubnet_id=["x"])).ports == []


def test_a_dry_run(served: Served) -> None:
    """202, and nothing happens."""
    client, before = served.sdk(), served.firewall.policy
    answer = new_rule(client, "sg", dry_run=True, protocol="udp")
    told = answer.to_json_object()
    assert (answer.status_code, told["error_code"]) == (202, "SYS.0202")
    # An extension: the two inbound connections of the group's instance would be cut.
    assert told["disconnected"] == {"total": 2, "by_instance": {"a": 2}, "revoked": 0}
    assert refused(new_rule, client, "nothing", dry_run=True)[:2] == (404, "VPC.9904")
    assert served.firewall.policy is before


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ethertype": "IPv5"}, (400, "VPC.9902")),
        ({"direction": "inwards"}, (400, "VPC.9901")),
        ({"priority": 101}, (400, "VPC.9901")),
        ({"protocol": "tcp", "multiport": "0"}, (400, "VPC.9901")),
        ({"protocol": "gre2"}, (400, "VPC.9901")),
        ({"remote_ip_prefix": "10.0.0.0/8", "remote_group_id": "other"}, (400, "VPC.9901")),
        ({"remote_group_id": "nothing"}, (404, "VPC.9904")),
        ({"remote_address_group_id": "nothing"}, (404, "VPC.9904")),
        ({"description": "<b>"}, (400, "VPC.9901")),
        ({"description": "x" * 256}, (400, "VPC.9901")),
        ({"protocol": "tcp", "multiport": "80"}, (409, "VPC.9902")),
    ],
)
def test_a_rule_that_is_not_valid(unchanged: Served, fields: dict[str, Any], expected: tuple[int, str]) -> None:
    status, code, sentence = refused(new_rule, unchanged.sdk(), "sg", **fields)
    assert (status, code) == expected
    assert sentence
    assert "Value error" not in sentence  # the validator's own words


def test_the_same_ports_in_another_order_are_the_same_rule(served: Served) -> None:
    """docs/api.md: a rule that does what another rule of its group does is refused."""
    client = served.sdk()
    first = new_rule(client, "sg", protocol="tcp", multiport="25-27,22").security_group_rule
    status, code, sentence = refused(new_rule, client, "sg", protocol="tcp", multiport="22,25-27")
    assert (status, code) == (409, "VPC.9902")
    assert sentence == f"Security group rule already exists. Rule id is {first.id}."


def test_quotas(served: Served) -> None:
    """SPEC 6: 120 rules of a group, direction and ethertype with a remote group."""
    client = served.sdk()
    quota = client.show_quota(ShowQuotaRequest()).quota
    assert quota.security_group_contain_ingress_ipv4_composite_rules == 120
    assert quota.address_group_contain_ipset == 20
    rules = [
        BatchCreateSecurityGroupRulesOption(
            direction="ingress", protocol="tcp", multiport=str(n), remote_group_id="other"
        )
        for n in range(1, 120)
    ]
    body = BatchCreateSecurityGroupRulesRequestBody(security_group_rules=rules)
    answer = client.batch_create_security_group_rules(BatchCreateSecurityGroupRulesRequest("sg", body))
    assert len(answer.security_group_rules) == 119
    assert refused(new_rule, client, "sg", protocol="udp", remote_group_id="other")[:2] == (409, "VPC.9905")


def test_the_default_group_stays(served: Served) -> None:
    """It is neither deleted nor renamed, and no other gets its name."""
    answer = served.call("POST", "/dataplane/instances", {"instance": {"id": "c", "addresses": ["10.0.0.3"]}})
    assert answer.status == 201
    client = served.sdk()
    assert refused(client.delete_security_group, DeleteSecurityGroupRequest("default"))[:2] == (400, "VPC.9901")
    for group, name in (("default", "other"), ("sg", "default")):
        body = UpdateSecurityGroupRequestBody(security_group=UpdateSecurityGroupOption(name=name))
        told = refused(client.update_security_group, UpdateSecurityGroupRequest(group, body))
        assert told[:2] == (400, "VPC.9901")
    assert refused(new_group, client, "default")[:2] == (400, "VPC.9901")
    body = UpdateSecurityGroupRequestBody(security_group=UpdateSecurityGroupOption(name="default", description="d"))
    assert client.update_security_group(UpdateSecurityGroupRequest("default", body)).security_group.description == "d"


def test_projects_see_what_is_theirs(served: Served) -> None:
    """And what the policy gives no project. Nobody's rule names another project's group."""
    ours, theirs = served.sdk(), served.sdk("OTHER", "p2")
    group = new_group(ours)
    assert group.id not in {g.id for g in theirs.list_security_groups(ListSecurityGroupsRequest()).security_groups}
    assert {g.id for g in theirs.list_security_groups(ListSecurityGroupsRequest()).security_groups} == {"sg", "other"}
    assert refused(theirs.show_security_group, ShowSecurityGroupRequest(group.id))[:2] == (404, "VPC.9904")
    assert refused(theirs.delete_security_group, DeleteSecurityGroupRequest(group.id))[:2] == (404, "VPC.9904")
    assert refused(new_rule, theirs, group.id)[:2] == (404, "VPC.9904")
    assert refused(new_rule, theirs, new_group(theirs).id, remote_group_id=group.id)[:2] == (404, "VPC.9904")
    rule = group.security_group_rules[0].id
    assert refused(theirs.delete_security_group_rule, DeleteSecurityGroupRuleRequest(rule))[:2] == (404, "VPC.9904")
    every = served.sdk("ALL")
    assert every.show_security_group(ShowSecurityGroupRequest(group.id)).security_group.project_id == "p1"
    assert refused(served.sdk("OTHER", "p1").list_ports, ListPortsRequest())[:2] == (403, "SYS.0403")


def test_what_others_have_is_counted_and_not_named(served: Served) -> None:
    """Who else uses what belongs to every project, and whom a change of it would cut."""
    ours, theirs = served.sdk(), served.sdk("OTHER", "p2")
    group = new_group(theirs)
    rules = [new_rule(theirs, group.id, **{name: "list" if "address" in name else "other"}) for name in REMOTES]
    for delete in (
        lambda client: refused(client.delete_security_group, DeleteSecurityGroupRequest("other"))[2],
        lambda client: refused(client.delete_address_group, DeleteAddressGroupRequest("list"))[2],
    ):
        told = delete(ours)
        assert told.endswith(", and 1 rule of other projects.")
        assert not any(rule.security_group_rule.id in told for rule in rules)
        told = delete(served.sdk("ALL"))
        assert "other projects" not in told
        assert any(rule.security_group_rule.id in told for rule in rules)
    assert served.call("PUT", "/dataplane/instances/a", {"instance": {"project_id": "p2"}}).status == 200
    for client, by_instance in ((ours, {}), (theirs, {"a": 2}), (served.sdk("ALL"), {"a": 2})):
        told = new_rule(client, "sg", dry_run=True, protocol="udp").to_json_object()["disconnected"]
        assert told == {"total": 2, "by_instance": by_instance, "revoked": 0}


def test_a_key_that_only_reads(unchanged: Served) -> None:
    client = unchanged.sdk("READER")
    assert client.list_security_groups(ListSecurityGroupsRequest()).security_groups
    assert refused(new_rule, client, "sg")[:2] == (403, "SYS.0403")
    assert refused(client.delete_security_group_rule, DeleteSecurityGroupRuleRequest("web"))[:2] == (403, "SYS.0403")


@pytest.mark.parametrize(("access_key", "secret"), [("AK", "another secret"), ("NOBODY", "a secret of some length")])
def test_a_key_that_is_not_right(unchanged: Served, access_key: str, secret: str) -> None:
    client = unchanged.sdk(access_key, secret=secret)
    assert refused(client.list_ports, ListPortsRequest())[:2] == (401, "APIGW.0301")
