"""Services by name, the change that opens several at once, and what a group of a preset begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dataplane.insight.exposure import PORTS
from dataplane.policy import ChangeError, Policy
from dataplane.policy.changes import apply, parse_change
from dataplane.policy.limits import QUOTA
from dataplane.policy.services import PRESETS, SERVICES, preset_rules, service

POLICY = """
security_groups:
  - {id: sg, security_group_rules: [{id: A01, direction: egress}]}
  - {id: other}
address_groups: [{id: six, ip_version: 6, ip_set: ["2001:db8::/64"]}]
instances: [{id: a, addresses: [10.0.0.1], security_groups: [sg]}]
"""
PAGE = (Path(__file__).parents[3] / "docs/presets.md").read_text()


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy.parse(POLICY)


def added(policy: Policy, *services: str, **more: Any) -> list[dict[str, Any]]:
    """The rules that one change adds, without ids."""
    change = {"fast_add_rules": {"security_group": "sg", "services": list(services), **more}}
    rules = apply(policy, parse_change(change)).group("sg").security_group_rules[1:]
    written = [rule.model_dump(exclude_defaults=True) for rule in rules]
    return [{name: value for name, value in rule.items() if name not in ("id", "direction")} for rule in written]


def refusal(policy: Policy, value: dict[str, Any]) -> str:
    with pytest.raises(ChangeError) as caught:
        apply(policy, parse_change({"fast_add_rules": {"security_group": "sg", **value}}, policy))
    return str(caught.value)


def test_several_services_are_one_change(policy: Policy) -> None:
    """The source: several protocols and ports at once, with one source, action and priority."""
    rules = added(policy, "ssh", "https", "ICMP", remote_ip_prefix="10.0.0.0/8", action="deny", priority=7)
    common = {"remote_ip_prefix": "10.0.0.0/8", "action": "deny", "priority": 7}
    assert rules == [
        {"description": "SSH", "protocol": "tcp", "multiport": "22", **common},
        {"description": "HTTPS", "protocol": "tcp", "multiport": "443", **common},
        {"description": "all of ICMP", "protocol": "icmp", **common},
    ]


@pytest.mark.parametrize(
    ("remote", "families"),
    [
        ({"remote_ip_prefix": "10.0.0.0/8"}, ["IPv4"]),
        ({"remote_ip_prefix": "2001:db8::/32"}, ["IPv6"]),
        ({"remote_address_group_id": "six"}, ["IPv6"]),
        ({"remote_group_id": "other"}, ["IPv4", "IPv6"]),
        ({"remote_group_id": "other", "ethertype": "IPv6"}, ["IPv6"]),
    ],
)
def test_rules_are_of_the_family_of_the_remote(policy: Policy, remote: dict[str, str], families: list[str]) -> None:
    rules = added(policy, "ping", **remote)
    assert [rule.get("ethertype", "IPv4") for rule in rules] == families
    assert [rule["protocol"] for rule in rules] == [{"IPv4": "icmp", "IPv6": "icmpv6"}[e] for e in families]
    assert {rule["icmp_type"] for rule in rules} == {"echo-request"}


def test_rules_get_ids_that_are_free(policy: Policy) -> None:
    change = {"security_group": "sg", "services": ["dns"], "remote_group_id": "other", "direction": "egress"}
    twice = apply(apply(policy, parse_change({"fast_add_rules": change})), parse_change({"fast_add_rules": change}))
    rules = twice.group("sg").security_group_rules
    assert [rule.id for rule in rules] == ["A01", *(f"sg/{n}" for n in range(2, 10))]
    assert {rule.direction for rule in rules} == {"egress"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (
            {"services": ["ssh"]},
            "no remote is given: write one of remote_ip_prefix, remote_group_id, remote_address_group_id; 0.0.0.0/0 is"
            " every IPv4 address",
        ),
        (
            {"services": ["ssh"], "remote_group_id": "other", "remote_ip_prefix": "::/0"},
            "remote_ip_prefix and remote_group_id are given together: one of them is needed",
        ),
        (
            {"services": ["ssh"], "ethertype": "IPv4", "remote_ip_prefix": "::/0"},
            'remote_ip_prefix "::/0" is IPv6 and the ethertype is IPv4',
        ),
        ({"services": [], "remote_group_id": "other"}, "services is empty: at least one entry is needed"),
        (
            {"services": ["ssh", "htps"], "remote_group_id": "other"},
            'services[1] "htps" is not known: did you mean https?',
        ),
        (
            {"services": ["tcp/70000"], "remote_group_id": "other"},
            'services[0] "tcp/70000" is not allowed: port 70000 is out of range: 1..65535',
        ),
        (
            {"services": ["gre/5"], "remote_group_id": "other"},
            'services[0] "gre/5" has ports, and gre has none: write gre alone',
        ),
        (
            {"services": ["web/5"], "remote_group_id": "other"},
            'services[0] "web/5" has no protocol before the slash: write one of tcp, udp, sctp, dccp, udplite',
        ),
        ({"services": [22], "remote_group_id": "other"}, "services[0] 22 is not text: write a service such as ssh, or"),
        ({"services": ["ssh"], "remote_group_id": "othr"}, '"othr" is no security group of this policy; did you mean'),
        ({"services": ["ssh"], "remote_address_group_id": "s"}, 'remote_address_group_id "s" is no address group'),
        (
            {"services": ["ssh"], "remote_address_group_id": "six", "ethertype": "IPv4"},
            'remote_address_group_id "six" has ip_version 6 and the ethertype of the rule is IPv4',
        ),
        (
            {"services": [f"tcp/{n}" for n in range(1, QUOTA + 2)], "remote_group_id": "other", "ethertype": "IPv4"},
            'security group "sg" has 121 ingress IPv4 rules with a remote group',
        ),
    ],
    ids=str,
)
def test_what_cannot_be_added_is_refused_whole(policy: Policy, value: dict[str, Any], reason: str) -> None:
    """SPEC 5.6, 6."""
    assert reason in refusal(policy, value)


def test_a_protocol_with_ports_is_a_service() -> None:
    assert service(" udp/500,4500 ").selections == ({"protocol": "udp", "multiport": "500,4500"},)
    assert service("gre").selections == ({"protocol": "gre"},)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_what_a_preset_opens_to_everybody_is_no_login_and_no_data_store(preset: Any) -> None:
    """The source's recommendations; the cloud's own two, which do, say so."""
    told = {"remote_ip_prefix": "10.0.0.0/8"} if preset.named else None
    rules = preset_rules(preset, "sg", told, narrow=False)
    open_ports = {
        (rule.get("protocol"), port)
        for rule in rules
        if rule["direction"] == "ingress" and not any(name.startswith("remote") for name in rule)
        for port in str(rule.get("multiport")).split(",")
    }
    exposed = {(protocol, str(port)) for protocol, port, _ in PORTS} & open_ports or (None, "None") in open_ports
    assert bool(exposed) == (preset.name in ("general-web", "all-open"))


def test_the_page_has_the_table_of_services_and_that_of_presets() -> None:
    """Made from the one table; what differs is printed as it should be."""
    services = "".join(f"| `{s.name}` | {s.title} | {s.ports} | {s.purpose} |\n" for s in SERVICES.values())
    presets = "".join(
        f"| `{p.name}` | {p.title} | {', '.join(p.everybody) or ('everything' if p.all_open else '')} |"
        f" {', '.join(p.named)} |\n"
        for p in PRESETS.values()
    )
    assert services in PAGE, services
    assert presets in PAGE, presets
