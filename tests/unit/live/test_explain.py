"""Explanations of a running firewall (SPEC 8.3): they are what then happens, and nothing happens by them."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether

from dataplane import DataPlane, Policy
from dataplane._core import ffi
from dataplane.cli.typed import typed
from dataplane.insight.explain import Explanation, as_capture, explain
from dataplane.insight.packet_bytes import ip_packet
from dataplane.insight.packet_text import parse_packet
from dataplane.insight.running_firewall import AtRunning, in_place
from dataplane.live import state

from .served import Served
from .test_ctl import ctl

SECOND = 1_000_000_000
A, B, PEER, STRANGER = "10.0.0.1", "10.0.0.2", "192.0.2.9", "203.0.113.9"
POLICY = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: web, direction: ingress, protocol: tcp, multiport: "80", remote_ip_prefix: 192.0.2.0/24}
      - {id: ping, direction: ingress, protocol: icmp, remote_ip_prefix: 192.0.2.0/24}
      - {id: out, direction: egress}
  - {id: other, security_group_rules: [{id: far, direction: egress, remote_ip_prefix: 192.0.2.0/24}]}
instances:
  - {id: a, addresses: [10.0.0.1], security_groups: [sg]}
  - {id: b, addresses: [10.0.0.2], security_groups: [other]}
conntrack: {on_change: hold}
"""


def talking(policy: str = POLICY) -> DataPlane:
    """A plane with a web connection and a ping into a, and a DNS question out of it, of the first 4 s."""
    plane = DataPlane(Policy.parse(policy), seed=1)
    client, server = IP(src=PEER, dst=A), IP(src=A, dst=PEER)
    up, down = {"sport": 4000, "dport": 80}, {"sport": 80, "dport": 4000}
    data = bytes(1000)
    packets = [
        client / TCP(**up, flags="S", seq=1000, window=64240),
        server / TCP(**down, flags="SA", seq=9000, ack=1001, window=64240),
        client / TCP(**up, flags="A", seq=1001, ack=9001, window=64240),
        server / TCP(**down, flags="PA", seq=9001, ack=1001, window=64240) / data,
        client / TCP(**up, flags="A", seq=1001, ack=10001, window=64240),
        client / ICMP(id=7),
        server / UDP(sport=5353, dport=53) / b"question",
    ]
    for number, packet in enumerate(packets):
        frame = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet)
        verdict = plane.process(frame, time_ns=SECOND + number * SECOND // 2)
        assert verdict.verdict == "allow"
    return plane


def asked(plane: DataPlane, text: str, at: str | None = None) -> Explanation:
    """An explanation by what a plane knows."""
    known = state.taken(plane)  # type: ignore[arg-type]
    packet = in_place(parse_packet(text), known)
    with as_capture([packet], [known.saved_ns]) as path:
        return explain(AtRunning(plane.policy, [path], (), at, packet=packet, known=known), 1)


def facts(plane: DataPlane) -> tuple[Any, ...]:
    """Everything that could be otherwise: connections with their times, and counters."""
    return set(plane.connections), bytes(ffi.buffer(plane.counters())), bytes(ffi.buffer(plane.rule_counters()))


CUT = {"update_rule": {"id": "ping", "priority": 7}}
DELETED = {"delete_rule": {"id": "out"}}
PACKETS = [
    f"tcp {PEER}:4001 > {A}:80 S",
    f"tcp {PEER}:4000 > {A}:80 S",
    f"tcp {PEER}:4000 > {A}:80 PA",
    f"tcp {A}:80 > {PEER}:4000 A",
    f"tcp {PEER}:4000 > {A}:80 FA",
    f"tcp {A}:80 > {PEER}:4000 R",
    f"tcp {PEER}:4002 > {A}:80 A",
    f"tcp {STRANGER}:4000 > {A}:80 S",
    f"udp {PEER}:53 > {A}:5353",
    f"udp {PEER}:54 > {A}:5353",
    f"icmp {A} > {PEER} echo-reply id 7",
    f"icmp {A} > {PEER} echo-reply id 8",
    f"icmp {PEER} > {A} echo-request id 7",
    f"tcp {A}:9 > {B}:80 S",
    f"tcp {B}:9 > {A}:80 S",
    f"udp {STRANGER}:1 > {PEER}:1",
]


@pytest.mark.parametrize("change", [None, CUT, DELETED], ids=["as it is", "cut", "rule deleted"])
@pytest.mark.parametrize("on_change", ["hold", "reevaluate"])
@pytest.mark.parametrize("text", PACKETS)
def test_what_is_explained_is_what_happens(text: str, on_change: str, change: dict[str, Any] | None) -> None:
    """SPEC 8.3: connections are known, disconnected ones too; and nothing changes but by the packet itself."""
    plane = talking(POLICY.replace("hold", on_change))
    if change:
        plane.apply(change)
    before = facts(plane)
    found = asked(plane, text)
    assert facts(plane) == before
    packet = in_place(parse_packet(text), state.taken(plane))  # type: ignore[arg-type]
    verdict = plane.process(ip_packet(packet), time_ns=4 * SECOND, link="raw")
    told = [(c.check.instance, c.check.direction, c.check.verdict, c.check.state, c.check.reason) for c in found.checks]
    assert told == [(c.instance, c.direction, c.verdict, c.state, c.reason) for c in verdict.checks]
    assert [c.check.rule for c in found.checks] == [c.rule for c in verdict.checks]
    assert found.verdict == verdict.verdict


def test_a_segment_is_the_next_one_of_its_connection() -> None:
    """SPEC 4.4: at its place in the window, so that it does what such a segment does there."""
    known = state.taken(talking())  # type: ignore[arg-type]
    from_client, from_server = (in_place(parse_packet(text), known) for text in PACKETS[2:4])
    assert (from_client.sequence, from_client.acknowledgement) == (1001, 10001)
    assert (from_server.sequence, from_server.acknowledgement) == (10001, 1001)
    (check,) = asked(talking(), PACKETS[4]).to_dict()["checks"]
    assert check["connection"]["state"] == "FIN_WAIT"


def test_remedies_are_tried_on_the_connections_of_now() -> None:
    """SPEC 5.2, 8.3: a change cuts what is inbound, whatever it says; what is outbound goes on."""
    (web,) = (remedy for remedy in asked(talking(), PACKETS[2]).to_dict()["remedies"] if "add_rule" in remedy["change"])
    assert web["verdict"] == "deny"
    plane = talking()
    plane.apply(web["change"])
    assert asked(plane, PACKETS[2]).verdict == "deny"
    answer = asked(talking(), f"udp {PEER}:53 > {A}:5353").to_dict()
    assert (answer["verdict"], answer["remedies"]) == ("allow", [])
    (allowing, *_) = asked(talking(), PACKETS[7]).to_dict()["remedies"]
    assert allowing["verdict"] == "allow"
    assert allowing["change"]["add_rule"]["rule"]["remote_ip_prefix"] == f"{STRANGER}/32"


def test_the_connection_is_told_with_its_times() -> None:
    """SPEC 8.3: who opened it is not known any more."""
    (check,) = asked(talking(), PACKETS[2]).to_dict()["checks"]
    connection = check["connection"]
    assert (connection["origin"], connection["state"]) == ("inbound", "ESTABLISHED")
    assert (connection["opened_by"], connection["rule"]) == (None, "web")
    assert [event["event"] for event in connection["history"]] == ["last-packet"]
    plane = talking()
    plane.apply(CUT)
    (check,) = asked(plane, PACKETS[2]).to_dict()["checks"]
    events = check["connection"]["history"]
    assert [event["event"] for event in events] == ["disconnected", "held-until"]
    assert events[1]["time"] - events[0]["time"] == pytest.approx(600)


def test_at_an_instances_interface_a_stranger_is_told() -> None:
    """SPEC 7, "At a port": who sends is whoever is behind it, and not whose address it is."""
    assert asked(talking(), f"tcp {PEER}:1 > {STRANGER}:80 S").verdict == "bypass"
    there = asked(talking(), f"tcp {PEER}:1 > {A}:80 S", at="a").to_dict()
    assert [check["instance"] for check in there["checks"]] == ["a"]


def test_the_command_asks_and_changes_nothing(served: Served) -> None:
    """`ctl explain`: the text and the JSON of `explain`."""
    before = list(served.firewall.connections), bytes(ffi.buffer(served.firewall.counters()))
    packet = "tcp 192.0.2.9:40000 > 10.0.0.1:80 PA"
    done = ctl(served, "explain", packet, "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    told = json.loads(done.stdout)
    assert told["verdict"] == "allow"
    assert told["checks"][0]["connection"]["state"] == "ESTABLISHED"
    lines = ctl(served, "explain", packet).stdout.decode().splitlines()
    assert lines[:2] == [packet, "allow: it belongs to a connection that web admitted"]
    assert lines[3].startswith("ingress at a: allow, established, connection")
    assert lines[5].lstrip().startswith("opened before under web; its last packet came ")
    after = list(served.firewall.connections), bytes(ffi.buffer(served.firewall.counters()))
    assert after == before
    assert served.call("status")["generation"] == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("tcp 192.0.2.9 > 10.0.0.1:80",), 'packet, column 5: the source "192.0.2.9" has no port'),
        (("tcp 192.0.2.9:1 > 10.0.0.1:80", "--at", "z"), "--at: the policy has no instance z: it has a, b"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(served: Served, words: tuple[str, ...], told: str) -> None:
    done = ctl(served, "explain", *words)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert done.stderr.decode().startswith(told)


def test_a_remedy_is_the_command_that_makes_it(served: Served) -> None:
    """It is printed to be typed, and does what was said."""
    packet = ("explain", "tcp 203.0.113.77:4000 > 10.0.0.1:22 S")
    lines = ctl(served, *packet).stdout.decode().splitlines()
    (line, *_) = (line.strip() for line in lines if line.startswith("  dataplane ctl "))
    words = shlex.split(line)
    assert words[:6] == ["dataplane", "ctl", "--socket", str(served.socket), "rule", "add"]
    assert "at: 0" not in "\n".join(lines)
    assert ctl(served, *words[4:]).returncode == 0
    assert json.loads(ctl(served, *packet, "--json").stdout)["verdict"] == "allow"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"update_rule": {"id": "A01", "enabled": False}}, "rule update A01 enabled=false"),
        ({"update_rule": {"id": "A01", "multiport": "80,443"}}, "rule update A01 multiport=80,443"),
        ({"update_address_group": {"id": "l", "ip_set": ["::1", "::2"]}}, "address-group update l ip_set=::1,::2"),
        ({"add_instance": {"security_group": "sg", "instance": "a"}}, "group add-instance sg a"),
        ({"update_address_group": {"id": "l", "ip_set": []}}, None),
        ({"apply_policy": "other.yaml"}, None),
        ({"update_rule": {"id": "-A01", "enabled": False}}, None),
    ],
)
def test_which_command_a_change_is(change: dict[str, Any], words: str | None) -> None:
    """None where FIELD=VALUE would say something else."""
    assert typed(change) == (words and words.split())


def test_a_full_table_is_told_beside_what_opens_a_connection(served: Served) -> None:
    """SPEC 4.9: the rules are not all that decides then; a packet of a connection needs no room."""
    full = b"The connection table is full (5 of 4)"
    opens, known = "tcp 203.0.113.77:4000 > 10.0.0.1:80 S", "tcp 192.0.2.9:40000 > 10.0.0.1:80 A"
    assert full not in ctl(served, "explain", opens).stderr
    served.policy.write_text(f"{served.policy.read_text()}conntrack: {{max_entries: 4}}\n")
    served.call("reload")
    done = ctl(served, "explain", opens, "--json")
    assert full in done.stderr
    assert json.loads(done.stdout)["verdict"] == "allow"
    assert full not in ctl(served, "explain", known).stderr
