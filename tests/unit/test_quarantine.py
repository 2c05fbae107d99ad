"""Quarantine (SPEC 5.4): inbound connections from an address that came into the set of a deny rule elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane import DataPlane, Policy
from tests.property.frames import checksum, datagram, ethernet, icmp, packet

WEB, Q, OUT, WEB_6, Q_6 = "10.0.0.1", "10.0.0.2", "192.0.2.1", "fd00::1", "fd00::2"

POLICY = """
security_groups:
  - id: sg-web
    security_group_rules:
      - {id: first, direction: ingress, protocol: udp, multiport: "443", priority: 1}
      - {id: cut, direction: ingress, action: deny, remote_group_id: sg-quarantine, priority: 2}
      - {id: cut-6, direction: ingress, ethertype: IPv6, action: deny, protocol: udp, multiport: "53",
         remote_group_id: sg-quarantine}
      - {id: any, direction: ingress, priority: 3}
      - {id: any-6, direction: ingress, ethertype: IPv6, priority: 3}
      - {id: web-out, direction: egress}
  - id: sg-peer
    security_group_rules:
      - {id: peer-in, direction: ingress}
      - {id: peer-out, direction: egress}
      - {id: peer-out-6, direction: egress, ethertype: IPv6}
  - {id: sg-quarantine, security_group_rules: [{id: q-in, direction: ingress}, {id: q-out, direction: egress}]}
instances:
  - {id: web, addresses: [10.0.0.1, "fd00::1"], security_groups: [sg-web]}
  - {id: q, addresses: [10.0.0.2, "fd00::2"], security_groups: [sg-peer]}
"""
JOIN: dict[str, Any] = {"add_instance": {"security_group": "sg-quarantine", "instance": "q"}}
LEAVE: dict[str, Any] = {"remove_instance": {"security_group": "sg-quarantine", "instance": "q"}}


def frame(source: str, destination: str, protocol: int, body: bytes) -> bytes:
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packet(source, destination, protocol, body))


def udp(source: str, destination: str, port: int = 53, source_port: int = 4000) -> bytes:
    return frame(source, destination, 17, datagram(source, destination, 17, (source_port, port)))


def ping(source: str, destination: str, code: int = 0, identifier: int = 7) -> bytes:
    body = icmp(source, destination, 8, code, identifier.to_bytes(2, "big") + bytes(2))
    return frame(source, destination, 1, body)


def plane(policy: str = POLICY) -> DataPlane:
    return DataPlane(Policy.parse(policy), seed=1)


def at_web(firewall: DataPlane, sent: bytes, at: float) -> str:
    """The reason of the check at `web`."""
    (reason,) = [c.reason for c in firewall.process(sent, at).checks if c.instance == "web"]
    return reason


def test_who_joins_a_quarantine_group_is_cut_at_once() -> None:
    """SPEC 5.4: both ways, for the timeout of its state; what its rules decide after that is theirs. Others stay."""
    firewall = plane()
    assert at_web(firewall, udp(Q, WEB), 0) == "rule"
    assert at_web(firewall, udp(OUT, WEB), 0) == "rule"
    result = firewall.apply(JOIN, 1)
    assert (dict(result.by_instance), result.revoked, result.total) == ({}, 1, 1)
    assert at_web(firewall, udp(Q, WEB), 2) == "disconnected"
    assert at_web(firewall, udp(WEB, Q, 4000, 53), 2) == "disconnected"
    assert at_web(firewall, udp(OUT, WEB), 2) == "connection"
    (check,) = [c for c in firewall.process(udp(Q, WEB), 31).checks if c.instance == "web"]
    assert (check.verdict, check.state, check.rule) == ("deny", "new", "cut")


def test_a_connection_that_another_rule_decides_about_stays() -> None:
    """SPEC 5.4: only where that deny rule would decide now: by family, protocol and port of what was admitted."""
    firewall = plane()
    stay = [udp(Q, WEB, 443), udp(Q_6, WEB_6, 54)]
    go = [udp(Q, WEB, 444), udp(Q_6, WEB_6, 53), ping(Q, WEB), frame(Q, WEB, 47, bytes(8))]
    assert [at_web(firewall, sent, 0) for sent in stay + go] == ["rule"] * 6
    assert firewall.apply(JOIN, 1).revoked == 4
    assert [at_web(firewall, sent, 2) for sent in stay] == ["connection"] * 2
    assert [at_web(firewall, sent, 2) for sent in go] == ["disconnected"] * 4


def test_outbound_connections_to_who_joins_stay() -> None:
    """SPEC 5.4 speaks of inbound ones; at the instance that joins, the same one is inbound, and cut (SPEC 5.2)."""
    firewall = plane()
    assert [c.reason for c in firewall.process(udp(WEB, Q), 0).checks] == ["rule", "rule"]
    result = firewall.apply(JOIN, 1)
    assert (dict(result.by_instance), result.revoked) == ({"q": 1}, 0)
    assert [c.reason for c in firewall.process(udp(WEB, Q), 2).checks] == ["connection", "disconnected"]


@pytest.mark.parametrize(("code", "cut"), [(0, 0), (3, 1)])
def test_a_query_is_judged_by_its_code_too(code: int, cut: int) -> None:
    """SPEC 2 (icmp_code), 5.4: the code of the query that was admitted decides, though it is not part of the key."""
    rule = "action: deny, protocol: icmp, icmp_type: 8, icmp_code: 3, remote_group_id"
    firewall = plane(POLICY.replace("action: deny, remote_group_id", rule, 1))
    assert at_web(firewall, ping(Q, WEB, code), 0) == "rule"
    assert firewall.apply(JOIN, 1).revoked == cut
    assert at_web(firewall, ping(Q, WEB, code), 2) == ("disconnected" if cut else "connection")


def test_leaving_and_rules_that_are_not_in_force_cut_nothing() -> None:
    """SPEC 5.4, 5.5: a set that shrinks, a disabled deny rule, one of the other direction, one of other addresses."""
    for old, new in (
        ("action: deny,", "action: deny, enabled: false,"),
        ("id: cut, direction: ingress", "id: cut, direction: egress"),
        ("remote_group_id: sg-quarantine, priority: 2", "remote_ip_prefix: 198.51.100.0/24, priority: 2"),
    ):
        firewall = plane(POLICY.replace(old, new))
        assert at_web(firewall, udp(Q, WEB), 0) == "rule"
        assert firewall.apply(JOIN, 1).total == 0
        assert at_web(firewall, udp(Q, WEB), 2) == "connection"
    firewall = plane(POLICY.replace("[sg-peer]", "[sg-peer, sg-quarantine]"))
    assert at_web(firewall, udp(Q, WEB, 443), 0) == "rule"
    assert firewall.apply(LEAVE, 1).total == 0
    assert at_web(firewall, udp(Q, WEB, 443), 2) == "connection"


@pytest.mark.parametrize(
    "instance",
    [
        "{id: new, addresses: [192.0.2.1], security_groups: [sg-quarantine]}",
        "{id: q, addresses: [10.0.0.2, 192.0.2.1], security_groups: [sg-quarantine]}",
    ],
    ids=["an instance that is new", "an address that is new"],
)
def test_a_policy_that_brings_an_address_into_the_group(instance: str) -> None:
    """SPEC 5.4: whichever way the address came into the set."""
    before = POLICY.replace(
        '[10.0.0.2, "fd00::2"], security_groups: [sg-peer]', "[10.0.0.2], security_groups: [sg-quarantine]"
    )
    last = "  - {id: q, addresses: [10.0.0.2], security_groups: [sg-quarantine]}\n"
    assert before.endswith(last)
    after = before.removesuffix(last) + f"  - {instance}\n"
    firewall = plane(before)
    assert at_web(firewall, udp(OUT, WEB), 0) == "rule"
    result = firewall.apply({"apply_policy": Policy.parse(after)}, 1)
    assert (dict(result.by_instance), result.revoked) == ({}, 1)
    assert at_web(firewall, udp(OUT, WEB), 2) == "disconnected"


def test_an_address_that_moves_within_the_group_is_none_that_came() -> None:
    """SPEC 5.4: the set is one of addresses; a connection from it that an earlier rule admitted stays."""
    before = POLICY.replace("[sg-peer]", "[sg-quarantine]")
    after = before.replace("id: q,", "id: other,")
    firewall = plane(before)
    assert at_web(firewall, udp(Q, WEB, 443), 0) == "rule"
    assert firewall.apply({"apply_policy": Policy.parse(after)}, 1).total == 0


def test_changes_after_the_one_that_cut() -> None:
    """SPEC 5.3, 5.4: what was cut stays cut when its instance leaves at once; what came meanwhile is not cut."""
    firewall = plane()
    assert at_web(firewall, udp(Q, WEB), 0) == "rule"
    assert firewall.apply(JOIN, 1).revoked == 1
    assert firewall.apply(LEAVE, 2).total == 0
    assert at_web(firewall, udp(Q, WEB), 3) == "disconnected"
    assert at_web(firewall, udp(Q, WEB, 54), 3) == "rule"
    assert at_web(firewall, udp(Q, WEB), 31) == "rule"
    assert firewall.apply(JOIN, 32).revoked == 2


def test_reevaluate_does_not_keep_what_the_deny_rule_decides_about() -> None:
    """SPEC 5.7: until the deny rule has gone."""
    firewall = plane(POLICY + "conntrack: {on_change: reevaluate}\n")
    assert at_web(firewall, udp(Q, WEB), 0) == "rule"
    assert firewall.apply(JOIN, 1).revoked == 1
    assert at_web(firewall, udp(Q, WEB), 2) == "disconnected"
    firewall.apply({"delete_rule": {"id": "cut"}}, 3)
    assert at_web(firewall, udp(Q, WEB), 4) == "rule"


def test_many_come_at_a_time() -> None:
    """SPEC 5.4: each from its own address, at each instance of the group."""
    webs = [f"10.1.0.{n}" for n in range(1, 4)]
    others = [f"10.2.{n // 200}.{n % 200 + 1}" for n in range(500)]
    text = POLICY.split("instances:")[0] + "instances:\n"
    text += "".join(f"  - {{id: web-{n}, addresses: [{a}], security_groups: [sg-web]}}\n" for n, a in enumerate(webs))
    groups = ["sg-peer"] * len(others)

    def policy(quarantined: int) -> Policy:
        member = ["sg-quarantine"] * quarantined + groups[quarantined:]
        lines = (f"  - {{id: o{n}, addresses: [{a}], security_groups: [{member[n]}]}}\n" for n, a in enumerate(others))
        return Policy.parse(text + "".join(lines))

    firewall = DataPlane(policy(0), seed=1)
    for other in others:
        for web in webs:
            assert firewall.process(udp(other, web), 0).allowed
    result = firewall.apply({"apply_policy": policy(400)}, 1)
    assert (dict(result.by_instance), result.revoked) == ({}, 400 * 3)
    assert sum(not firewall.process(udp(other, web), 2).allowed for other in others for web in webs) == 400 * 3


@pytest.mark.parametrize("again", [False, True], ids=["the rest", "the first again"])
def test_fragments_prepared_before_a_quarantine_do_not_pass_it(again: bool) -> None:
    """SPEC 5.4: cut off at once, also the datagrams whose first fragment was allowed before."""
    firewall = plane()
    body = datagram(Q, WEB, 17, (4000, 53), bytes(56))
    whole = packet(Q, WEB, 17, body)

    def part(start: int, end: int) -> bytes:
        head = bytearray(whole[:20])
        head[2:4] = (20 + end - start).to_bytes(2, "big")
        head[6:8] = ((end < len(body)) << 13 | start // 8).to_bytes(2, "big")
        head[10:12] = bytes(2)
        head[10:12] = checksum(bytes(head)).to_bytes(2, "big")
        return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", bytes(head) + body[start:end])

    assert at_web(firewall, part(0, 32), 0) == "rule"
    firewall.apply(JOIN, 5)
    assert at_web(firewall, part(0, 32) if again else part(32, len(body)), 6) == "disconnected"
    assert at_web(firewall, part(32, len(body)), 7) == "disconnected"
