"""Model and engine against the TCP conversations that the kernel is asked about too (tests/system)."""

from __future__ import annotations

import pytest

from tests.support.differences import DIFFERENCES, NEW, NO, OK
from tests.support.segment import INSIDE, INSIDE6
from tests.support.tcp_stories import ENDS, TCP_STORIES

from .scene import Scene, group, rule
from .story import START_NS, tell_verdict

#: What stands at a verdict's state where a segment is refused.
WORDS = {"new": NEW, "established": OK, "invalid": NO}


def scene() -> Scene:
    """As in front of the kernel: one service inside, everything outside."""
    rules = [
        rule(f"{direction}-{ethertype}", direction, ethertype=ethertype, **fields)
        for ethertype in ("IPv4", "IPv6")
        for direction, fields in (("ingress", {"protocol": "tcp", "multiport": "80"}), ("egress", {}))
    ]
    ends = {"id": "inside", "addresses": [INSIDE, INSIDE6], "security_groups": ["sg"]}
    return Scene([group("sg", *rules)], [ends])


#: Where exactly the window ends, which the model does not know (tcp_model.py): the engine plays these alone.
AT_THE_WINDOW = {
    "a blind reset in the handshake",
    "a reset far behind in the handshake",
    "forged data",
    "forged data from behind that acknowledges what was never sent",
    "new data with an acknowledgement from far behind",
    "both sides agree on a place",
    "up to the edge of the window",
    "window scaling",
    "window scaling that one side does not offer",
    "window scaling that the other side offers alone",
    "sequence numbers wrap",
    "blind resets",
    "a blind reset of a closing connection",
    "a SYN that is challenged, and a blind reset",
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", TCP_STORIES)
def test_tcp(name: str, version: int) -> None:
    """SPEC 4.4; where kernel and engine differ on purpose, the model says what the engine says."""
    story = scene()
    for number, (segment, expected) in enumerate(TCP_STORIES[name], 1):
        packet = segment.packet(40000, version)
        if name in AT_THE_WINDOW:
            answer = tell_verdict(story.engine.process(packet, time_ns=START_NS, link="raw"))
        else:
            answer = story.ip(packet)
        state = answer.split(" | ")[-1].split()[3]
        _, wanted = DIFFERENCES.get(expected, (expected, expected))
        assert WORDS[state] == wanted, f"segment {number} {segment}: {answer}"
    if name in ENDS:
        assert [connection.state for connection in story.engine.connections] == [ENDS[name]]


def test_what_the_model_leaves_out_is_there() -> None:
    assert TCP_STORIES.keys() >= AT_THE_WINDOW | ENDS.keys()
