"""SPEC 8.5: each kind of finding, and what is none."""

from __future__ import annotations

import pytest

from dataplane import DataPlane
from dataplane.insight.lint import Finding, lint
from dataplane.insight.unjudged import never_judged
from dataplane.policy import Policy
from tests.property.frames import datagram, ethernet, icmp, packet, tcp

WEB = "instances: [{id: a, addresses: [192.168.0.10], security_groups: [g]}]"


def policy(rules: str, rest: str = WEB) -> Policy:
    """A policy whose group g has these rules, a line each."""
    lines = "".join(f"\n      - {{{line.strip()}}}" for line in rules.strip().splitlines())
    return Policy.parse(f"security_groups:\n  - id: g\n    security_group_rules:{lines or ' []'}\n{rest}\n")


def said(of: Policy) -> set[tuple[str, str | None, tuple[str, ...]]]:
    return {(finding.kind, finding.rule, finding.because) for finding in lint(of)}


def the_finding(of: Policy, kind: str) -> Finding:
    (found,) = [finding for finding in lint(of) if finding.kind == kind]
    return found


def test_a_rule_that_another_takes_everything_of_is_shadowed() -> None:
    """`because` is that rule, and the example is a packet that both match."""
    of = policy("""
        id: all, direction: ingress, protocol: tcp, multiport: "80-90"
        id: one, direction: ingress, protocol: tcp, multiport: "85", remote_ip_prefix: 10.0.0.0/8, priority: 2
    """)
    assert said(of) == {("shadowed", "one", ("all",))}
    example = the_finding(of, "shadowed").example
    assert example
    assert (example.packet, example.rule) == ("tcp 10.0.0.1:40000 > 192.168.0.10:85 S", "all")


def test_a_rule_that_several_take_everything_of_together_is_shadowed() -> None:
    """Halves of the addresses, and ports that follow each other; the action does not matter."""
    of = policy("""
        id: low, direction: ingress, protocol: tcp, multiport: "80,81", remote_ip_prefix: 10.0.0.0/9
        id: high, direction: ingress, protocol: tcp, multiport: "81", remote_ip_prefix: 10.128.0.0/9, action: deny
        id: rest, direction: ingress, protocol: tcp, multiport: "80", remote_ip_prefix: 10.128.0.0/10
        id: last, direction: ingress, protocol: tcp, multiport: "70-80", remote_ip_prefix: 10.192.0.0/10
        id: none, direction: ingress, protocol: tcp, multiport: "80-81", remote_ip_prefix: 10.0.0.0/8, priority: 9
    """)
    found = the_finding(of, "shadowed")
    assert found.rule == "none"
    assert sorted(found.because) == ["high", "last", "low", "rest"]


def test_deny_goes_before_allow_and_a_smaller_priority_before_both() -> None:
    """SPEC 3.1."""
    first = 'id: first, direction: ingress, protocol: tcp, multiport: "80", remote_ip_prefix: 10.0.0.0/8'
    second = 'id: second, direction: ingress, protocol: tcp, multiport: "80", remote_ip_prefix: 10.0.0.0/16'
    assert ("shadowed", "second", ("first",)) in said(policy(f"{first}, action: deny\n{second}"))
    assert ("shadowed", "second", ("first",)) not in said(policy(f"{first}\n{second}, action: deny"))
    assert ("shadowed", "second", ("first",)) not in said(policy(f"{first}, action: deny, priority: 2\n{second}"))


def test_a_rule_without_which_verdicts_are_the_same_is_redundant() -> None:
    of = policy("""
        id: narrow, direction: ingress, protocol: tcp, multiport: "80", remote_ip_prefix: 10.0.0.0/8
        id: wide, direction: ingress, protocol: tcp, multiport: "80-90", priority: 2
    """)
    assert said(of) == {("redundant", "narrow", ("wide",))}


def test_a_rule_is_not_redundant_where_another_would_get_its_packets_first() -> None:
    of = policy("""
        id: narrow, direction: ingress, protocol: tcp, multiport: "80", remote_ip_prefix: 10.0.0.0/8
        id: deny, direction: ingress, protocol: tcp, remote_ip_prefix: 10.1.2.3/32, action: deny, priority: 2
        id: wide, direction: ingress, protocol: tcp, multiport: "80-90", priority: 3
    """)
    assert said(of) == set()


def test_a_deny_rule_behind_which_nothing_allows_is_redundant() -> None:
    """What no rule matches is denied."""
    of = policy("""
        id: in, direction: ingress, protocol: tcp, multiport: "80"
        id: deny, direction: ingress, action: deny, priority: 100
    """)
    assert said(of) == {("redundant", "deny", ())}


GROUPS = """
  - id: h
    security_group_rules:
      - {id: wide, direction: ingress, protocol: tcp, multiport: "80-90"}
      - {id: out, direction: egress}
"""
NARROW = 'id: narrow, direction: ingress, protocol: tcp, multiport: "80", remote_ip_prefix: 10.0.0.0/8, action: deny'


@pytest.mark.parametrize(
    ("instances", "found"),
    [
        (["[h, g]"], {("shadowed", "narrow", ("wide",))}),
        (["[g, h]"], set()),
        (["[h, g]", "[g, h]"], set()),
        (["[h, g]", "[g]"], {("redundant", "narrow", ())}),
        (["[g]", "[h]"], {("redundant", "narrow", ())}),
    ],
)
def test_a_finding_holds_for_every_instance_that_has_the_group(
    instances: list[str], found: set[tuple[str, str, tuple[str, ...]]]
) -> None:
    """SPEC 3.1: the groups of each instance, in its order."""
    listed = "".join(
        f"\n  - {{id: i{n}, addresses: [192.168.0.{n}], security_groups: {groups}}}"
        for n, groups in enumerate(instances, 1)
    )
    of = policy(NARROW, f"{GROUPS.strip(chr(10))}\ninstances:{listed}")
    assert said(of) == found


def test_rules_that_are_not_enabled_are_left_out() -> None:
    of = policy("""
        id: off, direction: ingress, protocol: tcp, enabled: false
        id: on, direction: ingress, protocol: tcp, multiport: "80", priority: 2
    """)
    assert said(of) == set()


def test_another_family_and_another_direction_are_another_table() -> None:
    of = policy(
        """
        id: a, direction: ingress, protocol: tcp, multiport: "80"
        id: b, direction: ingress, ethertype: IPv6, protocol: tcp, multiport: "80", priority: 2
        id: c, direction: egress, protocol: tcp, multiport: "80", priority: 3
        """,
        'instances: [{id: a, addresses: [192.168.0.10, "2001:db8::a"], security_groups: [g]}]',
    )
    assert said(of) == set()


@pytest.mark.parametrize("protocol", ["udp", "sctp", "dccp", "udplite"])
def test_ports_are_those_of_their_protocol(protocol: str) -> None:
    """SPEC 4.7."""
    of = policy(f"""
        id: a, direction: ingress, protocol: tcp
        id: b, direction: ingress, protocol: {protocol}, multiport: "80-90"
        id: c, direction: ingress, protocol: {protocol}, multiport: "85", priority: 2
    """)
    assert {finding for finding in said(of) if finding[0] != "open-to-any"} == {("shadowed", "c", ("b",))}


def test_remotes_are_the_addresses_of_now() -> None:
    """SPEC 3.3: members' own addresses, and the entries of address groups; virtual IPs are none of them."""
    of = policy(
        """
        id: block, direction: ingress, protocol: tcp, remote_ip_prefix: 192.168.0.0/28
        id: members, direction: ingress, protocol: tcp, remote_group_id: g, priority: 2
        id: some, direction: ingress, protocol: tcp, remote_address_group_id: ag, priority: 3
        """,
        "instances:\n"
        "  - {id: a, addresses: [192.168.0.10], allowed_address_pairs: [10.0.0.9], security_groups: [g]}\n"
        "address_groups:\n"
        "  - {id: ag, ip_version: 4, ip_set: [192.168.0.2-192.168.0.5, 192.168.0.9]}",
    )
    assert said(of) == {("shadowed", "members", ("block",)), ("shadowed", "some", ("block",))}
    outside = policy(
        """
        id: block, direction: ingress, protocol: tcp, remote_ip_prefix: 192.168.0.0/28
        id: some, direction: ingress, protocol: tcp, remote_address_group_id: ag, priority: 3
        """,
        WEB + "\naddress_groups:\n  - {id: ag, ip_version: 4, ip_set: [192.168.0.2-192.168.0.5, 192.168.0.16]}",
    )
    assert said(outside) == set()


@pytest.mark.parametrize(
    ("rule", "ethertype"),
    [
        ("protocol: icmp, icmp_type: destination-unreachable", "IPv4"),
        ("protocol: icmp, icmp_type: echo-reply", "IPv4"),
        ("protocol: icmpv6, icmp_type: packet-too-big", "IPv6"),
        ("protocol: icmpv6, icmp_type: neighbor-solicitation", "IPv6"),
        ("protocol: 44", "IPv6"),
    ],
)
def test_a_rule_about_what_no_rule_decides_about_is_redundant(rule: str, ethertype: str) -> None:
    """SPEC 4.5, 4.7, 4.8: errors are related or invalid, neighbour discovery is control, headers are walked."""
    of = policy(
        f"id: r, direction: ingress, ethertype: {ethertype}, {rule}",
        'instances: [{id: a, addresses: [192.168.0.10, "2001:db8::a"], security_groups: [g]}]',
    )
    found = the_finding(of, "redundant")
    assert (found.rule, found.because, found.example) == ("r", (), None)


def _judged_by_rules(direction: str, ethertype: str, protocol: int, low: int, dhcp_server: bool) -> bool:
    """Whether the engine asks the rules about a first packet, to a port or of a type of ICMP."""
    here, there = ("192.168.0.10", "198.51.100.1") if ethertype == "IPv4" else ("2001:db8::a", "2001:db8::1")
    source, destination = (there, here) if direction == "ingress" else (here, there)
    if protocol == 6:
        body = tcp(source, destination, (40000, low), 2, 1, 0)
    elif protocol in (17, 33, 132, 136):
        body = datagram(source, destination, protocol, (40000, low))
    elif protocol == (1 if ethertype == "IPv4" else 58):
        body = icmp(source, destination, low >> 8, 0, bytes(4) + b"\0\1" * 20)
    else:
        body = bytes(40)
    frame = ethernet("02:00:00:00:00:09", "02:00:00:00:00:05", packet(source, destination, protocol, body))
    of = policy(
        f"id: a, direction: {direction}\n id: b, direction: {direction}, ethertype: IPv6",
        'instances: [{id: a, addresses: [192.168.0.10, "2001:db8::a"], security_groups: [g],'
        f" dhcp_server: {str(dhcp_server).lower()}}}]",
    )
    (check,) = DataPlane(of).process(frame, time=1.0).checks
    return check.reason == "rule"


@pytest.mark.parametrize("dhcp_server", [False, True])
@pytest.mark.parametrize("ethertype", ["IPv4", "IPv6"])
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_what_rules_never_decide_about_is_what_the_engine_never_asks_them(
    direction: str, ethertype: str, dhcp_server: bool
) -> None:
    """Every protocol, every type of the family's ICMP, and the ports of DHCP (SPEC 4.5, 4.7, 4.8)."""
    own = 1 if ethertype == "IPv4" else 58
    asked = {(protocol, 80) for protocol in range(256) if protocol != own}
    asked |= {(own, kind << 8) for kind in range(256)}
    asked |= {(17, port) for port in (67, 68, 545, 546, 547)}
    wrong = set()
    for protocol, low in asked:
        selector = protocol << 16 | low
        never = any(first <= selector <= last for first, last in never_judged(direction, ethertype, dhcp_server))
        if never == _judged_by_rules(direction, ethertype, protocol, low, dhcp_server):
            wrong.add((protocol, low))
    assert wrong == set()


def test_a_rule_about_answers_of_dhcpv6_decides_at_servers_only() -> None:
    """SPEC 4.8: what others send to a client's port is invalid, so that no rule decides about it."""
    rules = """
        id: client, direction: egress, ethertype: IPv6, protocol: udp, multiport: "546"
        id: no, direction: egress, ethertype: IPv6, protocol: udp, multiport: "546", action: deny, priority: 2
    """
    own = 'instances: [{id: a, addresses: ["2001:db8::a"], security_groups: [g]'
    assert said(policy(rules, f"{own}}}]")) == {("redundant", "client", ()), ("redundant", "no", ())}
    assert said(policy(rules, f"{own}, dhcp_server: true}}]")) == {("shadowed", "no", ("client",))}
    assert ("shadowed", "no", ("client",)) in said(policy(rules, "instances: []"))


def test_a_load_balancers_packets_pass_without_rules() -> None:
    """SPEC 3.5: no rule decides about them at its backends; at other instances rules do."""
    rules = "id: lb, direction: ingress, protocol: tcp, remote_ip_prefix: 192.168.0.100/32, action: deny\n"
    rules += 'id: web, direction: ingress, protocol: tcp, multiport: "80", priority: 2'
    balancer = "load_balancers:\n  - {id: elb, addresses: [192.168.0.100], backends: [a], transfer_client_ip: "
    found = the_finding(policy(rules, f"{WEB}\n{balancer}true}}"), "redundant")
    assert (found.rule, found.because, found.example) == ("lb", (), None)
    assert said(policy(rules, f"{WEB}\n{balancer}false}}")) == set()
    both = f"{WEB[:-1]}, {{id: b, addresses: [192.168.0.11], security_groups: [g]}}]"
    assert said(policy(rules, f"{both}\n{balancer}true}}")) == set()


UNREACHABLE = """
  - id: h
    security_group_rules:
      - {id: ssh, direction: ingress, protocol: tcp, multiport: "443"}
      - {id: out, direction: egress, protocol: tcp}
instances:
  - {id: a, addresses: [192.168.0.10], security_groups: [g, h]}
"""


@pytest.mark.parametrize(
    ("rules", "because"),
    [
        ("id: i, direction: ingress\n id: e, direction: egress, action: deny", ("i", "e")),
        (
            "id: i1, direction: ingress, remote_ip_prefix: 0.0.0.0/1, action: deny\n"
            "id: i2, direction: ingress, remote_ip_prefix: 128.0.0.0/1\n id: e, direction: egress",
            ("i1", "i2", "e"),
        ),
        ("id: i, direction: ingress", None),
        ("id: i, direction: ingress, protocol: tcp\n id: e, direction: egress, protocol: tcp", None),
    ],
)
def test_a_group_is_unreachable_where_those_before_it_take_every_packet(
    rules: str, because: tuple[str, ...] | None
) -> None:
    """Of the directions and families in which it has rules."""
    of = policy(rules, UNREACHABLE.strip("\n"))
    found = [(f.security_group, f.because) for f in lint(of) if f.kind == "unreachable-group"]
    assert found == ([("h", because)] if because else [])
    # Where an instance has it alone it is reached.
    alone = policy(rules, UNREACHABLE.strip("\n") + "\n  - {id: b, addresses: [192.168.0.11], security_groups: [h]}")
    assert [f for f in lint(alone) if f.kind == "unreachable-group"] == []


def test_a_group_that_nothing_uses() -> None:
    """No instance is in it, and no rule of another group names it."""
    of = policy(
        "id: r, direction: ingress, protocol: tcp, multiport: '80', remote_group_id: named",
        "  - id: lonely\n    security_group_rules: [{id: own, direction: egress, remote_group_id: lonely}]\n"
        "  - {id: named}\n" + WEB,
    )
    assert [f.security_group for f in lint(of) if f.kind == "unused-group"] == ["lonely"]
    assert {f.rule for f in lint(of) if f.kind == "empty-remote"} == {"r", "own"}


def test_an_empty_remote_is_of_the_rules_family() -> None:
    """SPEC 3.3; such a rule is neither shadowed nor redundant: it decides when an address comes."""
    of = policy("""
        id: four, direction: ingress, protocol: udp, remote_group_id: g
        id: six, direction: ingress, protocol: udp, ethertype: IPv6, remote_group_id: g
    """)
    assert said(of) == {("empty-remote", "six", ())}


@pytest.mark.parametrize(
    ("rules", "opened"),
    [
        ('id: r, direction: ingress, protocol: tcp, multiport: "22"', "tcp 22 (SSH)"),
        ('id: r, direction: ingress, protocol: tcp, multiport: "80,3306"', "tcp 3306 (MySQL)"),
        ('id: r, direction: ingress, protocol: tcp, multiport: "80,443"', None),
        ('id: r, direction: ingress, protocol: udp, multiport: "6379"', None),
        ('id: r, direction: egress, protocol: tcp, multiport: "22"', None),
        ('id: r, direction: ingress, protocol: tcp, multiport: "22", remote_ip_prefix: 0.0.0.0/1', None),
        ('id: r, direction: ingress, protocol: tcp, multiport: "22", remote_address_group_id: all', "tcp 22 (SSH)"),
        ('id: r, direction: ingress, protocol: tcp, multiport: "22", action: deny', None),
        (
            'id: r, direction: ingress, protocol: tcp, multiport: "22,23", priority: 3\n'
            'id: s, direction: ingress, protocol: tcp, multiport: "1-22", action: deny, priority: 2',
            "tcp 23 (Telnet)",
        ),
        (
            'id: r, direction: ingress, protocol: tcp, multiport: "22", priority: 3\n'
            "id: s, direction: ingress, remote_ip_prefix: 0.0.0.0/1, action: deny, priority: 2",
            "tcp 22 (SSH)",
        ),
        (
            'id: r, direction: ingress, protocol: tcp, multiport: "22", priority: 3\n'
            "id: s, direction: ingress, remote_ip_prefix: 0.0.0.0/1, action: deny, priority: 2\n"
            "id: t, direction: ingress, remote_ip_prefix: 128.0.0.0/1, action: deny, priority: 2",
            None,
        ),
    ],
)
def test_ports_of_logins_and_data_stores_that_are_open_to_every_address(rules: str, opened: str | None) -> None:
    """The source, Recommendations; a port that deny rules before it shut to all is not open."""
    of = policy(rules, WEB + "\naddress_groups: [{id: all, ip_version: 4, ip_set: [0.0.0.0/1, 128.0.0.0/1]}]")
    found = [finding for finding in lint(of) if finding.kind == "open-to-any"]
    assert [f"opens {opened} to every IPv4 address" in finding.message for finding in found] == [True] * bool(opened)


def test_a_port_is_open_where_one_of_the_instances_is_open() -> None:
    of = policy(
        'id: r, direction: ingress, protocol: tcp, multiport: "22"',
        "  - id: shut\n    security_group_rules: [{id: s, direction: ingress, action: deny}]\n"
        "instances:\n"
        "  - {id: a, addresses: [192.168.0.10], security_groups: [shut, g]}\n"
        "  - {id: b, addresses: [192.168.0.11], security_groups: [g]}",
    )
    found = the_finding(of, "open-to-any")
    assert found.example
    assert found.example.packet.endswith("> 192.168.0.11:22 S")


def test_the_example_of_an_open_port_is_taken_by_the_rule_that_it_names() -> None:
    """Also where rules before it match a few of the packets, or all."""
    narrow = 'id: narrow, direction: ingress, protocol: tcp, multiport: "22", remote_ip_prefix: 10.0.0.1/32'
    wide = 'id: wide, direction: ingress, protocol: tcp, multiport: "20-22", priority: 3'
    example = the_finding(policy(f"{narrow}\n{wide}"), "open-to-any").example
    assert example
    assert (example.packet, example.rule) == ("tcp 198.51.100.1:40000 > 192.168.0.10:22 S", "wide")
    allow = 'id: allow, direction: ingress, protocol: tcp, multiport: "22", priority: 2'
    examples = [f.example and f.example.rule for f in lint(policy(f"{allow}\n{wide}")) if f.kind == "open-to-any"]
    assert examples == ["allow", "allow"]


def test_an_address_whose_groups_have_no_rule_of_its_family() -> None:
    of = policy(
        'id: r, direction: ingress, protocol: tcp, multiport: "80"',
        'instances: [{id: a, addresses: [192.168.0.10, "2001:db8::a", "2001:db8::b"], security_groups: [g]}]',
    )
    found = [finding for finding in lint(of) if finding.kind == "no-rule-of-family"]
    assert [finding.location for finding in found] == [
        ("instances", 0, "addresses", 1),
        ("instances", 0, "addresses", 2),
    ]
    assert {finding.security_group for finding in found} == {"g"}
