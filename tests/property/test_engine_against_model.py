"""The engine and the slow model agree on every packet of every story, to the last word of every check.

Two profiles: `quick` (the default; the same stories each time) and `long`, chosen by DATAPLANE_PROPERTIES=long. A
failure prints its story, the smallest that was found: the policy, then each packet with both answers.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from dataplane import DataPlane, Policy

from . import frames
from .beside_engine import agree, refused
from .model import Model
from .policy_strategies import mac
from .story import START_NS, PacketStep, Player, Story, tell, tell_step, tell_verdict
from .strategies import (
    crowded_stories,
    disrupted_stories,
    moving_stories,
    quarantine_stories,
    shared_stories,
    stories,
    tcp_stories,
)

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
PROFILES = {
    "quick": settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=QUIET),
    "long": settings(max_examples=30_000, deadline=None, print_blob=True, suppress_health_check=QUIET),
}
PROFILE = PROFILES[os.environ.get("DATAPLANE_PROPERTIES", "quick")]


def compare(story: Story) -> None:
    """Plays a story on both and fails at the first difference, telling it from the beginning."""
    data_plane = DataPlane(Policy.parse(json.dumps(story.document)), seed=0)
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        for step in Player(story).play():
            lines.append(tell_step(step))
            if isinstance(step, PacketStep):
                got = data_plane.process(step.frame, time_ns=step.time_ns)
                lines.append(f"            engine: {tell_verdict(got)}")
                if not agree(step.expected, got):
                    pytest.fail(tell(story, lines), pytrace=False)
            elif refused(data_plane, step.change, step.time_ns, Path(directory)) != step.refused:
                pytest.fail(tell(story, [*lines, "            engine: the other way"]), pytrace=False)


@PROFILE
@given(stories())
def test_engine_says_what_the_model_says(story: Story) -> None:
    """SPEC 3 (matching), 4.1 to 4.5 and 4.8 (connections), 5 (changes), 7 (the words of the answer)."""
    compare(story)


@PROFILE
@given(disrupted_stories())
def test_engine_disconnects_what_the_model_disconnects(story: Story) -> None:
    """SPEC 5: which connections a change cuts, for how long, and what becomes of them."""
    compare(story)


@settings(PROFILE, max_examples=PROFILE.max_examples // 2)
@given(moving_stories())
def test_engine_follows_what_comes_and_goes_as_the_model_does(story: Story) -> None:
    """SPEC 5.1, 5.2, 5.4, 5.6: instances, groups, address groups and load balancers created, updated and deleted."""
    compare(story)


@settings(PROFILE, max_examples=PROFILE.max_examples // 4)
@given(quarantine_stories())
def test_engine_cuts_off_whom_the_model_cuts_off(story: Story) -> None:
    """SPEC 5.4: connections that a deny rule would decide about since their remote address came into its set."""
    compare(story)


@settings(PROFILE, max_examples=PROFILE.max_examples // 2)
@given(shared_stories())
def test_a_virtual_ip_is_where_the_model_has_it(story: Story) -> None:
    """SPEC 2 (virtual MACs), 7 (first point): who has an address that several may hold, after all that was said."""
    compare(story)


@PROFILE
@given(tcp_stories())
def test_engine_follows_tcp_as_the_model_does(story: Story) -> None:
    """SPEC 4.4: handshakes, closes, resets, reuse of ports, and segments that fit nothing."""
    compare(story)


@PROFILE
@given(crowded_stories())
def test_engine_makes_room_as_the_model_does(story: Story) -> None:
    """SPEC 4.9: a full table of one instance gives up half-open and one-way entries, the oldest first, and no other."""
    compare(story)


def test_engine_bounds_control_traffic_as_the_model_does() -> None:
    """SPEC 4.8: control traffic of one instance is bounded, large packets count more, others' and incoming do not."""
    groups = [{"id": "sg", "security_group_rules": []}]
    document = {
        "security_groups": groups,
        "instances": [
            {"id": name, "addresses": [f"fd00::{n}"], "mac": mac(n), "security_groups": ["sg"]}
            for n, name in enumerate(("a", "b"), 1)
        ],
    }
    model, data_plane = Model(document), DataPlane(Policy.parse(json.dumps(document)), seed=0)
    report = struct.pack("!HH", 0, 60) + (b"\4\0\0\0" + frames.packed("ff02::fb")) * 60
    link_local = {n: f"fe80::ff:fe00:{n + 1:x}" for n in (1, 2)}

    def reports(n: int, records: int) -> bytes:
        body = struct.pack("!HH", 0, records) + report[4 : 4 + 20 * records]
        message = frames.icmp(link_local[n], "ff02::16", 143, 0, body)
        return frames.ethernet(mac(n), "33:33:00:00:00:16", frames.packet(link_local[n], "ff02::16", 58, message, 1))

    flood = [(reports(1, 60), 0)] * 1300 + [(reports(2, 60), 0), (reports(1, 1), 0)]
    flood += [(reports(1, records), 3 * step) for step in range(40) for records in (1, 13)]
    answers = []
    for frame, milliseconds in flood:
        expected = model.process(frame, START_NS + milliseconds * 1_000_000)
        got = data_plane.process(frame, time_ns=START_NS + milliseconds * 1_000_000)
        answers.append(expected.checks[0].verdict)
        assert agree(expected, got), (len(answers), tell_verdict(expected), tell_verdict(got))
    assert set(answers[:1300]) == {"allow", "deny"}
    assert answers[1300:1302] == ["allow", "deny"]
    assert set(answers[-40:]) == {"allow", "deny"}
