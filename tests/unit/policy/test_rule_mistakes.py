"""SPEC 2: every mistake in a rule, by itself, with the place where it must be reported (§) and the words."""

from __future__ import annotations

import pytest

from dataplane.policy import Policy

from .conftest import Finds

RULE = """
    security_groups:
      - id: g
        security_group_rules:
          - {{direction: ingress, {}}}
    address_groups:
      - {{id: six, ip_version: 6, ip_set: ["::1"]}}
    """

PROTOCOLS = "tcp, udp, icmp, icmpv6, gre, sctp, dccp, udplite or a number 0..255"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        # Keys and types.
        ("§priorty: 1", 'key "priorty" is not known: did you mean priority?'),
        ("§<<: {a: 1}", 'key "<<" is not known: YAML 1.2 has no merge keys'),
        ("priority: §0", "priority 0 is out of range: 1..100"),
        ("priority: §101", "priority 101 is out of range: 1..100"),
        ("priority: §-1", "priority -1 is out of range: 1..100"),
        ('priority: §"5"', 'priority "5" is not allowed: write a whole number 1..100 without quotes'),
        ("priority: §true", "priority true is not allowed: write a whole number 1..100"),
        ("priority: §1.5", "priority 1.5 is not allowed: write a whole number 1..100"),
        ("priority: §1.0", "priority 1.0 is not allowed: write a whole number 1..100"),
        ("priority: §", "priority is empty: write a whole number 1..100, or leave the key out"),
        ("priority: §[1]", "priority is a list: write a whole number 1..100"),
        ("enabled: §yes", 'enabled "yes" is not allowed: write true or false'),
        ("enabled: §on", 'enabled "on" is not allowed: write true or false'),
        ("enabled: §1", "enabled 1 is not allowed: write true or false"),
        ('enabled: §"true"', 'enabled "true" is not allowed: write true or false without quotes'),
        ("action: §Allow", 'action "Allow" is not allowed: write allow or deny'),
        ("action: §null", "action is empty: write allow or deny, or leave the key out"),
        ("ethertype: §IPv5", 'ethertype "IPv5" is not allowed: write IPv4 or IPv6'),
        ("ethertype: §4", "ethertype 4 is not allowed: write IPv4 or IPv6"),
        ("id: §5", 'id 5 is not allowed: write text in quotes: "5"'),
        ('id: §""', "id is empty: at least one character is needed, or leave the key out"),
        ('id: §"a "', 'id "a " has a space at its end or a character that does not print'),
        ('id: §"a\\nb"', 'id "a\\nb" has a space at its end or a character that does not print'),
        ("name: §true", 'name true is not allowed: write text in quotes: "true"'),
        # Protocols and ports.
        ("protocol: §TCP", f'protocol "TCP" is not allowed: {PROTOCOLS}; did you mean tcp?'),
        ("protocol: §256", "protocol 256 is out of range: 0..255"),
        ('protocol: §"256"', 'protocol "256" is out of range: 0..255'),
        ("protocol: §-1", "protocol -1 is out of range: 0..255"),
        ("protocol: §6.0", f"protocol 6.0 is not allowed: {PROTOCOLS}; leave the key out for all protocols"),
        ("protocol: §false", f"protocol false is not allowed: {PROTOCOLS}; leave the key out for all protocols"),
        ("protocol: §udp-lite", 'protocol "udp-lite" is not allowed: write udplite'),
        ("protocol: §all", 'protocol "all" is not allowed: leave the key out for all protocols'),
        ("ethertype: IPv6, protocol: §icmp", "protocol icmp belongs to IPv4: write icmpv6 in an IPv6 rule"),
        ("ethertype: IPv6, protocol: §1", "protocol icmp belongs to IPv4: write icmpv6 in an IPv6 rule"),
        ("protocol: §icmpv6", 'protocol icmpv6 belongs to IPv6: write icmp, or "ethertype: IPv6"'),
        ("protocol: §58", 'protocol icmpv6 belongs to IPv6: write icmp, or "ethertype: IPv6"'),
        (
            "protocol: tcp, multiport: §0",
            "multiport 0 is not allowed: port 0 is out of range: 1..65535",
        ),
        (
            "protocol: tcp, multiport: §70000",
            "multiport 70000 is not allowed: port 70000 is out of range: 1..65535",
        ),
        (
            'protocol: tcp, multiport: §"22,65536"',
            'multiport "22,65536" is not allowed: port 65536 is out of range: 1..65535',
        ),
        (
            'protocol: tcp, multiport: §"82-80,0,x,,1-2-3"',
            'multiport "82-80,0,x,,1-2-3" is not allowed: range 82-80 runs backwards: write 80-82; port 0 is out of'
            ' range: 1..65535; "x" is no port or range low-high; an entry between commas is empty;'
            ' "1-2-3" is no port or range low-high',
        ),
        ("protocol: tcp, multiport: §-22", 'multiport -22 is not allowed: "-22" is no port or range low-high'),
        ('protocol: tcp, multiport: §""', "multiport is empty: leave the key out for all ports"),
        ("protocol: tcp, multiport: §[22]", 'multiport a list is not text: write ports and ranges as "22,80-82"'),
        ("protocol: tcp, multiport: §22.5", 'multiport 22.5 is not text: write ports and ranges as "22,80-82"'),
        (
            f'protocol: tcp, multiport: §"{",".join("1" * 21)}"',
            f'multiport "{",".join("1" * 21)}" has 21 ports and ranges: up to 20 are allowed',
        ),
        (
            "§multiport: 22",
            "multiport is allowed with protocol tcp, udp, sctp, dccp or udplite only: the rule has none",
        ),
        (
            "protocol: gre, §multiport: 22",
            "multiport is allowed with protocol tcp, udp, sctp, dccp or udplite only: the rule has protocol gre",
        ),
        (
            "protocol: 50, §multiport: 22",
            "multiport is allowed with protocol tcp, udp, sctp, dccp or udplite only: the rule has protocol 50",
        ),
        # ICMP types and codes.
        (
            "protocol: icmp, icmp_type: §256",
            "icmp_type 256 is out of range: 0..255",
        ),
        (
            "protocol: icmp, icmp_type: §echo-requets",
            'icmp_type "echo-requets" is not allowed: a number 0..255 or a name such as echo-request;'
            " did you mean echo-request?",
        ),
        (
            "protocol: icmp, icmp_type: 3, icmp_code: §-1",
            "icmp_code -1 is out of range: 0..255",
        ),
        ("protocol: icmp, §icmp_code: 3", "icmp_code is allowed with an icmp_type only"),
        (
            "protocol: tcp, §icmp_type: 8",
            "icmp_type is allowed with protocol icmp or icmpv6 only: the rule has protocol tcp",
        ),
        ("§icmp_type: 8", "icmp_type is allowed with protocol icmp or icmpv6 only: the rule has none"),
        (
            "protocol: icmp, icmp_type: §packet-too-big",
            'icmp_type "packet-too-big" is no type of icmp: echo-reply, destination-unreachable, source-quench,'
            " redirect, echo-request, router-advertisement, router-solicitation, time-exceeded, parameter-problem,"
            " timestamp-request, timestamp-reply, info-request, info-reply, address-mask-request or address-mask-reply,"
            " or a number",
        ),
        (
            "protocol: icmp, icmp_type: time-exceeded, icmp_code: §port-unreachable",
            'icmp_code "port-unreachable" is no code of icmp type 11 by name: ttl-exceeded, ttl-zero-during-transit,'
            " ttl-zero-during-reassembly or a number",
        ),
        (
            "protocol: icmp, icmp_type: 8, icmp_code: §port-unreachable",
            'icmp_code "port-unreachable" is no code of icmp type 8 by name: write its number',
        ),
        # Remotes.
        (
            "remote_ip_prefix: §10.0.0.0/33",
            'remote_ip_prefix "10.0.0.0/33" has a bad prefix length: a number 0..32 is allowed after the slash',
        ),
        (
            "remote_ip_prefix: §10.0.0.0/",
            'remote_ip_prefix "10.0.0.0/" has a bad prefix length: a number 0..32 is allowed after the slash',
        ),
        (
            "remote_ip_prefix: §10.0.0.0/255.0.0.0",
            'remote_ip_prefix "10.0.0.0/255.0.0.0" has a bad prefix length: a number 0..32 is allowed after the slash',
        ),
        (
            "remote_ip_prefix: §10.0.0/8",
            'remote_ip_prefix "10.0.0/8" is no IPv4 or IPv6 address or CIDR block',
        ),
        (
            "remote_ip_prefix: §010.0.0.0/8",
            'remote_ip_prefix "010.0.0.0/8" is no IPv4 or IPv6 address or CIDR block',
        ),
        ("remote_ip_prefix: §10.1", 'remote_ip_prefix 10.1 is not text: write it in quotes, as "192.168.0.0/24"'),
        (
            "remote_ip_prefix: §192.168.10.10/24",
            'remote_ip_prefix "192.168.10.10/24" has host bits set: write "192.168.10.0/24"',
        ),
        (
            'ethertype: IPv6, remote_ip_prefix: §"2001:db8::1/64"',
            'remote_ip_prefix "2001:db8::1/64" has host bits set: write "2001:db8::/64"',
        ),
        (
            'remote_ip_prefix: §"2001:db8::/64"',
            'remote_ip_prefix "2001:db8::/64" is IPv6 and the ethertype of the rule is IPv4',
        ),
        (
            "ethertype: IPv6, remote_ip_prefix: §10.0.0.0/8",
            'remote_ip_prefix "10.0.0.0/8" is IPv4 and the ethertype of the rule is IPv6',
        ),
        (
            "remote_ip_prefix: 10.0.0.0/8, §remote_group_id: g",
            "remote_ip_prefix and remote_group_id are given together: at most one of them is allowed",
        ),
        (
            "ethertype: IPv6, remote_group_id: g, §remote_address_group_id: six",
            "remote_group_id and remote_address_group_id are given together: at most one of them is allowed",
        ),
        (
            "remote_group_id: §G",
            'remote_group_id "G" is no security group of this policy; did you mean "g"?',
        ),
        (
            "remote_group_id: §default",
            'remote_group_id "default" is no security group of this policy: it is made where an instance leaves'
            " security_groups out",
        ),
        (
            "remote_address_group_id: §sixty",
            'remote_address_group_id "sixty" is no address group of this policy; did you mean "six"?',
        ),
        (
            "remote_address_group_id: §six",
            'remote_address_group_id "six" has ip_version 6 and the ethertype of the rule is IPv4',
        ),
    ],
)
def test_a_rule(finds: Finds, rule: str, message: str) -> None:
    finds(RULE.format(rule), message)


def test_a_rule_needs_a_direction(finds: Finds) -> None:
    finds(
        """
        security_groups:
          - id: g
            security_group_rules:
              - §{}
              - {direction: §inbound}
              - {direction: §null}
              - §7
              - §[a]
        """,
        "direction is missing: write ingress or egress",
        'direction "inbound" is not allowed: write ingress or egress',
        "direction is empty: write ingress or egress",
        "security_group_rules[3] 7 is not allowed: write a mapping",
        "security_group_rules[4] is a list: write a mapping",
    )


def test_remote_groups_of_another_region(finds: Finds) -> None:
    """A group is of its own region, else of the document's, else of `default`."""
    finds(
        """
        region: eu-1
        security_groups:
          - id: a
            security_group_rules:
              - {direction: ingress, remote_group_id: b}
              - {direction: ingress, remote_group_id: §c}
          - {id: b, region: eu-1}
          - id: c
            region: eu-2
            security_group_rules: [{direction: egress, remote_group_id: §a}]
        """,
        'remote_group_id "c" is of region "eu-2" and the group of this rule is of region "eu-1": a remote group must be'
        " of the same region",
        'remote_group_id "a" is of region "eu-1" and the group of this rule is of region "eu-2": a remote group must be'
        " of the same region",
    )
    Policy.parse(
        """
        security_groups:
          - {id: a, region: default, security_group_rules: [{direction: egress, remote_group_id: b}]}
          - {id: b}
        """
    )
