"""Parts of a replay that is cut by instance, joined, are the whole, whatever the packets and policies (SPEC 7, 8.4)."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane import Policy
from dataplane.insight.diff import diff
from dataplane.insight.diff_parts import compare_part, inexact_difference, joined_difference
from dataplane.plane import Plane
from dataplane.policy.changes import parse_change
from dataplane.policy.schedule import TimedChange, scheduled
from dataplane.replay import Captures, Replay, Summary
from dataplane.replay.joining import JoinedReplay, PartCaptures
from dataplane.replay.outputs import Outputs
from dataplane.replay.parts import census, judge_part, reason_of_policies
from dataplane.replay.window import WHOLE

from . import frames
from .policy_strategies import mac
from .story import Story
from .strategies import disrupted_stories, stories, tcp_stories
from .test_jobs import OTHERS, PROFILE, told_often, write

HELD = [f"10.0.0.{n}" for n in range(1, 7)]
SERVICES = (53, 80)


def told(summary: Summary) -> str:
    """All but seconds and the memory of tables."""
    values = summary.to_dict()
    del values["elapsed"], values["packets_per_second"], values["connections"]["table_bytes"]
    return json.dumps(values)


def compare(
    policy: Policy, new: Policy, packets: Sequence[tuple[int, bytes]], changes: Sequence[TimedChange]
) -> tuple[bool, bool]:
    """Fails where parts say something else than the whole; whether the replay, and the difference, were cut."""
    with tempfile.TemporaryDirectory() as directory:
        capture, one, several = (Path(directory) / name for name in ("c.pcap", "one.jsonl", "several.jsonl"))
        write(capture, packets)
        paths = [str(capture)]
        part_of = census(policy, paths, WHOLE).parts(2)
        later = [policy, *(after for _, after in scheduled(policy, changes))]
        if not part_of or reason_of_policies(later, at=None):
            return False, False
        plane = Plane(policy)
        with Captures(paths) as opened:
            outputs = Outputs(plane, opened, verdicts=str(one), frames={})
            alone = Replay(plane, opened, changes=changes, write=outputs.write).run(top=1000)
            outputs.keep()
        parts = [judge_part(policy, paths, changes, WHOLE, part_of, mine, whole=True) for mine in range(2)]
        joined = JoinedReplay(policy, parts, changes)
        if joined.inexact:
            return False, False
        outputs = Outputs(joined.plane, PartCaptures(paths, ()), verdicts=str(several), frames={})  # type: ignore[arg-type]
        assert told(joined.run(outputs.write, elapsed=1.0, top=1000)) == told(alone)
        outputs.keep()
        assert several.read_bytes() == one.read_bytes()
        if reason_of_policies([policy, new], at=None):
            return True, False
        compared = [compare_part(policy, new, paths, (), WHOLE, part_of, mine) for mine in range(2)]
        if inexact_difference(compared):
            return True, False
        assert joined_difference(policy, new, (), compared) == diff(policy, new, paths)
    return True, True


def policy_of(draw: random.Random) -> Policy:
    """Six instances in one or both of two groups, whose rules are of services, addresses and the other group."""
    groups = []
    for name, other in (("a", "b"), ("b", "a")):
        rules = [{"id": f"{name}-out", "direction": "egress", "protocol": draw.choice(["tcp", "udp", None, None])}]
        for number in range(draw.randrange(1, 4)):
            rule = {"id": f"{name}{number}", "direction": "ingress", "action": draw.choice(["allow", "allow", "deny"])}
            rule |= draw.choice(
                [
                    {"protocol": "tcp", "multiport": str(draw.choice(SERVICES))},
                    {"protocol": "udp"},
                    {"remote_ip_prefix": f"{draw.choice(OTHERS)}/32"},
                    {"remote_group_id": other},
                    {"protocol": "icmp"},
                ]
            )
            rules.append(rule)
        groups.append({"id": name, "security_group_rules": rules})
    instances = [
        {
            "id": f"i{n}",
            "addresses": [address],
            "security_groups": draw.choice([["a"], ["b"], ["a", "b"]]),
        }
        for n, address in enumerate(HELD)
    ]
    return Policy.parse(json.dumps({"security_groups": groups, "instances": instances}))


def packets_of(draw: random.Random) -> list[tuple[int, bytes]]:
    """Two of the instances talk to each other, all to others: TCP, datagrams, queries and errors, and ARP."""
    packets, now = list[tuple[int, bytes]](), 10**18
    for _ in range(draw.randrange(20, 200)):
        now += draw.choice([0, 10**5, 10**8, 10**9, 200 * 10**9 if draw.random() < 0.05 else 0])
        here = draw.choice(HELD)
        far = draw.choice(HELD[:2]) if here in HELD[:2] and draw.random() < 0.3 else draw.choice(OTHERS)
        ends = [here, far]
        draw.shuffle(ends)
        source, target = ends
        ports = [draw.choice(SERVICES), 4000]
        draw.shuffle(ports)
        match draw.randrange(5):
            case 0:
                packet = frames.packet(source, target, 1, frames.query(source, target, draw.choice([0, 8]), 7))
            case 1:
                quoted = frames.packet(here, far, 17, frames.datagram(here, far, 17, (ports[0], ports[1])))
                packet = frames.packet("192.0.2.254", here, 1, frames.error("192.0.2.254", here, 3, 3, quoted))
            case 2:
                packet = frames.packet(source, target, 17, frames.datagram(source, target, 17, (ports[0], ports[1])))
            case _:
                flags = draw.choice([2, 2, 18, 16, 16, 16, 17, 4])
                packet = frames.packet(
                    source, target, 6, frames.tcp(source, target, (ports[0], ports[1]), flags, 100, 100)
                )
        packets.append((now, frames.ethernet(mac(7), mac(8), packet)))
    return packets


def test_any_captures_and_policies() -> None:
    """So many of them that each is cut, and that some say what changes cut and what differs."""
    draw = random.Random(11)
    cut = 0
    rounds = PROFILE.max_examples // 4
    for _ in range(rounds):
        policy, new = policy_of(draw), policy_of(draw)
        rule = {"id": "late", "direction": "ingress", "action": draw.choice(["allow", "deny"]), "priority": 1}
        change = {"add_rule": {"security_group": draw.choice("ab"), "rule": rule}}
        changes = [TimedChange(draw.random() * 10, parse_change(change, policy))]
        cut += compare(policy, new, packets_of(draw), changes) == (True, True)
    assert cut == rounds


@settings(PROFILE)
@given(st.one_of(stories(), disrupted_stories(), tcp_stories()))
def test_any_story(story: Story) -> None:
    """Fragments, control traffic and moving addresses among them: what cannot be cut exactly says so."""
    policy, packets, changes = told_often(story, 3)
    if packets:
        compare(policy, policy, packets, changes)
