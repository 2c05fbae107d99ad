"""Captures whose interfaces have the names of the policy's (SPEC 7, "At a port")."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from dataplane import Policy, pcapng
from dataplane.insight.diff import diff
from dataplane.policy.schedule import load_changes
from tests.property.frames import checksum, datagram, ethernet, packet, query
from tests.support.port_captures import (
    ACK,
    ALL,
    ALLOW,
    BROADCAST,
    BYPASS,
    DENY,
    ELB,
    ELB0,
    ETH0,
    GATEWAY,
    OUTSIDE,
    POLICY,
    STRANGE,
    SYN,
    SYN_ACK,
    TAP_A,
    TAP_B,
    TAP_C,
    A,
    B,
    C,
    Seen,
    arp,
    capture,
    pcap,
    replay,
    replayed,
    segment,
    told,
    udp,
)


def test_frames_that_entered_are_judged_as_the_switch_did_and_copies_are_bypass(tmp_path: Path) -> None:
    """SPEC 7: the ingress port's egress check, then ingress at the destination that the switch finds."""
    to_b = segment("10.0.0.1", "10.0.0.2", (4000, 80), SYN, (A, B))
    frames: list[Seen] = [
        (to_b, TAP_A, True),
        (to_b, TAP_B, False),
        (segment("10.0.0.2", "10.0.0.1", (80, 4000), SYN_ACK, (B, A)), TAP_B, True),
        (udp("10.0.0.1", "10.0.0.2", 53, (A, B)), TAP_A, True),
        (udp("10.0.0.2", "10.0.0.9", 53, (A, GATEWAY)), TAP_A, True),  # another's address
        (udp(OUTSIDE, "10.0.0.1", 5000, (GATEWAY, A)), ETH0, True),
        (udp("10.0.0.2", "10.0.0.1", 5000, (GATEWAY, A)), ETH0, True),  # who is here does not come in by an uplink
        (udp("10.0.0.2", "10.0.0.1", 5000, (B, GATEWAY)), ETH0, True),
        (udp("10.0.0.100", "192.0.2.1", 5000, (GATEWAY, STRANGE)), ETH0, True),
        (segment("203.0.113.1", "10.0.0.1", (4000, 22), SYN, (ELB, A)), ELB0, True),
        (ethernet(GATEWAY, BROADCAST, bytes(46), 0x88CC), ETH0, True),
        (ethernet(GATEWAY, A, bytes(46), 0x88CC), ETH0, True),
        (arp("10.0.0.1", "10.0.0.2", (A, BROADCAST)), TAP_A, True),
    ]
    records, summary = replayed(tmp_path, capture(tmp_path / "live.pcapng", frames, *ALL))
    assert [told(record) for record in records] == [
        (ALLOW, "a", "egress", "rule", "b", "ingress", "rule"),
        (BYPASS,),
        (ALLOW, "b", "egress", "connection", "a", "ingress", "connection"),
        (DENY, "a", "egress", "rule", "b", "ingress", "no-rule-matched"),
        (DENY, "a", "egress", "invalid", "spoofed"),
        (ALLOW, "a", "ingress", "rule"),
        (DENY, "a", "ingress", "invalid", "spoofed"),
        (DENY, "b", "egress", "invalid", "spoofed"),
        (DENY,),
        (ALLOW, "a", "ingress", "load-balancer"),
        (BYPASS,),
        (DENY, "a", "ingress", "no-rule-matched", "not-ip"),
        (ALLOW, "a", "egress", "control"),
    ]
    assert [record["interface"] for record in records[:3]] == ["tap-a", "tap-b", "tap-b"]
    assert summary.packets == len(frames)


def test_the_switch_learns_where_an_instance_without_a_mac_is(tmp_path: Path) -> None:
    """A frame for everybody leaves connections where it enters; once the MAC is known, there is one way."""
    ping = ethernet(GATEWAY, C, packet(OUTSIDE, "10.0.0.3", 17, datagram(OUTSIDE, "10.0.0.3", 17, (4000, 5000), b"x")))
    answer = ethernet(
        C, GATEWAY, packet("10.0.0.3", OUTSIDE, 17, datagram("10.0.0.3", OUTSIDE, 17, (5000, 4000), b"y"))
    )
    frames: list[Seen] = [(ping, ETH0, True), (answer, TAP_C, True), (ping, ETH0, True)]
    records = replay(tmp_path, capture(tmp_path / "live.pcapng", frames, *ALL))
    assert [told(record) for record in records] == [
        (BYPASS,),  # for everybody: its sender is asked nothing
        (ALLOW, "c", "egress", "connection"),  # which that frame opened at c
        (ALLOW, "c", "ingress", "connection"),
    ]
    assert records[1]["checks"][0]["opened_by"] == 1
    assert records[1]["checks"][0]["rule"] == "udp"


def test_where_the_direction_is_not_told_the_sender_tells_it(tmp_path: Path) -> None:
    frames: list[Seen] = [
        (udp("10.0.0.1", OUTSIDE, 5000, (A, GATEWAY)), TAP_A, None),
        (udp("10.0.0.1", OUTSIDE, 5000, (A, GATEWAY)), ETH0, None),
        (udp(OUTSIDE, "10.0.0.1", 5000, (GATEWAY, A)), ETH0, None),
        (udp(OUTSIDE, "10.0.0.1", 5000, (GATEWAY, A)), TAP_A, None),
        (udp("203.0.113.1", "10.0.0.1", 22, (ELB, A)), ELB0, None),
        (udp("10.0.0.1", "203.0.113.1", 22, (A, ELB)), ELB0, None),
    ]
    records = replay(tmp_path, capture(tmp_path / "tapped.pcapng", frames, *ALL))
    assert [told(record) for record in records] == [
        (ALLOW, "a", "egress", "rule"),
        (BYPASS,),
        (ALLOW, "a", "ingress", "rule"),
        (BYPASS,),
        (ALLOW, "a", "ingress", "load-balancer"),
        (BYPASS,),
    ]


@pytest.mark.parametrize("port", ["tap-a", "eth0"])
def test_a_capture_at_one_port_has_both_sides_of_a_connection(tmp_path: Path, port: str) -> None:
    """As `ctl capture --port` writes: what left is `bypass`, and the connection goes on by it as it did live."""
    frames = [
        (segment(OUTSIDE, "10.0.0.1", (4000, 80), SYN, (GATEWAY, A)), "eth0"),
        (segment("10.0.0.1", OUTSIDE, (80, 4000), SYN_ACK, (A, GATEWAY)), "tap-a"),
        (segment(OUTSIDE, "10.0.0.1", (4000, 80), ACK, (GATEWAY, A)), "eth0"),
    ]
    seen: list[Seen] = [(frame, 0, entered == port) for frame, entered in frames]
    records, summary = replayed(tmp_path, capture(tmp_path / "live.pcapng", seen, (port, "")))
    assert [told(record) for record in records] == [
        (ALLOW, "a", "ingress" if port == "eth0" else "egress", "rule" if number == 0 else "connection")
        if entered == port
        else (BYPASS,)
        for number, (_, entered) in enumerate(frames)
    ]
    assert summary.connections.by_state == {"ESTABLISHED": 1}
    assert next(rule for rule in summary.rules if rule.rule == "web").packets == 3


def test_a_capture_of_copies_alone_touches_instances(tmp_path: Path) -> None:
    """All of it is `bypass`, and yet it is not from elsewhere: the summary does not say so."""
    frames: list[Seen] = [(udp("10.0.0.1", OUTSIDE, 5000, (A, GATEWAY)), 0, False)]
    records, summary = replayed(tmp_path, capture(tmp_path / "live.pcapng", frames, ("eth0", "")))
    assert [told(record) for record in records] == [(BYPASS,)]
    assert not summary.advice


def test_in_a_capture_at_one_port_an_instance_without_a_mac_is_where_its_address_is(tmp_path: Path) -> None:
    """What left tells where it is: what enters for it then is checked there."""
    frames: list[Seen] = [
        (arp("10.0.0.3", OUTSIDE, (C, GATEWAY), operation=2), 0, False),
        (segment(OUTSIDE, "10.0.0.3", (4000, 80), SYN, (GATEWAY, C)), 0, True),
        (segment("10.0.0.3", OUTSIDE, (80, 4000), SYN_ACK, (C, GATEWAY)), 0, False),
        (segment(OUTSIDE, "10.0.0.3", (4000, 80), ACK, (GATEWAY, C)), 0, True),
        (segment(OUTSIDE, "10.0.0.3", (4000, 22), SYN, (GATEWAY, C)), 0, True),
    ]
    assert [told(record) for record in replay(tmp_path, capture(tmp_path / "live.pcapng", frames, ("eth0", "")))] == [
        (BYPASS,),
        (ALLOW, "c", "ingress", "rule"),
        (BYPASS,),
        (ALLOW, "c", "ingress", "connection"),
        (DENY, "c", "ingress", "no-rule-matched"),
    ]


def test_an_uplink_that_only_the_capture_knows(tmp_path: Path) -> None:
    """`dataplane run --uplink`: `ctl capture` says that such a port is one. Others' words say nothing."""
    frames: list[Seen] = [
        (udp("10.0.0.1", "10.0.0.2", 5000, (GATEWAY, B)), 1, True),
        (udp(OUTSIDE, "10.0.0.2", 5000, (GATEWAY, B)), 1, True),
    ]
    path = capture(tmp_path / "live.pcapng", frames, ("tap-b", "instance b"), ("eth7", "uplink"))
    assert [told(record) for record in replay(tmp_path, path)] == [
        (DENY, "b", "ingress", "invalid", "spoofed"),
        (ALLOW, "b", "ingress", "rule"),
    ]
    path.write_bytes(path.read_bytes().replace(b"dataplane test", b"other software"))
    assert told(replay(tmp_path, path)[0]) == (ALLOW, "a", "egress", "rule", "b", "ingress", "rule")


def test_each_of_two_policies_judges_one_reading_at_its_own_ports(tmp_path: Path) -> None:
    """SPEC 8.4: what they say is what each says alone, where an interface is another's in each, and changes hands."""
    names = {"tap-a": "tap-b", "tap-b": "tap-a"}
    new = re.sub("tap-[ab]", lambda name: names[name[0]], POLICY)
    frames: list[Seen] = [
        (udp("10.0.0.1", "10.0.0.2", 5000, (A, B)), 0, True),
        (udp("10.0.0.1", "10.0.0.2", 5001, (A, B)), 1, None),
        (udp("10.0.0.2", "10.0.0.1", 5000, (B, A)), 1, True),
        (segment("10.0.0.3", "10.0.0.1", (4000, 80), SYN, (C, A)), 2, True),
    ]
    path = capture(tmp_path / "x.pcapng", frames * 2, ("tap-a", ""), ("tap-b", ""), ("tap-c", ""))
    changes = tmp_path / "changes.yaml"
    changes.write_text("[{at: 3.5, update_instance: {id: c, interface: tap-d}}]")
    schedule = load_changes(changes, Policy.parse(POLICY))
    alone = [replay(tmp_path, path, policy=policy, changes=schedule) for policy in (POLICY, new)]
    changed = [n for n, (one, other) in enumerate(zip(*alone, strict=True)) if one["verdict"] != other["verdict"]]
    assert changed
    found = diff(Policy.parse(POLICY), Policy.parse(new), [str(path)], schedule)
    assert (found.same, found.changed) == (len(frames) * 2 - len(changed), len(changed))
    for flow in found.flows:
        first = flow.first_packet - 1
        assert [flow.old.verdict, flow.new.verdict] == [records[first]["verdict"] for records in alone]
        assert first in changed


def test_interfaces_of_other_names_and_captures_without_are_judged_by_addresses(tmp_path: Path) -> None:
    """Mixed: some frames by port, some not, of one pcapng and of a pcap merged with it."""
    spoofed = udp("10.0.0.2", "192.0.2.1", 5000, (A, GATEWAY))
    frames: list[Seen] = [(spoofed, 0, True), (spoofed, 1, True), (ethernet(A, B, bytes(46), 0x88CC), 2, True)]
    first = capture(tmp_path / "x.pcapng", frames, ("tap-a", ""), ("other", ""), ("", ""))
    second = pcap(tmp_path / "y.pcap", [spoofed, ethernet(A, B, bytes(46), 0x88CC)], start=2000)
    records = replay(tmp_path, first, second)
    assert [told(record) for record in records] == [
        (DENY, "a", "egress", "invalid", "spoofed"),
        (ALLOW, "b", "egress", "rule"),
        (BYPASS,),
        (ALLOW, "b", "egress", "rule"),
        (BYPASS,),
    ]
    assert [record["interface"] for record in records] == ["tap-a", "other", 2, None, None]


def test_checksums_are_verified_where_the_capture_does_not_leave_them_to_a_card(tmp_path: Path) -> None:
    """As live, unless the policy says no: in a capture by port each frame has its checksum's state."""
    wrong = bytearray(udp(OUTSIDE, "10.0.0.1", 5000, (GATEWAY, A)))
    wrong[-1] ^= 1
    blocks = [pcapng.section("dataplane test"), *(pcapng.interface(*described) for described in ALL)]
    for second, offloaded in enumerate((False, True)):
        frame = bytes(wrong)
        told_of = {"sent": False, "comment": "", "offloaded": offloaded}
        blocks.append(pcapng.packet(ETH0, second * 10**9, frame, len(frame), **told_of))  # type: ignore[arg-type]
    path = tmp_path / "live.pcapng"
    path.write_bytes(b"".join(blocks))
    checked = [(DENY, "a", "ingress", "malformed", "bad-checksum"), (ALLOW, "a", "ingress", "rule")]
    assert [told(record) for record in replay(tmp_path, path)] == checked
    unchecked = POLICY + "conntrack: {verify_checksums: false}\n"
    assert [told(record)[0] for record in replay(tmp_path, path, policy=unchecked)] == [ALLOW, ALLOW]


def test_fragments_for_everybody_wait_and_go_on(tmp_path: Path) -> None:
    """SPEC 4.6: a later fragment comes first; both get the first's answer, and leave a connection where they enter."""
    body = datagram("10.0.0.1", "10.0.0.3", 17, (4000, 5000), bytes(56))
    pieces = []
    for start, more in ((0, 1), (32, 0)):
        piece = bytearray(packet("10.0.0.1", "10.0.0.3", 17, body[start : start + 32]))
        struct.pack_into("!HH", piece, 4, 7, start // 8 | more << 13)
        struct.pack_into("!H", piece, 10, 0)
        struct.pack_into("!H", piece, 10, checksum(bytes(piece[:20])))
        pieces.append(ethernet(A, C, bytes(piece)))
    answer = packet("10.0.0.3", "10.0.0.1", 17, datagram("10.0.0.3", "10.0.0.1", 17, (5000, 4000), b"x"))
    frames: list[Seen] = [
        (pieces[1], TAP_A, True),
        (pieces[0], TAP_A, True),
        (ethernet(C, A, answer), TAP_C, True),
    ]
    assert [told(record) for record in replay(tmp_path, capture(tmp_path / "live.pcapng", frames, *ALL))] == [
        (ALLOW, "a", "egress", "rule"),
        (ALLOW, "a", "egress", "rule"),
        (ALLOW, "c", "egress", "connection", "a", "ingress", "connection"),
    ]


def test_a_policy_that_comes_gives_interfaces_to_others(tmp_path: Path) -> None:
    """Changes of the replay: what stands behind a name is what the policy of then says."""
    other = POLICY.replace("interface: tap-a", "interface: tap-x").replace("interface: tap-b", "interface: tap-a")
    (tmp_path / "other.yaml").write_text(other)
    (tmp_path / "changes.yaml").write_text("[{at: 1, apply_policy: other.yaml}]")
    frames: list[Seen] = [
        (udp("10.0.0.1", OUTSIDE, 5000, (A, GATEWAY)), TAP_A, True),
        (udp("10.0.0.1", OUTSIDE, 5000, (A, GATEWAY)), TAP_A, True),
        (udp("10.0.0.2", OUTSIDE, 5000, (B, GATEWAY)), TAP_A, True),
    ]
    changes = load_changes(tmp_path / "changes.yaml", Policy.parse(POLICY))
    records = replay(tmp_path, capture(tmp_path / "live.pcapng", frames, *ALL), changes=changes)
    assert [told(record) for record in records] == [
        (ALLOW, "a", "egress", "rule"),
        (DENY, "b", "egress", "invalid", "spoofed"),
        (ALLOW, "b", "egress", "rule"),
    ]


def test_a_plain_ping_by_address_is_as_ever(tmp_path: Path) -> None:
    """Without --at and names nothing changes: other EtherTypes are `bypass`, senders are not looked at."""
    frames = [
        ethernet(STRANGE, GATEWAY, packet("10.0.0.1", OUTSIDE, 1, query("10.0.0.1", OUTSIDE, 8, 1))),
        ethernet(A, BROADCAST, bytes(46), 0x88CC),
    ]
    assert [told(record) for record in replay(tmp_path, pcap(tmp_path / "p.pcap", frames))] == [
        (ALLOW, "a", "egress", "rule"),
        (BYPASS,),
    ]
