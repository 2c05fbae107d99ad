"""What a replay says does not depend on how many threads judge it: records, flows and figures, to the byte (SPEC 7)."""

from __future__ import annotations

import json
import os
import random
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane import Policy
from dataplane._core import ffi, lib
from dataplane.plane import Plane
from dataplane.policy.changes import parse_change
from dataplane.policy.schedule import TimedChange
from dataplane.replay import Captures, Replay
from dataplane.verdict import Names

from . import frames
from .beside_engine import engine_change
from .policy_strategies import mac
from .story import PacketStep, Player, Story
from .strategies import disrupted_stories, moving_stories, shared_stories, stories, tcp_stories

EXAMPLES = 4000 if os.environ.get("DATAPLANE_PROPERTIES") == "long" else 40
PROFILE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 1000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
JOBS = (1, 2, 4)
#: A few frames are judged without waking a thread: each story is told so often.
ROUNDS = 30


class Kept:
    """Observes a replay: the bytes of its records and of their flows."""

    def __init__(self) -> None:
        self.records, self.flows = bytearray(), bytearray()

    def observe(self, _first: int, n: int, records: Any, flows: Any, _names: Names) -> None:
        self.records += ffi.buffer(records, n * ffi.sizeof("struct dp_record"))
        self.flows += ffi.buffer(flows, n * ffi.sizeof("struct dp_flow"))


def told(jobs: int, policy: Policy, capture: Path, changes: Sequence[TimedChange]) -> tuple[bytes, bytes, str]:
    """Records, flows and figures of a replay, but for its seconds and the memory that it took."""
    kept = Kept()
    plane = Plane(policy, seed=0, shards=jobs)
    lib.dp_plane_note_openers(plane.plane)
    with Captures([capture]) as opened:
        summary = Replay(plane, opened, changes=changes, observers=[kept]).run(top=1000).to_dict()
    for key in ("elapsed", "packets_per_second"):
        summary.pop(key, None)
    summary["connections"].pop("table_bytes")
    return bytes(kept.records), bytes(kept.flows), json.dumps(summary)


def write(path: Path, packets: Sequence[tuple[int, bytes]]) -> None:
    """A pcap file of times in nanoseconds and frames."""
    with path.open("wb") as file:
        file.write(struct.pack("=IHHIIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1))
        for time_ns, frame in packets:
            file.write(struct.pack("=4I", *divmod(time_ns, 10**9), len(frame), len(frame)) + frame)


def compare(policy: Policy, packets: Sequence[tuple[int, bytes]], changes: Sequence[TimedChange] = ()) -> bytes:
    """Fails where another number of threads says something else; returns the records."""
    with tempfile.TemporaryDirectory() as directory:
        capture = Path(directory) / "story.pcap"
        write(capture, packets)
        first, *others = [told(jobs, policy, capture, changes) for jobs in JOBS]
    size = ffi.sizeof("struct dp_record")
    for jobs, other in zip(JOBS[1:], others, strict=True):
        for at in range(0, len(first[0]), size):
            assert first[0][at : at + size] == other[0][at : at + size], (jobs, at // size)
        assert first == other, jobs
    return first[0]


def told_often(story: Story, rounds: int) -> tuple[Policy, list[tuple[int, bytes]], list[TimedChange]]:
    """A story told several times over, each a second after the one before, with its changes the first time.

    Its policy, the times in nanoseconds and frames of its packets, and its changes.
    """
    policy = Policy.parse(json.dumps(story.document))
    packets, changes = list[tuple[int, bytes]](), list[TimedChange]()
    with tempfile.TemporaryDirectory() as directory:
        now = policy
        for step in Player(story).play():
            if isinstance(step, PacketStep):
                packets.append((step.time_ns, step.frame))
            elif not step.refused:
                folder = Path(directory) / str(len(changes))
                folder.mkdir()
                change = parse_change(engine_change(step.change, folder), now)
                first = packets[0][0] if packets else step.time_ns
                changes.append(TimedChange(max(step.time_ns - first, 0) / 1e9, change))
                now = changes[-1].apply(now)
    last = max((time_ns for time_ns, _ in packets), default=0)
    return policy, [*packets, *((last + k * 10**9, frame) for k in range(1, rounds) for _, frame in packets)], changes


def play(story: Story) -> None:
    policy, packets, changes = told_often(story, ROUNDS)
    if packets:
        compare(policy, packets, changes)


@PROFILE
@given(st.one_of(stories(), disrupted_stories(), moving_stories(), tcp_stories()))
def test_verdicts_do_not_depend_on_the_number_of_threads(story: Story) -> None:
    play(story)


@settings(PROFILE, max_examples=EXAMPLES // 4)
@given(shared_stories())
def test_a_virtual_ip_is_where_it_is_with_any_number_of_threads(story: Story) -> None:
    play(story)


INSTANCES = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
OTHERS = ("192.0.2.1", "192.0.2.7", "198.51.100.9", "203.0.113.80")
BOOTP = bytes([1, 1, 6, 0, 0, 0, 0, 9]) + bytes(228) + bytes.fromhex("63825363")


def datagram_of(draw: random.Random, source: str, target: str) -> list[bytes]:
    """A UDP datagram, whole or in pieces that come in any order, some of them never."""
    ports = draw.choice([(4000, 53), (53, 4000), (68, 67), (67, 68), (68, 5000), (5000, 68), (4001, 80)])
    whole = frames.packet(source, target, 17, frames.datagram(source, target, 17, ports, bytes(40)))
    if draw.random() < 0.5:
        return [whole]
    number, pieces = draw.randrange(8), []
    for start, end in ((0, 24), (24, 40), (40, 48)):
        more = 0x2000 if end < 48 else 0
        head = whole[:2] + struct.pack("!HHH", 20 + end - start, number, more | start // 8) + whole[8:10]
        head += b"\0\0" + whole[12:20]
        head = head[:10] + struct.pack("!H", frames.checksum(head)) + head[12:]
        pieces.append(head + whole[20 + start : 20 + end])
    draw.shuffle(pieces)
    return pieces[: draw.randint(1, 3)]


def packets_of(draw: random.Random) -> list[bytes]:
    """What is sent at one time: IPv4 packets, or ARP."""
    ends = [draw.choice(INSTANCES), draw.choice(OTHERS + INSTANCES)]
    draw.shuffle(ends)
    source, target = ends
    match draw.randrange(8):
        case 0:
            return [frames.packet(source, target, 1, frames.query(source, target, draw.choice([0, 8]), 7))]
        case 1:
            quoted = frames.packet(target, source, 17, frames.datagram(target, source, 17, (4000, 53)))
            router = draw.choice(OTHERS)
            return [frames.packet(router, target, 1, frames.error(router, target, 3, 3, quoted))]
        case 2:
            ports = draw.choice([(4000, 22), (22, 4000), (4001, 80)])
            flags = draw.choice([2, 18, 16, 16, 17, 4])
            return [frames.packet(source, target, 6, frames.tcp(source, target, ports, flags, 100, 100))]
        case 3:
            body = frames.datagram("0.0.0.0", "255.255.255.255", 17, (68, 67), BOOTP)
            return [frames.packet("0.0.0.0", "255.255.255.255", 17, body)]
        case 4:
            body = frames.datagram(source, target, 17, (67, 68), b"\2" + BOOTP[1:])
            return [frames.packet(source, target, 17, body)]
        case _:
            return datagram_of(draw, source, target)


def who_has(number: int) -> bytes:
    """A request of ARP."""
    head = bytes.fromhex("0001080006040001020000000000") + frames.packed(INSTANCES[0]) + bytes(6)
    return frames.ethernet(mac(0), "ff:ff:ff:ff:ff:ff", head + bytes([10, 0, 0, number]), 0x0806)


def solicitation(number: int) -> bytes:
    """The same in IPv6, from the same instance (RFC 4861, 4.3)."""
    source, target, group = "fd00::1", f"fd00::{number:x}", f"ff02::1:ff00:{number:x}"
    message = frames.icmp(source, group, 135, 0, bytes(4) + frames.packed(target))
    return frames.ethernet(mac(0), "33:33:ff:00:00:01", frames.packet(source, group, 58, message, 255))


def open_policy() -> Policy:
    """Instances that are reached from some, and reach all."""
    rules = [
        {"id": "from-some", "direction": "ingress", "remote_ip_prefix": "192.0.2.0/24"},
        {"id": "to-all", "direction": "egress"},
        {"id": "not-there", "direction": "egress", "remote_ip_prefix": "203.0.113.0/24", "action": "deny"},
    ]
    return Policy.parse(
        json.dumps(
            {
                "security_groups": [{"id": "sg", "security_group_rules": rules}],
                "instances": [
                    {"id": f"i{n}", "addresses": [address, f"fd00::{n + 1}"], "mac": mac(n), "security_groups": ["sg"]}
                    for n, address in enumerate(INSTANCES)
                ],
            }
        )
    )


def test_all_threads_together_say_what_one_says() -> None:
    """Fragments out of order, DHCP, errors about others, times that run backwards, and a change (SPEC 4, 5)."""
    draw = random.Random(7)
    packets, now = list[tuple[int, bytes]](), 10**18
    # So many that threads begin their ring of pieces anew, and so few that there is a counter for each denied flow.
    while len(packets) < 20_000:
        now += draw.choice([0, 10**5, 10**6, 10**7, 3 * 10**9 if draw.random() < 0.01 else 0])
        for packet in packets_of(draw):
            frame = frames.ethernet(mac(draw.randrange(3)), mac(draw.randrange(3)), packet)
            packets.append((now - draw.choice([0, 0, 0, 10**8]), frame))
            # Once so many that some exceed their bound.
            for _ in range(13_000 if 4000 <= len(packets) < 5000 else draw.random() < 0.02):
                packets.append((now, draw.choice([who_has, solicitation])(draw.randrange(1, 255))))
    policy = open_policy()
    rule = {"id": "late", "direction": "ingress", "remote_ip_prefix": "198.51.100.0/24"}
    change = {"add_rule": {"security_group": "sg", "rule": rule}}
    changes = [TimedChange((now - 10**18) / 2e9, parse_change(change, policy))]
    records = ffi.from_buffer("struct dp_record[]", compare(policy, packets, changes))
    found = {(check.verdict, check.reason) for record in records for check in record.check[0 : record.checks]}
    wanted = {
        (lib.DP_ALLOW, lib.DP_REASON_RULE),
        (lib.DP_ALLOW, lib.DP_REASON_CONNECTION),
        (lib.DP_ALLOW, lib.DP_REASON_RELATED),
        (lib.DP_ALLOW, lib.DP_REASON_CONTROL),
        (lib.DP_DENY, lib.DP_REASON_CONTROL),
        (lib.DP_DENY, lib.DP_REASON_INVALID),
        (lib.DP_DENY, lib.DP_REASON_DISCONNECTED),
    }
    assert found >= wanted
