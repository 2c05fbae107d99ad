"""Learned rules match what was needed and nothing else, each need by one rule, within the quota (SPEC 6, 8.7)."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane import Policy
from dataplane.insight import learned_rules as module
from dataplane.insight.learned_rules import Evidence, LearnedRules, Need, learned_rules
from dataplane.policy.limits import QUOTA, used_quota

REMOTES = [*(f"10.0.0.{n}" for n in range(4)), "192.0.2.1"]
PORTS: list[Any] = [1, 2, 4, 5, 65535]
QUERIES: list[Any] = [(8, 0), (13, 0), (3, 1)]


def learned(needs: dict[Need, Evidence]) -> LearnedRules:
    found = learned_rules(needs, ["a", "b"])
    Policy.model_validate(document(found))
    return found


def document(found: LearnedRules) -> dict[str, Any]:
    return {
        "security_groups": [{"id": name, "security_group_rules": rules} for name, rules in found.rules.items()],
        "address_groups": found.address_groups,
    }


def matches(rule: dict[str, Any], need: Need, groups: dict[str, list[str]]) -> bool:
    """Whether a rule matches the first packet of a need, by SPEC 2 and 3 written plainly."""
    if (rule["direction"], rule["ethertype"], rule["protocol"]) != (need.direction, need.ethertype, need.protocol):
        return False
    remotes = [rule["remote_ip_prefix"]] if "remote_ip_prefix" in rule else groups[rule["remote_address_group_id"]]
    if not any(ip_address(need.remote) in ip_network(remote) for remote in remotes):
        return False
    if "icmp_type" in rule:
        return (rule["icmp_type"], rule["icmp_code"]) == need.cell
    if "multiport" not in rule:
        return True
    ranges = [part.split("-") for part in rule["multiport"].split(",")]
    return any(int(ends[0]) <= int(need.cell or 0) <= int(ends[-1]) for ends in ranges)  # type: ignore[call-overload]


def needs_of(protocol: str, cells: list[Any]) -> st.SearchStrategy[Need]:
    return st.builds(
        Need,
        st.just("a"),
        st.sampled_from(["ingress", "egress"]),
        st.just("IPv4"),
        st.just(protocol),
        st.sampled_from(cells),
        st.sampled_from(REMOTES),
    )


NEEDS = st.one_of(needs_of("tcp", PORTS), needs_of("tcp", PORTS), needs_of("icmp", QUERIES), needs_of("gre", [None]))


@settings(deadline=None)
@given(st.sets(NEEDS, max_size=80), st.sampled_from([QUOTA, 1, 0]))
def test_rules_match_what_was_needed_and_nothing_else(wanted: set[Need], quota: int) -> None:
    """SPEC 8.7: the narrowest rules, none of them redundant; SPEC 6: what is beyond the quota is written out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "QUOTA", quota)
        found = learned({need: Evidence(1, n) for n, need in enumerate(sorted(wanted, key=repr), 1)})
    groups = {group["id"]: group["ip_set"] for group in found.address_groups}
    for instance, rules in found.rules.items():
        for protocol, cells in (("tcp", PORTS), ("icmp", QUERIES), ("gre", [None])):
            for direction in ("ingress", "egress"):
                for cell in [*cells, *([3, 6] if cells is PORTS else [])]:
                    for remote in [*REMOTES, "10.0.0.4", "192.0.2.0"]:
                        need = Need(instance, direction, "IPv4", protocol, cell, remote)
                        assert sum(matches(rule, need, groups) for rule in rules) == (need in wanted)
    policy = Policy.model_validate(document(found))
    assert all(used <= quota for group in policy.security_groups for used in used_quota(group).values())
    assert {rule["description"].split(",")[0] for rules in found.rules.values() for rule in rules} <= {
        "Learned from 1 connection",
        *(f"Learned from {n} connections" for n in range(2, len(wanted) + 1)),
    }


def test_the_description_says_what_it_was_learned_from() -> None:
    """SPEC 8.7: connections and the first packet, of all that a rule was made for."""
    found = learned(
        {
            Need("a", "ingress", "IPv4", "tcp", 80, "10.0.0.1"): Evidence(3, 17),
            Need("a", "ingress", "IPv4", "tcp", 443, "10.0.0.1"): Evidence(2, 5),
            Need("a", "ingress", "IPv6", "tcp", 80, "2001:db8::1"): Evidence(1, 30),
        }
    )
    described = [(rule["multiport"], rule["description"]) for rule in found.rules["a"]]
    assert described == [
        ("80,443", "Learned from 5 connections, first packet 5"),
        ("80", "Learned from 1 connection, first packet 30"),
    ]
    assert found.rules["b"] == []


def test_beyond_the_quota_rules_are_written_out_and_it_is_said() -> None:
    """SPEC 6, 8.7: 130 hosts with two inconsecutive ports each that are all different."""
    needs = {
        Need("a", "egress", "IPv4", "udp", port, f"10.0.{n}.1"): Evidence(1, n + 1)
        for n in range(130)
        for port in (1000 + 4 * n, 1002 + 4 * n)
    }
    found = learned(needs)
    (note,) = found.notes
    assert "10 rules with address groups or inconsecutive ports are written out" in note
    assert len(found.rules["a"]) == 120 + 2 * 10


def test_all_ports_of_a_host_are_one_rule() -> None:
    """No rule can name port 0: then the rule has all ports, and none besides is needed."""
    found = learned(
        {
            Need("a", "egress", "IPv4", "udp", None, "10.0.0.1"): Evidence(1, 9),
            Need("a", "egress", "IPv4", "udp", 53, "10.0.0.1"): Evidence(1, 3),
        }
    )
    (rule,) = found.rules["a"]
    assert "multiport" not in rule
    assert rule["description"] == "Learned from 2 connections, first packet 3"


def test_all_protocols_of_a_host_are_one_rule() -> None:
    """No rule can name ICMPv6 in IPv4: then the rule has all protocols, and none besides is needed."""
    found = learned(
        {
            Need("a", "egress", "IPv4", None, None, "10.0.0.1"): Evidence(1, 9),
            Need("a", "egress", "IPv4", "udp", 53, "10.0.0.1"): Evidence(1, 3),
            Need("a", "egress", "IPv4", "udp", None, "10.0.0.1"): Evidence(1, 4),
            Need("a", "egress", "IPv4", "udp", 53, "10.0.0.2"): Evidence(1, 5),
        }
    )
    every, other = found.rules["a"]
    assert {"protocol", "multiport"}.isdisjoint(every)
    assert every["description"] == "Learned from 3 connections, first packet 3"
    assert (other["multiport"], other["remote_ip_prefix"]) == ("53", "10.0.0.2/32")
