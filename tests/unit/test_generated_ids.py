"""Rules without an id, from one policy to the next (SPEC 2, 5.5): known again by what is in them."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane import DataPlane, Policy
from dataplane.conntrack import disconnection
from dataplane.policy.changes import ApplyPolicy, apply, parse_change
from tests.property.frames import datagram, ethernet, packet

DNS = '{direction: ingress, protocol: udp, multiport: "53"}'
WEB = '{direction: ingress, protocol: udp, multiport: "80"}'
ICMP = "{direction: ingress, protocol: icmp}"
OUT = "{direction: egress}"
NAMED = "{id: mine, direction: ingress, protocol: tcp, multiport: 22}"


def policy(*rules: str, other: str = OUT) -> Policy:
    return Policy.parse(f"""
security_groups:
  - {{id: sg, security_group_rules: [{", ".join(rules)}]}}
  - {{id: other, security_group_rules: [{other}]}}
instances:
  - {{id: a, addresses: [10.0.0.1], security_groups: [sg]}}
  - {{id: b, addresses: [10.0.0.2], security_groups: [other]}}
""")


def step(old: Policy, new: Policy) -> tuple[Policy, set[str]]:
    """The policy that is then in force, and the instances that lose their inbound connections."""
    after = apply(old, ApplyPolicy(policy=new))
    cut = set(disconnection(old, after).instances)
    assert set(disconnection(old, new).instances) == cut, "whether or not the ids were taken over"
    return after, cut


def ids(of: Policy) -> list[str]:
    return [rule.id for rule in of.group("sg").security_group_rules]


def test_another_order_changes_nothing() -> None:
    """SPEC 5.5: a change that changes nothing disconnects nothing; each rule keeps its id."""
    after, cut = step(policy(DNS, WEB, OUT), policy(OUT, DNS, WEB))
    assert (ids(after), cut) == (["sg/3", "sg/1", "sg/2"], set())
    back, cut = step(after, policy(DNS, WEB, OUT))
    assert (ids(back), cut) == (["sg/1", "sg/2", "sg/3"], set())


def test_a_change_of_one_rule_among_many_leaves_the_others_their_ids() -> None:
    """SPEC 5.1, 5.2: it is a change of the group all the same."""
    after, cut = step(policy(DNS, WEB, OUT), policy(DNS, ICMP, OUT))
    assert (ids(after), cut) == (["sg/1", "sg/2", "sg/3"], {"a"})
    after, cut = step(policy(DNS, WEB, OUT), policy(ICMP, DNS, WEB, OUT))
    assert (ids(after), cut) == (["sg/1-2", "sg/1", "sg/2", "sg/3"], {"a"})
    after, cut = step(policy(DNS, WEB, OUT), policy(WEB, OUT))
    assert (ids(after), cut) == (["sg/2", "sg/3"], {"a"})


def test_rules_that_stay_are_the_same_objects() -> None:
    """A change rebuilds only what it touches."""
    old = policy(DNS, WEB, OUT)
    after, _ = step(old, policy(ICMP, DNS, WEB, OUT))
    kept = after.group("sg").security_group_rules[1:]
    assert all(r is s for r, s in zip(kept, old.group("sg").security_group_rules, strict=True))
    assert after.group("other") is old.group("other")
    reordered, _ = step(old, policy(WEB, DNS, OUT))
    again = apply(reordered, ApplyPolicy(policy=policy(WEB, DNS, OUT)))
    assert again is reordered


def test_names_and_descriptions_change_nothing() -> None:
    """SPEC 5.5; also of two rules alike, each of which keeps an id."""
    named = '{name: new, direction: ingress, protocol: udp, multiport: "53"}'
    after, cut = step(policy(DNS, WEB), policy(WEB, named))
    assert (ids(after), cut) == (["sg/2", "sg/1"], set())
    assert after.rule("sg/1").name == "new"
    after, cut = step(policy(DNS, named), policy(named, DNS))
    assert (ids(after), cut) == (["sg/2", "sg/1"], set())


def test_one_of_two_rules_alike_goes() -> None:
    """SPEC 5.1: a rule deleted."""
    after, cut = step(policy(DNS, DNS), policy(DNS))
    assert (ids(after), cut) == (["sg/1"], {"a"})


def test_an_id_that_is_written_is_what_a_rule_is_known_by() -> None:
    """SPEC 2: ids are what changes refer to; another one is another rule, unless there was none."""
    other = NAMED.replace("mine", "yours")
    assert step(policy(NAMED, DNS), policy(DNS, NAMED))[1] == set()
    assert step(policy(NAMED), policy(other))[1] == {"a"}
    without = NAMED.replace("id: mine, ", "")
    after, cut = step(policy(DNS, without), policy(NAMED, DNS))
    assert (ids(after), cut) == (["mine", "sg/1"], set())
    assert step(after, policy(without, DNS))[1] == set()


def test_an_id_that_another_rule_now_has_by_name_is_given_up() -> None:
    """SPEC 2: ids are unique within the document."""
    taken = NAMED.replace("mine", "sg/1")
    after, cut = step(policy(DNS, WEB), policy(WEB, DNS, taken))
    assert cut == {"a"}
    assert ids(after) == ["sg/2", "sg/2-2", "sg/1"]


@pytest.mark.parametrize(
    "change",
    [
        {"add_rule": {"security_group": "sg", "rule": {"direction": "ingress", "protocol": "gre"}}},
        {"update_rule": {"id": "sg/1", "priority": 5}},
    ],
)
def test_rules_of_other_changes_are_known_again_too(change: dict[str, Any]) -> None:
    """SPEC 5.5: the document with the same change written into it, in another order."""
    added = [DNS, WEB, "{direction: ingress, protocol: gre}"]
    updated = [DNS.replace("{", "{priority: 5, "), WEB]
    before = apply(policy(DNS, WEB), parse_change(change))
    after, cut = step(before, policy(*reversed(added if "add_rule" in change else updated)))
    assert (ids(after), cut) == (ids(before)[::-1], set())


def test_connections_go_on_when_rules_change_places() -> None:
    """SPEC 5.5, in force."""
    firewall = DataPlane(policy(DNS, WEB, OUT), seed=1)
    body = datagram("192.0.2.1", "10.0.0.1", 17, (4000, 80))
    frame = ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packet("192.0.2.1", "10.0.0.1", 17, body))
    assert firewall.process(frame, time=0.0).checks[0].rule == "sg/2"
    assert firewall.apply({"apply_policy": policy(WEB, OUT, DNS)}, 1.0).total == 0
    verdict = firewall.process(frame, time=2.0)
    assert (verdict.verdict, verdict.checks[0].reason, verdict.checks[0].rule) == ("allow", "connection", "sg/2")
    # As a connection of its own, when the first is over.
    assert firewall.process(frame, time=40.0).checks[0].rule == "sg/2"
