"""SPEC 8.8: documents of other systems as policies, and what cannot be expressed listed, never dropped in silence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dataplane.interchange import Format
from dataplane.interchange.draft import FormatError
from dataplane.interchange.reading import imported
from dataplane.policy import Policy

from .documents import AWS, HUAWEI, OPENSTACK, TERRAFORM

ROOT = Path(__file__).resolve().parents[3]


def read(of: str, value: object) -> tuple[Policy, list[str]]:
    text, left_out = imported(Format(of), json.dumps(value).encode())
    return Policy.parse(text), left_out


def rules(policy: Policy, group: str) -> list[dict[str, Any]]:
    """The rules of a group as they are written, without ids."""
    dumped = [r.model_dump(mode="json", exclude_defaults=True) for r in policy.group(group).security_group_rules]
    return [{key: value for key, value in rule.items() if key != "id"} for rule in dumped]


def test_aws() -> None:
    policy, left_out = read("aws", AWS)
    web = {"direction": "ingress", "protocol": "tcp", "multiport": "80-82"}
    assert rules(policy, "sg-0web") == [
        {**web, "remote_ip_prefix": "0.0.0.0/0", "description": "world"},
        {**web, "remote_ip_prefix": "10.0.0.0/8"},
        {**web, "ethertype": "IPv6", "remote_ip_prefix": "::/0"},
        {"direction": "ingress", "protocol": "icmp", "icmp_type": 3, "icmp_code": 4, "remote_ip_prefix": "10.0.0.0/8"},
        {"direction": "ingress", "ethertype": "IPv6", "protocol": "icmpv6", "remote_ip_prefix": "::/0"},
        {"direction": "ingress", "remote_group_id": "sg-0db"},
        {"direction": "ingress", "ethertype": "IPv6", "remote_group_id": "sg-0db"},
        {"direction": "egress", "remote_ip_prefix": "0.0.0.0/0"},
    ]
    assert rules(policy, "sg-0db") == [
        {"direction": "ingress", "protocol": "tcp", "remote_group_id": "sg-0web"},
        {"direction": "ingress", "ethertype": "IPv6", "protocol": "tcp", "remote_group_id": "sg-0web"},
    ]
    assert (policy.group("sg-0web").name, policy.group("sg-0web").description) == ("web", "web servers")
    assert len(left_out) == 3
    assert all("IpPermissions[" in sentence for sentence in left_out)
    assert sum("pl-63a5400a" in sentence for sentence in left_out) == 1
    assert sum('"sg-far", which is not in the document' in sentence for sentence in left_out) == 1
    assert sum("port 0" in sentence for sentence in left_out) == 1


def test_openstack() -> None:
    policy, left_out = read("openstack", OPENSTACK)
    assert rules(policy, "g1") == [
        {"direction": "ingress", "protocol": "tcp", "multiport": "22", "remote_ip_prefix": "10.0.0.0/8"},
        {"direction": "egress", "ethertype": "IPv6", "remote_group_id": "g1"},
        {
            "direction": "ingress",
            "ethertype": "IPv6",
            "protocol": "icmpv6",
            "icmp_type": 128,
            "remote_ip_prefix": "::/0",
        },
        {"direction": "ingress", "protocol": "icmp", "icmp_type": 3, "icmp_code": 4, "remote_ip_prefix": "0.0.0.0/0"},
    ]
    assert [rule.id for rule in policy.group("g1").security_group_rules] == ["r1", "r2", "r3", "r4"]
    assert len(left_out) == 2
    assert "rule r5" in left_out[0]
    assert "code 0" in left_out[0]
    assert "ag-gone" in left_out[1]


def test_rules_of_a_list_without_directions_are_not_guessed() -> None:
    short = [{key: value for key, value in row.items() if key != "Direction"} for row in OPENSTACK]
    policy, left_out = read("openstack", short)
    assert not policy.rules_by_id
    assert len(left_out) == len(short)
    assert "--long" in left_out[0]


def test_huawei() -> None:
    policy, left_out = read("huawei", HUAWEI)
    assert not left_out
    assert rules(policy, "g1") == [
        {
            "direction": "ingress",
            "protocol": "tcp",
            "multiport": "22,80-82",
            "remote_address_group_id": "ag",
            "action": "deny",
            "priority": 5,
            "enabled": False,
        },
        {"direction": "ingress", "protocol": "gre", "remote_ip_prefix": "192.168.1.0/24"},
    ]
    assert policy.address_group("ag").ip_set == ("10.0.0.1-10.0.0.9",)
    port = policy.instance("port-1")
    assert (port.addresses, port.mac, port.security_groups) == (("192.168.1.5",), "fa:16:3e:00:00:01", ("g1",))
    assert port.model_dump(mode="json")["allowed_address_pairs"] == [
        "192.168.1.9",
        {"ip": "192.168.1.10", "mac": "00:00:5e:00:01:07"},
    ]


def test_terraform() -> None:
    """A rule that stands in its group and as a resource of its own stands once; unknown filters are listed."""
    policy, left_out = read("terraform", TERRAFORM)
    https = {"direction": "ingress", "protocol": "tcp", "multiport": "443"}
    assert rules(policy, "sg-1") == [
        {**https, "remote_ip_prefix": "0.0.0.0/0"},
        {**https, "remote_group_id": "sg-1"},
        {**https, "ethertype": "IPv6", "remote_group_id": "sg-1"},
        {**https, "remote_address_group_id": "pl-1"},
    ]
    assert rules(policy, "hw-1") == [
        {
            "direction": "ingress",
            "protocol": "tcp",
            "multiport": "22,2222-2224",
            "remote_ip_prefix": "10.0.0.0/8",
            "priority": 3,
        },
        {"direction": "ingress", "protocol": "udp", "multiport": "53", "remote_ip_prefix": "0.0.0.0/0"},
    ]
    assert left_out == ["aws_network_acl.acl: resources of the type aws_network_acl cannot be expressed"]


def test_terraform_as_it_is_shown() -> None:
    """`terraform show -json` nests modules; the rules are the same."""
    resources = [
        {"mode": "managed", "type": r["type"], "address": f"{r['type']}.{r['name']}", "values": i["attributes"]}
        for r in TERRAFORM["resources"]
        for i in r["instances"]
    ]
    nested = {"values": {"root_module": {"resources": resources[:1], "child_modules": [{"resources": resources[1:]}]}}}
    assert read("terraform", nested)[0] == read("terraform", TERRAFORM)[0]


def test_what_a_policy_holds_goes_round() -> None:
    """Our own rules, as the VPC v3 API answers them, come back as they were."""
    rule = {"protocol": "tcp", "multiport": "22,80-82", "remote_group_id": "g", "priority": 7, "action": "deny"}
    written = {"id": "g", "security_group_rules": [{"id": "r", "direction": "ingress", "ethertype": "IPv4", **rule}]}
    policy, left_out = read("huawei", {"security_groups": [written]})
    assert not left_out
    assert policy == Policy.model_validate({"security_groups": [written]})


@pytest.mark.parametrize("of", list(Format))
@pytest.mark.parametrize("value", [{}, 1, None, "x", {"SecurityGroups": [{}]}, {"values": [{}]}, [1]])
def test_what_is_no_such_document_is_refused_in_one_sentence(of: Format, value: object) -> None:
    with pytest.raises(FormatError, match=r"\A[^\n]+\Z"):
        imported(of, json.dumps(value).encode())


@pytest.mark.parametrize(
    ("of", "text", "place"),
    [
        ("aws", '{"SecurityGroups": [{"GroupId": "g", "IpPermissions": "x"}]}', "g: IpPermissions"),
        ("aws", '{"SecurityGroups": [{"GroupId": "g", "IpPermissions": [{}, 7]}]}', "g: IpPermissions[1]"),
        ("openstack", '[["r1"]]', "security_group_rules[0]"),
        ("openstack", '{"security_groups": [{"id": "g", "rules": {"a": 1}}]}', "g: rules"),
        ("huawei", '{"security_groups": [], "security_group_rules": "x"}', "security_group_rules"),
        ("huawei", '{"security_groups": [], "port": 22}', "port"),
        ("terraform", '{"resources": [[]]}', "resources[0]"),
        ("terraform", '{"resources": {"a": 1}}', "resources"),
        ("terraform", '{"values": {"root_module": {"resources": [4]}}}', "root_module: resources[0]"),
    ],
)
def test_a_value_of_another_kind_is_told_with_its_place(of: str, text: str, place: str) -> None:
    """Without words of Python, and none of them is passed over."""
    with pytest.raises(FormatError) as refused:
        imported(Format(of), text.encode())
    assert str(refused.value) == f"it is no document of {of}: {place}: it is not of the kind that it should be"


@pytest.mark.parametrize(
    ("of", "text", "place"),
    [
        ("aws", '{"SecurityGroups": [{"GroupId": "g"}, {"GroupName": "h"}]}', "SecurityGroups[1]"),
        ("huawei", '{"security_groups": [{"name": "h"}]}', "security_groups[0]"),
    ],
)
def test_a_field_that_is_missing_is_told_with_its_place(of: str, text: str, place: str) -> None:
    with pytest.raises(FormatError, match=rf": {re.escape(place)}: the field '\w+' is missing\Z"):
        imported(Format(of), text.encode())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"SecurityGroups": [{"GroupId": "a", "GroupId": "b"}]}', 'the name "GroupId" stands twice in one object: '),
        ('{"SecurityGroups": [], "SecurityGroups": []}', 'the name "SecurityGroups" stands twice in one object: '),
        ('{"SecurityGroups": [{"GroupId": NaN}]}', r"it is no JSON \(NaN is no number of it\): "),
        ('{"SecurityGroups": [{"GroupId": -Infinity}]}', r"it is no JSON \(-Infinity is no number of it\): "),
    ],
)
def test_of_values_under_one_name_none_is_taken_in_silence(text: str, reason: str) -> None:
    """RFC 8259, 4 and 6: what a document means by them is not known."""
    with pytest.raises(FormatError, match=rf"\A{reason}"):
        imported(Format.aws, text.encode())


def test_a_permission_without_sources_is_listed() -> None:
    empty = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": []}
    policy, left_out = read("aws", {"SecurityGroups": [{"GroupId": "g", "IpPermissions": [empty]}]})
    assert not policy.rules_by_id
    (sentence,) = left_out
    assert sentence.startswith("g: IpPermissions[0]: it has none of IpRanges, ")


_HUAWEI_PAGE = {"security_groups": [{"id": "g"}], "page_info": {"next_marker": "g", "current_count": 1}}
_HUAWEI_END = {"security_groups": [{"id": "h"}], "page_info": {"previous_marker": "h", "current_count": 1}}
_NEXT, _PREVIOUS = ({"rel": rel, "href": "https://cloud.example/"} for rel in ("next", "previous"))


@pytest.mark.parametrize(
    ("of", "value", "place"),
    [
        ("aws", {"SecurityGroups": [{"GroupId": "g"}], "NextToken": "eyJ"}, "NextToken"),
        ("huawei", _HUAWEI_PAGE, "page_info"),
        ("huawei", [{"ports": [], "page_info": {}}, _HUAWEI_PAGE, {"address_groups": []}], "page_info"),
        (
            "openstack",
            {"security_groups": [{"id": "g", "rules": []}], "security_groups_links": [_PREVIOUS, _NEXT]},
            "security_groups_links",
        ),
        (
            "openstack",
            {"security_group_rules": [], "security_group_rules_links": [_NEXT]},
            "security_group_rules_links",
        ),
    ],
)
def test_a_page_of_several_is_listed(of: str, value: object, place: str) -> None:
    """SPEC 8.8: groups of later pages are not dropped in silence."""
    _, left_out = read(of, value)
    (sentence,) = left_out
    assert sentence.startswith(f"{place}: it is a page of several: the ")


@pytest.mark.parametrize(
    ("of", "value"),
    [
        ("aws", {"SecurityGroups": [{"GroupId": "g"}], "NextToken": None}),
        ("huawei", [_HUAWEI_PAGE, _HUAWEI_END]),
        ("openstack", {"security_groups": [{"id": "g", "rules": []}], "security_groups_links": [_PREVIOUS]}),
    ],
)
def test_the_last_page_ends_the_document(of: str, value: object) -> None:
    _, left_out = read(of, value)
    assert not left_out


@pytest.mark.parametrize("of", ["huawei", "openstack"])
def test_a_family_that_is_none_is_listed(of: str) -> None:
    """It was taken for IPv4."""
    rules = [{"id": f"r{n}", "direction": "ingress", "ethertype": e} for n, e in enumerate(("IPv5", "ipv6", None))]
    policy, left_out = read(of, {"security_groups": [{"id": "g", "security_group_rules": rules}]})
    assert [(rule.id, rule.ethertype) for rule in policy.group("g").security_group_rules] == [
        ("r1", "IPv6"),
        ("r2", "IPv4"),
    ]
    (sentence,) = left_out
    assert sentence.startswith('g: rule r0: ethertype "IPv5" ')


@pytest.mark.parametrize(("written", "said"), [("1e400", "Infinity"), ('"ssh"', '"ssh"'), ("[22]", "a list")])
def test_a_port_that_is_none_is_listed_with_its_place(written: str, said: str) -> None:
    """SPEC 8.8: what cannot be expressed is listed; the rest of the document is read."""
    any_source = '"IpRanges": [{"CidrIp": "10.0.0.0/8"}]'
    rules = f'{{"IpProtocol": "tcp", "FromPort": {written}, {any_source}}}, {{"IpProtocol": "-1", {any_source}}}'
    text = f'{{"SecurityGroups": [{{"GroupId": "g", "IpPermissions": [{rules}]}}]}}'
    policy, left_out = imported(Format.aws, text.encode())
    assert left_out == [f"g: IpPermissions[0]: {said} is no port, type or code"]
    assert len(Policy.parse(policy).rules_by_id) == 1


def test_a_document_without_groups_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text('{"SecurityGroups": []}')
    done = run("import", "aws", str(tmp_path / "empty.json"))
    assert (done.returncode, done.stderr) == (0, "no security group is in it: the policy is empty\n")


def test_what_is_exported_is_the_same_on_standard_output(tmp_path: Path) -> None:
    """Nothing in it is escaped on the way: nft reads it from a pipe."""
    policy = ROOT / "examples/table-1/policy.yaml"
    done = run("export", "nftables", str(policy))
    assert run("export", "nftables", str(policy), "-o", str(tmp_path / "rules.nft")).returncode == done.returncode
    assert done.stdout == (tmp_path / "rules.nft").read_text()
    assert "\\" not in done.stdout


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "dataplane", *words)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(
        FormatError, match=r"\Ait is no JSON \(line 1, column 1: expecting value\): give it the document"
    ):
        imported(Format.aws, b"SecurityGroups:")
    with pytest.raises(FormatError, match=r"\Ait is no JSON \(byte 2 is no UTF-8\): "):
        imported(Format.aws, b'{"\xff": 1}')


# ---- what would open more, or less, than its document ----

OLD_BOUNDS = [
    ({"protocol": "tcp", "port_range_min": 22, "port_range_max": 22}, {"multiport": "22"}),
    ({"protocol": "udp", "port_range_min": 5, "port_range_max": 9}, {"multiport": "5-9"}),
    ({"protocol": "icmp", "port_range_min": 8, "port_range_max": 0}, {"icmp_type": 8, "icmp_code": 0}),
    ({"protocol": "tcp", "port_range_min": None, "port_range_max": None}, {}),
]


@pytest.mark.parametrize(("written", "selected"), OLD_BOUNDS)
def test_bounds_of_older_apis_of_huawei_cloud_are_kept(written: dict[str, Any], selected: dict[str, Any]) -> None:
    """SPEC 8.8: answers of versions 1 and 2 have two numbers, without which a rule would open every port."""
    rule = {"id": "r", "security_group_id": "g", "direction": "ingress", "ethertype": "IPv4", **written}
    policy, left_out = read("huawei", {"security_groups": [{"id": "g"}], "security_group_rules": [rule]})
    assert rules(policy, "g") == [{"direction": "ingress", "protocol": written["protocol"], **selected}]
    assert left_out == []


def test_ports_of_older_apis_that_no_rule_can_name_are_listed() -> None:
    rule = {"id": "r", "security_group_id": "g", "direction": "ingress", "port_range_min": 1, "port_range_max": 9}
    policy, left_out = read("huawei", {"security_groups": [{"id": "g"}], "security_group_rules": [rule]})
    assert rules(policy, "g") == []
    assert left_out == ["g: rule r: ports 1-9 of all protocols"]


def test_a_terraform_rule_with_bounds_keeps_its_action_and_priority() -> None:
    """SPEC 8.8: a rule that denies is none that allows, whichever way the state has its ports."""
    group = {"id": "g", "name": "g", "rules": []}
    values = {"action": "deny", "priority": 5, "ports": "", "port_range_min": 22, "port_range_max": 23}
    rule = {"id": "r", "security_group_id": "g", "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp"}
    resources = [
        {"type": "huaweicloud_networking_secgroup", "name": "g", "instances": [{"attributes": group}]},
        {
            "type": "huaweicloud_networking_secgroup_rule",
            "name": "r",
            "instances": [{"attributes": {**rule, **values}}],
        },
    ]
    policy, left_out = read("terraform", {"version": 4, "resources": resources})
    denied = {"direction": "ingress", "protocol": "tcp", "multiport": "22-23", "action": "deny", "priority": 5}
    assert (rules(policy, "g"), left_out) == ([denied], [])


@pytest.mark.parametrize(
    "kind",
    [
        *("openstack_fw_rule_v2", "openstack_fw_policy_v1", "openstack_fw_group_v2", "openstack_compute_secgroup_v2"),
        *("huaweicloud_cfw_protection_rule", "huaweicloud_network_acl_rule", "oci_core_security_list"),
        *("google_compute_firewall", "kubernetes_network_policy", "nsxt_policy_security_policy"),
    ],
)
def test_other_filters_of_a_terraform_state_are_listed(kind: str) -> None:
    """SPEC 8.8."""
    resource = {"type": kind, "name": "x", "instances": [{"attributes": {"id": "1"}}]}
    _, left_out = read("terraform", {"version": 4, "resources": [resource]})
    assert left_out == [f"{kind}.x: resources of the type {kind} cannot be expressed"]


@pytest.mark.parametrize(("written", "meant"), [("132", "sctp"), ("50", 50), ("-1", None)])
def test_ports_count_in_aws_for_its_named_protocols_alone(written: str, meant: object) -> None:
    """The EC2 API: another protocol number, and -1, allow all ports, whatever range is given with them."""
    permission = {"IpProtocol": written, "FromPort": 80, "ToPort": 90, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    policy, left_out = read("aws", {"SecurityGroups": [{"GroupId": "sg-1", "IpPermissions": [permission]}]})
    named = {} if meant is None else {"protocol": meant}
    assert rules(policy, "sg-1") == [{"direction": "ingress", "remote_ip_prefix": "10.0.0.0/8", **named}]
    assert left_out == []


NEUTRON_RULE = {"id": "r", "security_group_id": "g", "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp"}


@pytest.mark.parametrize(
    "value",
    [
        {"security_groups": [{"id": "g", "name": "n"}], "security_group_rules": [NEUTRON_RULE]},
        {"security_group": {"id": "g", "name": "n", "security_group_rules": [NEUTRON_RULE]}},
        {"id": "g", "name": "n", "rules": [NEUTRON_RULE]},
    ],
)
def test_openstack_groups_and_rules_in_every_place(value: dict[str, Any]) -> None:
    """SPEC 8.8: rules beside a list of groups, and those of a group that the networking API shows."""
    policy, left_out = read("openstack", value)
    assert policy.group("g").name == "n"
    assert (rules(policy, "g"), left_out) == ([{"direction": "ingress", "protocol": "tcp"}], [])


def test_a_stateless_group_of_openstack_is_listed() -> None:
    """SPEC 8.8: answers to what it lets out need rules of their own there, which a policy cannot say."""
    _, left_out = read(
        "openstack", {"security_groups": [{"id": "g", "stateful": False}, {"id": "h", "stateful": True}]}
    )
    assert left_out == ["g: it is stateless, and security groups of a policy track connections"]
