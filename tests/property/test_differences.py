"""What two policies say differently is what their replays say, packet by packet (SPEC 8.4)."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings

from dataplane import Policy
from dataplane.insight.diff import diff
from dataplane.packet_words import PORTED, PROTOCOLS

from .story import Story
from .strategies import stories
from .test_engine_against_model import PROFILE
from .test_explanations import play, replay


def judgement(record: dict[str, Any]) -> dict[str, Any]:
    """The verdict of a record, with reason and rule of the check that decided."""
    decided = record["checks"][-1] if record["checks"] else {"reason": None, "rule": None}
    return {"verdict": record["verdict"], "reason": decided["reason"], "rule": decided["rule"]}


def flow_of(record: dict[str, Any]) -> object:
    """What makes packets one flow: protocol and both ends, in any direction."""
    ported = PROTOCOLS.get(str(record["protocol"]), -1) in PORTED
    ports = (record["source_port"], record["destination_port"]) if ported else (None, None)
    ends = (record["source"], ports[0]), (record["destination"], ports[1])
    return record["protocol"], frozenset(ends)


@settings(PROFILE, max_examples=PROFILE.max_examples // 10)
@given(stories(), stories())
def test_differences_are_those_of_the_records(story: Story, other: Story) -> None:
    """SPEC 8.4: how many packets, the first of each flow with both judgements, and how many each has."""
    with tempfile.TemporaryDirectory() as directory:
        played = play(Story(story.document, [e for e in story.events if not hasattr(e, "change")]), Path(directory))
        if played is None:
            return
        new = Policy.parse(json.dumps(other.document))
        found = diff(played.policy, new, [str(played.capture)]).to_dict()
        records = list(zip(played.records, replay(new, played.capture, []), strict=True))
    changed = [(old, now) for old, now in records if old["verdict"] != now["verdict"]]
    assert found["packets"] == {"same": len(records) - len(changed), "changed": len(changed)}
    flows: dict[object, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for old, now in changed:
        flows.setdefault(flow_of(old), []).append((old, now))
    expected = sorted(flows.values(), key=lambda packets: (-len(packets), packets[0][0]["packet"]))
    told = [{name: flow[name] for name in ("first_packet", "packets", "old", "new")} for flow in found["flows"]]
    assert told == [
        {
            "first_packet": packets[0][0]["packet"],
            "packets": len(packets),
            "old": judgement(packets[0][0]),
            "new": judgement(packets[0][1]),
        }
        for packets in expected
    ]
