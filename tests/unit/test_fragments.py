"""Virtual reassembly (SPEC 4.6), through the library and through a replay."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from dataplane import DataPlane, Policy
from dataplane.verdict import CAUSE_WORDS
from tests.property.frames import checksum, datagram, ethernet, packed

SERVER, CLIENT = "10.0.0.1", "192.0.2.1"
SERVER6, CLIENT6 = "fd00::1", "2001:db8::1"
POLICY = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: dns, direction: ingress, protocol: udp, multiport: "53"}
      - {id: dns6, direction: ingress, ethertype: IPv6, protocol: udp, multiport: "53"}
      - {id: web, direction: ingress, protocol: tcp, multiport: "80"}
instances: [{id: server, addresses: [10.0.0.1, "fd00::1"], security_groups: [sg]}]
"""


def fragment(
    offset: int,
    body: bytes,
    more: bool,
    ident: int = 1,
    protocol: int = 17,
    source: str = CLIENT,
    vlan: int = 0,
    options: int = 0,
) -> bytes:
    """An IPv4 fragment to the server, with so many words of options that do nothing."""
    size = 20 + 4 * options
    head = struct.pack(
        "!BBHHHBBH", 0x45 + options, 0, size + len(body), ident, more << 13 | offset // 8, 64, protocol, 0
    )
    head += packed(source) + packed(SERVER) + b"\1" * 4 * options
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", head + body, vlan=vlan)


def fragment6(offset: int, body: bytes, more: bool, ident: int = 1) -> bytes:
    """An IPv6 fragment to the server."""
    header = struct.pack("!BBHI", 17, 0, offset | more, ident)
    head = struct.pack("!IHBB", 6 << 28, 8 + len(body), 44, 64) + packed(CLIENT6) + packed(SERVER6)
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", head + header + body)


def parts(port: int, size: int = 100, ident: int = 1, vlan: int = 0) -> list[bytes]:
    """A UDP datagram in three fragments."""
    whole = datagram(CLIENT, SERVER, 17, (4000, port), bytes(size))
    third = len(whole) // 24 * 8
    cuts = [(0, third), (third, 2 * third), (2 * third, len(whole))]
    return [fragment(a, whole[a:b], b < len(whole), ident, vlan=vlan) for a, b in cuts]


@pytest.fixture
def firewall() -> DataPlane:
    return DataPlane(Policy.parse(POLICY), seed=1)


def answers(firewall: DataPlane, frames: list[bytes], at: float = 0.0) -> list[tuple[str, str | None, str | None]]:
    """Verdict, reason and rule of each frame; judged in one batch."""
    verdicts = firewall.process_batch(frames, [round(at * 1e9)] * len(frames))
    return [
        (v.verdict, v.checks[0].reason, v.checks[0].rule) if v.checks else (v.verdict, None, None) for v in verdicts
    ]


ALLOWED = ("allow", "rule", "dns")
KNOWN = ("allow", "connection", "dns")
DENIED = ("deny", "no-rule-matched", None)
INVALID = ("deny", "invalid", None)
WAITING = ("waiting", None, None)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
@pytest.mark.parametrize(("port", "expected"), [(53, ALLOWED), (54, DENIED)])
def test_every_fragment_gets_the_verdict_of_its_datagram(
    firewall: DataPlane, order: tuple[int, ...], port: int, expected: tuple[str, str, str | None]
) -> None:
    """SPEC 4.6: in any arrival order."""
    frames = parts(port)
    assert answers(firewall, [frames[i] for i in order]) == [expected] * 3
    assert firewall.counters().fragments_waiting == 0


def test_interleaved_datagrams_do_not_mix(firewall: DataPlane) -> None:
    """SPEC 4.6: told apart by identifier and VLAN."""
    good, bad, tagged = parts(53, ident=1), parts(54, ident=2), parts(54, ident=1, vlan=9)
    frames = [good[1], bad[2], tagged[1], bad[0], good[0], tagged[0], bad[1], good[2], tagged[2]]
    expected = [ALLOWED, DENIED, DENIED, DENIED, ALLOWED, DENIED, DENIED, ALLOWED, DENIED]
    assert answers(firewall, frames) == expected


def test_ipv6_fragments_and_atomic_ones(firewall: DataPlane) -> None:
    """SPEC 4.6, RFC 8200 4.5; an atomic fragment is a whole datagram (RFC 6946)."""
    whole = datagram(CLIENT6, SERVER6, 17, (4000, 53), bytes(56))
    allowed = ("allow", "rule", "dns6")
    assert answers(firewall, [fragment6(32, whole[32:], False), fragment6(0, whole[:32], True)]) == [allowed] * 2
    assert answers(firewall, [fragment6(0, whole, False, 7)], 1) == [("allow", "connection", "dns6")]


def chained(offset: int, body: bytes, more: bool, next_header: int, before: bytes = b"", ident: int = 1) -> bytes:
    """An IPv6 fragment to the server, whose fragment header names any next header, behind options hop by hop."""
    header = before + struct.pack("!BBHI", next_header, 0, offset | more, ident)
    head = (
        struct.pack("!IHBB", 6 << 28, len(header + body), 0 if before else 44, 64) + packed(CLIENT6) + packed(SERVER6)
    )
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", head + header + body)


def test_ipv6_fragments_with_extension_headers_on_both_sides_of_the_fragment_header(firewall: DataPlane) -> None:
    """SPEC 4.6, 4.7: the ports are found behind them; a later fragment says nothing of it (RFC 8200)."""
    hop_by_hop, options = bytes([44, 0, 1, 4, 0, 0, 0, 0]), bytes([17, 0, 1, 4, 0, 0, 0, 0])
    allowed = ("allow", "rule", "dns6")
    for port, expected in ((53, allowed), (54, DENIED)):
        whole = options + datagram(CLIENT6, SERVER6, 17, (4000, port), bytes(56))
        first, later = whole[:32], whole[32:]
        frames = [chained(32, later, False, 6, hop_by_hop, port), chained(0, first, True, 60, hop_by_hop, port)]
        assert answers(firewall, frames) == [expected] * 2


@pytest.mark.parametrize("last", [b"", bytes([17, 1, 1, 4, 0, 0, 0, 0])], ids=["behind it", "half of a header"])
def test_a_first_fragment_that_ends_before_the_ports_is_invalid(firewall: DataPlane, last: bytes) -> None:
    """SPEC 4.6, RFC 7112: extension headers may not push the transport header out of the first fragment."""
    options = bytes([60 if last else 17, 0, 1, 4, 0, 0, 0, 0])
    body = datagram(CLIENT6, SERVER6, 17, (4000, 53), bytes(56))
    first, later = chained(0, options + last, True, 60), chained(8 + len(last), body, False, 60)
    assert answers(firewall, [first, later]) == [INVALID] * 2
    assert firewall.counters().connections_opened == 0


def test_atomic_fragments_are_no_part_of_a_datagram_with_their_identifier(firewall: DataPlane) -> None:
    """SPEC 4.6, RFC 6946, 4: they neither overlap its fragments nor take its answer."""
    good, bad = (datagram(CLIENT6, SERVER6, 17, (4000, port), bytes(56)) for port in (53, 54))
    later, atomic, first = fragment6(32, good[32:], False), fragment6(0, bad, False), fragment6(0, good[:32], True)
    allowed = ("allow", "rule", "dns6")
    assert answers(firewall, [later, atomic, first, atomic]) == [allowed, DENIED, allowed, DENIED]


def test_what_waits_is_told_later_or_denied_after_30_seconds(firewall: DataPlane) -> None:
    """SPEC 4.6: bounded by 30 s of time."""
    frames = parts(53)
    assert answers(firewall, [frames[1]], 0) == [WAITING]
    assert answers(firewall, [frames[0]], 29.9) == [ALLOWED]
    ((number, verdict),) = firewall.resolved()
    assert (number, verdict.verdict, verdict.checks[0].rule) == (0, "allow", "dns")
    late = parts(53, ident=5)
    assert answers(firewall, [late[1]], 100) == [WAITING]
    assert answers(firewall, [late[0]], 130) == [("allow", "rule", "dns")]
    ((_, verdict),) = firewall.resolved()
    assert (verdict.verdict, verdict.checks[0].reason, verdict.checks[0].cause) == ("deny", "invalid", "fragment")


def test_overlapping_fragments_are_invalid_and_spoil_their_datagram(firewall: DataPlane) -> None:
    """SPEC 4.6: teardrop and its kin; a fragment that came twice as it is, is none."""
    frames = parts(53)
    assert answers(firewall, [frames[0], frames[0], frames[1]]) == [ALLOWED] * 3
    overlap = fragment(8, bytes(64), True)
    assert answers(firewall, [overlap, frames[2]]) == [INVALID] * 2


def test_a_fragment_that_comes_again_behind_its_whole_datagram(firewall: DataPlane) -> None:
    """SPEC 4.6: every fragment gets the verdict of its datagram, also one that a network or a capture repeats."""
    frames = parts(53)
    assert answers(firewall, [*frames, frames[2], frames[1]]) == [ALLOWED] * 5
    assert answers(firewall, [frames[2]], 30) == [WAITING]


def test_an_identifier_used_again_is_another_datagram(firewall: DataPlane) -> None:
    """SPEC 4.6: 16 bits come round within 30 s; the first fragment has the ports, and is judged afresh."""
    assert answers(firewall, [*parts(53), *parts(54)]) == [ALLOWED] * 3 + [DENIED] * 3
    longer = parts(53, 200)
    assert answers(firewall, [*parts(54), longer[1], longer[0], longer[2]]) == [DENIED] * 3 + [KNOWN] * 3


def test_whole_datagrams_give_way_before_those_that_wait(firewall: DataPlane) -> None:
    """SPEC 4.6: what is only kept for repeats takes no place from what still comes."""
    victim = parts(53, ident=65535)
    assert answers(firewall, victim[:1]) == [ALLOWED]
    for ident in range(5000):
        answers(firewall, parts(53, ident=ident))
    assert firewall.counters().datagrams_evicted == 0
    assert [reason for _, reason, _ in answers(firewall, victim[1:])] == ["rule"] * 2


def test_a_tiny_first_fragment_is_invalid(firewall: DataPlane) -> None:
    """SPEC 4.6, RFC 1858: the transport header must be whole."""
    header = struct.pack("!HHIIBBHHH", 4000, 80, 1, 0, 5 << 4, 2, 1024, 0, 0)
    assert answers(firewall, [fragment(0, header[:16], True, protocol=6)]) == [INVALID]
    assert answers(firewall, [fragment(16, header[16:], False, protocol=6)]) == [INVALID]


def test_a_datagram_over_65535_bytes_is_invalid(firewall: DataPlane) -> None:
    """SPEC 4.6: ping of death."""
    assert answers(firewall, [parts(53)[0], fragment(65528, bytes(64), False)]) == [ALLOWED, INVALID]


@pytest.mark.parametrize(("size", "expected"), [(7, ALLOWED), (8, INVALID)])
def test_the_size_of_a_datagram_counts_the_header_of_its_first_fragment(
    firewall: DataPlane, size: int, expected: tuple[str, str, str | None]
) -> None:
    """SPEC 4.6, 65,535 bytes: a header of 24 bytes, and payload behind 65,504; others' headers do not count."""
    begin = datagram(CLIENT, SERVER, 17, (4000, 53), bytes(100))[:96]
    first, last = fragment(0, begin, True, options=1), fragment(65504, bytes(size), False)
    assert answers(firewall, [first, last]) == [ALLOWED, expected]
    again = (fragment(0, begin, True, 2, options=1), fragment(65504, bytes(size), False, 2, options=3))
    assert answers(firewall, [again[1], again[0]])[1] in (expected, KNOWN if expected == ALLOWED else expected)


@pytest.mark.parametrize(("size", "expected"), [(23, ("allow", "rule", "dns6")), (24, INVALID)])
def test_the_size_of_a_datagram_counts_the_extension_headers_before_its_fragments(
    firewall: DataPlane, size: int, expected: tuple[str, str, str | None]
) -> None:
    """SPEC 4.6, 4.7: of IPv6 what stands before the fragment header counts, 8 bytes here, and payload behind 65,504."""
    hop_by_hop = bytes([44, 0, 1, 4, 0, 0, 0, 0])
    begin = datagram(CLIENT6, SERVER6, 17, (4000, 53), bytes(100))[:96]
    frames = [chained(0, begin, True, 17, hop_by_hop), chained(65504, bytes(size), False, 17, hop_by_hop)]
    assert answers(firewall, frames) == [("allow", "rule", "dns6"), expected]


def test_a_fragment_behind_the_end_is_invalid(firewall: DataPlane) -> None:
    """SPEC 4.6."""
    frames = parts(53)
    assert answers(firewall, [*frames[1:], fragment(800, bytes(8), False)]) == [INVALID] * 3


def test_a_flood_of_fragments_is_bounded_and_leaves_other_networks_their_places(firewall: DataPlane) -> None:
    """SPEC 4.6: bounded in number and memory, with fair eviction."""
    victim = parts(53, ident=9)
    assert answers(firewall, victim[:1]) == [ALLOWED]
    flood = [fragment(800, bytes(8), True, n % 65536, source=f"198.51.100.{n % 250}") for n in range(20_000)]
    for start in range(0, len(flood), 1000):
        answers(firewall, flood[start : start + 1000], 0.1)
        firewall.resolved()
    assert firewall.counters().fragments_waiting <= 4096
    assert firewall.counters().datagrams_evicted > 10_000
    assert answers(firewall, victim[1:], 0.2) == [ALLOWED] * 2


def test_places_to_wait_are_shared_by_instance_and_network() -> None:
    """SPEC 4.6, bounded in number: who fills all places takes them from himself, whether outside or an instance."""
    policy = POLICY.replace("instances: [", "instances: [{id: other, addresses: [10.0.0.2], security_groups: [sg]}, ")
    for source, destination in (("198.51.100.7", SERVER), ("198.51.100.7", "10.0.0.2"), ("10.0.0.2", "192.0.2.9")):
        plane = DataPlane(Policy.parse(policy), seed=1)
        addressed = packed(source) + packed(destination)
        flood = [
            (frame := fragment(8 + 8 * k, bytes(8), True, n))[:26] + addressed + frame[34:]
            for n in range(100)
            for k in range(64)
        ]
        answers(plane, flood)
        assert plane.counters().fragments_waiting == 4096
        frames = parts(53, ident=9)
        assert answers(plane, [frames[2], frames[1]]) == [WAITING] * 2
        plane.resolved()
        answers(plane, flood[:640], 1)
        assert all(v.verdict == "deny" and v.checks[0].cause == "fragment-limit" for _, v in plane.resolved())
        assert answers(plane, [frames[0]], 2) == [ALLOWED]
        assert [v.verdict for _, v in plane.resolved()] == ["allow"] * 2
        counters = plane.counters()
        assert counters.datagrams_evicted * 64 >= counters.fragments_evicted >= 2304
        assert counters.cause[CAUSE_WORDS.index("fragment-limit")].packets == (
            counters.fragments_evicted + counters.fragments_refused
        )


@pytest.mark.parametrize(("port", "expected"), [(53, ALLOWED), (54, DENIED)])
def test_a_repeat_after_the_last_fragment_has_the_verdict_of_its_datagram(
    firewall: DataPlane, port: int, expected: tuple[str, str, str | None]
) -> None:
    """SPEC 4.6: every fragment gets the verdict of its datagram, also one that comes again when all have been seen."""
    frames = parts(port)
    assert answers(firewall, [*frames, frames[2], frames[1], frames[2]]) == [expected] * 6
    assert answers(firewall, [frames[1]], 29.9) == [expected]
    assert firewall.counters().fragments_waiting == 0


def test_a_repeat_that_says_otherwise_whether_it_is_the_last_is_invalid(firewall: DataPlane) -> None:
    """SPEC 4.6: the same bytes of a datagram cannot be its end and not be its end."""
    whole = datagram(CLIENT, SERVER, 17, (4000, 53), bytes(40))
    assert answers(firewall, [fragment(0, whole[:16], True), fragment(16, whole[16:32], True)]) == [ALLOWED] * 2
    assert answers(firewall, [fragment(16, whole[16:32], False), fragment(32, whole[32:], False)]) == [INVALID] * 2


def test_an_identifier_that_is_used_again_is_another_datagram(firewall: DataPlane) -> None:
    """Once all of a datagram was seen, its first again begins another; when its 30 s are over, anything does."""
    assert answers(firewall, parts(53)) == [ALLOWED] * 3
    assert answers(firewall, parts(54), 0.1) == [DENIED] * 3
    assert answers(firewall, parts(53)[::-1], 0.2) == [DENIED, DENIED, ("allow", "connection", "dns")]
    assert answers(firewall, parts(53, ident=9)[:1], 1) == [("allow", "connection", "dns")]
    assert answers(firewall, parts(54, ident=9)[1:2], 30.9) == [("allow", "connection", "dns")]
    assert answers(firewall, parts(54, ident=9), 31) == [DENIED] * 3


def test_a_first_fragment_is_never_let_in_for_the_ports_of_another(firewall: DataPlane) -> None:
    """SPEC 4.6, identifier reuse: the first datagram was never completed; the next one's header is judged anew."""
    assert answers(firewall, [parts(53)[0], parts(54)[0]]) == [ALLOWED, DENIED]
    assert answers(firewall, [parts(54)[0], parts(54)[1]]) == [DENIED] * 2
    connection = ("allow", "connection", "dns")
    assert answers(firewall, [*parts(53)[:2], parts(53)[0], parts(53)[2]]) == [connection] * 4
    syn = struct.pack("!HHIIBBHHH", 4000, 80, 1, 0, 5 << 4, 2, 1024, 0, 0) + bytes(12)
    far = struct.pack("!HHIIBBHHH", 4000, 80, 900_000, 0, 5 << 4, 4, 1024, 0, 0) + bytes(12)
    frames = [fragment(0, one, True, protocol=6) for one in (syn, syn, far)]
    assert answers(firewall, frames) == [("allow", "rule", "web")] * 2 + [("deny", "invalid", None)]


@pytest.mark.parametrize(
    "second",
    [(24, 8, True), (0, 48, True), (16, 8, False), (8, 200, False), (40, 64, True)],
    ids=["inside", "all over again", "end inside", "beyond the end", "over the end"],
)
def test_teardrop(firewall: DataPlane, second: tuple[int, int, bool]) -> None:
    """SPEC 4.6: any overlap with another fragment is denied, and so is what comes after it."""
    offset, size, more = second
    first, last = fragment(0, datagram(CLIENT, SERVER, 17, (4000, 53), bytes(56)), True), fragment(64, bytes(8), False)
    assert answers(firewall, [first, fragment(offset, bytes(size), more), last]) == [ALLOWED, INVALID, INVALID]


def test_fragments_and_tunnels() -> None:
    """SPEC 4.6: a tunnel's own fragments get one verdict; what is fragmented inside it is payload."""
    rules = "[{id: gre, direction: ingress, protocol: gre}, {id: ipip, direction: ingress, protocol: 4}]"
    policy = "security_groups: [{id: sg, security_group_rules: " + rules + "}]\n"
    plane = DataPlane(
        Policy.parse(policy + "instances: [{id: s, addresses: [10.0.0.1], security_groups: [sg]}]"), seed=1
    )
    whole = struct.pack("!HH", 0, 0x0800) + bytes(60)
    pieces = [fragment(32, whole[32:], False, protocol=47), fragment(0, whole[:32], True, protocol=47)]
    assert answers(plane, pieces) == [("allow", "rule", "gre")] * 2
    for inner in (
        fragment(0, bytes(16), True)[14:],
        fragment(16, bytes(16), True)[14:],
        fragment(8, b"short", True)[14:],
    ):
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(inner), 1, 0, 64, 4, 0) + packed(CLIENT) + packed(SERVER)
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        frame = ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", head + inner)
        assert answers(plane, [frame])[0][0] == "allow"
    assert plane.counters().fragments_waiting == 0


def test_keys_never_mix_families_or_instances() -> None:
    """SPEC 4.6: the same identifier, from one source to two instances, and over IPv4 and IPv6."""
    policy = POLICY.replace("instances: [", 'instances: [{id: other, addresses: [10.0.0.2, "fd00::2"]}, ')
    plane = DataPlane(Policy.parse(policy), seed=1)
    whole = datagram(CLIENT6, SERVER6, 17, (4000, 53), bytes(56))
    there = parts(53)[1].replace(packed(SERVER), packed("10.0.0.2"))
    there6 = fragment6(32, whole[32:], False).replace(packed(SERVER6), packed("fd00::2"))
    assert answers(plane, [parts(53)[0], fragment6(32, whole[32:], False), there, there6]) == [ALLOWED] + [WAITING] * 3
    assert answers(plane, [fragment6(0, whole[:32], True)]) == [("allow", "rule", "dns6")]
    assert plane.counters().fragments_waiting == 2


def test_records_leave_a_replay_in_capture_order(tmp_path: Path) -> None:
    """SPEC 7: one record per packet, in capture order, also behind a fragment that waits."""
    frames = parts(53)
    story = [(0.0, frames[2]), (0.0, frames[1]), *((1.0 + n / 1000, parts(54, ident=n)[0]) for n in range(2, 1500))]
    story += [(3.0, frames[0]), (4.0, parts(53, ident=6000)[1])]
    data = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    for at, frame in story:
        data += struct.pack("<IIII", int(at), round(at % 1 * 1e6), len(frame), len(frame)) + frame
    (tmp_path / "fragments.pcap").write_bytes(data)
    verdicts = tmp_path / "verdicts.jsonl"
    DataPlane(Policy.parse(POLICY)).replay(tmp_path / "fragments.pcap", verdicts=verdicts)
    records = [json.loads(line) for line in verdicts.read_text().splitlines()]
    assert [r["packet"] for r in records] == list(range(1, len(story) + 1))
    assert [r["time"] for r in records] == [pytest.approx(at) for at, _ in story]
    assert [r["verdict"] for r in records] == ["allow"] * 2 + ["deny"] * 1498 + ["allow", "deny"]
    assert records[-1]["checks"][0]["reason"] == "invalid"


@pytest.mark.parametrize(("behind", "expected"), [(65_535, "allow"), (65_536, "deny")])
@pytest.mark.parametrize("before", [0, 3_000])
def test_a_replay_keeps_back_so_many_records_and_no_more(
    tmp_path: Path, before: int, behind: int, expected: str
) -> None:
    """SPEC 4.6, bounded: a fragment waits until 65,536 records stand from its own on, wherever batches begin."""
    first, second, third = parts(53)
    plain = parts(54, ident=2)[0]
    frames = [plain] * before + [third] + [plain] * (behind - 1) + [first, second]
    data = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    data += b"".join(struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame for frame in frames)
    (tmp_path / "fragments.pcap").write_bytes(data)
    summary = DataPlane(Policy.parse(POLICY)).replay(tmp_path / "fragments.pcap")
    assert summary.packets == len(frames)
    by_reason = {(one.verdict, one.reason): one.packets for one in summary.reasons}
    assert by_reason["deny", "no-rule-matched"] == before + behind - 1
    assert sum(n for (verdict, _), n in by_reason.items() if verdict == "allow") == (3 if expected == "allow" else 0)


DISCONNECTED = ("deny", "disconnected", None)
DELETE = {"delete_rule": {"id": "dns"}}
OTHER = {"add_rule": {"security_group": "other", "rule": {"id": "x", "direction": "ingress"}}}


def test_a_change_reaches_the_fragments_of_a_datagram_that_was_allowed_before(firewall: DataPlane) -> None:
    """SPEC 5.1, 5.3: the later ones, the first again, and what comes behind it, with and without a plain packet."""
    frames = parts(53)
    assert answers(firewall, [*frames[:2], *parts(53, ident=2)]) == [ALLOWED] * 2 + [KNOWN] * 3
    firewall.apply(DELETE, 5)
    assert answers(firewall, [frames[2], frames[1]], 6) == [DISCONNECTED] * 2
    assert answers(firewall, [frames[0], frames[2]], 7) == [DISCONNECTED] * 2
    assert answers(firewall, [parts(53, ident=2)[2]], 8) == [DISCONNECTED]
    assert answers(firewall, parts(53, ident=3), 9) == [DISCONNECTED] * 3


def test_fragments_of_a_connection_that_a_change_leaves_alone_still_pass() -> None:
    """SPEC 4.6, 5.2: a change of another group does not reach them."""
    policy = POLICY.replace("instances:", "  - {id: other, security_group_rules: []}\ninstances:")
    plane = DataPlane(Policy.parse(policy), seed=1)
    frames = parts(53)
    assert answers(plane, frames[:1]) == [ALLOWED]
    plane.apply(OTHER, 5)
    assert answers(plane, frames[1:], 6) == [ALLOWED] * 2
    assert answers(plane, frames[:1], 7) == [KNOWN]


def test_fragments_whose_connection_is_gone_are_for_the_rules_of_now() -> None:
    """SPEC 5.3: when the hold is over the rules of then decide; so no fragment outlasts it."""
    plane = DataPlane(Policy.parse(POLICY + "conntrack: {timeouts: {other_unidirectional: 5}}\n"), seed=1)
    frames, kept = parts(53), parts(53, ident=2)
    assert answers(plane, [frames[0], kept[0]]) == [ALLOWED, KNOWN]
    plane.apply({"add_rule": {"security_group": "sg", "rule": {"id": "more", "direction": "egress"}}}, 1)
    assert answers(plane, [frames[1]], 7) == [ALLOWED]
    plane.apply(DELETE, 8)
    assert answers(plane, [frames[2], kept[1]], 14) == [DENIED] * 2


def test_another_header_behind_a_change_does_not_take_the_rest_of_a_datagram(firewall: DataPlane) -> None:
    """SPEC 5.1: the receiver may have the first fragment of before, whose port is closed now."""
    added = {"id": "new", "direction": "ingress", "protocol": "udp", "multiport": "54"}
    assert answers(firewall, parts(53)[:1]) == [ALLOWED]
    firewall.apply(DELETE, 5)
    firewall.apply({"add_rule": {"security_group": "sg", "rule": added}}, 5)
    assert answers(firewall, parts(54), 6) == [INVALID] * 3
    assert answers(firewall, parts(54, ident=2), 6) == [("allow", "rule", "new")] * 3


def test_a_datagram_that_was_denied_is_judged_afresh_behind_a_change(firewall: DataPlane) -> None:
    """SPEC 5.1: a change takes effect at once, for its first fragment that comes again."""
    added = {"id": "new", "direction": "ingress", "protocol": "udp", "multiport": "54"}
    assert answers(firewall, parts(54)[:2]) == [DENIED] * 2
    firewall.apply({"add_rule": {"security_group": "sg", "rule": added}}, 5)
    assert answers(firewall, parts(54), 6) == [("allow", "rule", "new")] * 3
