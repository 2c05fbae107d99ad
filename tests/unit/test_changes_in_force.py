"""What a change of the policy does to live connections (SPEC 5), through the library."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane import ChangeError, DataPlane, Policy
from tests.property.frames import datagram, error, ethernet, packet, query

A, B, C, OUT, OUT2 = "10.0.0.1", "10.0.0.2", "10.0.0.3", "192.0.2.1", "192.0.2.2"

POLICY = """
security_groups:
  - id: sg-a
    security_group_rules:
      - {id: a-in, direction: ingress, protocol: udp, multiport: "53"}
      - {id: a-ping, direction: ingress, protocol: icmp}
      - {id: a-out, direction: egress}
  - id: sg-b
    security_group_rules:
      - {id: b-in, direction: ingress, protocol: udp, remote_group_id: sg-c}
      - {id: b-list, direction: ingress, protocol: udp, remote_address_group_id: list}
  - id: sg-c
    security_group_rules: [{id: c-out, direction: egress}]
  - {id: sg-d}
address_groups:
  - {id: list, ip_version: 4, ip_set: [192.0.2.0/24]}
instances:
  - {id: a, addresses: [10.0.0.1], security_groups: [sg-a, sg-d]}
  - {id: b, addresses: [10.0.0.2], security_groups: [sg-b]}
  - {id: c, addresses: [10.0.0.3], security_groups: [sg-c]}
"""

ADD = {"add_rule": {"security_group": "sg-a", "rule": {"direction": "egress", "protocol": "gre"}}}


def udp(source: str, destination: str, port: int = 53) -> bytes:
    return ethernet(
        "02:00:00:00:00:01",
        "02:00:00:00:00:02",
        packet(source, destination, 17, datagram(source, destination, 17, (4000, port))),
    )


def reply(source: str, destination: str, port: int = 53) -> bytes:
    body = datagram(source, destination, 17, (port, 4000))
    return ethernet("02:00:00:00:00:02", "02:00:00:00:00:01", packet(source, destination, 17, body))


def ping(source: str, destination: str, kind: int = 8) -> bytes:
    body = query(source, destination, kind, 7)
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packet(source, destination, 1, body))


@pytest.fixture
def firewall() -> DataPlane:
    return DataPlane(Policy.parse(POLICY), seed=1)


def reasons(firewall: DataPlane, frame: bytes, at: float) -> list[str]:
    return [check.reason for check in firewall.process(frame, at).checks]


def test_a_change_cuts_inbound_connections_whatever_direction_the_rule_has(firewall: DataPlane) -> None:
    """SPEC 5.2: and whether or not the new rules would allow them."""
    assert reasons(firewall, udp(OUT, A), 0) == ["rule"]
    assert firewall.apply(ADD, 1).by_instance == {"a": 1}
    assert reasons(firewall, udp(OUT, A), 2) == ["disconnected"]
    assert reasons(firewall, udp(OUT2, A), 2) == ["rule"]


def test_outbound_connections_stay_under_the_rule_that_admitted_them(firewall: DataPlane) -> None:
    """SPEC 5.2: also when that rule is gone."""
    assert reasons(firewall, udp(A, OUT), 0) == ["rule"]
    assert firewall.apply({"delete_rule": {"id": "a-out"}}, 1).total == 0
    (check,) = firewall.process(reply(OUT, A), 2).checks
    assert (check.reason, check.rule, check.connection) == ("connection", "a-out", "outbound")
    assert reasons(firewall, udp(A, OUT2), 2) == ["no-rule-matched"]


def test_the_hold_lasts_for_the_timeout_since_the_change(firewall: DataPlane) -> None:
    """SPEC 5.3: packets of either side are denied and prolong nothing, nor does a later change."""
    assert reasons(firewall, ping(OUT, A), 0) == ["rule"]
    assert reasons(firewall, ping(A, OUT, 0), 1) == ["connection"]
    firewall.apply(ADD, 10)
    assert reasons(firewall, ping(OUT, A), 11) == ["disconnected"]
    assert reasons(firewall, ping(A, OUT, 0), 12) == ["disconnected"]
    firewall.apply({"delete_rule": {"id": "a-in"}}, 20)
    assert reasons(firewall, ping(OUT, A), 39.999999) == ["disconnected"]
    assert reasons(firewall, ping(OUT, A), 40) == ["rule"]


def test_a_late_reply_does_not_become_an_outbound_connection(firewall: DataPlane) -> None:
    """SPEC 5.7: the server's late reply is of the cut connection while the hold lasts."""
    assert reasons(firewall, udp(OUT, A), 0) == ["rule"]
    firewall.apply(ADD, 1)
    (check,) = firewall.process(reply(A, OUT), 2).checks
    assert (check.verdict, check.reason, check.connection, check.rule) == ("deny", "disconnected", "inbound", None)


def test_an_error_about_a_disconnected_connection_is_denied(firewall: DataPlane) -> None:
    """SPEC 4.5: related is what belongs to a live connection."""
    assert reasons(firewall, udp(OUT, A), 0) == ["rule"]
    quoted = packet(OUT, A, 17, datagram(OUT, A, 17, (4000, 53)))
    unreachable = ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packet(A, OUT, 1, error(A, OUT, 3, 3, quoted)))
    assert reasons(firewall, unreachable, 0.5) == ["related"]
    firewall.apply(ADD, 1)
    assert reasons(firewall, unreachable, 2) == ["disconnected"]


@pytest.mark.parametrize(
    "change",
    [
        {"update_rule": {"id": "a-in", "multiport": "53"}},
        {"update_rule": {"id": "a-in", "description": "names", "name": "only"}},
        {"update_address_group": {"id": "list", "ip_set": ["192.0.2.0/25", "192.0.2.128-192.0.2.255"]}},
    ],
)
def test_a_change_that_changes_nothing_disconnects_nothing(firewall: DataPlane, change: dict[str, Any]) -> None:
    """SPEC 5.5."""
    assert reasons(firewall, udp(OUT, A), 0) == ["rule"]
    assert reasons(firewall, udp(OUT, B), 0) == ["rule"]
    assert firewall.apply(change, 1).total == 0
    assert reasons(firewall, udp(OUT, A), 2) == ["connection"]
    assert reasons(firewall, udp(OUT, B), 2) == ["connection"]


def test_an_address_group_that_a_group_uses_cuts_that_group(firewall: DataPlane) -> None:
    """SPEC 5.1, 5.2."""
    assert reasons(firewall, udp(OUT, A), 0) == ["rule"]
    assert reasons(firewall, udp(OUT, B), 0) == ["rule"]
    change = {"update_address_group": {"id": "list", "ip_set": ["192.0.2.0/24", "198.51.100.1"]}}
    assert firewall.apply(change, 1).by_instance == {"b": 1}
    assert reasons(firewall, udp(OUT, A), 2) == ["connection"]


def test_joining_and_leaving_cut_the_group_and_the_instance(firewall: DataPlane) -> None:
    """SPEC 5.2: the joining or leaving instance too."""
    for at, change in (
        (0, {"add_instance": {"security_group": "sg-b", "instance": "a"}}),
        (1000, {"remove_instance": {"security_group": "sg-b", "instance": "a"}}),
    ):
        assert reasons(firewall, udp(OUT, A), at) == ["rule"]
        assert reasons(firewall, udp(OUT, B), at) == ["rule"]
        assert firewall.apply(change, at + 1).by_instance == {"a": 1, "b": 1}


def test_a_shrinking_remote_group_cuts_what_it_admitted_elsewhere(firewall: DataPlane) -> None:
    """SPEC 5.4: only what such a rule admitted from an address that is no longer in the set."""
    firewall.apply({"add_instance": {"security_group": "sg-d", "instance": "c"}}, 0)
    assert reasons(firewall, udp(C, B), 1) == ["rule", "rule"]
    assert reasons(firewall, udp(OUT, B), 1) == ["rule"]
    result = firewall.apply({"remove_instance": {"security_group": "sg-c", "instance": "c"}}, 2)
    assert (result.by_instance, result.revoked) == ({}, 1)
    assert reasons(firewall, udp(OUT, B), 3) == ["connection"]
    assert reasons(firewall, reply(B, C), 3) == ["disconnected"]
    # Back in the group: what was cut stays cut until its time is over.
    firewall.apply({"add_instance": {"security_group": "sg-c", "instance": "c"}}, 4)
    assert reasons(firewall, udp(C, B), 5) == ["connection", "disconnected"]
    assert reasons(firewall, udp(C, B), 32) == ["connection", "rule"]


def test_the_order_of_groups_is_a_change_of_that_instance(firewall: DataPlane) -> None:
    """SPEC 5.5."""
    assert reasons(firewall, udp(OUT, A), 0) == ["rule"]
    assert reasons(firewall, udp(OUT, B), 0) == ["rule"]
    swapped = Policy.parse(POLICY.replace("[sg-a, sg-d]", "[sg-d, sg-a]"))
    assert firewall.apply({"apply_policy": swapped}, 1).by_instance == {"a": 1}


def test_an_instance_that_is_gone_and_comes_back_has_no_connections(firewall: DataPlane) -> None:
    """SPEC 1: connections belong to the instance's zone."""
    assert reasons(firewall, udp(A, OUT), 0) == ["rule"]
    without = Policy.parse("\n".join(line for line in POLICY.splitlines() if "{id: a," not in line))
    firewall.apply({"apply_policy": without}, 1)
    assert firewall.process(udp(A, OUT), 2).verdict == "bypass"
    assert len(firewall.connections) == 0
    firewall.apply({"apply_policy": Policy.parse(POLICY)}, 3)
    assert reasons(firewall, udp(A, OUT), 4) == ["rule"]


def test_an_instance_that_is_created_joins_and_cuts_as_joining_does(firewall: DataPlane) -> None:
    """SPEC 5.2: the groups that it joins; SPEC 5.4: what came from its address by a rule that names such a group."""
    assert reasons(firewall, udp(OUT, A), 0) == ["rule"]
    assert reasons(firewall, udp(OUT, B), 0) == ["rule"]
    new = {"id": "n", "addresses": ["10.0.0.9"], "security_groups": ["sg-c", "sg-a"]}
    assert firewall.apply({"create_instance": new}, 1).by_instance == {"a": 1}
    assert reasons(firewall, udp(OUT, B), 2) == ["connection"]
    # Its address is now among those that sg-c stands for.
    assert reasons(firewall, udp("10.0.0.9", B), 2) == ["rule", "rule"]
    result = firewall.apply({"update_instance": {"id": "n", "security_groups": ["sg-a"]}}, 3)
    assert (result.by_instance, result.revoked) == ({}, 1)


def test_an_instance_that_is_deleted_ends_with_its_connections(firewall: DataPlane) -> None:
    """SPEC 1, 5.2: its zone ends, and the others of its groups lose their inbound connections."""
    firewall.apply({"add_instance": {"security_group": "sg-b", "instance": "a"}}, 0)
    assert reasons(firewall, udp(OUT, A), 1) == ["rule"]
    assert reasons(firewall, udp(OUT, B), 1) == ["rule"]
    assert firewall.apply({"delete_instance": {"id": "a"}}, 2).by_instance == {"b": 1}
    assert firewall.process(udp(OUT, A), 3).verdict == "bypass"
    assert [c.instance for c in firewall.connections] == ["b"]
    again = {"id": "a", "addresses": [A], "security_groups": ["sg-a"]}
    firewall.apply({"create_instance": again}, 4)
    assert reasons(firewall, udp(OUT, A), 5) == ["rule"]


@pytest.mark.parametrize(
    ("update", "cut"),
    [
        ({"addresses": [A, "10.0.0.99"]}, {"a": 1}),
        ({"security_groups": ["sg-d", "sg-a"]}, {"a": 1}),
        ({"addresses": ["10.0.0.1"], "security_groups": ["sg-a", "sg-d"]}, {}),
        ({"mac": "fa:16:3e:00:00:01", "allowed_address_pairs": ["10.0.0.77"], "interface": "tap-a"}, {}),
        ({"name": "A", "description": "text", "port_security_enabled": False}, {}),
    ],
)
def test_what_an_update_of_an_instance_cuts(firewall: DataPlane, update: dict[str, Any], cut: dict[str, int]) -> None:
    """SPEC 5.5: addresses and the order of groups count, what a packet is known by otherwise does not."""
    assert reasons(firewall, udp(OUT, A), 0) == ["rule"]
    assert firewall.apply({"update_instance": {"id": "a", **update}}, 1).by_instance == cut
    assert reasons(firewall, udp(OUT, A), 2) == ["disconnected" if cut else "connection"]


def test_a_group_that_is_created_renamed_or_deleted_cuts_nothing(firewall: DataPlane) -> None:
    """SPEC 5.5; its rules given anew cut its instances, where they are others (SPEC 5.2)."""
    assert reasons(firewall, udp(OUT, A), 0) == ["rule"]
    rules = [{"direction": "ingress"}]
    for change in (
        {"create_group": {"id": "sg-n", "security_group_rules": rules}},
        {"update_group": {"id": "sg-a", "name": "A", "description": "text"}},
        {"update_group": {"id": "sg-n", "security_group_rules": []}},
        {"delete_group": {"id": "sg-n"}},
        {"create_address_group": {"id": "n", "ip_version": 4, "ip_set": []}},
        {"update_address_group": {"id": "list", "name": "L"}},
        {"delete_address_group": {"id": "n"}},
    ):
        assert firewall.apply(change, 1).total == 0, change
    written = [rule.model_dump() for rule in firewall.policy.group("sg-a").security_group_rules]
    assert firewall.apply({"update_group": {"id": "sg-a", "security_group_rules": written[::-1]}}, 2).total == 0
    assert reasons(firewall, udp(OUT, A), 3) == ["connection"]
    assert firewall.apply({"update_group": {"id": "sg-a", "security_group_rules": written[:2]}}, 4).by_instance == {
        "a": 1
    }


def test_a_load_balancer_that_comes_and_goes(firewall: DataPlane) -> None:
    """SPEC 3.5: its packets pass without rules while it is there, and nothing is disconnected."""
    balancer = {"id": "elb", "addresses": [OUT2], "backends": ["c"], "transfer_client_ip": True}
    assert reasons(firewall, udp(OUT2, C), 0) == ["no-rule-matched"]
    assert firewall.apply({"create_load_balancer": balancer}, 1).total == 0
    assert reasons(firewall, udp(OUT2, C), 2) == ["load-balancer"]
    firewall.apply({"update_load_balancer": {"id": "elb", "backends": ["b"]}}, 3)
    assert reasons(firewall, udp(OUT2, C), 4) == ["no-rule-matched"]
    assert reasons(firewall, udp(OUT2, B, 99), 4) == ["load-balancer"]
    firewall.apply({"delete_load_balancer": {"id": "elb"}}, 5)
    assert reasons(firewall, udp(OUT2, B, 99), 6) == ["rule"]


def test_a_change_that_is_not_valid_is_refused_whole(firewall: DataPlane) -> None:
    """SPEC 5.6."""
    assert reasons(firewall, udp(OUT, A), 0) == ["rule"]
    before = firewall.policy
    with pytest.raises(ChangeError, match="last"):
        firewall.apply({"remove_instance": {"security_group": "sg-b", "instance": "b"}}, 1)
    assert firewall.policy is before
    assert reasons(firewall, udp(OUT, A), 2) == ["connection"]


def test_reevaluate_lets_the_new_rules_decide_about_the_initiator() -> None:
    """SPEC 5.7: the initiator's next packet; the other side never turns the connection round."""
    firewall = DataPlane(Policy.parse(POLICY + "conntrack: {on_change: reevaluate}\n"), seed=1)
    assert reasons(firewall, udp(OUT, A), 0) == ["rule"]
    firewall.apply(ADD, 1)
    assert reasons(firewall, reply(A, OUT), 2) == ["disconnected"]
    (check,) = firewall.process(udp(OUT, A), 3).checks
    assert (check.verdict, check.state, check.rule) == ("allow", "established", "a-in")
    assert reasons(firewall, reply(A, OUT), 4) == ["connection"]
    firewall.apply({"delete_rule": {"id": "a-in"}}, 5)
    assert reasons(firewall, udp(OUT, A), 6) == ["disconnected"]
    assert reasons(firewall, udp(OUT, A), 300) == ["no-rule-matched"]


@pytest.mark.parametrize(("port", "expected"), [(53, ["rule", "rule"]), (7, ["rule", "no-rule-matched"])])
def test_a_packet_to_its_own_sender_is_no_answer_to_itself(firewall: DataPlane, port: int, expected: list[str]) -> None:
    """SPEC 3.1, 4.1 (LAND): on its way in it is judged by the ingress rules, however often it comes."""
    body = datagram(A, A, 17, (port, port))
    land = ethernet("02:00:00:00:00:02", "02:00:00:00:00:01", packet(A, A, 17, body))
    assert reasons(firewall, land, 0) == expected
    assert reasons(firewall, land, 1) == ["connection", *expected[1:]]
    assert [c.origin for c in firewall.connections] == ["outbound"]


def test_connections_are_iterable_filterable_countable_and_can_be_flushed(firewall: DataPlane) -> None:
    """The connection table as people see it."""
    firewall.process(udp(OUT, A), 0)
    firewall.process(reply(A, OUT), 0)
    firewall.process(udp(A, OUT2), 0)
    firewall.process(ping(OUT, A), 0)
    connections = firewall.connections
    assert len(connections) == connections.count() == 3
    assert {c.state for c in connections.filter(protocol="udp")} == {"REPLIED", "UNREPLIED"}
    assert [c.remote for c in connections.filter(origin="outbound")] == [OUT2]
    assert [c.icmp_id for c in connections.filter(protocol="icmp")] == [7]
    assert len(connections.filter(address="192.0.2.1/32")) == 2
    assert connections.filter(address=OUT, protocol=17, instance="a").count_by_state() == {"REPLIED": 1}
    with pytest.raises(ValueError, match="state 'OPEN' is not known"):
        connections.filter(state="OPEN")
    with pytest.raises(ValueError, match="instance 'nobody' is not known"):
        connections.filter(instance="nobody")
    assert connections.filter(protocol="udp").flush() == 2
    assert [c.protocol for c in connections] == ["icmp"]
    assert reasons(firewall, udp(A, OUT2), 1) == ["rule"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("addresses: [10.0.0.1],", "addresses: [10.0.0.1], interface: tap-a,"),
        ("addresses: [10.0.0.1],", "addresses: [10.0.0.1], port_security_enabled: false,"),
        ("addresses: [10.0.0.1],", "addresses: [10.0.0.1], interface: t, tap: {mtu: 9000, namespace: n},"),
        ("addresses: [10.0.0.1],", "addresses: [10.0.0.1], mac: 'fa:16:3e:00:00:01',"),
        ("instances:", "uplinks: [{interface: eth1}]\ninstances:"),
    ],
)
def test_where_an_instance_is_attached_is_no_change(firewall: DataPlane, old: str, new: str) -> None:
    """SPEC 5.5: interfaces, port security and uplinks are no rules: no connection is disconnected."""
    firewall.process(udp(OUT, A), 0.0)
    changed = Policy.parse(POLICY.replace(old, new))
    assert changed != firewall.policy
    assert firewall.apply({"apply_policy": changed}, 1.0).total == 0
    assert firewall.policy == changed
    assert firewall.process(udp(OUT, A), 2.0).checks[0].reason == "connection"


JOIN_D = {"add_instance": {"security_group": "sg-d", "instance": "c"}}
A_PORT, C_PORT = (
    {"add_rule": {"security_group": group, "rule": {"direction": "ingress", "protocol": "udp", "multiport": port}}}
    for group, port in (("sg-a", "54"), ("sg-c", "55"))
)


@pytest.mark.parametrize("later", [A_PORT, C_PORT], ids=["of-others", "of-its-own"])
def test_who_changed_groups_in_vain_is_judged_by_those_of_before(
    firewall: DataPlane, monkeypatch: pytest.MonkeyPatch, later: dict[str, Any]
) -> None:
    """SPEC 5.6: also by the rules of a change that comes after one for whose tables there was no room."""
    with monkeypatch.context() as context:
        context.setattr("dataplane.compiler._table", _no_room)
        with pytest.raises(MemoryError):
            firewall.apply(JOIN_D, 1)
    firewall.apply(later, 2)
    told = [firewall.process(udp(OUT, to, port), 3).verdict for to, port in ((A, 53), (A, 54), (C, 55))]
    assert told == ["allow", "allow" if later is A_PORT else "deny", "allow" if later is C_PORT else "deny"]
    assert reasons(firewall, udp(C, OUT), 3) == ["rule"]


def test_a_rehearsal_in_vain_leaves_the_tables_of_later_changes_right(
    firewall: DataPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC 5.6: what a policy that came to nothing named is no other's address."""
    ninety_nine = {"direction": "ingress", "protocol": "udp", "multiport": "99"}
    prefixes = [{"remote_ip_prefix": prefix} for prefix in ("203.0.113.0/24", "198.51.100.0/24")]
    one, other = ({"add_rule": {"security_group": "sg-a", "rule": {**ninety_nine, **prefix}}} for prefix in prefixes)
    # Two rules with other remotes at once, of which the second cannot be had.
    named = {**ninety_nine, "remote_address_group_id": "list"}
    both = firewall.changed(one, {"add_rule": {"security_group": "sg-a", "rule": named}})
    with monkeypatch.context() as context:
        context.setattr("dataplane.compiler.Compiler._addresses", _no_room)
        with pytest.raises(MemoryError):
            list(firewall.reconsider(both))
    firewall.apply(other, 1)
    firewall.apply(one, 2)
    sources = ("203.0.113.1", "198.51.100.1", OUT)
    assert [firewall.process(udp(source, A, 99), 3).verdict for source in sources] == ["allow", "allow", "deny"]


def _no_room(*_: object) -> None:
    raise MemoryError
