"""SPEC 2: every mistake is reported with file, line and column, what was found and what is allowed, all in one run.

In the documents here, § stands right before the place where the mistake must be reported.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataplane.policy import Mistake, Policy, PolicyError

from .conftest import Finds, unmarked

RULE = """
    security_groups:
      - id: g
        security_group_rules:
          - {{direction: ingress, {}}}
    address_groups:
      - {{id: six, ip_version: 6, ip_set: ["::1"]}}
    """

INSTANCE = """
    security_groups: [{{id: g}}]
    instances:
      - {{id: a, addresses: [10.0.0.1], mac: "fa:16:3e:00:00:01", interface: tap-a, security_groups: [g]}}
      - {{id: b, {}}}
    """

PROTOCOLS = "tcp, udp, icmp, icmpv6, gre or a number 0..255"


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
        ("protocol: §sctp", 'protocol "sctp" is not allowed: write 132'),
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
        ('protocol: tcp, multiport: §""', 'multiport "" is not allowed: an entry between commas is empty'),
        ("protocol: tcp, multiport: §[22]", 'multiport a list is not text: write ports and ranges as "22,80-82"'),
        ("protocol: tcp, multiport: §22.5", 'multiport 22.5 is not text: write ports and ranges as "22,80-82"'),
        (
            f'protocol: tcp, multiport: §"{",".join("1" * 21)}"',
            f'multiport "{",".join("1" * 21)}" has 21 ports and ranges: up to 20 are allowed',
        ),
        ("§multiport: 22", "multiport is allowed with protocol tcp or udp only: the rule has none"),
        (
            "protocol: gre, §multiport: 22",
            "multiport is allowed with protocol tcp or udp only: the rule has protocol gre",
        ),
        (
            "protocol: 132, §multiport: 22",
            "multiport is allowed with protocol tcp or udp only: the rule has protocol 132",
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


def test_ids_are_unique(finds: Finds) -> None:
    """Those of groups, of rules in the whole document, of address groups, of instances and of load balancers."""
    finds(
        """
        security_groups:
          - id: a
            security_group_rules: [{id: r, direction: ingress}, {id: §r, direction: egress}]
          - id: §a
            security_group_rules: [{id: §r, direction: egress}]
        address_groups: [{id: a, ip_version: 4, ip_set: []}, {id: §a, ip_version: 6, ip_set: []}]
        instances: [{id: a, addresses: [10.0.0.1]}, {id: §a, addresses: [10.0.0.2]}]
        load_balancers: [{id: a, addresses: [10.0.0.3]}, {id: §a, addresses: [10.0.0.4]}]
        """,
        'id "r" is used twice: security_groups[0].security_group_rules[0] has it already',
        'id "a" is used twice: security_groups[0] has it already',
        'id "r" is used twice: security_groups[0].security_group_rules[0] has it already',
        'id "a" is used twice: address_groups[0] has it already',
        'id "a" is used twice: instances[0] has it already',
        'id "a" is used twice: load_balancers[0] has it already',
    )


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        (
            "addresses: [§10.0.0.1], security_groups: [g]",
            'addresses[0] "10.0.0.1" is taken in vpc "default": instance "a" has it already',
        ),
        (
            "addresses: [10.0.0.2, §10.0.0.2], security_groups: [g]",
            'addresses[1] "10.0.0.2" is taken in vpc "default": instance "b" has it already',
        ),
        (
            'addresses: ["::1", §"0:0::1"], security_groups: [g]',
            'addresses[1] "::1" is taken in vpc "default": instance "b" has it already',
        ),
        (
            "addresses: [10.0.0.2], allowed_address_pairs: [10.0.0.2, §10.0.0.1], security_groups: [g]",
            'allowed_address_pairs[1] "10.0.0.1" is taken in vpc "default": instance "a" has it already',
        ),
        (
            "addresses: [10.0.0.2], mac: §FA-16-3E-00-00-01, security_groups: [g]",
            'mac "fa:16:3e:00:00:01" is taken in vpc "default": instance "a" has it already',
        ),
        (
            "addresses: [10.0.0.2], interface: §tap-a, vpc: v, security_groups: [g]",
            'interface "tap-a" is taken: instance "a" has it already',
        ),
        ("addresses: §[], security_groups: [g]", "addresses is empty: at least one entry is needed"),
        ("addresses: §10.0.0.2, security_groups: [g]", 'addresses "10.0.0.2" is not allowed: write a list'),
        ("addresses: [§10.0.0.256], security_groups: [g]", 'addresses[0] "10.0.0.256" is no IPv4 or IPv6 address'),
        (
            'addresses: [§"fe80::1%eth0"], security_groups: [g]',
            'addresses[0] "fe80::1%eth0" is no IPv4 or IPv6 address',
        ),
        (
            "addresses: [§10.0.0.2/24], security_groups: [g]",
            'addresses[0] "10.0.0.2/24" is a prefix: an address without a length is needed here',
        ),
        (
            "addresses: [§10], security_groups: [g]",
            'addresses[0] 10 is not text: write it in quotes, as "192.168.0.10"',
        ),
        ("addresses: [§null], security_groups: [g]", "addresses[0] is empty: write text"),
        (
            "addresses: [10.0.0.2], allowed_address_pairs: [§10.0.0.9/24], security_groups: [g]",
            'allowed_address_pairs[0] "10.0.0.9/24" has host bits set: write "10.0.0.0/24"',
        ),
        (
            "addresses: [10.0.0.2], mac: §fa:16:3e:00:00, security_groups: [g]",
            'mac "fa:16:3e:00:00" is no MAC: six bytes are allowed, as "fa:16:3e:00:00:01"',
        ),
        (
            "addresses: [10.0.0.2], mac: §fa:16-3e:00:00:01, security_groups: [g]",
            'mac "fa:16-3e:00:00:01" is no MAC: six bytes are allowed, as "fa:16:3e:00:00:01"',
        ),
        (
            "addresses: [10.0.0.2], mac: §001122334455, security_groups: [g]",
            'mac 1122334455 is not text: write it in quotes, as "fa:16:3e:00:00:01"',
        ),
        (
            "addresses: [10.0.0.2], interface: §tap/b, security_groups: [g]",
            'interface "tap/b" is no interface name: 1 to 15 bytes without slash and space are allowed',
        ),
        # SPEC 3.4: an instance always has at least one group, so an empty list is an error.
        (
            "addresses: [10.0.0.2], security_groups: §[]",
            "security_groups is empty: at least one entry is needed, or leave the key out",
        ),
        (
            "addresses: [10.0.0.2], security_groups: §null",
            "security_groups is empty: write a list, or leave the key out",
        ),
        ("addresses: [10.0.0.2], security_groups: [g, §g]", 'security_groups[1] "g" is in the list already'),
        (
            "addresses: [10.0.0.2], security_groups: [§gg]",
            'security_groups[0] "gg" is no security group of this policy; did you mean "g"?',
        ),
        (
            "addresses: [10.0.0.2], security_groups: [g], §uplink: eth0",
            'key "uplink" is not known: allowed are id, name, description, vpc, addresses, mac, allowed_address_pairs,'
            " security_groups, interface",
        ),
    ],
)
def test_an_instance(finds: Finds, instance: str, message: str) -> None:
    finds(INSTANCE.format(instance), message)


def test_an_instance_needs_addresses(finds: Finds) -> None:
    finds(INSTANCE.replace("{{id: b", "§{{id: b").format("security_groups: [g]"), "addresses is missing: write a list")


def test_address_groups(finds: Finds) -> None:
    finds(
        """
        address_groups:
          - {id: a, ip_version: §5, ip_set: []}
          - {id: b, ip_version: §"4", ip_set: []}
          - §{id: c, ip_version: 4}
          - id: d
            ip_version: 4
            ip_set:
              - §"::1"
              - §10.0.0.1/24
              - §10.0.0.9-10.0.0.1
              - §10.0.0.1-::1
              - §10.0.0.1-
              - §"2001:db8::/32"
              - §host.example
          - {id: e, ip_version: 6, ip_set: §10.0.0.1}
        """,
        "ip_version 5 is not allowed: write 4 or 6",
        'ip_version "4" is not allowed: write 4 or 6 without quotes',
        "ip_set is missing: write a list",
        'ip_set[0] "::1" is IPv6 and ip_version is 4',
        'ip_set[1] "10.0.0.1/24" has host bits set: write "10.0.0.0/24"',
        'ip_set[2] "10.0.0.9-10.0.0.1" runs backwards: the first address must not be above the last',
        'ip_set[3] "10.0.0.1-::1" mixes IPv4 and IPv6',
        'ip_set[4] "10.0.0.1-" is no range of addresses: first-last is allowed',
        'ip_set[5] "2001:db8::/32" is IPv6 and ip_version is 4',
        'ip_set[6] "host.example" is no IPv4 or IPv6 address',
        'ip_set "10.0.0.1" is not allowed: write a list',
    )


def test_load_balancers(finds: Finds) -> None:
    """A balancer is recognised by an address, MAC or interface, which nobody else may have where its backends are."""
    finds(
        """
        instances:
          - {id: a, addresses: [10.0.0.1], mac: "fa:16:3e:00:00:01", interface: tap-a}
          - {id: b, addresses: [10.0.0.1], vpc: other}
        load_balancers:
          - {id: p, addresses: [§10.0.0.1], mac: §"fa:16:3e:00:00:01", interface: §tap-a, backends: [a, §a, §c]}
          - §{id: q, backends: [a]}
          - {id: r, addresses: [10.0.0.2], transfer_client_ip: §1}
          - {id: s, addresses: [§10.0.0.1], backends: [b]}
        """,
        'addresses[0] "10.0.0.1" is taken in vpc "default": instance "a" has it already',
        'mac "fa:16:3e:00:00:01" is taken in vpc "default": instance "a" has it already',
        'interface "tap-a" is taken: instance "a" has it already',
        'backends[1] "a" is in the list already',
        'backends[2] "c" is no instance of this policy',
        "a load balancer needs an address, a mac or an interface: it is recognised by one of them",
        "transfer_client_ip 1 is not allowed: write true or false",
        'addresses[0] "10.0.0.1" is taken in vpc "other": instance "b" has it already',
    )


def test_conntrack(finds: Finds) -> None:
    finds(
        """
        conntrack:
          tcp_loose: §0
          max_entries: §0
          on_change: §keep
          §timeout: {}
          timeouts:
            icmp: §0
            tcp_close: §-1
            tcp_fin_wait: §.inf
            tcp_half_open: §.nan
            tcp_established: §"600"
            other_bidirectional: §true
            §tcp_time_wait: 5
        """,
        "tcp_loose 0 is not allowed: write true or false",
        "max_entries 0 is out of range: 1..2147483647",
        'on_change "keep" is not allowed: write hold or reevaluate',
        'key "timeout" is not known: did you mean timeouts?',
        "icmp 0 is out of range: more than 0, up to 1000000000",
        "tcp_close -1 is out of range: more than 0, up to 1000000000",
        "tcp_fin_wait Infinity is out of range: more than 0, up to 1000000000",
        "tcp_half_open NaN is out of range: more than 0, up to 1000000000",
        'tcp_established "600" is not allowed: write a number of seconds without quotes',
        "other_bidirectional true is not allowed: write a number of seconds",
        'key "tcp_time_wait" is not known: did you mean tcp_fin_wait?',
    )


def test_sections_of_the_wrong_kind(finds: Finds) -> None:
    """A section that is no list says nothing about what refers to it."""
    finds(
        """
        region: §5
        security_groups: §{g: {}}
        address_groups: §none
        instances: [§a]
        load_balancers: [{id: l, addresses: [10.0.0.1], backends: [§i]}]
        conntrack: §[]
        §subnets: []
        """,
        'region 5 is not allowed: write text in quotes: "5"',
        "security_groups is a mapping: write a list",
        'address_groups "none" is not allowed: write a list',
        'instances[0] "a" is not allowed: write a mapping',
        'backends[0] "i" is no instance of this policy',
        "conntrack is a list: write a mapping",
        'key "subnets" is not known: allowed are region, security_groups, address_groups, instances, load_balancers,'
        " conntrack",
    )


MANY = """
region: eu-1
§regoin: eu-2
security_groups:
  - id: a
    security_group_rules:
      - {id: r, direction: ingress, priority: §101, icmp_type: 8, protocol: §tpc}
      - {id: §r, direction: §in, protocol: gre, §multiport: §0, §remote_group_id: §x, remote_ip_prefix: §10.0.0.1/8}
  - §{name: b}
instances:
  - {id: i, addresses: [10.0.0.1, §nonsense, §10.0.0.1], security_groups: [a, §5, §b]}
"""

MANY_MESSAGES = (
    'key "regoin" is not known: did you mean region?',
    "priority 101 is out of range: 1..100",
    f'protocol "tpc" is not allowed: {PROTOCOLS}; did you mean tcp?',
    'id "r" is used twice: security_groups[0].security_group_rules[0] has it already',
    'direction "in" is not allowed: write ingress or egress',
    "multiport is allowed with protocol tcp or udp only: the rule has protocol gre",
    "multiport 0 is not allowed: port 0 is out of range: 1..65535",
    "remote_ip_prefix and remote_group_id are given together: at most one of them is allowed",
    'remote_group_id "x" is no security group of this policy',
    'remote_ip_prefix "10.0.0.1/8" has host bits set: write "10.0.0.0/8"',
    "id is missing: write text",
    'addresses[1] "nonsense" is no IPv4 or IPv6 address',
    'addresses[2] "10.0.0.1" is taken in vpc "default": instance "i" has it already',
    'security_groups[1] 5 is not allowed: write text in quotes: "5"',
    'security_groups[2] "b" is no security group of this policy',
)


def test_all_mistakes_in_one_run(finds: Finds) -> None:
    """A bad value hides neither what else is wrong with its rule nor a reference somewhere else."""
    finds(MANY, *MANY_MESSAGES)


def test_all_mistakes_of_a_json_text(finds: Finds) -> None:
    """The places are those of the JSON text, also where tabs, line breaks and escapes stand in it."""
    finds(
        '{\t"region"\n:\n§5,\r\n\t"security_groups":[\t{"id":"a",\t"name":"{\\"[,:\\u00e9\\ud83d\\ude00",'
        '"security_group_rules":[{"direction":"ingress","priority":§0,"remote_group_id":\n\t§"x"},§null]}],'
        '"a\\/b": 1}'.replace('"a\\/b"', '§"a\\/b"'),
        'region 5 is not allowed: write text in quotes: "5"',
        "priority 0 is out of range: 1..100",
        'remote_group_id "x" is no security group of this policy',
        "security_group_rules[1] is empty: write a mapping",
        'key "a/b" is not known: allowed are region, security_groups, address_groups, instances, load_balancers,'
        " conntrack",
        name="policy.json",
    )


def test_places_as_values() -> None:
    text, _ = unmarked(MANY)
    with pytest.raises(PolicyError) as caught:
        Policy.parse(text, "p.yaml")
    assert [mistake.place for mistake in caught.value.mistakes] == [
        "regoin",
        "security_groups[0].security_group_rules[0].priority",
        "security_groups[0].security_group_rules[0].protocol",
        "security_groups[0].security_group_rules[1].id",
        "security_groups[0].security_group_rules[1].direction",
        "security_groups[0].security_group_rules[1].multiport",
        "security_groups[0].security_group_rules[1].multiport",
        "security_groups[0].security_group_rules[1].remote_group_id",
        "security_groups[0].security_group_rules[1].remote_group_id",
        "security_groups[0].security_group_rules[1].remote_ip_prefix",
        "security_groups[1].id",
        "instances[0].addresses[1]",
        "instances[0].addresses[2]",
        "instances[0].security_groups[1]",
        "instances[0].security_groups[2]",
    ]
    assert caught.value.mistakes[1] == Mistake(
        "p.yaml",
        7,
        47,
        "security_groups[0].security_group_rules[0].priority",
        "priority 101 is out of range: 1..100",
    )


def test_one_line_a_mistake() -> None:
    mistake = Mistake("policy.yaml", 12, 17, "x", "priority 101 is out of range: 1..100")
    assert str(PolicyError([mistake, mistake])) == "\n".join(
        ["policy.yaml:12:17: priority 101 is out of range: 1..100"] * 2
    )


def test_values_in_messages_stay_on_their_line() -> None:
    """Whatever stands in a document: a message is one line that can be printed."""
    for value in ("a\nb", "\x1b[31m", "\u2028", "\ud800", "x" * 500, '"\\'):
        text = json.dumps({"security_groups": [{"id": "g", "security_group_rules": [{"direction": value}]}]})
        with pytest.raises(PolicyError) as caught:
            Policy.parse(text, "p")
        (mistake,) = caught.value.mistakes
        assert str(mistake).isprintable()
        assert len(str(mistake)) < 250


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(PolicyError) as caught:
            Policy.load(path)
        assert str(caught.value) == f"{path}: the file cannot be read: {reason}"
        assert caught.value.mistakes[0].line is None


def test_nearest_names_are_given_for_some_ids_only() -> None:
    """Each costs a comparison with every id there is, so that a document full of mistakes would take minutes."""
    groups = [{"id": f"group-{n}"} for n in range(300)]
    instances = [{"id": f"i{n}", "addresses": [f"10.0.0.{n}"], "security_groups": ["Group-1"]} for n in range(50)]
    with pytest.raises(PolicyError) as caught:
        Policy.parse(json.dumps({"security_groups": groups, "instances": instances}))
    assert len(caught.value.mistakes) == 50
    assert sum("did you mean" in mistake.message for mistake in caught.value.mistakes) == 20
