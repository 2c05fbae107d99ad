"""Numbers of instances and rules come back when nothing refers to them, and never before: years of changes leave memory
as it was, and nothing of a former holder is told of the next one.
"""

from __future__ import annotations

from pathlib import Path

from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.l2 import ARP, Ether
from scapy.utils import wrpcap

from dataplane import DataPlane, Policy
from dataplane.policy.schedule import load_changes
from dataplane.policy.write import as_yaml, document
from dataplane.verdict import Names

#: More than may be retired before they are looked for.
MANY = 300
A, B, OUT = "10.0.0.1", "10.0.0.2", "192.0.2.1"


def policy(turn: int, *, more: int = MANY, into: str = "in", out: str = "out", holder: str = "a") -> Policy:
    """An instance `holder` with a rule for UDP `into` it and one for all `out`; `more` rules and instances are of this
    turn alone.
    """
    rules = "".join(
        f"      - {{id: r{turn}-{i}, direction: ingress, protocol: tcp, multiport: '{i + 1}'}}\n" for i in range(more)
    )
    instances = "".join(
        f"  - {{id: i{turn}-{i}, addresses: [10.1.{i // 250}.{i % 250 + 1}], security_groups: [sg]}}\n"
        for i in range(more)
    )
    return Policy.parse(
        "security_groups:\n"
        "  - id: sg\n"
        "    security_group_rules:\n"
        f"      - {{id: {into}, direction: ingress, protocol: udp}}\n"
        f"      - {{id: {out}, direction: egress}}\n"
        f"{rules}"
        f"instances:\n  - {{id: {holder}, addresses: [{A}], security_groups: [sg]}}\n{instances}"
    )


def udp(source: str, destination: str, ports: tuple[int, int] = (4000, 53), size: int = 8) -> Ether:
    return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / (
        IP(src=source, dst=destination, id=7) / UDP(sport=ports[0], dport=ports[1]) / bytes(size)
    )


def memory() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_hundred_thousand_additions_and_deletions_leave_memory_as_it_was() -> None:
    """Of rules and of instances. Each change cuts the connections of an instance, of which one is new."""
    names = Names()
    for turn in range(0, 100_000, 100):
        instances = [f"i{turn + i}" for i in range(100)]
        rules = [(f"r{turn + i}", "sg") for i in range(100)]
        assert len({names.zone(instance) for instance in instances}) == len(set(names.rule_numbers(rules))) == 100
        assert [names.instances[names.zone(instance)] for instance in instances] == instances
        assert [names.rules[number] for number in names.rule_numbers(rules)] == rules
        names.take_back(*names.retired(instances[:50], rules[:50]))
        assert names.count() == (50, 50)
    assert len(names.instances) == 150
    assert len(names.rules) == 151


def test_changes_leave_memory_as_it_was() -> None:
    """Of a policy in force; each cuts the connections of an instance, of which one is new."""
    plane = DataPlane(policy(0), seed=1)
    for turn in range(1, 30):
        if turn == 10:
            before = memory()
        plane.process(udp(OUT, A, (1000 + turn, 53)), time_ns=turn)
        assert plane.replace(policy(turn), time_ns=turn).by_instance["a"] == 1
    assert len(plane.names.instances) <= 4 * MANY
    assert len(plane.names.rules) <= 4 * MANY
    assert memory() - before < 2 << 20


def test_a_connection_keeps_the_rule_that_admitted_it() -> None:
    """SPEC 5.2: an outbound one is still under the rule of then, however many come and go after it."""
    plane = DataPlane(policy(0), seed=1)
    assert plane.process(udp(A, OUT), time_ns=1).checks[0].rule == "out"
    for turn in range(1, 6):
        plane.replace(policy(turn, out="leave"), time_ns=turn)
    (connection,) = plane.connections
    assert (connection.rule, connection.security_group) == ("out", "sg")
    (check,) = plane.process(udp(OUT, A, (53, 4000)), time_ns=6).checks
    assert (check.reason, check.rule) == ("connection", "out")
    plane.connections.flush()
    for turn in range(7, 10):
        plane.replace(policy(turn, out="leave"), time_ns=turn)
    assert plane.names.known_rule("out", "sg") is None
    assert len(plane.names.rules) < 4 * MANY


def test_a_dead_connection_that_is_still_in_the_table_keeps_its_rule() -> None:
    """Who watches is told of its end, by its rule's name."""
    plane = DataPlane(policy(0), seed=1)
    plane.process(udp(A, OUT), time_ns=1)
    for turn in range(1, 4):
        plane.replace(policy(turn, out="leave"), time_ns=turn)
    assert plane.names.known_rule("out", "sg") is not None
    plane.advance(31_000_000_000)
    for turn in range(4, 7):
        plane.replace(policy(turn, out="leave"), time_ns=31_000_000_000)
    assert plane.names.known_rule("out", "sg") is None


def test_what_is_counted_of_a_former_holder_is_not_the_next_ones() -> None:
    """Denied flows of an instance, and hits of a rule."""
    plane = DataPlane(policy(0), seed=1)
    zone, rule = plane.names.zone("a"), plane.names.rule_number("in", "sg")
    plane.process(udp(OUT, A), time_ns=1)
    plane.process(Ether() / IP(src=OUT, dst=A, proto=99), time_ns=1)
    assert plane.rule_counters()[rule].hits == 1
    assert [d.zone for d in plane.denied(10)] == [zone]
    turn = 1
    while plane.names.instances[zone] in ("a", ""):
        plane.replace(policy(turn, holder="b", into="enter"), time_ns=turn)
        turn += 1
    assert plane.names.rules[rule] not in (None, ("in", "sg"))
    assert plane.rule_counters()[rule].hits == 0
    assert [d.zone for d in plane.denied(10)] == []


def test_a_fragment_that_waited_is_told_of_the_instance_that_it_was_for() -> None:
    """SPEC 4.6: and the next holder of its addresses and number gets none of its datagram."""
    plane = DataPlane(policy(0), seed=1)
    first, later = fragment(udp(OUT, A, size=64), fragsize=40)[:2]
    assert plane.process(later, time_ns=1).verdict == "waiting"
    zone, turn = plane.names.zone("a"), 1
    while plane.names.instances[zone] in ("a", ""):
        plane.replace(policy(turn, holder="b"), time_ns=turn)
        turn += 1
    ((number, told),) = plane.resolved()
    assert (number, told.verdict, told.checks[0].instance) == (0, "deny", "a")
    assert plane.process(first, time_ns=turn).checks[0].instance == "b"
    assert plane.resolved() == []


def test_what_a_rule_that_is_gone_allowed_is_no_packet_of_who_has_its_number() -> None:
    """SPEC 4.6, 5.1: without a connection, the rules of now decide about the rest of a datagram, and are counted."""
    plane = DataPlane(policy(0), seed=1)
    first, later = fragment(udp(A, OUT, size=64), fragsize=40)[:2]
    assert plane.process(first, time_ns=1).checks[0].rule == "out"
    plane.connections.flush()
    number, turn = plane.names.rule_number("out", "sg"), 1
    while plane.names.rules[number] in (None, ("out", "sg")):
        plane.replace(policy(turn, out="leave"), time_ns=turn)
        turn += 1
    assert plane.rule_counters()[number].traffic.packets == 0
    (check,) = plane.process(later, time_ns=turn).checks
    assert (check.verdict, check.rule) == ("allow", "leave")
    counted = {n: c.traffic.packets for n, c in enumerate(plane.rule_counters()) if c.traffic.packets}
    assert counted == {plane.names.rule_number("leave", "sg"): 1}


def test_a_replay_tells_of_all_rules_that_it_had(tmp_path: Path) -> None:
    """SPEC 7: its summary is made at the end, and names rules that its changes have deleted."""
    packets = [udp(OUT, A), udp(OUT, A, (4001, 53))]
    packets[0].time, packets[1].time = 1, 2
    wrpcap(str(tmp_path / "a.pcap"), packets)
    for turn in range(1, 5):
        (tmp_path / f"{turn}.yaml").write_text(as_yaml(document(policy(turn, into="enter"))))
    changes = tmp_path / "changes.yaml"
    changes.write_text("".join(f"- {{at: 0.5, apply_policy: {turn}.yaml}}\n" for turn in range(1, 5)))
    plane = DataPlane(policy(0), seed=1)
    summary = plane.replay(tmp_path / "a.pcap", changes=load_changes(changes))
    assert [rule.rule for rule in summary.counted_rules] == ["in", "enter"]
    assert ("r1-7", "sg") in summary.never_hit
    for turn in range(5, 8):
        plane.replace(policy(turn), time_ns=turn)
    assert plane.names.known_rule("r1-7", "sg") is None


def test_nobody_is_known_to_have_an_address_by_a_number_of_before() -> None:
    """SPEC 7: a virtual IP is whoever's was last seen to have it, not whoever's has that one's number."""

    def shared(turn: int, holder: str) -> Policy:
        text = "security_groups: [{id: sg}]\ninstances:\n"
        for i, name in enumerate(("first", holder, *(f"i{turn}-{n}" for n in range(MANY)))):
            text += f"  - {{id: {name}, addresses: [10.1.{i // 250}.{i % 250 + 1}], security_groups: [sg]"
            text += f", mac: '02:00:00:00:{i // 250:02x}:{i % 250 + 1:02x}', allowed_address_pairs: [10.9.9.9]}}\n"
        return Policy.parse(text)

    plane = DataPlane(shared(0, "second"), seed=1)
    incoming = Ether(src="02:00:00:00:99:99", dst="02:00:00:00:99:98") / IP(src=OUT, dst="10.9.9.9") / UDP()
    mac = "02:00:00:00:00:02"
    announced = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=mac, psrc="10.9.9.9", pdst="10.9.9.9")
    plane.process(announced, time_ns=1)
    assert plane.process(incoming, time_ns=2).checks[0].instance == "second"
    zone, turn = plane.names.zone("second"), 1
    while plane.names.instances[zone] in ("second", ""):
        plane.replace(shared(turn, "third"), time_ns=turn)
        turn += 1
    assert plane.process(incoming, time_ns=turn).checks[0].instance == "first"
