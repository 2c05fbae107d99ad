"""What a reload would do to live connections, before it does (SPEC 5.2, 8.4)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dataplane import Policy
from dataplane._core import ffi, lib
from dataplane.live.firewall import Firewall
from dataplane.live.records import difference_record

from .scene import ICMP, POLICY, UDP, filled, saved
from .served import Served
from .test_ctl import ctl

#: What goes out is denied by another rule, or by none.
DENYING = POLICY.replace("{id: out, direction: egress}", "{id: no-dns, direction: egress, protocol: udp, action: deny}")
MOVED = POLICY.replace("{id: out, direction: egress}", "{id: to-all, direction: egress}")


def difference(firewall: Firewall, text: str) -> dict[str, Any]:
    return difference_record(firewall, firewall.changed({"apply_policy": Policy.parse(text)}))


def test_what_stays_and_would_be_denied_is_told_with_both_rules() -> None:
    """SPEC 5.2: outbound connections stay; what is cut is told apart, and what only has another rule not at all."""
    firewall = filled()
    found = difference(firewall, DENYING)
    assert found["connections"] == {"same": 1, "changed": 2}
    assert sorted((flow["flow"], flow["new"]["reason"], flow["new"]["rule"]) for flow in found["flows"]) == [
        ("icmp 10.0.0.1 > 192.0.2.9 8 id 77", "no-rule-matched", None),
        ("udp 10.0.0.1:5353 > 192.0.2.53:53", "rule", "no-dns"),
    ]
    assert all(flow["old"] == {"verdict": "allow", "reason": "connection", "rule": "out"} for flow in found["flows"])
    assert found["rules"] == [
        {"old": "in6", "new": "in6", "connections": 0, "disconnected": 1},
        {"old": "out", "new": None, "connections": 1, "disconnected": 0},
        {"old": "out", "new": "no-dns", "connections": 1, "disconnected": 0},
        {"old": "web", "new": "web", "connections": 0, "disconnected": 1},
    ]
    assert difference(firewall, MOVED)["connections"] == {"same": 3, "changed": 0}


@pytest.mark.parametrize("workers", [1, 3])
def test_it_is_what_then_happens(workers: int) -> None:
    """SPEC 5.2, 5.4: a rule goes, a deny rule gets somebody, a remote group loses somebody, an instance goes."""
    denying = (
        "      - {id: jail, direction: ingress, remote_group_id: other, action: deny}\n"
        "      - {id: far, direction: ingress, protocol: icmp}\n"
        "      - {id: out, direction: egress}\n"
    )
    text = POLICY.replace("      - {id: out, direction: egress}\n", denying)
    text = text.replace("address_groups:", "  - {id: lone, security_group_rules: []}\naddress_groups:")
    text += "  - {id: c, addresses: [192.0.2.9], security_groups: [sg]}\n"
    for change in (
        {"delete_rule": {"id": "web"}},
        {"update_instance": {"id": "c", "security_groups": ["sg", "other"]}},
        {"update_instance": {"id": "b", "security_groups": ["lone"]}},
        {"delete_instance": {"id": "b"}},
    ):
        firewall = Firewall(Policy.parse(text), seed=1, workers=workers)
        icmp = {"protocol": ICMP, "state": lib.DP_CONN_ICMP_TWO_WAY, "rule": firewall.names.rule_number("far", "sg")}
        udp = {"protocol": UDP, "state": lib.DP_CONN_OTHER_TWO_WAY, "rule": firewall.names.rule_number("self", "sg")}
        listed = firewall.names.rule_number("listed", "other")
        records = [
            saved(firewall, "a", "10.0.0.1", "192.0.2.9"),
            saved(firewall, "a", "10.0.0.1", "198.51.100.1", local_port=7, remote_port=8, **icmp),
            saved(firewall, "a", "10.0.0.1", "192.0.2.9", local_port=9, **udp),
            saved(firewall, "b", "10.0.0.2", "192.0.2.9", rule=listed),
        ]
        assert firewall.restore(records, 0) == 4
        before = bytes(ffi.buffer(firewall.counters()))
        policy = firewall.changed(change)
        found = difference_record(firewall, policy)
        assert bytes(ffi.buffer(firewall.counters())) == before
        told = sum(pair["disconnected"] for pair in found["rules"])
        live = {c for c in firewall.connections if not c.disconnected}
        firewall.replace(policy)
        assert told == len(live) - len([c for c in firewall.connections if not c.disconnected]), change


def test_what_the_rules_in_force_would_deny_too_is_no_difference() -> None:
    """An outbound connection that a change has left alone once is not told with each reload."""
    firewall = filled()
    firewall.apply({"delete_rule": {"id": "out"}})
    renamed = POLICY.replace("      - {id: out, direction: egress}\n", "").replace("{id: web,", "{id: www,")
    assert difference(firewall, renamed)["connections"]["changed"] == 0


def test_the_command_says_it_by_its_status_too(served: Served) -> None:
    """Exit status as that of `diff`; nothing changes."""
    assert ctl(served, "reload", "--diff").returncode == 0
    served.policy.write_text(DENYING)
    done = ctl(served, "reload", "--diff", "--json")
    assert (done.returncode, done.stderr) == (1, b"")
    told = json.loads(done.stdout)
    assert told["disconnected"] == {"total": 2, "by_instance": {"a": 2}, "revoked": 0}
    assert (told["policy"], told["connections"]["changed"], len(told["flows"])) == (str(served.policy), 2, 2)
    assert served.call("status")["generation"] == 1
    text = ctl(served, "reload", "--diff").stdout.decode()
    assert "2 connections would be disconnected\n  a: 2\n2 connections would stay, and the new rules would deny" in text
    assert "udp 10.0.0.1:5353 > 192.0.2.53:53  out          no-dns" in text


def test_another_document_may_be_asked_about(served: Served, tmp_path: Any) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(DENYING)
    assert ctl(served, "reload", "--diff", str(other)).returncode == 1
    assert ctl(served, "reload", str(other)).returncode == 2
    other.write_text("instances: 5\n")
    done = ctl(served, "reload", "--diff", str(other))
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert done.stderr.startswith(f"{other}:1:".encode())
