"""Model and engine against stories by hand from the seed and SPEC 5: what a change disconnects, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from . import frames
from .policy_model import RefusedChangeError
from .scene import Scene, group, instance, rule

PC, A, B, C = "203.0.113.9", "10.0.0.1", "10.0.0.2", "10.0.0.3"
IN, BACK = (4000, 22), (22, 4000)
CUT = "deny | ecs-a {} deny disconnected disconnected inbound"


def scene(**conntrack: Any) -> Scene:
    """ecs-a in sg-1 and sg-2, ecs-b in sg-2; everything allowed, sg-1 from the addresses of sg-3 and of `ag`."""
    sg_1 = group("sg-1", rule("in", remote_address_group_id="ag"), rule("peers", remote_group_id="sg-3"))
    sg_2 = group("sg-2", rule("out", "egress"), rule("off", enabled=False, priority=50))
    sg_3 = group("sg-3", rule("out3", "egress"))
    instances = [
        instance("ecs-a", A, "sg-1", "sg-2"),
        instance("ecs-b", B, "sg-2", "sg-3"),
        instance("ecs-c", C, "sg-3"),
    ]
    ag = {"id": "ag", "ip_version": 4, "ip_set": [f"{PC}/32"]}
    return Scene([sg_1, sg_2, sg_3], instances, address_groups=[ag], conntrack=conntrack)


def state(answer: str) -> str:
    """The state of an answer's last check."""
    return answer.split(" | ")[-1].split()[3]


def test_seed_icmp_persistent_connection() -> None:
    """Seed: a disconnected ICMP connection stays so for 30 s although pings go on; then the new rule is applied."""
    story = scene()
    story.ping(PC, A)
    story.at(10).change(add_rule={"security_group": "sg-1", "rule": rule("new", protocol="icmp", priority=2)})
    for second in (10, 20, 39.999):
        assert story.at(second).ping(PC, A) == CUT.format("ingress")
        assert story.ping(A, PC, reply=True) == CUT.format("egress")
    assert state(story.at(20).ping(PC, A, identifier=8)) == "new"
    assert story.at(40).ping(PC, A) == "allow | ecs-a ingress allow new rule in sg-1 inbound"


def test_hold_lasts_for_the_timeout_of_the_state() -> None:
    """SPEC 5.3: 600 s for an established TCP connection; a SYN on it does not help; an error about it is denied."""
    story = scene()
    about = frames.packet(A, PC, 6, frames.tcp(A, PC, BACK, 16, 1001, 101))
    story.handshake(PC, A, IN)
    story.at(100).change(update_rule={"id": "in", "priority": 3})
    assert story.tcp(PC, A, IN, "S", 7) == CUT.format("ingress")
    assert story.error("198.51.100.1", about, A) == CUT.format("ingress")
    assert story.at(699.999).tcp(PC, A, IN, "A", 101, 1001) == CUT.format("ingress")
    assert state(story.at(700).tcp(PC, A, IN, "A", 101, 1001)) == "invalid"
    assert state(story.tcp(PC, A, IN, "S", 7)) == "new"


def test_a_later_change_prolongs_nothing() -> None:
    """SPEC 5.3."""
    story = scene()
    story.ping(PC, A)
    story.at(1).change(delete_rule={"id": "peers"})
    story.at(20).change(delete_rule={"id": "off"})
    assert state(story.at(30.999).ping(PC, A)) == "disconnected"
    assert state(story.at(31).ping(PC, A)) == "new"


def test_an_entry_that_had_expired_is_not_cut() -> None:
    """SPEC 4.2, 5.3: what is gone when the change comes cannot be held."""
    story = scene()
    story.ping(PC, A)
    story.at(30).change(delete_rule={"id": "peers"})
    assert state(story.ping(PC, A)) == "new"


def test_outbound_stays_under_its_rule() -> None:
    """Seed and SPEC 5.2: outbound connections go on under the rule that admitted them, even when it is gone."""
    story = scene()
    story.datagram(17, A, PC, (5, 53))
    story.change(delete_rule={"id": "out"})
    kept = "allow | ecs-a ingress allow established connection out sg-2 outbound"
    assert story.at(29).datagram(17, PC, A, (53, 5)) == kept
    assert story.datagram(17, A, PC, (6, 53)) == "deny | ecs-a egress deny new no-rule-matched"


CUTTING: list[dict[str, Any]] = [
    {"add_rule": {"security_group": "sg-1", "rule": rule("x", "egress", action="deny", protocol="gre")}},
    {"add_rule": {"security_group": "sg-2", "rule": rule("x")}},
    {"update_rule": {"id": "off", "priority": 51}},
    {"delete_rule": {"id": "off"}},
    {"update_address_group": {"id": "ag", "ip_set": [f"{PC}/32", "198.51.100.0/24"]}},
    {"add_instance": {"security_group": "sg-3", "instance": "ecs-a"}},
    {"add_instance": {"security_group": "sg-2", "instance": "ecs-c"}},
    {"remove_instance": {"security_group": "sg-2", "instance": "ecs-a"}},
    {"remove_instance": {"security_group": "sg-2", "instance": "ecs-b"}},
]
SPARING: list[dict[str, Any]] = [
    {"add_rule": {"security_group": "sg-3", "rule": rule("x")}},
    {"update_rule": {"id": "in", "priority": 1, "action": "allow", "name": "other"}},
    {"update_rule": {"id": "in", "remote_address_group_id": "ag"}},
    {"update_address_group": {"id": "ag", "ip_set": [f"{PC}/32"]}},
]


@pytest.mark.parametrize("change", CUTTING, ids=str)
def test_changes_that_cut_inbound_connections(change: dict[str, Any]) -> None:
    """SPEC 5.1, 5.2: any rule of any of its SGs, an address group in use, members joining or leaving, itself too."""
    story = scene()
    story.ping(PC, A)
    story.change(**change)
    assert story.ping(PC, A) == CUT.format("ingress")


@pytest.mark.parametrize("change", SPARING, ids=str)
def test_changes_that_cut_nothing(change: dict[str, Any]) -> None:
    """SPEC 5.5: the same values, names only, or an SG that it is not in."""
    story = scene()
    story.ping(PC, A)
    story.change(**change)
    assert state(story.ping(PC, A)) == "established"


def test_order_of_groups_counts_for_its_instance_alone() -> None:
    """SPEC 5.5."""
    story = scene()
    story.change(add_rule={"security_group": "sg-2", "rule": rule("any", priority=99)})
    story.ping(PC, A)
    story.ping(PC, B)
    other = story.model.document
    swapped = [
        {**i, "security_groups": i["security_groups"][::-1]} if i["id"] == "ecs-a" else i for i in other["instances"]
    ]
    story.change(apply_policy={**other, "instances": swapped})
    assert state(story.ping(PC, A)) == "disconnected"
    assert state(story.ping(PC, B)) == "established"


def test_a_shrinking_remote_group_elsewhere() -> None:
    """SPEC 5.4: what `peers` admitted from an address that left sg-3 is cut; from one that stays, or by `in`, not."""
    story = scene()
    pings = [(B, A), (C, A), (PC, A)]
    assert [state(story.ping(*ends)) for ends in pings] == ["new", "new", "new"]
    story.change(remove_instance={"security_group": "sg-3", "instance": "ecs-b"})
    answers = [story.ping(*ends) for ends in pings]
    assert [state(answer) for answer in answers] == ["disconnected", "established", "established"]
    assert answers[0].split(" | ")[1].startswith("ecs-b egress allow established")


def test_a_deny_rule_elsewhere_whose_remote_group_grows() -> None:
    """SPEC 5.4: what it would decide about now is cut; what an earlier rule allows, and from other addresses, not."""
    quarantine = rule("not", action="deny", remote_group_id="sg-q", priority=2)
    sg_1 = group("sg-1", rule("ssh", protocol="tcp", multiport="22"), quarantine, rule("in", priority=3))
    sg_2 = group("sg-2", rule("out", "egress"), rule("in2"))
    instances = [instance("ecs-a", A, "sg-1"), instance("ecs-b", B, "sg-2"), instance("ecs-c", C, "sg-2")]
    story = Scene([sg_1, sg_2, group("sg-q", rule("x"))], instances)
    story.handshake(B, A, IN)
    assert [state(story.ping(B, A)), state(story.ping(C, A))] == ["new", "new"]
    story.change(add_instance={"security_group": "sg-q", "instance": "ecs-b"})
    assert [state(story.ping(B, A)), state(story.ping(C, A))] == ["disconnected", "established"]
    assert state(story.tcp(B, A, IN, "A", 101, 1001)) == "established"
    assert state(story.ping(B, A, identifier=9)) == "new"


def test_a_denied_reply_does_not_reach_the_other_end() -> None:
    """SPEC 1: A's egress denies a cut connection's packet, so that B has no check; B's own outbound one lives on."""
    story = scene()
    story.ping(B, A)
    story.change(add_rule={"security_group": "sg-1", "rule": rule("x")})
    assert story.ping(A, B, reply=True) == CUT.format("egress")
    first, second = story.ping(B, A).split(" | ")[1:]
    assert first == "ecs-b egress allow established connection out sg-2 outbound"
    assert second == "ecs-a ingress deny disconnected disconnected inbound"


@pytest.mark.parametrize(
    "change",
    [
        {"delete_rule": {"id": "none"}},
        {"update_rule": {"id": "none", "priority": 2}},
        {"add_rule": {"security_group": "none", "rule": rule("x")}},
        {"add_rule": {"security_group": "sg-1", "rule": rule("out")}},
        {"remove_instance": {"security_group": "sg-3", "instance": "ecs-c"}},
        {"update_address_group": {"id": "none", "ip_set": [A]}},
    ],
    ids=str,
)
def test_a_refused_change_does_nothing(change: dict[str, Any]) -> None:
    """SPEC 5.6."""
    story = scene()
    story.ping(PC, A)
    before = story.model.document
    with pytest.raises(RefusedChangeError):
        story.change(**change)
    assert story.model.document == before
    assert state(story.ping(PC, A)) == "established"


def test_reevaluate() -> None:
    """SPEC 5.7: the initiator's next packet is judged by the rules of now; the other side's never is."""
    story = scene(on_change="reevaluate")
    story.datagram(17, PC, A, IN)
    story.change(update_address_group={"id": "ag", "ip_set": ["198.51.100.0/24"]})
    assert story.datagram(17, A, PC, BACK) == CUT.format("egress")
    assert story.datagram(17, PC, A, IN) == CUT.format("ingress")
    story.change(add_rule={"security_group": "sg-2", "rule": rule("x")})
    assert story.datagram(17, A, PC, BACK) == CUT.format("egress")
    assert story.datagram(17, PC, A, IN) == "allow | ecs-a ingress allow established rule x sg-2 inbound"
    assert story.datagram(17, A, PC, BACK) == "allow | ecs-a egress allow established connection x sg-2 inbound"


def test_a_late_reply_does_not_turn_a_held_connection_round() -> None:
    """SPEC 5.7: although the egress rules would allow it as new."""
    story = scene()
    story.datagram(17, PC, A, IN)
    story.at(5).change(delete_rule={"id": "peers"})
    assert story.at(34.999).datagram(17, A, PC, BACK) == CUT.format("egress")
    assert story.datagram(17, PC, A, IN) == CUT.format("ingress")
