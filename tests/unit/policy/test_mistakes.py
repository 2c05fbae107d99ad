"""SPEC 2: every mistake is reported with file, line and column, what was found and what is allowed, all in one run.

In the documents here, § stands right before the place where the mistake must be reported.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataplane.policy import Mistake, Policy, PolicyError

from .conftest import Finds, unmarked

INSTANCE = """
    security_groups: [{{id: g}}]
    instances:
      - {{id: a, addresses: [10.0.0.1], mac: "fa:16:3e:00:00:01", interface: tap-a, security_groups: [g]}}
      - {{id: b, {}}}
    """

PROTOCOLS = "tcp, udp, icmp, icmpv6, gre, sctp, dccp, udplite or a number 0..255"


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
            "addresses: [10.0.0.2], allowed_address_pairs: [{ip: 10.0.0.9, mac: 00-00-5e-00-01-07},"
            " {ip: 10.0.0.9/32, mac: '00:00:5e:00:01:07'}, 10.0.0.9, §{ip: 10.0.0.9/32, mac: 00-00-5e-00-01-08}],"
            " security_groups: [g]",
            'allowed_address_pairs[3] has "10.0.0.9" with mac "00:00:5e:00:01:08", allowed_address_pairs[0] with mac'
            ' "00:00:5e:00:01:07": a virtual IP has one mac in an instance, remove one of the two',
        ),
        *(
            (
                f"addresses: [10.0.0.2], allowed_address_pairs: [§{pair}], security_groups: [g]",
                f"allowed_address_pairs[0] {message}",
            )
            for pair, message in (
                ("{ip: 10.0.0.9/24}", 'a mapping has ip "10.0.0.9/24", which has host bits set: write "10.0.0.0/24"'),
                (
                    "{mac: 00:00:5e:00:01:07}",
                    'a mapping has no ip: write {ip: 10.0.0.9, mac: "00:00:5e:00:01:07"}',
                ),
                (
                    "{ip: 10.0.0.9, mac: 00:00}",
                    'a mapping has mac "00:00", which is no MAC: six bytes are allowed, as "fa:16:3e:00:00:01"',
                ),
                (
                    "{ip: 10.0.0.9, mac: 01:00:5e:00:00:01}",
                    'a mapping has mac "01:00:5e:00:00:01", which no interface can have: the MAC of one station is'
                    " needed",
                ),
                (
                    "{ip_address: 10.0.0.9}",
                    'a mapping has key "ip_address", which is not known: write ip',
                ),
                (
                    "{ip: 10.0.0.9, mac: fa:16:3e:00:00:01}",
                    '"fa:16:3e:00:00:01" is taken in vpc "default": instance "a" has it already',
                ),
                (
                    "{ip: 10.0.0.1, mac: 00:00:5e:00:01:07}",
                    '"10.0.0.1" is taken in vpc "default": instance "a" has it already',
                ),
            )
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
            'interface "tap/b" is no interface name: 1 to 15 bytes without / : % and space are allowed',
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
            'key "uplink" is not known: allowed are id, name, description, project_id, vpc, addresses, mac,'
            " allowed_address_pairs, security_groups, interface, port_security_enabled, dhcp_server, tap, host",
        ),
        (
            "addresses: [10.0.0.2], security_groups: [g], interface: §tap-of-an-instance",
            'interface "tap-of-an-instance" is no interface name: 1 to 15 bytes without / : % and space are allowed',
        ),
        *(
            (
                f"addresses: [10.0.0.2], security_groups: [g], interface: §{name}",
                f'interface "{name}" is no interface name: 1 to 15 bytes without / : % and space are allowed',
            )
            for name in (".", "..", "tap%d", "eth0:1")
        ),
        (
            "addresses: [10.0.0.2], security_groups: [g], interface: §täpe-instance-b",
            'interface "täpe-instance-b" is no interface name: 1 to 15 bytes without / : % and space are allowed',
        ),
        (
            "addresses: [10.0.0.2], security_groups: [g], port_security_enabled: §'no'",
            'port_security_enabled "no" is not allowed: write true or false',
        ),
        (
            "addresses: [10.0.0.2], security_groups: [g], §tap: {mtu: 9000}",
            "tap is allowed with an interface only: it says how that is made",
        ),
        (
            "addresses: [10.0.0.2], security_groups: [g], interface: b, tap: §true",
            "tap true is not allowed: write a mapping",
        ),
        (
            "addresses: [10.0.0.2], security_groups: [g], interface: b, tap: {mtu: §67}",
            "mtu 67 is out of range: 68..65521",
        ),
        (
            "addresses: [10.0.0.2], security_groups: [g], interface: b, tap: {mtu: §70000}",
            "mtu 70000 is out of range: 68..65521",
        ),
        (
            "addresses: [10.0.0.2], security_groups: [g], interface: b, tap: {persistent: §1}",
            "persistent 1 is not allowed: write true or false",
        ),
        (
            "addresses: [10.0.0.2], security_groups: [g], interface: b, tap: {namespace: §../mnt}",
            'namespace "../mnt" is no name of a network namespace: one that `ip netns add` takes is allowed',
        ),
        (
            "addresses: [10.0.0.2], security_groups: [g], interface: b, tap: {owner: §107}",
            'owner 107 is not allowed: write text in quotes: "107"',
        ),
        (
            "addresses: [10.0.0.2], security_groups: [g], interface: b, tap: {§persist: true}",
            'key "persist" is not known: did you mean persistent?',
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


def test_uplinks(finds: Finds) -> None:
    """An interface is behind one instance, one balancer, or is one uplink."""
    finds(
        """
        instances: [{id: a, addresses: [10.0.0.1], interface: tap-a}]
        load_balancers: [{id: p, interface: lb0}]
        uplinks:
          - {interface: eth1}
          - {interface: §eth1}
          - {interface: §tap-a}
          - {interface: §lb0}
          - {interface: §"eth 2"}
          - {interface: §""}
          - §{}
          - §eth3
          - {interface: eth4, §mtu: 1500}
        """,
        'interface "eth1" is taken: uplinks[0] has it already',
        'interface "tap-a" is taken: instance "a" has it already',
        'interface "lb0" is taken: load balancer "p" has it already',
        'interface "eth 2" is no interface name: 1 to 15 bytes without / : % and space are allowed',
        'interface "" is no interface name: 1 to 15 bytes without / : % and space are allowed',
        "interface is missing: write text",
        'uplinks[7] "eth3" is not allowed: write a mapping: {interface: eth3}',
        'key "mtu" is not known: allowed are interface',
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
        " uplinks, conntrack",
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
    "multiport is allowed with protocol tcp, udp, sctp, dccp or udplite only: the rule has protocol gre",
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
        " uplinks, conntrack",
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
    for path, reason in (
        (tmp_path / "none.yaml", "No such file or directory"),
        (tmp_path, "it is a directory: name a file in it"),
    ):
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


@pytest.mark.parametrize("written", ["1e3", "001", "0x1F", "1_000.0", "true", ".5", "+7"])
def test_a_number_in_place_of_text_is_quoted_as_it_was_written(written: str) -> None:
    """Not as it was read: what is to be put in quotes stands in the file."""
    text = f"instances: [{{id: {written}, addresses: [10.0.0.1]}}]"
    try:
        assert Policy.parse(text).instances[0].id == written, "text without quotes"
    except PolicyError as error:
        (mistake,) = error.mistakes
        assert mistake.message == f'id {written} is not allowed: write text in quotes: "{written}"'


@pytest.mark.parametrize("written", ["1e3", "1.50", "-0", "true"])
def test_a_number_in_place_of_text_is_quoted_as_it_was_written_in_json(written: str) -> None:
    """JSON has fewer ways to write one; null is missing, not a number."""
    with pytest.raises(PolicyError) as caught:
        Policy.parse(f'{{"instances": [{{"id": {written}, "addresses": ["10.0.0.1"]}}]}}')
    (mistake,) = caught.value.mistakes
    assert mistake.message == f'id {written} is not allowed: write text in quotes: "{written}"'
