"""SPEC 2: what a valid document says, with every default written out."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from pydantic import ValidationError

from dataplane.policy import Policy
from dataplane.policy.addresses import VirtualAddress
from dataplane.policy.document import Conntrack, Tap, Timeouts
from dataplane.policy.rule import SecurityGroupRule
from dataplane.policy.write import as_yaml, document

ROOT = Path(__file__).parents[3]

#: The example of SPEC 2, with a second group for the remote and the last instances' list.
EXAMPLE = """
region: eu-1
security_groups:
  - id: sg-a
    name: Sg-A
    region: eu-1
    security_group_rules:
      - id: A01
        direction: ingress
        ethertype: IPv4
        protocol: tcp
        multiport: "22,25,27"
        remote_group_id: sg-b
        action: allow
        priority: 1
        enabled: true
  - id: sg-b
address_groups:
  - {id: ipGroup-A, ip_version: 4, ip_set: [192.168.10.0/24, 10.1.1.1, 10.0.0.1-10.0.0.9]}
instances:
  - id: ecs-a
    vpc: vpc-1
    addresses: [192.168.0.10, "2407:c080:802:469::10"]
    mac: fa:16:3e:00:00:01
    allowed_address_pairs: [192.168.0.21]
    security_groups: [sg-a, sg-b]
    interface: tap-a
load_balancers:
  - {id: elb-1, addresses: [192.168.0.100], mac: fa:16:3e:00:0e:01, backends: [ecs-a], transfer_client_ip: true}
conntrack:
  tcp_loose: false
  tcp_be_liberal: false
  max_entries: 1048576
  timeouts: {tcp_established: 600, tcp_fin_wait: 30, tcp_close_wait: 30, tcp_half_open: 30, tcp_close: 10,
             icmp: 30, other_bidirectional: 180, other_unidirectional: 30}
"""


def one_rule(text: str) -> SecurityGroupRule:
    """The rule of a document that has one, written as a flow mapping."""
    policy = Policy.parse(
        f"security_groups:\n  - id: sg-a\n    security_group_rules:\n      - {{direction: ingress, {text}}}\n"
    )
    return policy.security_groups[0].security_group_rules[0]


def test_the_example_of_spec_2() -> None:
    policy = Policy.parse(EXAMPLE)
    group_a, group_b = policy.security_groups
    assert (policy.region, group_a.id, group_a.name, group_a.region) == ("eu-1", "sg-a", "Sg-A", "eu-1")
    assert group_b.region is None
    (rule,) = group_a.security_group_rules
    assert rule.model_dump(exclude_none=True) == {
        "id": "A01",
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": "tcp",
        "multiport": "22,25,27",
        "remote_group_id": "sg-b",
        "action": "allow",
        "priority": 1,
        "enabled": True,
    }
    assert policy.address_groups[0].ip_set == ("192.168.10.0/24", "10.1.1.1", "10.0.0.1-10.0.0.9")
    (instance,) = policy.instances
    assert instance.model_dump(exclude_none=True) == {
        "id": "ecs-a",
        "vpc": "vpc-1",
        "addresses": ("192.168.0.10", "2407:c080:802:469::10"),
        "mac": "fa:16:3e:00:00:01",
        "allowed_address_pairs": ("192.168.0.21",),
        "security_groups": ("sg-a", "sg-b"),
        "interface": "tap-a",
        "port_security_enabled": True,
        "dhcp_server": False,
    }
    assert policy.load_balancers[0].model_dump(exclude_none=True) == {
        "id": "elb-1",
        "addresses": ("192.168.0.100",),
        "mac": "fa:16:3e:00:0e:01",
        "backends": ("ecs-a",),
        "transfer_client_ip": True,
    }
    assert policy.conntrack == Conntrack()


def test_defaults_of_a_rule() -> None:
    rule = one_rule("id: A01")
    assert rule.model_dump() == {
        "id": "A01",
        "name": None,
        "description": None,
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": None,
        "multiport": None,
        "icmp_type": None,
        "icmp_code": None,
        "remote_ip_prefix": None,
        "remote_group_id": None,
        "remote_address_group_id": None,
        "action": "allow",
        "priority": 1,
        "enabled": True,
        "expires_at": None,
    }


def test_defaults_of_the_rest() -> None:
    policy = Policy.parse("instances: [{id: a, addresses: [10.0.0.1]}]")
    assert policy.region == "default"
    assert policy.instances[0].vpc == "default"
    assert policy.instances[0].port_security_enabled
    assert (policy.instances[0].tap, policy.uplinks) == (None, ())
    assert Tap().model_dump() == {"persistent": False, "mtu": 1500, "namespace": None, "owner": None}
    assert policy.conntrack.model_dump() == {
        "tcp_loose": False,
        "tcp_be_liberal": False,
        "verify_checksums": None,
        "max_entries": 1048576,
        "on_change": "hold",
        "timeouts": {
            "tcp_established": 600,
            "tcp_fin_wait": 30,
            "tcp_close_wait": 30,
            "tcp_half_open": 30,
            "tcp_close": 10,
            "icmp": 30,
            "other_bidirectional": 180,
            "other_unidirectional": 30,
        },
    }


def test_conntrack_settings() -> None:
    text = "conntrack: {tcp_loose: true, on_change: reevaluate, max_entries: 7, timeouts: {icmp: 0.5, tcp_close: 3}}"
    conntrack = Policy.parse(text).conntrack
    assert (conntrack.tcp_loose, conntrack.on_change, conntrack.max_entries) == (True, "reevaluate", 7)
    assert conntrack.timeouts == Timeouts(icmp=0.5, tcp_close=3)


@pytest.mark.parametrize(
    ("written", "kept", "number"),
    [
        ("tcp", "tcp", 6),
        ("udp", "udp", 17),
        ("icmp", "icmp", 1),
        ("gre", "gre", 47),
        ("null", None, None),
        ("6", "tcp", 6),
        ('"17"', "udp", 17),
        ("1", "icmp", 1),
        ("47", "gre", 47),
        ("0", 0, 0),
        ('"132"', "sctp", 132),
        ("sctp", "sctp", 132),
        ("33", "dccp", 33),
        ("dccp", "dccp", 33),
        ("136", "udplite", 136),
        ("udplite", "udplite", 136),
        ("255", 255, 255),
    ],
)
def test_protocols(written: str, kept: str | int | None, number: int | None) -> None:
    """A number that has a name is that name, so that both compare equal."""
    rule = one_rule(f"protocol: {written}")
    assert (rule.protocol, rule.protocol_number) == (kept, number)


def test_protocol_icmpv6_by_name_and_number() -> None:
    for written in ("icmpv6", "58"):
        rule = one_rule(f"ethertype: IPv6, protocol: {written}")
        assert (rule.protocol, rule.protocol_number) == ("icmpv6", 58)


@pytest.mark.parametrize(("written", "kept"), [("IPv6", "IPv6"), ("ipv6", "IPv6"), ("IPV4", "IPv4")])
def test_ethertype_in_any_case(written: str, kept: str) -> None:
    assert one_rule(f"ethertype: {written}").ethertype == kept


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ('"22,25,27"', "22,25,27"),
        ("22", "22"),
        ('"80-82"', "80-82"),
        ('"22-24,25"', "22-24,25"),
        ('" 22 , 80 - 82 "', "22,80-82"),
        ('"1-65535"', "1-65535"),
        ('"65535"', "65535"),
        ("null", None),
        (f'"{",".join(str(port) for port in range(1, 21))}"', ",".join(str(port) for port in range(1, 21))),
    ],
)
def test_multiport(written: str, kept: str | None) -> None:
    assert one_rule(f"protocol: tcp, multiport: {written}").multiport == kept


@pytest.mark.parametrize("protocol", ["tcp", "udp", "6", "17", '"6"'])
def test_multiport_with_protocols_that_have_ports(protocol: str) -> None:
    assert one_rule(f"protocol: {protocol}, multiport: 22").multiport == "22"


@pytest.mark.parametrize(
    ("ethertype", "written", "kept", "packed"),
    [
        ("IPv4", "192.168.0.0/16", "192.168.0.0/16", (b"\xc0\xa8\0\0", 16)),
        ("IPv4", "192.168.10.10", "192.168.10.10/32", (b"\xc0\xa8\x0a\x0a", 32)),
        ("IPv4", "0.0.0.0/0", "0.0.0.0/0", (bytes(4), 0)),
        (
            "IPv6",
            "2407:C080:802:469::/64",
            "2407:c080:802:469::/64",
            (bytes.fromhex("2407c08008020469") + bytes(8), 64),
        ),
        ("IPv6", "::1", "::1/128", (bytes(15) + b"\1", 128)),
    ],
)
def test_remote_ip_prefix(ethertype: str, written: str, kept: str, packed: tuple[bytes, int]) -> None:
    rule = one_rule(f'ethertype: {ethertype}, remote_ip_prefix: "{written}"')
    assert (rule.remote_ip_prefix, rule.remote_prefix) == (kept, packed)


def test_no_remote_ip_prefix() -> None:
    assert one_rule("protocol: tcp").remote_prefix is None


@pytest.mark.parametrize(
    "written", ["FA:16:3E:00:0E:01", "fa-16-3e-00-0e-01", "fa16.3e00.0e01", "fa163e000e01", "fa:16:3e:00:0e:01"]
)
def test_mac_notations(written: str) -> None:
    policy = Policy.parse(f"instances: [{{id: a, addresses: [10.0.0.1], mac: {written}}}]")
    assert policy.instances[0].mac == "fa:16:3e:00:0e:01"


def test_addresses_have_one_form() -> None:
    policy = Policy.parse(
        """
        instances:
          - id: a
            addresses: ["2001:DB8:0::1", 10.0.0.1]
            allowed_address_pairs: [10.0.0.9/32, 10.0.1.0/24, "2001:DB8::/64"]
        """
    )
    (instance,) = policy.instances
    assert instance.addresses == ("2001:db8::1", "10.0.0.1")
    assert instance.packed_addresses == (bytes.fromhex("20010db8") + bytes(11) + b"\1", b"\x0a\0\0\1")
    assert instance.allowed_address_pairs == ("10.0.0.9", "10.0.1.0/24", "2001:db8::/64")
    assert instance.packed_address_pairs == (
        (b"\x0a\0\0\x09", 32),
        (b"\x0a\0\1\0", 24),
        (bytes.fromhex("20010db8") + bytes(12), 64),
    )


def test_a_virtual_address_with_its_mac() -> None:
    """SPEC 2: `{ip, mac}`; without a MAC it is the address alone, and what is written reads back the same."""
    text = "instances: [{id: a, addresses: [10.0.0.1], allowed_address_pairs: [%s]}]"
    policy = Policy.parse(text % "10.0.0.8, {ip: 10.0.0.9, mac: 00-00-5E-00-01-07}, {ip: 10.0.1.0/24}")
    pair = VirtualAddress("10.0.0.9", "00:00:5e:00:01:07")
    assert policy.instances[0].allowed_address_pairs == ("10.0.0.8", pair, "10.0.1.0/24")
    assert policy.instances[0].packed_address_pairs[1] == (b"\x0a\0\0\x09", 32)
    written = as_yaml(document(policy))
    assert "{ip: 10.0.0.9, mac: '00:00:5e:00:01:07'}" in written
    assert Policy.parse(written) == policy


def test_address_group_entries_as_prefixes() -> None:
    text = "address_groups: [{id: g, ip_version: 4, ip_set: [10.1.0.0/16, 10.1.1.1, 10.0.0.1 - 10.0.0.9]}]"
    group = Policy.parse(text).address_groups[0]
    assert group.ip_set == ("10.1.0.0/16", "10.1.1.1", "10.0.0.1-10.0.0.9")
    assert group.prefixes == (
        (b"\x0a\1\0\0", 16),
        (b"\x0a\1\1\1", 32),
        (b"\x0a\0\0\1", 32),
        (b"\x0a\0\0\2", 31),
        (b"\x0a\0\0\4", 30),
        (b"\x0a\0\0\x08", 31),
    )


def test_address_group_of_ipv6() -> None:
    text = 'address_groups: [{id: g, ip_version: 6, ip_set: ["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::1"]}]'
    group = Policy.parse(text).address_groups[0]
    assert group.prefixes == ((bytes(16), 0), (bytes(15) + b"\1", 128))


def test_an_empty_address_group_is_allowed() -> None:
    assert Policy.parse("address_groups: [{id: g, ip_version: 4, ip_set: []}]").address_groups[0].prefixes == ()


def test_rule_ids_are_generated_where_absent() -> None:
    """They are the group's id and the rule's place, except where such an id is taken, and the same each time."""
    text = """
        security_groups:
          - id: sg-a
            security_group_rules:
              - {direction: ingress}
              - {direction: egress, id: sg-b/1}
              - {direction: egress}
          - id: sg-b
            security_group_rules:
              - {direction: ingress}
              - {direction: egress, id: x}
        """
    ids = [rule.id for group in Policy.parse(text).security_groups for rule in group.security_group_rules]
    assert ids == ["sg-a/1", "sg-b/1", "sg-a/3", "sg-b/1-2", "x"]
    assert Policy.parse(text) == Policy.parse(text)


def test_virtual_ips_may_be_shared() -> None:
    policy = Policy.parse(
        """
        instances:
          - {id: a, addresses: [10.0.0.1], allowed_address_pairs: [10.0.0.100]}
          - {id: b, addresses: [10.0.0.2], allowed_address_pairs: [10.0.0.100, 10.0.0.0/24]}
        """
    )
    assert [len(instance.allowed_address_pairs) for instance in policy.instances] == [1, 2]


def test_one_address_in_two_vpcs() -> None:
    policy = Policy.parse(
        """
        instances:
          - {id: a, vpc: vpc-1, addresses: [10.0.0.1], mac: "fa:16:3e:00:00:01"}
          - {id: b, vpc: vpc-2, addresses: [10.0.0.1], mac: "fa:16:3e:00:00:01"}
        """
    )
    assert len(policy.instances) == 2


def test_sections_with_nothing_below_are_empty() -> None:
    text = "security_groups:\naddress_groups:\ninstances:\nload_balancers:\nconntrack:\n"
    assert Policy.parse(text) == Policy()


def test_json_is_the_same_document() -> None:
    """SPEC 2: YAML, or the same in JSON."""
    policy = Policy.parse(EXAMPLE)
    text = json.dumps(policy.model_dump(exclude_defaults=True), indent="\t")
    assert Policy.parse(text) == policy


def test_load_reads_files_and_standard_input(tmp_path: Path) -> None:
    for name in ("policy.yaml", "policy.yml", "no-ending"):
        (tmp_path / name).write_text(EXAMPLE)
        assert Policy.load(tmp_path / name) == Policy.parse(EXAMPLE)
    (tmp_path / "policy.json").write_text(Policy.parse(EXAMPLE).model_dump_json(exclude_defaults=True))
    assert Policy.load(str(tmp_path / "policy.json")) == Policy.parse(EXAMPLE)
    program = "from dataplane.policy import Policy; print(len(Policy.load('-').instances))"
    run = subprocess.run(
        [sys.executable, "-c", program], input=EXAMPLE, text=True, capture_output=True, check=True, cwd=ROOT
    )
    assert run.stdout == "1\n"


def test_lookups() -> None:
    policy = Policy.parse(EXAMPLE)
    group = policy.group("sg-a")
    assert group is policy.security_groups[0]
    assert policy.rules_by_id["A01"] == (group, group.security_group_rules[0])
    assert policy.rule("A01") is group.security_group_rules[0]
    assert policy.address_group("ipGroup-A") is policy.address_groups[0]
    assert policy.instance("ecs-a") is policy.instances[0]
    with pytest.raises(KeyError):
        policy.group("sg-x")


def test_members_in_document_order() -> None:
    policy = Policy.parse(
        """
        security_groups: [{id: g}, {id: h}, {id: unused}]
        instances:
          - {id: b, addresses: [10.0.0.2], security_groups: [g]}
          - {id: a, addresses: [10.0.0.1], security_groups: [h, g]}
        """
    )
    assert [instance.id for instance in policy.members("g")] == ["b", "a"]
    assert [instance.id for instance in policy.members("h")] == ["a"]
    assert policy.members("unused") == ()
    assert policy.members("g") is policy.members("g")


def test_what_groups_name_as_remotes() -> None:
    policy = Policy.parse(
        """
        security_groups:
          - id: g
            security_group_rules:
              - {direction: ingress, remote_group_id: h}
              - {direction: ingress, remote_group_id: g}
              - {direction: egress, remote_group_id: h}
              - {direction: egress, remote_address_group_id: s}
          - id: h
        address_groups: [{id: s, ip_version: 4, ip_set: []}]
        """
    )
    assert policy.group("g").remote_groups == ("h", "g")
    assert policy.group("g").remote_address_groups == ("s",)
    assert policy.group("h").remote_groups == ()


def test_a_policy_cannot_be_changed() -> None:
    policy = Policy.parse(EXAMPLE)
    with pytest.raises(ValidationError, match="frozen"):
        policy.security_groups[0].name = "other"
    with pytest.raises(FrozenInstanceError):
        policy.security_groups[0].security_group_rules[0].priority = 5  # type: ignore[misc]


def test_models_built_by_hand_are_checked_as_well() -> None:
    with pytest.raises(
        ValidationError, match="multiport is allowed with protocol tcp, udp, sctp, dccp or udplite only"
    ):
        SecurityGroupRule(direction="ingress", multiport="22")
    with pytest.raises(ValidationError, match="is no security group of this policy"):
        Policy.model_validate({"instances": [{"id": "a", "addresses": ["10.0.0.1"], "security_groups": ["g"]}]})


def test_a_copy_leaves_behind_what_was_worked_out() -> None:
    rule = SecurityGroupRule(direction="ingress", protocol="tcp", multiport="22")
    assert rule.selectors == ((6 << 16 | 22, 6 << 16 | 22),)
    copied = rule.model_copy(update={"multiport": "80"})
    assert copied.selectors == ((6 << 16 | 80, 6 << 16 | 80),)
    assert (rule.multiport, copied.priority) == ("22", rule.priority)


def test_names_and_descriptions() -> None:
    policy = Policy.parse(
        """
        security_groups:
          - {id: g, name: Web, description: "two\\nlines", security_group_rules: [
              {id: r, name: ssh, description: "", direction: ingress}]}
        address_groups: [{id: s, name: n, description: d, ip_version: 4, ip_set: []}]
        instances: [{id: i, name: n, description: d, addresses: [10.0.0.1], security_groups: [g]}]
        """
    )
    assert policy.group("g").description == "two\nlines"
    assert (policy.rule("r").name, policy.rule("r").description) == ("ssh", "")
    assert (policy.address_group("s").name, policy.instance("i").description) == ("n", "d")
