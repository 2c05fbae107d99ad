"""Floods against one instance (SPEC 4.6, 4.9): the others and its own connections go on, at bounded memory.

A chunk of a flood is one capture whose frames differ in the source address, and so are made by the column.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane import DataPlane, Policy
from dataplane.verdict import FLOOD_WORDS
from tests.property.frames import datagram, ethernet, packet, query, tcp

ENTRIES, CHUNK = 100_000, 100_000
VICTIM, OTHER, CLIENT = "10.0.0.1", "10.0.0.2", "192.0.2.9"
KEPT = 500
POLICY = f"""
security_groups:
  - id: sg
    security_group_rules: [{{id: in, direction: ingress}}]
instances:
  - {{id: victim, addresses: [{VICTIM}], security_groups: [sg]}}
  - {{id: other, addresses: [{OTHER}], security_groups: [sg]}}
conntrack: {{max_entries: {ENTRIES}}}
"""


def framed(ip: bytes) -> bytes:
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", ip)


def segment(server: str, port: int, flags: int, back: bool, at: int = 1) -> bytes:
    """A segment of one of the conversations that must go on: numbers from 1 and 1001 on."""
    ends, ports = ((server, CLIENT), (80, port)) if back else ((CLIENT, server), (port, 80))
    seq, ack = (1000 + at, at) if back else (at, 1000 + at)
    return framed(packet(*ends, 6, tcp(*ends, ports, flags, seq, 0 if flags == 2 else ack)))


def establish(firewall: DataPlane, server: str, ports: range, seconds: float) -> set[str]:
    """Opens connections, each with its handshake at once; returns the reasons met."""
    steps = [(2, False, 0), (18, True, 1), (16, False, 1)]
    frames = [segment(server, port, *step) for port in ports for step in steps]
    # The SYN-ACK acknowledges the SYN: 1000 and 1.
    return reasons(firewall, frames, seconds)


def reasons(firewall: DataPlane, frames: list[bytes], seconds: float) -> set[str]:
    verdicts = firewall.process_batch(frames, [round(seconds * 1e9)] * len(frames))
    return {f"{v.verdict} {v.checks[0].reason}" for v in verdicts}


def chunks(frame: bytes, sources: int, path: Path) -> Iterator[tuple[int, Path]]:
    """The frame from so many sources, from 1.0.0.0 on, a chunk in each second; the second and a capture of it."""
    record = struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame
    stride = len(record)
    for second, first in enumerate(range(0, sources, CHUNK), 1):
        numbers = array("I", range(1 << 24 | first, (1 << 24 | first) + CHUNK)).tobytes()
        data = bytearray(record[:0] + struct.pack("<I", second) + record[4:]) * CHUNK
        for column in range(4):
            data[16 + 26 + column :: stride] = numbers[3 - column :: 4]
        path.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000") + data)
        yield second, path


SYN = framed(packet("1.0.0.0", VICTIM, 6, tcp("1.0.0.0", VICTIM, (1234, 80), 2, 7, 0)))
UDP = framed(packet("1.0.0.0", VICTIM, 17, datagram("1.0.0.0", VICTIM, 17, (1234, 53))))
ECHO = framed(packet("1.0.0.0", VICTIM, 1, query("1.0.0.0", VICTIM, 8, 7)))
ESP = framed(packet("1.0.0.0", VICTIM, 50, datagram("1.0.0.0", VICTIM, 50, (0, 0))))


@pytest.mark.parametrize(
    ("kind", "frame", "sources"),
    [
        ("tcp-half-open", SYN, 2_000_000),
        ("udp", UDP, 500_000),
        ("icmp", ECHO, 500_000),
        ("other", ESP, 300_000),
    ],
    ids=["SYN", "UDP", "echo", "ESP"],
)
def test_a_flood_from_many_sources_harms_no_connection(kind: str, frame: bytes, sources: int, tmp_path: Path) -> None:
    """SPEC 4.9: established connections of both instances, and new ones of both, work all the time."""
    firewall = DataPlane(Policy.parse(POLICY))
    ports = range(1, KEPT + 1)
    for server in (VICTIM, OTHER):
        assert establish(firewall, server, ports, 0.5) == {"allow rule", "allow connection"}
    most = dropped_early = 0
    for second, capture in chunks(frame, sources, tmp_path / "flood.pcap"):
        summary = firewall.replay(capture)
        dropped_early += summary.floods[kind].dropped_early
        assert summary.verdicts["deny"].packets == 0
        most = max(most, firewall.counters().table_bytes)
        for server in (VICTIM, OTHER):
            alive = [segment(server, port, 24, second % 2 == 0) for port in ports]
            assert reasons(firewall, alive, second) == {"allow connection"}
            opened = range(10_000 + second * 10, 10_010 + second * 10)
            assert establish(firewall, server, opened, second) == {"allow rule", "allow connection"}
    counters = firewall.counters()
    flood = summary.floods[kind]
    dropped = {word: f.dropped_early for word, f in zip(FLOOD_WORDS, counters.flood, strict=True) if f.dropped_early}
    assert counters.entries == ENTRIES
    assert dropped == {kind: counters.early_drops}
    assert counters.early_drops == counters.connections_opened - ENTRIES > sources - ENTRIES
    assert all(not f.refused for f in counters.flood)
    # The rest had to go for the connections that were opened between the replays.
    assert 0 <= counters.early_drops - dropped_early < 1000
    # 95 bytes a connection, the index at its sparsest: see flow_table.h.
    assert most <= ENTRIES * 95
    assert json.loads(json.dumps(summary.to_dict()))["floods"][kind]["dropped_early"] == flood.dropped_early


def test_what_is_refused_is_counted_by_kind_and_share() -> None:
    """SPEC 4.9: an instance with its share is refused; one below it takes what others have more."""
    firewall = DataPlane(Policy.parse(POLICY.replace(str(ENTRIES), "10")), seed=1)
    assert establish(firewall, VICTIM, range(1, 11), 0) == {"allow rule", "allow connection"}
    for frame in (SYN, UDP, ECHO, ESP):
        assert reasons(firewall, [frame], 1) == {"deny table-full"}
    assert establish(firewall, OTHER, range(1, 7), 1) == {
        "allow rule",
        "allow connection",
        "deny table-full",
        "deny invalid",
    }
    counters = firewall.counters()
    found = [(f.dropped_early, f.refused, f.refused_over_share) for f in counters.flood]
    # Five established connections had to go for the other's share; its sixth was one too many.
    assert found == [(0, 2, 2), (5, 0, 0), (0, 1, 1), (0, 1, 1), (0, 1, 1)]
    assert counters.table_full == 5


def fragment(source: str, offset: int, more: bool, ident: int, body: bytes) -> bytes:
    whole = packet(source, VICTIM, 17, body)
    head = whole[:4] + struct.pack("!HH", ident, more << 13 | offset // 8) + whole[8:20]
    return framed(head + whole[20:])


def test_a_flood_of_fragments_harms_no_datagram_and_is_counted(tmp_path: Path) -> None:
    """SPEC 4.6: bounded; what cannot wait, waits in vain, or gives way is denied and counted."""
    firewall = DataPlane(Policy.parse(POLICY), seed=1)
    body = datagram(CLIENT, VICTIM, 17, (4000, 53), bytes(40))
    later = fragment("1.0.0.0", 800, True, 7, bytes(8))
    evicted = packets = 0
    for second, capture in chunks(later, 300_000, tmp_path / "flood.pcap"):
        summary = firewall.replay(capture)
        assert summary.fragments.datagrams_evicted >= summary.fragments.evicted
        evicted, packets = evicted + summary.fragments.evicted, packets + summary.packets
        assert firewall.counters().fragments_waiting <= 4096
        pieces = [fragment(CLIENT, 24, False, second, body[24:]), fragment(CLIENT, 0, True, second, body[:24])]
        assert len(reasons(firewall, pieces[::-1], second)) == 1
        assert reasons(firewall, pieces[1:], second) <= {"allow rule", "allow connection"}
    assert packets == 300_000
    assert evicted > 280_000
    assert firewall.counters().entries == 1


def test_fragments_that_wait_in_vain_are_counted() -> None:
    """SPEC 4.6: 30 s."""
    firewall = DataPlane(Policy.parse(POLICY), seed=1)
    firewall.process_batch([fragment(CLIENT, 8, True, ident, bytes(8)) for ident in range(50)], [1_000_000_000] * 50)
    firewall.advance(31_000_000_000 - 1)
    assert (firewall.counters().fragments_waiting, firewall.counters().fragments_expired) == (50, 0)
    firewall.advance(31_000_000_000)
    assert (firewall.counters().fragments_waiting, firewall.counters().fragments_expired) == (0, 50)


def test_answers_do_not_depend_on_the_hash() -> None:
    """SPEC 4.9: the hash is keyed afresh for each engine; of fragments too; what gives way depends on packets."""
    body = datagram(CLIENT, VICTIM, 17, (4000, 53), bytes(40))
    pieces = [(f"203.0.{n % 97}.{n % 11}", n % 5000) for n in range(6000)]
    frames = [fragment(source, 24, False, ident, body[24:]) for source, ident in pieces]
    frames += [fragment(source, 0, True, ident, body[:24]) for source, ident in pieces]
    answers = []
    for seed in (1, 2, None):
        firewall = DataPlane(Policy.parse(POLICY), seed=seed)
        verdicts = [v.verdict for v in firewall.process_batch(frames, [1] * len(frames))]
        answers.append(
            (verdicts, [(n, v.verdict) for n, v in firewall.resolved()], firewall.counters().datagrams_evicted)
        )
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][2] > 1000


def test_fragments_that_find_no_room_to_wait_are_counted() -> None:
    """SPEC 4.6: 64 wait for one datagram."""
    firewall = DataPlane(Policy.parse(POLICY), seed=1)
    frames = [fragment(CLIENT, 8 * n, True, 1, bytes(8)) for n in range(1, 101)]
    firewall.process_batch(frames, [1] * len(frames))
    counters = firewall.counters()
    assert (counters.fragments_waiting, counters.fragments_refused) == (64, 36)
