"""An explanation says what the replay says, names the fields that the slow model finds unfit, and its remedies turn the
verdict (SPEC 8.3)."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane import DataPlane, Policy
from dataplane.insight.explain import explain
from dataplane.insight.replayed_packet import Replayed
from dataplane.policy.changes import apply, parse_change
from dataplane.policy.schedule import TimedChange

from .beside_engine import engine_change
from .packet_model import Packet, decode
from .policy_model import RULE_DEFAULTS, find, matches, settle
from .story import ChangeStep, PacketStep, Player, Story
from .strategies import disrupted_stories, stories
from .test_engine_against_model import PROFILE

#: What of a rule a packet can misfit.
FIELDS = (
    *("protocol", "multiport", "icmp_type", "icmp_code"),
    *("remote_ip_prefix", "remote_group_id", "remote_address_group_id"),
)


@dataclass
class Played:
    """A story as a capture with a schedule: its packets, and the document in force at each (SPEC 7, `--changes`)."""

    policy: Policy
    capture: Path
    schedule: list[TimedChange]
    packets: list[PacketStep]
    documents: list[dict[str, Any]]
    records: list[dict[str, Any]]


def play(story: Story, directory: Path) -> Played | None:
    """Plays a story; None for one without packets. What is refused is left out of the schedule."""
    player = Player(story)
    steps = [(step, player.model.document) for step in player.play()]
    packets = [step for step, _ in steps if isinstance(step, PacketStep)]
    if not packets:
        return None
    first = packets[0].time_ns
    policy = Policy.parse(json.dumps(story.document))
    schedule = []
    for number, (step, _) in enumerate(steps):
        if isinstance(step, ChangeStep) and not step.refused:
            folder = directory / str(number)
            folder.mkdir()
            change = parse_change(engine_change(step.change, folder))
            schedule.append(TimedChange(max(step.time_ns - first, 0) / 1e9, change))
    capture = write(directory / "capture.pcap", packets)
    return Played(policy, capture, schedule, packets, in_force(story, steps), replay(policy, capture, schedule))


def in_force(story: Story, steps: Sequence[tuple[PacketStep | ChangeStep, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The document at each packet: a change of the same time has been made before it."""
    changes = [(step.time_ns, document) for step, document in steps if isinstance(step, ChangeStep)]
    documents, latest = [], 0
    for step, _ in steps:
        if isinstance(step, PacketStep):
            latest = max(latest, step.time_ns)
            documents.append([settle(story.document), *(d for at, d in changes if at <= latest)][-1])
    return documents


def write(path: Path, packets: Sequence[PacketStep]) -> Path:
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1))
        for step in packets:
            n = len(step.frame)
            file.write(struct.pack("<IIII", *divmod(step.time_ns, 1_000_000_000), n, n) + step.frame)
    return path


def replay(policy: Policy, capture: Path, schedule: Sequence[TimedChange]) -> list[dict[str, Any]]:
    """The records of `replay --verdicts`."""
    verdicts = capture.with_suffix(".jsonl")
    DataPlane(policy, seed=0).replay(capture, changes=schedule, verdicts=verdicts)
    return [json.loads(line) for line in verdicts.read_text().splitlines()]


def ranked(document: Mapping[str, Any], group: str, direction: str, packet: Packet) -> list[dict[str, Any]]:
    """The rules of a group that a packet goes to, in the order tried (SPEC 3.1), enabled or not."""
    rules = find(document["security_groups"], group)["security_group_rules"]
    of_kind = [r for r in rules if r["direction"] == direction and r["ethertype"] == f"IPv{packet.family}"]
    return sorted(of_kind, key=lambda rule: (rule["priority"], rule["action"] != "deny"))


def misfits(document: dict[str, Any], rule: Mapping[str, Any], packet: Packet) -> list[str]:
    """The fields of a rule that do not fit a packet, each by itself."""
    by_itself = {**RULE_DEFAULTS, "direction": rule["direction"], "ethertype": rule["ethertype"]}
    found = [] if rule["enabled"] else ["enabled"]
    return found + [
        field
        for field in FIELDS
        if rule[field] is not None and not matches(document, {**by_itself, field: rule[field]}, packet)
    ]


def compare_groups(document: dict[str, Any], check: Mapping[str, Any], packet: Packet) -> None:
    """Groups and rules stand in the order tried up to the one that decided, each with its misfits."""
    groups = check["groups"]
    held = find(document["instances"], check["instance"])["security_groups"]
    assert [group["id"] for group in groups] == list(held[: len(groups)])
    decided = check["reason"] in ("rule", "table-full")
    assert len(groups) == len(held) or decided
    for place, group in enumerate(groups):
        rules = ranked(document, group["id"], check["direction"], packet)
        last = decided and place == len(groups) - 1
        assert len(group["rules"]) == len(rules) or last
        for told, rule in zip(group["rules"], rules, strict=False):
            assert (told["action"], told["priority"]) == (rule["action"], rule["priority"])
            assert told["mismatch"] == misfits(document, rule, packet)
            assert told["matched"] == (not told["mismatch"])
            assert told["matched"] == (last and told is group["rules"][-1])
    if check["reason"] == "rule":
        assert (check["rule"], check["security_group"]) == (groups[-1]["rules"][-1]["id"], groups[-1]["id"])


def compare(story: Story, data: st.DataObject, most: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        played = play(story, Path(directory))
        if played is None:
            return
        replayed = Replayed(played.policy, [str(played.capture)], played.schedule)
        numbers = st.lists(st.integers(1, len(played.packets)), min_size=1, max_size=most, unique=True)
        for number in data.draw(numbers):
            compare_packet(played, replayed, number)


def compare_packet(played: Played, replayed: Replayed, number: int) -> None:
    record, step = played.records[number - 1], played.packets[number - 1]
    explained = explain(replayed, number).to_dict()
    assert explained["verdict"] == record["verdict"]
    for check, told in zip(record["checks"], explained["checks"], strict=True):
        for field in ("instance", "direction", "verdict", "state", "reason", "cause", "rule", "security_group"):
            assert told[field] == check[field]
        connection = told["connection"]
        assert (connection is None) == (check["connection"] is None)
        if connection:
            assert (connection["origin"], connection["opened_by"]) == (check["connection"], check["opened_by"])
            history = connection["history"]
            assert (history[0]["event"], history[0]["packet"]) == ("opened", check["opened_by"])
            assert [e["packet"] for e in history if e["packet"] and e["packet"] > number] == []
            ends = [e["event"] for e in history][-2:]
            assert (ends == ["disconnected", "held-until"]) == (check["reason"] == "disconnected")
        if check["reason"] in ("rule", "no-rule-matched", "table-full") and not check["cause"]:
            packet = decode(step.frame)
            assert isinstance(packet, Packet)
            compare_groups(played.documents[number - 1], told, packet)
        else:
            assert told["groups"] == []
    compare_remedies(played, explained, number)


def compare_remedies(played: Played, explained: Mapping[str, Any], number: int) -> None:
    """Each remedy turns the verdict, made before the first packet or, where the schedule undoes that, this one."""
    other = {"allow": "deny", "deny": "allow"}
    for remedy in explained["remedies"]:
        assert remedy["verdict"] == other[explained["verdict"]]
        change = parse_change(remedy["change"], played.policy)
        changed = None
        try:
            changed = replay(apply(played.policy, change), played.capture, played.schedule)[number - 1]["verdict"]
        except ValueError:
            assert played.schedule
        if changed != remedy["verdict"]:
            at = max(played.packets[number - 1].time_ns - played.packets[0].time_ns, 0) / 1e9
            schedule = sorted([*played.schedule, TimedChange(at, change)], key=lambda timed: timed.at)
            changed = replay(played.policy, played.capture, schedule)[number - 1]["verdict"]
        assert changed == remedy["verdict"]


@settings(PROFILE, max_examples=PROFILE.max_examples // 10)
@given(stories(), st.data())
def test_explanation_is_what_the_replay_and_the_model_say(story: Story, data: st.DataObject) -> None:
    """SPEC 8.3, first packets and connections of every kind."""
    compare(story, data, 3)


@settings(PROFILE, max_examples=PROFILE.max_examples // 20)
@given(disrupted_stories(), st.data())
def test_explanation_of_disconnected_connections(story: Story, data: st.DataObject) -> None:
    """SPEC 8.3, where changes cut connections."""
    compare(story, data, 3)
