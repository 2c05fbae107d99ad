"""Explanations (SPEC 8.3): the library's values, and the command line with its texts and exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Packet
from scapy.utils import wrpcap

from dataplane import Policy
from dataplane.insight.explain import Explanation, as_capture, explain
from dataplane.insight.packet_text import parse_packet
from dataplane.insight.replayed_packet import NoSuchPacketError, Replayed
from dataplane.policy.changes import parse_change
from dataplane.policy.schedule import TimedChange
from dataplane.replay.window import Part, Window, read_mappings

A, PEER, STRANGER = "192.168.0.10", "172.16.0.9", "172.17.0.9"

POLICY = """
security_groups:
  - id: sg-a
    security_group_rules:
      - {id: A01, direction: ingress, protocol: tcp, multiport: "22,8000-8010", remote_ip_prefix: 172.16.0.0/24}
      - {id: A02, direction: ingress, protocol: icmp, icmp_type: echo-request, icmp_code: 0, enabled: false}
      - {id: A03, direction: ingress, remote_group_id: sg-b, priority: 5}
      - {id: A04, direction: ingress, remote_address_group_id: office, protocol: udp, multiport: "53", priority: 5}
      - {id: A05, direction: ingress, protocol: tcp, multiport: "80", action: deny, priority: 5}
      - {id: A-out, direction: egress, protocol: tcp}
  - id: sg-b
    security_group_rules:
      - {id: B01, direction: ingress, protocol: tcp, multiport: "80"}
      - {id: B-out, direction: egress, protocol: udp}
address_groups: [{id: office, ip_version: 4, ip_set: [198.51.100.0/24]}]
instances:
  - {id: ecs-a, addresses: [192.168.0.10], security_groups: [sg-a, sg-b]}
  - {id: ecs-c, addresses: [192.168.0.30], security_groups: [sg-c]}
"""
POLICY = POLICY.replace(
    "address_groups:", "  - {id: sg-c, security_group_rules: [{id: C-out, direction: egress}]}\naddress_groups:"
)


def explained(text: str, policy: str = POLICY) -> dict[str, Any]:
    """A packet by itself."""
    with as_capture([parse_packet(text)], [0]) as path:
        return explain(Replayed(Policy.parse(policy), [path]), 1).to_dict()


def tried(check: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """The mismatch of each rule by group."""
    return {group["id"]: {rule["id"]: rule["mismatch"] for rule in group["rules"]} for group in check["groups"]}


def at(time: float, packet: Packet) -> Packet:
    packet.time = 1000 + time
    return packet


def segment(time: float, flags: str, seq: int, ack: int = 0, *, answer: bool = False, peer: str = PEER) -> Packet:
    """A TCP segment of a client's port 4000 to ecs-a's port 22, or back."""
    ends = {"src": A, "dst": peer} if answer else {"src": peer, "dst": A}
    ports = {"sport": 22, "dport": 4000} if answer else {"sport": 4000, "dport": 22}
    return at(time, IP(**ends) / TCP(**ports, flags=flags, seq=seq, ack=ack))


HANDSHAKE = [
    segment(0, "S", 100),
    segment(0.1, "SA", 500, 101, answer=True),
    segment(0.2, "A", 101, 501),
]


class Scene:
    """A capture with a schedule."""

    def __init__(self, folder: Path, packets: Sequence[Packet], *changes: tuple[float, dict[str, Any]]) -> None:
        self.path = folder / "capture.pcap"
        wrpcap(str(self.path), packets, linktype=101)
        schedule = [TimedChange(time, parse_change(change)) for time, change in changes]
        self.replayed = Replayed(Policy.parse(POLICY), [str(self.path)], schedule)

    def explain(self, packet: int) -> Explanation:
        return explain(self.replayed, packet)


def history(explanation: Explanation) -> list[tuple[int | None, float, str]]:
    """The events of the last check's connection, with seconds since the first packet."""
    found = explanation.to_dict()["checks"][-1]["connection"]["history"]
    return [(event["packet"], round(event["time"] - 1000, 6), event["event"]) for event in found]


# ---- rules ----


def test_fields_of_the_answer() -> None:
    """SPEC 8.3, the object of `--json`, name by name."""
    answer = explained(f"tcp {PEER}:4000 > {A}:22 S")
    assert list(answer) == ["verdict", "checks", "remedies"]
    (check,) = answer["checks"]
    fields = ["instance", "direction", "verdict", "state", "reason", "cause", "rule", "security_group"]
    assert list(check) == [*fields, "connection", "groups"]
    assert [check[field] for field in fields] == ["ecs-a", "ingress", "allow", "new", "rule", None, "A01", "sg-a"]
    assert check["connection"] == {
        "origin": "inbound",
        "state": "SYN_SENT",
        "opened_by": 1,
        "rule": "A01",
        "history": [{"packet": 1, "time": 0.0, "event": "opened"}],
    }
    assert check["groups"] == [
        {"id": "sg-a", "rules": [{"id": "A01", "action": "allow", "priority": 1, "matched": True, "mismatch": []}]}
    ]
    assert list(answer["remedies"][0]) == ["change", "verdict"]


def test_mismatch_names_every_field_that_did_not_fit() -> None:
    """SPEC 8.3: in the order tried, deny before allow at the same priority, through all groups."""
    (check,) = explained(f"tcp {STRANGER}:4000 > {A}:443")["checks"]
    assert check["reason"] == "no-rule-matched"
    assert tried(check) == {
        "sg-a": {
            "A01": ["multiport", "remote_ip_prefix"],
            "A02": ["enabled", "protocol", "icmp_type", "icmp_code"],
            "A05": ["multiport"],
            "A03": ["remote_group_id"],
            "A04": ["protocol", "multiport", "remote_address_group_id"],
        },
        "sg-b": {"B01": ["multiport"]},
    }


def test_groups_end_with_the_rule_that_decided() -> None:
    """SPEC 8.3: a deny rule decides too, and what stands behind it was not tried."""
    (check,) = explained(f"tcp {STRANGER}:4000 > {A}:80")["checks"]
    assert (check["verdict"], check["rule"]) == ("deny", "A05")
    assert tried(check) == {
        "sg-a": {
            "A01": ["multiport", "remote_ip_prefix"],
            "A02": ["enabled", "protocol", "icmp_type", "icmp_code"],
            "A05": [],
        }
    }


def test_direction_and_ethertype_are_set_aside() -> None:
    """SPEC 8.3: rules of another direction or family are not among those tried."""
    (check,) = explained(f"udp {A}:1 > {STRANGER}:1")["checks"]
    assert tried(check) == {"sg-a": {"A-out": ["protocol"]}, "sg-b": {"B-out": []}}


def test_ports_and_types_are_compared_whatever_the_protocol() -> None:
    """SPEC 8.3, `mismatch`: udp to port 22 misfits the protocol of a rule about tcp 22, and not its ports."""
    (check,) = explained(f"udp {PEER}:4000 > {A}:22")["checks"]
    assert tried(check)["sg-a"]["A01"] == ["protocol"]
    (check,) = explained(f"icmp {PEER} > {A} echo-request/3")["checks"]
    assert tried(check)["sg-a"]["A02"] == ["enabled", "icmp_code"]
    assert tried(check)["sg-a"]["A01"] == ["protocol", "multiport"]


def test_neither_side_is_an_instance() -> None:
    assert explained("tcp 10.0.0.1:1 > 10.0.0.2:2") == {"verdict": "bypass", "checks": [], "remedies": []}


def test_later_fragments_are_explained_by_their_first(tmp_path: Path) -> None:
    """SPEC 4.6, 8.3: the rules have seen the ports of the first, in any order of arrival."""
    whole = IP(bytes(IP(src=PEER, dst=A, id=7) / TCP(sport=4000, dport=80, flags="S") / bytes(64)))
    body = bytes(whole)[20:]
    pieces = [
        IP(src=PEER, dst=A, id=7, proto=6, flags="MF", frag=0) / body[:40],
        IP(src=PEER, dst=A, id=7, proto=6, frag=5) / body[40:],
    ]
    other = at(0, IP(src=PEER, dst=A) / TCP(sport=4001, dport=443, flags="S"))
    for order in (pieces, pieces[::-1]):
        scene = Scene(tmp_path, [other, *(at(0.1, piece.copy()) for piece in order)])
        for number in (2, 3):
            (check,) = scene.explain(number).to_dict()["checks"]
            assert (check["rule"], list(tried(check)["sg-a"])[-1]) == ("A05", "A05")


# ---- connections ----


def test_a_fragment_that_waited_belongs_to_the_connection_of_its_first(tmp_path: Path) -> None:
    """SPEC 4.6, 8.3: the record names the packet that opened it, and so does the explanation."""
    body = bytes(IP(src=PEER, dst=A) / TCP(sport=4000, dport=22, flags="S") / bytes(44))[20:]
    late = at(0, IP(src=PEER, dst=A, id=7, proto=6, frag=5) / body[40:])
    first = at(1, IP(src=PEER, dst=A, id=7, proto=6, flags="MF", frag=0) / body[:40])
    scene = Scene(tmp_path, [late, first])
    for number in (1, 2):
        (check,) = scene.explain(number).to_dict()["checks"]
        assert check["connection"] is not None
        assert check["connection"]["opened_by"] == 2
        assert [event["event"] for event in check["connection"]["history"]] == ["opened"]


def test_history_of_a_connection_that_was_cut(tmp_path: Path) -> None:
    """SPEC 8.3, 5.2, 5.3: opened, established, cut by which change, held until when."""
    change = {"update_rule": {"id": "B01", "multiport": "81"}}
    nothing = {"update_rule": {"id": "B01", "description": "new words"}}
    packets = [*HANDSHAKE, segment(5, "A", 101, 501)]
    scene = Scene(tmp_path, packets, (1, nothing), (1, change), (1, {"delete_rule": {"id": "A02"}}))
    explanation = scene.explain(4)
    assert explanation.checks[0].check.reason == "disconnected"
    assert history(explanation) == [
        (1, 0, "opened"),
        (2, 0.1, "answered"),
        (3, 0.2, "established"),
        (None, 1, "disconnected"),
        (None, 601, "held-until"),
    ]
    connection = explanation.checks[0].connection
    assert connection
    assert connection.history[-2].change is scene.replayed.changes[1]
    assert (connection.state, connection.rule) == ("ESTABLISHED", "A01")
    assert explanation.remedies == ()
    assert explanation.to_dict()["checks"][0]["groups"] == []


def test_history_ends_with_the_packet(tmp_path: Path) -> None:
    """SPEC 8.3: as it was judged there: nothing of what came behind it."""
    closing = [segment(1, "FA", 101, 501), segment(1.1, "A", 501, 102, answer=True), segment(1.2, "R", 102)]
    scene = Scene(tmp_path, [*HANDSHAKE, *closing])
    events = ["opened", "answered", "established", "closing", "half-closed", "reset"]
    for number, state in enumerate(("SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "CLOSE"), 1):
        explanation = scene.explain(number)
        assert [event for _, _, event in history(explanation)] == events[:number]
        connection = explanation.checks[0].connection
        assert connection
        assert connection.state == state


def test_both_connections_of_a_packet_between_two_instances(tmp_path: Path) -> None:
    """SPEC 1: each instance has a connection of its own, of the other origin."""
    packets = [at(0, IP(src="192.168.0.30", dst=A) / TCP(sport=1, dport=80, flags="S"))]
    allowed = {"delete_rule": {"id": "A05"}}
    answer = Scene(tmp_path, packets, (0, allowed)).explain(1).to_dict()
    assert [check["connection"]["origin"] for check in answer["checks"]] == ["outbound", "inbound"]
    assert [check["connection"]["rule"] for check in answer["checks"]] == ["C-out", "B01"]


def test_reevaluated_connection_is_kept(tmp_path: Path) -> None:
    """SPEC 5.7: the rules of then keep it, and the history says by which packet."""
    policy = Policy.parse(POLICY + "conntrack: {on_change: reevaluate}\n")
    scene = Scene(tmp_path, [*HANDSHAKE, segment(5, "A", 101, 501)], (1, {"delete_rule": {"id": "B01"}}))
    replayed = Replayed(policy, scene.replayed.paths, scene.replayed.changes)
    explanation = explain(replayed, 4)
    assert history(explanation)[3:] == [(None, 1, "disconnected"), (4, 5, "kept")]
    assert explanation.to_dict()["checks"][0]["groups"][0]["rules"][-1]["id"] == "A01"


def test_a_long_history_is_bounded(tmp_path: Path) -> None:
    """What the history of one connection takes is bounded, and what it has lost is counted."""
    policy = Policy.parse(POLICY + "conntrack: {on_change: reevaluate}\n")
    packets = [*HANDSHAKE, *(segment(n, "A", 101, 501) for n in range(1, 151))]
    changes = [(n - 0.5, {"update_rule": {"id": "B01", "multiport": str(n)}}) for n in range(1, 151)]
    scene = Scene(tmp_path, packets, *changes)
    (check,) = explain(Replayed(policy, scene.replayed.paths, scene.replayed.changes), 153).checks
    assert check.connection
    assert len(check.connection.history) + check.connection.more >= 300
    assert check.connection.more > 0


def test_earlier_packets_of_a_flow_without_connection(tmp_path: Path) -> None:
    """What a segment without a connection should have had: a SYN that was denied, or a connection that is gone."""
    denied = Scene(tmp_path, [segment(0, "S", 100, peer=STRANGER), segment(1, "A", 101, 1, peer=STRANGER)])
    (check,) = denied.explain(2).checks
    assert check.check.cause == "tcp-no-connection"
    assert check.earlier
    assert (check.earlier.packet, check.earlier.check.reason) == (1, "no-rule-matched")
    gone = Scene(tmp_path, [*HANDSHAKE, segment(700, "A", 101, 501)])
    (check,) = gone.explain(4).checks
    assert check.earlier
    assert check.earlier.connection
    last = check.earlier.connection.history[-1]
    assert (last.event, round(last.time_ns / 1e9 - 1000, 6)) == ("expired", 600.2)


def test_related_error_tells_of_its_connection(tmp_path: Path) -> None:
    """SPEC 4.5: an ICMP error belongs to the connection that it quotes."""
    quoted = bytes(IP(bytes(HANDSHAKE[1])))[:28]
    scene = Scene(tmp_path, [*HANDSHAKE, at(1, IP(src="10.9.9.9", dst=A) / ICMP(type=3, code=4) / quoted)])
    explanation = scene.explain(4)
    assert explanation.checks[0].check.reason == "related"
    assert history(explanation)[0] == (1, 0, "opened")


def test_captures_taken_at_a_port(tmp_path: Path) -> None:
    """SPEC 7, At a port: what is from another sender than the instance has come to it, whatever its address."""
    scene = Scene(tmp_path, [at(0, IP(src="10.9.9.9", dst="10.8.8.8") / UDP(sport=1, dport=2))])
    assert scene.explain(1).verdict == "bypass"
    at_port = Replayed(scene.replayed.policy, scene.replayed.paths, at="ecs-a")
    (check,) = explain(at_port, 1).checks
    assert (check.check.instance, check.check.verdict) == ("ecs-a", "deny")


def test_a_part_of_the_captures_with_other_addresses(tmp_path: Path) -> None:
    """SPEC 8.3: as it was judged in a replay with `--time` and `--map`: numbers, connections, remedies."""
    before = at(-1, IP(src=STRANGER, dst=A) / UDP(sport=1, dport=2))
    scene = Scene(tmp_path, [before, *HANDSHAKE])
    part = Part(Window.read("1..1.05"), read_mappings([f"{PEER}={STRANGER}"]))
    found = explain(Replayed(scene.replayed.policy, scene.replayed.paths, part=part), 1).to_dict()
    assert (found["verdict"], found["checks"][0]["reason"]) == ("deny", "no-rule-matched")
    assert found["remedies"][0]["change"]["add_rule"]["rule"]["remote_ip_prefix"] == f"{STRANGER}/32"
    late = Part(Window.read("1.15.."), ())
    (check,) = explain(Replayed(scene.replayed.policy, scene.replayed.paths, part=late), 1).checks
    assert check.check.cause == "tcp-no-connection"


def test_packet_that_the_captures_do_not_have(tmp_path: Path) -> None:
    with pytest.raises(NoSuchPacketError) as error:
        Scene(tmp_path, HANDSHAKE).explain(4)
    assert error.value.packets == 3


# ---- remedies ----


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (
            f"tcp {STRANGER}:4000 > {A}:22",
            {
                "add_rule": {
                    "security_group": "sg-a",
                    "rule": {
                        "direction": "ingress",
                        "protocol": "tcp",
                        "multiport": "22",
                        "remote_ip_prefix": f"{STRANGER}/32",
                        "action": "allow",
                    },
                }
            },
        ),
        (f"tcp {PEER}:4000 > {A}:443", {"update_rule": {"id": "A01", "multiport": "22,8000-8010,443"}}),
        (f"icmp {PEER} > {A} echo-request", {"update_rule": {"id": "A02", "enabled": True}}),
        (f"udp {PEER}:1 > {A}:53", {"update_address_group": {"id": "office", "ip_set": ["198.51.100.0/24", PEER]}}),
        (f"udp 192.168.0.30:1 > {A}:99", {"add_instance": {"security_group": "sg-b", "instance": "ecs-c"}}),
        (f"tcp {PEER}:1 > {A}:80", {"update_rule": {"id": "A05", "enabled": False}}),
        (f"tcp {PEER}:1 > {A}:22", {"update_rule": {"id": "A01", "multiport": "8000-8010"}}),
        (f"tcp {PEER}:1 > {A}:22", {"update_rule": {"id": "A01", "enabled": False}}),
    ],
)
def test_remedies_of_each_kind(text: str, remedy: dict[str, Any]) -> None:
    """SPEC 8.3: single changes of SPEC 7, after which the verdict is the other one; a rule of its own is narrowest."""
    answer = explained(text)
    other = "allow" if answer["verdict"] == "deny" else "deny"
    assert {"change": remedy, "verdict": other} in answer["remedies"]
    assert list(answer["remedies"][0]["change"]) == ["add_rule"]


def test_only_what_turns_the_verdict_is_a_remedy() -> None:
    """SPEC 8.3, `each tried`: below a disabled deny rule nothing would allow, so that to disable it is none."""
    policy = POLICY.replace(
        '{id: B01, direction: ingress, protocol: tcp, multiport: "80"}', "{id: B01, direction: ingress, protocol: gre}"
    )
    text = f"tcp {PEER}:1 > {A}:80"
    disabled = {"change": {"update_rule": {"id": "A05", "enabled": False}}, "verdict": "allow"}
    assert disabled in explained(text)["remedies"]
    assert disabled not in explained(text, policy)["remedies"]


def test_a_deny_rule_that_nothing_goes_before(tmp_path: Path) -> None:
    """SPEC 3.1: at priority 1 deny goes first, so that a new rule in its group is no remedy."""
    policy = POLICY.replace('multiport: "80", action: deny, priority: 5', 'multiport: "80", action: deny')
    remedies = explained(f"tcp {PEER}:1 > {A}:80", policy)["remedies"]
    assert [remedy["change"] for remedy in remedies] == [{"update_rule": {"id": "A05", "enabled": False}}]


@pytest.mark.parametrize(
    ("rule", "remedies"),
    [
        ('multiport: "80,443"', [{"update_rule": {"id": "no", "multiport": "443"}}]),
        ('multiport: "79-81,443"', [{"update_rule": {"id": "no", "multiport": "79,81,443"}}]),
        ('multiport: "80"', []),
        ("remote_address_group_id: bad", [{"update_address_group": {"id": "bad", "ip_set": ["10.8.0.0/24"]}}]),
    ],
)
def test_a_deny_rule_is_narrowed_before_it_is_disabled(rule: str, remedies: list[dict[str, Any]]) -> None:
    """SPEC 8.3, `the narrowest first`: where no new rule can go before it, it loses the port or the address."""
    policy = f"""
security_groups:
  - id: g
    security_group_rules:
      - {{id: "no", direction: ingress, protocol: tcp, action: deny, {rule}}}
      - {{id: all, direction: ingress, priority: 2}}
address_groups: [{{id: bad, ip_version: 4, ip_set: [10.9.0.1, 10.8.0.0/24]}}]
instances: [{{id: a, addresses: [{A}], security_groups: [g]}}]
"""
    answer = explained(f"tcp 10.9.0.1:4000 > {A}:80", policy)
    disabled = {"update_rule": {"id": "no", "enabled": False}}
    assert answer["remedies"] == [{"change": change, "verdict": "allow"} for change in [*remedies, disabled]]


def test_what_denies_a_packet_goes_into_the_group_of_the_fewest_instances() -> None:
    """SPEC 8.3, `the narrowest first`: a group that is tried before that of the rule may be one instance's own."""
    policy = f"""
security_groups:
  - {{id: own}}
  - {{id: common, security_group_rules: [{{id: web, direction: ingress, protocol: tcp, multiport: "80"}}]}}
instances:
  - {{id: a, addresses: [{A}], security_groups: [own, common]}}
  - {{id: b, addresses: [{PEER}], security_groups: [common]}}
"""
    answer = explained(f"tcp {STRANGER}:4000 > {A}:80", policy)
    added = [remedy["change"]["add_rule"] for remedy in answer["remedies"][:2]]
    assert [add["security_group"] for add in added] == ["own", "common"]
    assert {add["rule"]["action"] for add in added} == {"deny"}


def test_no_single_change_where_both_sides_deny() -> None:
    """SPEC 1, 8.3: what is denied on its way out would be denied on its way in too, which is said."""
    policy = POLICY.replace("{id: C-out, direction: egress}", "{id: C-out, direction: egress, protocol: gre}")
    with as_capture([parse_packet(f"tcp 192.168.0.30:1 > {A}:99")], [0]) as path:
        explanation = explain(Replayed(Policy.parse(policy), [path]), 1)
    assert explanation.remedies == ()
    assert explanation.further
    assert (explanation.further.instance, explanation.further.direction) == ("ecs-a", "ingress")


def test_an_outbound_connection_is_denied_from_its_first_packet_on(tmp_path: Path) -> None:
    """SPEC 5.2, 8.3: a change leaves outbound connections; made before the first packet it denies them."""
    out = IP(src=A, dst=PEER) / TCP(sport=4000, dport=443, flags="S", seq=1)
    back = IP(src=PEER, dst=A) / TCP(sport=443, dport=4000, flags="SA", seq=1, ack=2)
    remedies = Scene(tmp_path, [at(0, out), at(1, back)]).explain(2).to_dict()["remedies"]
    assert remedies[0]["change"]["add_rule"]["rule"]["direction"] == "egress"
    assert remedies[0]["verdict"] == "deny"


def test_reevaluated_connection_that_the_rules_deny_now(tmp_path: Path) -> None:
    """SPEC 5.7, 8.3: a rule that allows it keeps it; where connections are held no change does."""
    changes = (1, {"update_rule": {"id": "A01", "remote_ip_prefix": "172.18.0.0/24"}})
    scene = Scene(tmp_path, [*HANDSHAKE, segment(5, "A", 101, 501)], changes)
    assert scene.explain(4).remedies == ()
    policy = Policy.parse(POLICY + "conntrack: {on_change: reevaluate}\n")
    explanation = explain(Replayed(policy, scene.replayed.paths, scene.replayed.changes), 4)
    assert explanation.checks[0].check.reason == "disconnected"
    assert explanation.remedies[0].change["add_rule"]["rule"]["remote_ip_prefix"] == f"{PEER}/32"


def test_where_the_schedule_undoes_a_change_it_is_made_before_the_packet(tmp_path: Path) -> None:
    """SPEC 8.3: a policy put in force on the way leaves nothing of a change made before the first packet."""
    (tmp_path / "other.yaml").write_text(POLICY.replace("A01", "A99"))
    packets = [at(0, IP(src=PEER, dst="10.0.0.1")), at(5, IP(src=STRANGER, dst=A) / UDP(sport=1, dport=7))]
    scene = Scene(tmp_path, packets, (1, {"apply_policy": str(tmp_path / "other.yaml")}))
    (remedy, *_) = scene.explain(2).to_dict()["remedies"]
    assert remedy["change"]["add_rule"]["rule"]["multiport"] == "7"


# ---- the command line ----


def run(*arguments: str, folder: Path, given: bytes = b"") -> tuple[int, str, str]:
    command = [sys.executable, "-m", "dataplane", "explain", *arguments]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, input=given)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A policy, a capture in which a change cuts a connection, and the change."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    wrpcap(str(tmp_path / "capture.pcap"), [*HANDSHAKE, segment(20, "A", 101, 501)], linktype=101)
    (tmp_path / "changes.yaml").write_text('[{at: 10.5, update_rule: {id: B01, multiport: "81"}}]')
    return tmp_path


def test_text_tells_the_history_in_a_sentence(folder: Path) -> None:
    status, text, _ = run("policy.yaml", "capture.pcap", "--packet", "4", "--changes", "changes.yaml", folder=folder)
    assert status == 0
    assert "deny: its connection was cut by a change of the policy" in text
    told = "opened by packet 1 under A01; established by packet 3; cut by the change at 10.5 s"
    assert f"{told} (update rule B01: multiport); held until 610.5 s" in text


def test_text_tells_near_misses_and_remedies(folder: Path) -> None:
    status, text, _ = run("policy.yaml", f"tcp {STRANGER}:4000 > {A}:22", folder=folder)
    assert status == 0
    assert "deny: no rule of sg-a, sg-b matches it" in text
    lines = [line.strip() for line in text.splitlines()]
    first = "near misses A01 allows tcp 22,8000-8010 from 172.16.0.0/24; the source is 172.17.0.9"
    assert lines.index(first) < lines.index("add_rule:")


def test_json_is_one_object(folder: Path) -> None:
    status, text, _ = run("policy.yaml", "capture.pcap", "--packet", "1", "--json", folder=folder)
    assert status == 0
    assert json.loads(text)["verdict"] == "allow"


def test_standard_input_is_read_more_than_once(folder: Path) -> None:
    given = (folder / "capture.pcap").read_bytes()
    status, text, _ = run("policy.yaml", "-", "--packet", "3", "--json", folder=folder, given=given)
    assert status == 0
    events = [event["event"] for event in json.loads(text)["checks"][0]["connection"]["history"]]
    assert events == ["opened", "answered", "established"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("policy.yaml", "tcp 1.1.1.1:1 > 2.2.2.2:x"), 2, 'packet, column 17: port "x" of the destination'),
        (("policy.yaml", "capture.pcap"), 2, "capture.pcap: which packet of it? Give its number, as --packet 12"),
        (("policy.yaml", "capture.pcap", "--packet", "9"), 2, "--packet 9: the captures have 4 packets"),
        (("policy.yaml", "none.pcap", "--packet", "9"), 3, "none.pcap: No such file"),
        (("policy.yaml", "policy.yaml", "--packet", "1"), 3, "policy.yaml: at byte 0"),
        (("none.yaml", f"tcp {A}:1 > {A}:2"), 2, "none.yaml"),
        (("policy.yaml", f"tcp {A}:1 > {A}:2", "--packet", "1"), 2, "--packet is the number of a packet in captures"),
        (("policy.yaml", f"tcp {A}:1 > {A}:2", "--changes", "changes.yaml"), 2, "--changes goes with captures"),
        (("policy.yaml", f"tcp {A}:1 > {A}:2", "--at", "ecs-a"), 2, "--at ecs-a goes with captures"),
        (("policy.yaml", f"tcp {A}:1 > {A}:2", "--time", "1.."), 2, "--time 1.. goes with captures"),
        (("policy.yaml", f"tcp {A}:1 > {A}:2", "--map", "::1=::2"), 2, "--map ::1=::2 goes with captures"),
        (("policy.yaml", "capture.pcap", "--packet", "4", "--time", "0..9"), 2, "the captures have 3 packets"),
        (
            ("policy.yaml", "capture.pcap", "--packet", "1", "--time", "900.."),
            2,
            "--packet 1: No packet is within --time.",
        ),
        (("policy.yaml", "capture.pcap", "--packet", "1", "--at", "x"), 2, "--at: "),
    ],
)
def test_bad_usage_is_told_in_a_sentence(folder: Path, arguments: Sequence[str], status: int, message: str) -> None:
    """SPEC 7, exit statuses."""
    got, text, said = run(*arguments, folder=folder)
    assert (got, text) == (status, "")
    assert message in said
    assert "Traceback" not in said


def test_bypass_names_the_addresses_of_the_policy(folder: Path) -> None:
    status, text, _ = run("policy.yaml", "tcp 10.0.0.1:1 > 10.0.0.2:2", folder=folder)
    assert status == 0
    assert "bypass: neither of its sides is an instance of the policy" in text
    assert "192.168.0.10 (ecs-a)" in text
