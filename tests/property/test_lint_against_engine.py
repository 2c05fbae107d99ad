"""SPEC 8.5: what lint says of random policies, held against the engine's own tables.

A packet is looked up for each part of the space in which all rules of the policy are alike: where one of their
addresses or selectors begins, and one behind where it ends. So what holds for these packets holds for all. Nothing here
is shared with lint but the policy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane._core import ffi, lib
from dataplane.compiler import DIRECTIONS, FAMILIES, KINDS, Compiler
from dataplane.insight import idle, packet_sets
from dataplane.insight.lint import Finding, lint
from dataplane.policy import Policy
from dataplane.policy.icmp import ICMP_TYPES, ICMPV6_TYPES
from dataplane.policy.rule import SecurityGroupRule
from dataplane.verdict import Names

from .policy_strategies import documents

#: An ordered list of groups, the balancers' addresses that pass without rules, and whether DHCP may be answered there.
Context = tuple[tuple[str, ...], frozenset[str], bool]
Table = tuple[str, str]
#: A remote, packed, and a selector.
Point = tuple[bytes, int]

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
PROFILES = {
    "quick": settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=QUIET),
    "long": settings(max_examples=300, deadline=None, print_blob=True, suppress_health_check=QUIET),
}
PROFILE = PROFILES[os.environ.get("DATAPLANE_PROPERTIES", "quick")]

TABLES = [(direction, ethertype) for direction, _ in DIRECTIONS for ethertype, _ in FAMILIES]
QUERIES = {"IPv4": {8, 13, 15, 17}, "IPv6": {128}}
EXTENSION_HEADERS = {0, 43, 44, 51, 60, 135}
#: UDP to the port of DHCPv6's clients.
DHCPV6 = 17 << 16 | 546


class Reference:
    """A policy by the engine's tables."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.names = Names()
        self.compiler = Compiler(self.names)
        self._handles: dict[tuple[str, ...], Any] = {}
        self._action = ffi.new("uint32_t *")

    def first(self, groups: tuple[str, ...], table: Table, point: Point) -> tuple[str, bool] | None:
        """The rule that decides, and whether it allows."""
        if groups not in self._handles:
            self._handles[groups] = self.compiler._tables_of(self.policy, groups)
        handle = self._handles[groups].handles[KINDS.index(table)]
        number = lib.dp_rule_table_lookup(handle, point[0], point[1], self._action)
        named = self.names.rules[number]
        return (named[0], self._action[0] == lib.DP_ALLOW) if named else None

    def allows(self, groups: tuple[str, ...], table: Table, point: Point) -> bool:
        found = self.first(groups, table, point)
        return found is not None and found[1]


def contexts(policy: Policy) -> set[Context]:
    found = set()
    for instance in policy.instances:
        passing = [
            address
            for balancer in policy.load_balancers
            if balancer.transfer_client_ip and not balancer.interface and instance.id in balancer.backends
            for address in balancer.addresses
        ]
        found.add((tuple(instance.security_groups), frozenset(passing), instance.dhcp_server))
    alone = {(group.id,) for group in policy.security_groups if not policy.members(group.id)}
    return found | {(groups, frozenset(), True) for groups in alone}


def points(policy: Policy, ethertype: str) -> list[Point]:
    """One packet of each part of the space in which no rule begins or ends."""
    size = 4 if ethertype == "IPv4" else 16
    addresses, selectors = {0}, {0}
    for rule in enabled(policy):
        if rule.ethertype == ethertype:
            for low, high in rule.selectors:
                selectors |= {low, high + 1}
    prefixes = [rule.remote_prefix for rule in enabled(policy) if rule.remote_prefix]
    prefixes += [prefix for group in policy.address_groups for prefix in group.prefixes]
    prefixes += [(a, 8 * len(a)) for instance in policy.instances for a in instance.packed_addresses]
    prefixes += [
        (ip_address(a).packed, 8 * size)
        for balancer in policy.load_balancers
        for a in balancer.addresses
        if len(ip_address(a).packed) == size
    ]
    for packed, bits in prefixes:
        if len(packed) == size:
            low = int.from_bytes(packed, "big")
            addresses |= {low, low + (1 << (8 * size - bits))}
    # Where packets begin and end about which no rule decides.
    protocol = 1 if size == 4 else 58
    for kind in QUERIES[ethertype]:
        selectors |= {protocol << 16 | kind << 8, protocol << 16 | (kind + 1) << 8}
    selectors |= {DHCPV6, DHCPV6 + 1}
    for number in EXTENSION_HEADERS | {protocol, protocol + 1}:
        selectors |= {number << 16, (number + 1) << 16}
    remotes = [a.to_bytes(size, "big") for a in sorted(addresses) if a < 1 << 8 * size]
    return [(remote, selector) for remote in remotes for selector in sorted(selectors) if selector < 1 << 24]


def judged(point: Point, table: Table, passing: frozenset[str], serves: bool) -> bool:
    """Whether rules decide about such a packet at all (SPEC 3.5, 4.5, 4.7, 4.8)."""
    protocol, kind = point[1] >> 16, point[1] >> 8 & 0xFF
    ethertype = "IPv4" if len(point[0]) == 4 else "IPv6"
    if str(ip_address(point[0])) in passing or (table == ("egress", "IPv6") and point[1] == DHCPV6 and not serves):
        return False
    if protocol == (1 if ethertype == "IPv4" else 58):
        return kind in QUERIES[ethertype]
    return ethertype == "IPv4" or protocol not in EXTENSION_HEADERS


def enabled(policy: Policy) -> Iterator[SecurityGroupRule]:
    return (rule for group in policy.security_groups for rule in group.security_group_rules if rule.enabled)


def with_rules(policy: Policy, kept: Iterable[str]) -> Policy:
    """The policy with these rules only."""
    ids = set(kept)
    groups = tuple(
        group.model_copy(update={"security_group_rules": tuple(r for r in group.security_group_rules if r.id in ids)})
        for group in policy.security_groups
    )
    return policy.model_copy(update={"security_groups": groups})


def places(policy: Policy, rule: str) -> list[tuple[tuple[str, ...], Table, list[Point]]]:
    """Where a rule is tried: the lists of groups, its table, and the packets that rules decide about there."""
    group, found = policy.rules_by_id[rule]
    table = found.direction, found.ethertype
    everywhere = points(policy, found.ethertype)
    return [
        (groups, table, [point for point in everywhere if judged(point, table, passing, serves)])
        for groups, passing, serves in contexts(policy)
        if group.id in groups
    ]


def expected(policy: Policy) -> dict[str, set[str]]:
    """The rules of which each kind should be said."""
    found: dict[str, set[str]] = {"shadowed": set(), "redundant": set(), "empty-remote": set()}
    whole = Reference(policy)
    ids = [rule.id for rule in enabled(policy)]
    for rule in enabled(policy):
        alone, without = Reference(with_rules(policy, [rule.id])), Reference(with_rules(policy, set(ids) - {rule.id}))
        group = policy.rules_by_id[rule.id][0].id
        table = rule.direction, rule.ethertype
        if not any(alone.first((group,), table, point) for point in points(policy, rule.ethertype)):
            found["empty-remote"].add(rule.id)
            continue
        decides = matters = taken = False
        for groups, table, here in places(policy, rule.id):
            for point in here:
                first = whole.first(groups, table, point)
                if first and first[0] == rule.id:
                    decides = True
                    matters |= first[1] != without.allows(groups, table, point)
                elif first and alone.first((group,), table, point):
                    taken = True
        if not decides and taken:
            found["shadowed"].add(rule.id)
        elif not matters:
            found["redundant"].add(rule.id)
    return found


def unreachable(policy: Policy) -> set[str]:
    """Groups that no packet comes to, in any table in which they have rules that match something."""
    whole = Reference(policy)
    found = set()
    for group in policy.security_groups:
        open_to = closed = 0
        for groups, passing, serves in contexts(policy):
            for table in TABLES if group.id in groups else ():
                here = points(policy, table[1])
                if not any(whole.first((group.id,), table, point) for point in here):
                    continue
                before = groups[: groups.index(group.id)]
                taken = bool(before) and all(
                    whole.first(before, table, point) for point in here if judged(point, table, passing, serves)
                )
                closed, open_to = closed + taken, open_to + (not taken)
        if closed and not open_to:
            found.add(group.id)
    return found


def read(packet: str, direction: str) -> Point:
    """The remote and the selector of a packet in the notation of SPEC 8."""
    protocols = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "gre": 47, "sctp": 132, "dccp": 33, "udplite": 136}
    protocols |= {"igmp": 2, "esp": 50, "ah": 51}
    protocol, source, arrow, destination, *rest = packet.split()
    assert arrow == ">"
    number = protocols[protocol] if protocol in protocols else int(protocol)
    remote = source if direction == "ingress" else destination
    selector = number << 16
    if number in (6, 17, 33, 132, 136):
        selector |= int(destination.rpartition(":")[2])
        remote = remote.rpartition(":")[0].strip("[]")
    elif number in (1, 58):
        kind, _, code = rest[0].partition("/")
        names = ICMP_TYPES if number == 1 else ICMPV6_TYPES
        selector |= (names[kind] if kind in names else int(kind)) << 8 | int(code or 0)
    return ip_address(remote).packed, selector


def check_reasons(policy: Policy, finding: Finding) -> None:
    """`because` is enough by itself, and the example shows what is said."""
    assert finding.rule is not None
    group, rule = policy.rules_by_id[finding.rule]
    if finding.kind == "redundant":
        assert {policy.rule(other).action for other in finding.because} <= {rule.action}
    if finding.example is None:
        assert finding.kind == "redundant"
        assert not finding.because
        return
    point = read(finding.example.packet, rule.direction)
    table = rule.direction, rule.ethertype
    assert Reference(with_rules(policy, [rule.id])).first((group.id,), table, point)
    lists = [groups for groups, _, _ in places(policy, rule.id)]
    shown = policy
    if finding.kind == "redundant":
        shown = with_rules(policy, {r.id for r in enabled(policy)} - {rule.id})
    taken = [Reference(shown).first(groups, table, point) for groups in lists]
    assert finding.example.rule in [first and first[0] for first in taken]
    if finding.kind == "shadowed":
        assert finding.example.rule in finding.because
        enough = Reference(with_rules(policy, {rule.id, *finding.because}))
        for groups, table, here in places(policy, rule.id):
            assert all((enough.first(groups, table, p) or ("",))[0] != rule.id for p in here)


@given(documents(), st.sampled_from([0, 3, 64]))
@PROFILE
def test_what_is_said_of_rules_is_what_the_tables_do(document: dict[str, Any], few: int) -> None:
    """SPEC 8.5: `shadowed`, `redundant`, `empty-remote` and `unreachable-group` of exactly those of which it is true.

    Also with thresholds so low that small policies are gone about as large ones are.
    """
    policy = Policy.parse(json.dumps(document), "policy.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packet_sets, "_FEW", few)
        patch.setattr(packet_sets, "_SAMPLE", few + 1)
        patch.setattr(idle, "_FEW", few)
        findings = lint(policy)
    said = {
        kind: {finding.rule for finding in findings if finding.kind == kind}
        for kind in ("shadowed", "redundant", "empty-remote")
    }
    assert said == expected(policy)
    assert {f.security_group for f in findings if f.kind == "unreachable-group"} == unreachable(policy)
    for finding in findings:
        if finding.kind in ("shadowed", "redundant"):
            check_reasons(policy, finding)
