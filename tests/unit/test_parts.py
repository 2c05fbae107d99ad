"""A replay that is cut by instance: its parts, joined, are the whole, to the byte; else it says so."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.utils import PcapNgWriter, wrpcap

from dataplane.insight.diff import diff
from dataplane.insight.diff_parts import compare_part, inexact_difference, joined_difference
from dataplane.plane import Plane
from dataplane.policy.model import Policy
from dataplane.policy.schedule import TimedChange, load_changes, scheduled
from dataplane.replay import Captures, Replay, Summary
from dataplane.replay.joining import JoinedReplay, PartCaptures
from dataplane.replay.outputs import Outputs
from dataplane.replay.parts import Census, census, judge_part, reason_of_policies
from dataplane.replay.window import WHOLE, Part, Window, read_mappings

FIRST = 1_700_000_000
POLICY = """
security_groups:
  - id: web
    security_group_rules:
      - {id: http, direction: ingress, protocol: tcp, multiport: "80,443"}
      - {id: ping, direction: ingress, protocol: icmp}
      - {id: ping6, direction: ingress, ethertype: IPv6, protocol: icmpv6}
      - {id: out, direction: egress}
  - id: db
    security_group_rules:
      - {id: sql, direction: ingress, protocol: tcp, multiport: "5432", remote_group_id: web}
instances:
""" + "".join(
    f"  - {{id: i-{n}, addresses: [192.168.0.{n}, 'fd00::{n}'], security_groups: [{'db' if n > 12 else 'web'}]}}\n"
    for n in range(1, 17)
)
CHANGES = """
- {at: 1, update_rule: {id: http, multiport: "443"}}
- {at: 2.5, add_instance: {security_group: db, instance: i-3}}
- {at: 2.5, add_rule: {security_group: db, rule: {id: late, direction: ingress, protocol: udp}}}
- {at: 500, delete_rule: {id: late}}
"""


def policy_of(text: str = POLICY) -> Policy:
    return Policy.parse(text)


def story(seed: int, packets: int = 600) -> list[Any]:
    """Packets of all kinds: connections, refused ones, answers, errors, what is out of its window or concerns nobody.

    Instances 1 to 4 talk among themselves, and 13 with 5; all others with the world alone.
    """
    chance = random.Random(seed)
    link = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    question = IP(src="192.168.0.9", dst="10.0.0.1") / UDP(sport=5000, dport=53)
    frames = [link / question, link / IP(src="10.0.0.9", dst="192.168.0.9") / ICMP(type=3, code=1) / question]
    for frame in frames:
        frame.time = FIRST + seed / 1000
    now = FIRST + 0.01
    for _ in range(packets):
        now += chance.random() / 100
        n = chance.randint(1, 16)
        here, far = f"192.168.0.{n}", f"10.0.0.{chance.randint(1, 9)}"
        if n <= 4 and chance.random() < 0.4:
            far = f"192.168.0.{chance.choice([m for m in range(1, 5) if m != n])}"
        if n == 13:
            far = "192.168.0.5"
        port = 40000 + chance.randint(0, 9)
        flags = chance.choice(["S", "SA", "A", "PA", "FA", "R"])
        service = chance.choice([80, 443, 22, 5432])
        ends = [(IP(src=far, dst=here), port, service), (IP(src=here, dst=far), service, port)]
        ip, source, destination = chance.choice(ends)
        tcp = TCP(sport=source, dport=destination, flags=flags, seq=chance.randint(0, 3) * 100, ack=100)
        error = IP(src="10.9.9.9", dst=here) / ICMP(type=3, code=1)
        packet = chance.choice(
            [
                *[ip / tcp] * 5,
                ip / UDP(sport=source, dport=destination),
                ip / ICMP(id=port),
                IPv6(src="fd00:9::1", dst=f"fd00::{n}") / ICMPv6EchoRequest(id=port),
                error / IP(src=here, dst=far) / UDP(sport=service, dport=port),
                IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2),
                ARP(psrc="192.168.0.250", pdst=here),
            ]
        )  # fmt: skip
        frame = link / Dot1Q(vlan=7) / packet if chance.random() < 0.05 else link / packet
        frame.time = now
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two captures of the same time."""
    paths = []
    for seed in (1, 2):
        path = tmp_path_factory.mktemp("parts") / f"{seed}.pcap"
        wrpcap(str(path), story(seed))
        paths.append(str(path))
    return paths


@pytest.fixture
def changes(tmp_path: Path) -> list[TimedChange]:
    (tmp_path / "changes.yaml").write_text(CHANGES)
    return load_changes(tmp_path / "changes.yaml", policy_of())


def whole(
    policy: Policy, paths: Sequence[str], changes: Sequence[TimedChange], part: Part, verdicts: Path | None
) -> Summary:
    """As one process judges it."""
    plane = Plane(policy)
    with Captures(paths, part=part) as opened:
        outputs = Outputs(plane, opened, verdicts=verdicts and str(verdicts), frames={})
        summary = Replay(plane, opened, changes=changes, write=outputs.write if outputs else None).run(top=1000)
        outputs.keep()
    return summary


def in_parts(
    policy: Policy, paths: Sequence[str], changes: Sequence[TimedChange], part: Part, verdicts: Path | None, n: int
) -> Summary:
    found = census(policy, paths, part)
    part_of = found.parts(n)
    assert found.reason is None
    assert part_of is not None
    assert set(part_of) == set(range(n))
    judged = [judge_part(policy, paths, changes, part, part_of, mine, whole=verdicts is not None) for mine in range(n)]
    joined = JoinedReplay(policy, judged, changes)
    assert joined.inexact is None
    opened = PartCaptures(paths, judged[0].interfaces)
    outputs = Outputs(joined.plane, opened, verdicts=verdicts and str(verdicts), frames={})  # type: ignore[arg-type]
    summary = joined.run(outputs.write if outputs else None, elapsed=1.0, top=1000)
    outputs.keep()
    return summary


def told(summary: Summary) -> dict[str, Any]:
    """All but seconds, and the memory of one table in place of that of several."""
    values = summary.to_dict()
    del values["elapsed"], values["packets_per_second"], values["connections"]["table_bytes"]
    return values


def test_rules_keep_their_names_however_many_come_and_go(captures: list[str], tmp_path: Path) -> None:
    """SPEC 5, 7: a policy of hundreds of other rules takes the place of one, twice; whose a packet was stays told."""
    lines = [
        f"      - {{id: NAME-{n}, direction: ingress, protocol: udp, remote_ip_prefix: 10.1.{n}.1/32}}"
        for n in range(250)
    ]
    policies = [
        "\n".join([*lines, "      - {id: NAME, direction: ingress, protocol: tcp}"]).replace("NAME", x) for x in "pqr"
    ]
    head, *_ = POLICY.split("      - {id: http")
    tail = "      - {id: out, direction: egress}\n" + POLICY.split("      - {id: out, direction: egress}\n")[1]
    for at, rules in enumerate(policies):
        (tmp_path / f"{at}.yaml").write_text(f"{head}{rules}\n{tail}")
    text = "".join(f"- {{at: {at * 1.3}, apply_policy: {tmp_path}/{at}.yaml}}\n" for at in (1, 2))
    (tmp_path / "changes.yaml").write_text(text)
    policy = Policy.load(tmp_path / "0.yaml")
    changes = load_changes(tmp_path / "changes.yaml", policy)
    one, several = tmp_path / "one.jsonl", tmp_path / "several.jsonl"
    alone = whole(policy, captures, changes, WHOLE, one)
    assert all(f'"{rule}"' in one.read_text() for rule in "pqr")
    assert told(in_parts(policy, captures, changes, WHOLE, several, 2)) == told(alone)
    assert several.read_bytes() == one.read_bytes()


def test_a_difference_of_parts_is_that_of_the_whole(captures: list[str], changes: list[TimedChange]) -> None:
    """SPEC 8.4: counts, flows in their order with their first packets, rules of changes, and what would be cut."""
    policy, new = policy_of(), policy_of(POLICY.replace('"80,443"', '"443,5432,22"').replace("id: out", "id: away"))
    alone = diff(policy, new, captures, changes)
    assert len(alone.flows) > 1
    assert alone.same
    assert len(alone.disconnected) > 1
    part_of = census(policy, captures, WHOLE).parts(3)
    assert part_of is not None
    compared = [compare_part(policy, new, captures, changes, WHOLE, part_of, mine) for mine in range(3)]
    assert inexact_difference(compared) is None
    assert joined_difference(policy, new, changes, compared) == alone


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_parts_are_the_whole(captures: list[str], changes: list[TimedChange], tmp_path: Path, ending: str) -> None:
    """Records and summary (SPEC 7), with changes between them (SPEC 5), of captures merged by time."""
    one, several = tmp_path / f"one.{ending}", tmp_path / f"several.{ending}"
    policy = policy_of()
    alone = whole(policy, captures, changes, WHOLE, one)
    assert {"established", "new", "invalid", "related", "disconnected"} <= alone.states.keys()
    assert alone.verdicts["bypass"].packets > 0
    assert alone.consequences
    for n in (2, 5):
        assert told(in_parts(policy, captures, changes, WHOLE, several, n)) == told(alone)
        assert several.read_bytes() == one.read_bytes()


def test_parts_of_a_time(captures: list[str], changes: list[TimedChange], tmp_path: Path) -> None:
    """Packets outside of --time are as if they were not there, in the numbers of parts too."""
    part, policy = Part(Window.read("0.5..2.6")), policy_of()
    alone = whole(policy, captures, changes, part, tmp_path / "one.jsonl")
    assert 0 < alone.packets < 1200
    assert told(in_parts(policy, captures, changes, part, tmp_path / "several.jsonl", 3)) == told(alone)
    assert (tmp_path / "several.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_a_summary_needs_the_denied_packets_alone(captures: list[str], changes: list[TimedChange]) -> None:
    alone = whole(policy_of(), captures, changes, WHOLE, None)
    assert told(in_parts(policy_of(), captures, changes, WHOLE, None, 4)) == told(alone)
    kept = [
        len(judge_part(policy_of(), captures, (), WHOLE, [0] * 16, 0, whole=whole).records) for whole in (False, True)
    ]
    assert kept[0] < kept[1]


def test_row_groups_are_of_so_many_packets(
    captures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many come at a time: the file is the same."""
    import pyarrow.parquet as pq

    monkeypatch.setattr("dataplane.replay.parquet._ROW_GROUP", 100)
    monkeypatch.setattr("dataplane.replay.packed._ROW_GROUP", 64)
    monkeypatch.setattr("dataplane.replay.joining._BATCH", 30)
    one, several = tmp_path / "one.parquet", tmp_path / "several.parquet"
    whole(policy_of(), captures, (), WHOLE, one)
    in_parts(policy_of(), captures, (), WHOLE, several, 2)
    assert several.read_bytes() == one.read_bytes()
    groups = pq.ParquetFile(one)
    assert len(set(groups.read_row_group(0).column("packet").to_pylist())) == 100
    assert groups.num_row_groups == 13


def test_instances_that_meet_stand_together(captures: list[str]) -> None:
    found = census(policy_of(), captures, WHOLE)
    groups = {zones for zones, _ in ((tuple(zones), packets) for zones, packets in found.groups)}
    assert (0, 1, 2, 3) in groups
    assert (4, 12) in groups
    assert len(groups) == 12
    part_of = found.parts(3)
    assert part_of is not None
    assert len({part_of[zone] for zone in (0, 1, 2, 3)}) == 1
    assert replace(found, groups=found.groups[:1]).parts(3) is None
    assert replace(found, reason="because").parts(3) is None


def frames_of(kind: str) -> Iterator[Any]:
    """Of what cannot be cut."""
    link = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    ip = IP(src="10.0.0.1", dst="192.168.0.1")
    yield link / ip / UDP(sport=1, dport=2)
    if kind == "time":
        early = link / ip / UDP(sport=1, dport=2)
        early.time = FIRST - 5
        yield early
    if kind == "dhcp":
        ask = IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)
        yield link / ask / BOOTP(op=1) / DHCP(options=[("message-type", "discover"), "end"])
    if kind == "fragments":
        yield from (link / piece for piece in fragment(ip / UDP() / bytes(4000), fragsize=8) * 9)


@pytest.mark.parametrize(
    ("kind", "part", "reason"),
    [
        ("time", WHOLE, "their time runs backwards"),
        ("dhcp", WHOLE, "a client asks for DHCP before it has an address"),
        ("fragments", WHOLE, "there are so many fragments"),
        ("", Part(mappings=read_mappings(["10.0.0.1=10.0.0.2"])), "addresses are mapped"),
        ("", WHOLE, None),
    ],
)
def test_what_has_to_be_judged_as_a_whole(kind: str, part: Part, reason: str | None, tmp_path: Path) -> None:
    frames = list(frames_of(kind))
    for frame in frames:
        frame.time = FIRST if frame.time > FIRST else frame.time
    wrpcap(str(tmp_path / "c.pcap"), frames)
    found = census(policy_of(), [str(tmp_path / "c.pcap")], part)
    assert (found.reason is None) == (reason is None)
    assert (found.reason or "").startswith(reason or "")


def test_interfaces_with_names_may_be_ports(tmp_path: Path) -> None:
    path = str(tmp_path / "c.pcapng")
    writer = PcapNgWriter(path)
    for frame in frames_of(""):
        frame.sniffed_on = "tap-1"
        writer.write(frame)
    writer.close()
    assert census(policy_of(), [path], WHOLE).reason == "they tell the interfaces that packets came by"


def test_policies_that_have_to_be_in_force_as_a_whole(changes: list[TimedChange], tmp_path: Path) -> None:
    policy = policy_of()
    later = [policy, *(policy for _, policy in scheduled(policy, changes))]
    assert reason_of_policies(later, at=None) is None
    assert reason_of_policies(later, at="i-1") == "they were taken at one instance's interface"
    other = policy_of(POLICY.replace("192.168.0.9,", "192.168.0.99,"))
    assert (
        reason_of_policies([policy, other], at=None) == "other instances, or other addresses of them, come into force"
    )
    twice = POLICY + "  - {id: twin, vpc: other, addresses: [192.168.0.1], security_groups: [web]}\n"
    assert reason_of_policies([policy_of(twice)], at=None) == "several instances may hold one address"


def test_a_full_table_is_told(captures: list[str]) -> None:
    """SPEC 4.9: who gives way in a full table depends on all connections."""
    policy = policy_of(POLICY + "conntrack: {max_entries: 40}\n")
    part_of = Census([([n], 1) for n in range(16)], 16, None).parts(2)
    assert part_of is not None
    judged = [judge_part(policy, captures, (), WHOLE, part_of, mine, whole=False) for mine in (0, 1)]
    joined = JoinedReplay(policy, judged, ())
    assert joined.inexact == "all connections together may not have had room in the table"


def test_fragments_before_their_first_are_told(tmp_path: Path) -> None:
    ip = IP(src="10.0.0.1", dst="192.168.0.1", id=7)
    pieces = [Ether() / piece for piece in fragment(ip / UDP(sport=1, dport=2) / bytes(100), fragsize=48)]
    for piece in pieces:
        piece.time = FIRST
    for frames, inexact in ((pieces, None), (pieces[::-1], "fragments came before their datagrams' first")):
        wrpcap(str(tmp_path / "c.pcap"), frames)
        judged = [judge_part(policy_of(), [str(tmp_path / "c.pcap")], (), WHOLE, [0] * 16, 0, whole=True)]
        assert JoinedReplay(policy_of(), judged, ()).inexact == inexact
