"""Rules that end by themselves in a replay, as the slow model ends them: a change (SPEC 5) of nobody's making."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane import Policy
from dataplane.plane import Plane
from dataplane.policy.changes import parse_change
from dataplane.policy.schedule import TimedChange
from dataplane.replay import Captures, Replay
from dataplane.verdict import Names, Verdict, verdict_of

from .beside_engine import agree
from .model import SECOND
from .story import START_NS, Change, PacketStep, Player, Story, tell, tell_step, tell_verdict
from .strategies import disrupted_stories
from .test_jobs import write

PROFILE = settings(
    max_examples=4000 if os.environ.get("DATAPLANE_PROPERTIES") == "long" else 150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
#: Changes that need no rule that may have ended by then.
CHANGES = ("add_rule", "add_instance", "remove_instance", "update_address_group")


@st.composite
def expiring_stories(draw: st.DrawFn) -> Story:
    """A story in which some rules end, about the times of its packets."""
    story: Story = draw(disrupted_stories())
    events = [e for e in story.events if not isinstance(e, Change) or (e.change.keys() & set(CHANGES) and not e.broken)]
    # A change at the time of a packet is made before it in a replay.
    events = [replace(e, wait_ns=e.wait_ns + 1000) if isinstance(e, Change) else e for e in events]
    lasts = sum(event.wait_ns for event in events) // SECOND
    document = copy.deepcopy(dict(story.document))
    for group in document["security_groups"]:
        for rule in group.get("security_group_rules") or ():
            if "id" in rule and draw(st.booleans()):
                ends = datetime.fromtimestamp(START_NS // SECOND + draw(st.integers(-1, lasts + 1)), UTC)
                rule["expires_at"] = ends.isoformat()
    return replace(story, document=document, events=events)


class Told:
    """Observes a replay: its verdicts."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    def observe(self, _first: int, n: int, records: Any, _flows: Any, names: Names) -> None:
        self.verdicts += [verdict_of(records[i], names) for i in range(n)]


def replayed(policy: Policy, packets: Sequence[PacketStep], changes: Sequence[TimedChange]) -> list[Verdict]:
    told = Told()
    with tempfile.TemporaryDirectory() as folder:
        capture = Path(folder) / "story.pcap"
        write(capture, [(step.time_ns, step.frame) for step in packets])
        with Captures([capture]) as opened:
            Replay(Plane(policy, seed=0), opened, changes=changes, observers=[told]).run(top=0)
    return told.verdicts


@PROFILE
@given(expiring_stories())
def test_rules_end_as_the_model_ends_them(story: Story) -> None:
    steps = list(Player(story).play())
    packets = [step for step in steps if isinstance(step, PacketStep)]
    if not packets:
        return
    policy = Policy.parse(json.dumps(story.document))
    changes = [
        TimedChange(max(step.time_ns - packets[0].time_ns, 0) / 1e9, parse_change(step.change, policy))
        for step in steps
        if not isinstance(step, PacketStep) and not step.refused
    ]
    answers = replayed(policy, packets, changes)
    assert len(answers) == len(packets)
    told = dict(zip(map(id, packets), answers, strict=True))
    lines: list[str] = []
    for step in steps:
        lines.append(tell_step(step))
        if isinstance(step, PacketStep):
            got = told[id(step)]
            lines.append(f"            engine: {tell_verdict(got)}")
            if not agree(step.expected, got):
                pytest.fail(tell(story, lines), pytrace=False)
