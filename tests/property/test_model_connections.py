"""Model and engine against stories written by hand from SPEC 4: timeouts, TCP, ICMP, and the bounded table."""

from __future__ import annotations

import pytest

from . import frames
from .scene import FLAGS, Scene, datagram, group, instance, ping, rule

PC, A, B = "203.0.113.9", "10.0.0.1", "10.0.0.2"
IN, BACK = (4000, 22), (22, 4000)


def scene(**conntrack: object) -> Scene:
    sg = group("sg-1", rule("in"), rule("in6", ethertype="IPv6"), rule("out", "egress", protocol="udp"))
    ends = {"id": "ecs-a", "addresses": [A, "fd00::1"], "security_groups": ["sg-1"]}
    return Scene([sg], [ends], conntrack=conntrack)


def state(answer: str) -> str:
    """The state of an answer's last check."""
    return answer.split(" | ")[-1].split()[3]


@pytest.mark.parametrize("moment", [29.999, 30.0])
def test_icmp_lives_30_seconds(moment: float) -> None:
    """SPEC 4.2: an entry lives while now - last packet < timeout."""
    story = scene()
    assert state(story.ping(PC, A)) == "new"
    assert state(story.at(moment).ping(PC, A)) == ("established" if moment < 30 else "new")


@pytest.mark.parametrize(("reply", "limit"), [(False, 30), (True, 180)])
@pytest.mark.parametrize("protocol", [17, 47, 50, 132])
def test_other_protocols_live_30_or_180_seconds(protocol: int, reply: bool, limit: int) -> None:
    """Seed, How Security Groups Work: 30 s while packets go one way, 180 s once they go both ways."""
    ports = (0, 0) if protocol in (47, 50) else IN
    for moment, expected in ((limit - 0.001, "established"), (limit, "new")):
        story = scene()
        assert state(story.datagram(protocol, PC, A, ports)) == "new"
        if reply:
            assert state(story.datagram(protocol, A, PC, ports[::-1])) == "established"
        assert state(story.at(moment).datagram(protocol, PC, A, ports)) == expected


TCP_LIVES = [
    ("half-open", [], 30),
    ("syn received", ["SA"], 30),
    ("established", ["SA", "A"], 600),
    ("after the first FIN", ["SA", "A", "FA"], 30),
    ("both FINs, one acknowledged", ["SA", "A", "FA", "fa"], 30),
    ("both FINs acknowledged", ["SA", "A", "FA", "fa", "LA"], 10),
    ("after RST", ["SA", "A", "R"], 10),
]
SEGMENTS = {
    "SA": (A, PC, BACK, "SA", 1000, 101),
    "A": (PC, A, IN, "A", 101, 1001),
    "FA": (PC, A, IN, "FA", 101, 1001),
    "fa": (A, PC, BACK, "FA", 1001, 102),
    "LA": (PC, A, IN, "A", 102, 1002),
    "R": (PC, A, IN, "R", 101, 0),
}


@pytest.mark.parametrize(("name", "segments", "limit"), TCP_LIVES, ids=[row[0] for row in TCP_LIVES])
def test_tcp_timeouts(name: str, segments: list[str], limit: int) -> None:
    """SPEC 4.2: 30 s half-open, 600 s established, 30 s after a FIN, 10 s after RST or full close."""
    for moment, expected in ((limit - 0.001, "established"), (limit, "invalid")):
        story = scene()
        assert state(story.tcp(PC, A, IN, "S", 100)) == "new"
        for segment in segments:
            assert state(story.tcp(*SEGMENTS[segment])) == "established", name
        probe = SEGMENTS["SA"] if len(segments) < 2 else (A, PC, BACK, "A", 1001, 101)
        assert state(story.at(moment).tcp(*probe)) == expected, name


def test_time_that_runs_backwards() -> None:
    """SPEC 4.3: it neither ends an entry nor makes it live longer."""
    story = scene()
    story.at(100).ping(PC, A)
    assert state(story.at(20).ping(PC, A)) == "established"
    assert state(story.at(129.999).ping(PC, A)) == "established"
    assert state(story.at(159.999).ping(PC, A)) == "new"


@pytest.mark.parametrize("flags", ["SF", "SR", "", "FPU", "F", "SFR", "U"])
def test_impossible_flags(flags: str) -> None:
    """SPEC 4.4: invalid, without an entry and with one."""
    story = scene()
    assert story.tcp(PC, A, IN, flags, 1) == "deny | ecs-a ingress deny invalid invalid"
    story.handshake(PC, A, IN)
    assert story.tcp(PC, A, IN, flags, 101, 1001) == "deny | ecs-a ingress deny invalid invalid inbound"


def test_no_entry_and_no_syn() -> None:
    """SPEC 4.4: invalid; with tcp_loose the rules decide, and a RST opens nothing."""
    for flags in ("A", "SA", "FA"):
        assert state(scene().tcp(PC, A, IN, flags, 1, 1)) == "invalid"
        assert state(scene(tcp_loose=True).tcp(PC, A, IN, flags, 1, 1)) == "new"
    for loose in (False, True):
        assert state(scene(tcp_loose=loose).tcp(PC, A, IN, "R", 1)) == "invalid"
    story = scene(tcp_loose=True)
    story.tcp(PC, A, IN, "A", 1, 1)
    assert state(story.at(599.999).tcp(A, PC, BACK, "A", 1, 1)) == "established"


def test_syn_ack_must_acknowledge_the_syn() -> None:
    """SPEC 4.4, RFC 9293 3.10.7.3: and so must a RST that answers it; an ACK may challenge it (RFC 5961, 4)."""
    story = scene()
    story.tcp(PC, A, IN, "S", 100)
    assert state(story.tcp(A, PC, BACK, "A", 1 << 30, 1 << 29)) == "established"
    assert state(story.tcp(A, PC, BACK, "A", 1001, 101, 1)) == "established"
    assert state(story.tcp(A, PC, BACK, "FA", 1001, 101)) == "invalid"
    assert story.tcp(A, PC, BACK, "SA", 1000, 100) == "deny | ecs-a egress deny invalid invalid inbound"
    assert state(story.tcp(A, PC, BACK, "RA", 0, 102)) == "invalid"
    assert state(story.tcp(PC, A, IN, "A", 101, 1001)) == "invalid"
    assert state(story.tcp(A, PC, BACK, "SA", 1000, 101)) == "established"


def test_simultaneous_open() -> None:
    """SPEC 4.4, RFC 9293 3.5, Figure 7: SYN meets SYN, two SYN-ACKs, established."""
    for answers, moment, expected in (
        (1, 29, "established"),
        (1, 30, "invalid"),
        (2, 599, "established"),
        (2, 600, "invalid"),
    ):
        story = scene()
        story.tcp(PC, A, IN, "S", 100)
        assert state(story.tcp(A, PC, BACK, "S", 1000)) == "established"
        assert state(story.tcp(PC, A, IN, "SA", 100, 1001)) == "established"
        if answers == 2:
            assert state(story.tcp(A, PC, BACK, "SA", 1000, 101)) == "established"
        assert state(story.at(moment).tcp(PC, A, IN, "SA", 100, 1001)) == expected


def test_port_reuse() -> None:
    """SPEC 4.4: a SYN on a closed or closing connection is judged afresh; denied, it leaves the old entry as it was."""
    story = scene()
    story.handshake(PC, A, IN)
    assert state(story.tcp(PC, A, IN, "S", 100)) == "established"
    assert state(story.tcp(A, PC, BACK, "S", 1000)) == "established"
    assert state(story.tcp(PC, A, IN, "S", 1 << 28)) == "established"
    story.tcp(PC, A, IN, "FA", 101, 1001)
    assert story.tcp(A, PC, BACK, "S", 5) == "deny | ecs-a egress deny new no-rule-matched"
    assert state(story.tcp(A, PC, BACK, "A", 1001, 102)) == "established"
    assert story.tcp(PC, A, IN, "S", 1 << 28) == "allow | ecs-a ingress allow new rule in sg-1 inbound"
    assert state(story.tcp(A, PC, BACK, "FA", 1001, 102)) == "invalid"


def test_forged_segments_change_nothing() -> None:
    """SPEC 4.4: a RST or a segment outside the window is invalid, unless tcp_be_liberal."""
    story = scene()
    story.handshake(PC, A, IN)
    assert state(story.tcp(PC, A, IN, "R", 1 << 27)) == "invalid"
    assert state(story.tcp(PC, A, IN, "A", 101, 1 << 27)) == "invalid"
    assert state(story.at(599).tcp(PC, A, IN, "A", 101, 1001)) == "established"
    liberal = scene(tcp_be_liberal=True)
    liberal.handshake(PC, A, IN)
    assert state(liberal.tcp(PC, A, IN, "R", 1 << 27)) == "established"
    assert state(liberal.at(10).tcp(PC, A, IN, "A", 101, 1001)) == "invalid"


def test_echo_by_identifier_and_asker() -> None:
    """SPEC 4.5: another identifier is another connection, and a reply nobody asked for is invalid."""
    story = scene()
    assert state(story.ping(PC, A, reply=True)) == "invalid"
    assert state(story.ping(PC, A)) == "new"
    assert state(story.ping(A, PC, reply=True, identifier=8)) == "invalid"
    assert state(story.ping(PC, A, reply=True)) == "invalid"
    assert story.ping(A, PC) == "deny | ecs-a egress deny new no-rule-matched"
    assert state(story.ping(A, PC, reply=True)) == "established"


def test_icmp_errors() -> None:
    """SPEC 4.5: related when the quoted packet went the other way in a live connection of that zone; no refresh."""
    router = "198.51.100.1"
    story = scene()
    asked, answered = datagram(17, PC, A, IN), datagram(17, A, PC, BACK)
    assert state(story.error(router, answered, A)) == "invalid"
    story.ip(asked)
    related = "allow | ecs-a {} allow related related in sg-1 inbound"
    assert story.error(router, answered, A) == related.format("ingress")
    assert story.error(A, asked, PC) == related.format("egress")
    assert state(story.error(router, asked, A)) == "invalid"
    assert state(story.error(A, answered, PC)) == "invalid"
    assert state(story.error(A, asked, router)) == "invalid"
    assert state(story.error(router, answered, A, kind=5)) == "invalid"
    assert state(story.error(router, answered[:24], A)) == "invalid"
    assert state(story.at(29.999).error(router, answered, A)) == "related"
    assert state(story.at(30).error(router, answered, A)) == "invalid"


def test_icmp_error_about_an_echo() -> None:
    """SPEC 4.5: by the query's identifier, and in the family of the error."""
    story = scene()
    story.ping("2001:db8::1", "fd00::1")
    about = ping("fd00::1", "2001:db8::1", reply=True)
    assert state(story.error("2001:db8::ff", about, "fd00::1", kind=1)) == "related"
    other = ping("fd00::1", "2001:db8::1", reply=True, identifier=8)
    assert state(story.error("2001:db8::ff", other, "fd00::1", kind=1)) == "invalid"


def test_each_instance_has_its_own_zone() -> None:
    """SPEC 1: the same packet makes an outbound connection at A and an inbound one at B."""
    sg = group("sg-1", rule("in", protocol="udp"), rule("out", "egress", protocol="udp"))
    story = Scene([sg], [instance("ecs-a", A, "sg-1"), instance("ecs-b", B, "sg-1")])
    a, b = "ecs-a egress allow new rule out sg-1 outbound", "ecs-b ingress allow new rule in sg-1 inbound"
    assert story.datagram(17, A, B, (1, 2)) == f"allow | {a} | {b}"
    b = "ecs-b egress allow established connection in sg-1 inbound"
    a = "ecs-a ingress allow established connection out sg-1 outbound"
    assert story.datagram(17, B, A, (2, 1)) == f"allow | {b} | {a}"


def test_a_full_table_gives_up_the_oldest_tentative_entry() -> None:
    """SPEC 4.9: half-open and one-way entries go, the oldest first; an established TCP connection stays."""
    story = scene(max_entries=3)
    story.handshake(PC, A, IN)
    for port in (1, 2):
        story.datagram(17, PC, A, (port, 53))
    story.at(1).datagram(17, PC, A, (1, 53))
    assert state(story.tcp(PC, A, (4001, 22), "S", 1)) == "new"
    assert state(story.datagram(17, A, PC, (53, 2))) == "established"
    assert state(story.tcp(A, PC, (22, 4001), "SA", 1, 2)) == "established"
    assert state(story.tcp(PC, A, (4001, 22), "A", 2, 2)) == "established"
    assert story.datagram(17, PC, A, (1, 53)) == "deny | ecs-a ingress deny new table-full"
    assert state(story.tcp(PC, A, IN, "A", 101, 1001)) == "established"


def test_a_closed_connection_gives_way() -> None:
    """SPEC 4.9: it holds nothing that anyone would miss."""
    story = scene(max_entries=1)
    story.handshake(PC, A, IN)
    assert story.datagram(17, PC, A, (1, 53)) == "deny | ecs-a ingress deny new table-full"
    story.tcp(PC, A, IN, "R", 101)
    assert state(story.datagram(17, PC, A, (1, 53))) == "new"
    assert state(story.tcp(A, PC, BACK, "A", 1001, 101)) == "invalid"


def test_damaged_packets() -> None:
    """SPEC 7: state invalid, reason malformed."""
    story = scene()
    malformed = "deny | ecs-a ingress deny invalid malformed"
    whole = datagram(17, PC, A, IN)
    assert story.ip(whole[:2] + (24).to_bytes(2, "big") + whole[4:24]) == malformed
    segment = frames.tcp(PC, A, IN, FLAGS["S"], 1, 0)
    for offset in (4, 6):
        assert story.ip(frames.packet(PC, A, 6, segment[:12] + bytes([offset << 4]) + segment[13:])) == malformed


def test_control_traffic() -> None:
    """SPEC 4.8: DHCP of a client passes without rules, also where they deny, for 60 s; a DHCP server is invalid."""
    sg = group("sg-1", rule("deny", "egress", action="deny"))
    story = Scene([sg], [instance("ecs-a", A, "sg-1")])
    ask = bytes([1]) + bytes(235) + b"\x63\x82\x53\x63"
    answer = b"\2" + ask[1:]

    def datagram(source: str, destination: str, ports: tuple[int, int], payload: bytes) -> str:
        return story.ip(
            frames.packet(source, destination, 17, frames.datagram(source, destination, 17, ports, payload))
        )

    assert datagram(PC, A, (67, 68), answer) == "deny | ecs-a ingress deny new no-rule-matched"
    assert datagram(A, "255.255.255.255", (68, 67), ask) == "allow | ecs-a egress allow untracked control"
    assert datagram(A, PC, (68, 67), ask) == "deny | ecs-a egress deny new rule deny sg-1"
    assert datagram(PC, A, (67, 68), answer) == "allow | ecs-a ingress allow untracked control"
    assert datagram(A, PC, (68, 67), ask) == "allow | ecs-a egress allow untracked control"
    assert datagram(PC, A, (67, 68), ask) == "deny | ecs-a ingress deny invalid invalid"
    for port in (67, 68, 1067):
        assert datagram(A, PC, (port, 68), answer) == "deny | ecs-a egress deny invalid invalid"
