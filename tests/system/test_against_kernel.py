"""The engine beside the kernel (nf_conntrack and nftables): the same packets under the same policy, answer by answer.

What differs is in `differences.py` by name, and in docs/semantics.md with its reason. Needs root, `ip`, `nft`, and a
kernel that has nf_tables and TUN devices; since Linux 6.2 it judges segments outside the window as these tests expect.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.support.differences import DIFFERENCES, OK
from tests.support.segment import Segment
from tests.support.tcp_stories import HALF_CLOSED, HANDSHAKE, TCP_STORIES, Row
from tests.system.captured import FOLDERS, conversation, flow
from tests.system.kernel_filter import PROGRAMS
from tests.system.other_stories import ESP, GRE, STORIES, Family, Story
from tests.system.random_talk import Act, Talk, scripts
from tests.system.side_by_side import OPEN, SideBySide

LINUX = tuple(int(number) for number in re.findall(r"\d+", platform.release())[:2])
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(program) is None for program in PROGRAMS) or LINUX < (6, 2),
    reason=f"needs root, Linux 6.2 and the programs {', '.join(PROGRAMS)}",
)

SEMANTICS = Path(__file__).resolve().parents[2] / "docs" / "semantics.md"


@pytest.fixture(scope="module")
def busy() -> Iterator[SideBySide]:
    """For many stories, each with a port of its own."""
    with SideBySide() as made:
        yield made


@pytest.fixture
def both() -> Iterator[SideBySide]:
    """For one story."""
    with SideBySide() as made:
        yield made


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", TCP_STORIES)
def test_tcp(busy: SideBySide, name: str, version: int) -> None:
    """SPEC 4.4."""
    port = 1024 + list(TCP_STORIES).index(name)
    for number, (segment, expected) in enumerate(TCP_STORIES[name], 1):
        outcome = busy.judge(segment.packet(port, version))
        assert outcome.fits(expected), f"segment {number} {segment} should be {expected}: {outcome}"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_other_protocols(both: SideBySide, story: Callable[[Family], Story], version: int) -> None:
    """SPEC 4.1, 4.5 to 4.8."""
    for number, (datagrams, expected) in enumerate(story(Family(version)), 1):
        outcome = both.judge(*datagrams)
        assert outcome.fits(expected), f"step {number} should be {expected}: {outcome}"


def test_random_conversations(busy: SideBySide) -> None:
    """SPEC 4.4: what two ends, losses and forgers make of a TCP connection; told up to the first difference."""
    ports = iter(range(2000, 65536))
    agreed = 0

    @settings(max_examples=1500, derandomize=True, database=None)
    @given(scripts())
    def converse(script: list[Act]) -> None:
        nonlocal agreed
        port, talk, told = next(ports), Talk(), []
        for act in script:
            segment = talk.make(act)
            if segment is None:
                continue
            outcome = busy.judge(segment.packet(port))
            told.append(f"{segment} {act.kind}: {outcome}")
            if not outcome.agreed:
                names = talk.difference(segment)
                assert any(outcome.fits(name) for name in names), "\n".join(told)
                return
            agreed += 1
            new = outcome.kernel == "new"
            if talk.left_open(segment, new):
                return
            if outcome.kernel != "denied":
                talk.passed(segment, new)

    converse()
    assert agreed > 7500


TIMEOUTS = {
    "tcp_established": 4,
    "tcp_fin_wait": 2,
    "tcp_close_wait": 3,
    "tcp_half_open": 2,
    "tcp_close": 1,
    "icmp": 1,
    "other_bidirectional": 3,
    "other_unidirectional": 1,
}


@dataclass(frozen=True)
class Timed:
    """What is sent at first, and again after some seconds; `difference` is the name of one, if it shows then."""

    first: list[bytes]
    seconds: float
    again: bytes
    difference: str = ""


def timed_stories() -> Iterator[Timed]:
    """Each state before and after its timeout has passed."""
    f, ports = Family(4), iter(range(5000, 6000))

    def segments(rows: list[Row], seconds: float, again: Segment, difference: str = "") -> Timed:
        port = next(ports)
        return Timed([segment.packet(port) for segment, _ in rows], seconds, again.packet(port), difference)

    data = Segment("I", "P.", 10, 1, 1)
    for seconds in (1.5, 2.5):
        yield segments(HANDSHAKE[:1], seconds, Segment("R", "S.", 0, 0, 1))
        yield segments(HALF_CLOSED, seconds, Segment("R", "P.", 10, 1, 2))
    for seconds in (3.5, 4.5):
        yield segments(HANDSHAKE, seconds, data)
    for seconds in (0.5, 1.5):
        yield segments([*HANDSHAKE, (Segment("R", "R", 0, 1), OK)], seconds, data)
        port = next(ports)
        yield Timed([f.udp("O", port, 53)], seconds, f.udp("I", 53, port))
        yield Timed([f.query("O", f.request, port)], seconds, f.query("I", f.reply, port))
    yield segments([*HANDSHAKE, (data, OK)], 3.0, Segment("R", ".", 0, 1, 11), "unacknowledged-data")
    yield Timed([f.udp("O", 7, 53), f.udp("I", 53, 7)], 2.0, f.udp("O", 7, 53), "udp-stream")
    yield Timed([f.sent("O", ESP), f.sent("I", ESP)], 2.0, f.sent("O", ESP), "generic-timeout")
    yield Timed([f.sent(side, GRE) for side in "OIO"], 2.0, f.sent("O", GRE))
    yield Timed([f.sent("X", GRE)], 1.5, f.sent("X", GRE))


def test_timeouts() -> None:
    """SPEC 4.2, with a second for every few of them."""
    stories = sorted(timed_stories(), key=lambda story: story.seconds)
    with SideBySide(timeouts=TIMEOUTS) as short:
        start = time.monotonic()
        for story in stories:
            assert all(short.judge(packet).agreed for packet in story.first), story
        outcomes = []
        for story in stories:
            time.sleep(max(0, start + story.seconds - time.monotonic()))
            outcome = short.judge(story.again)
            outcomes.append(outcome.kernel)
            assert outcome.fits(story.difference or outcome.kernel), f"{story}: {outcome}"
    assert {"established", "new", "denied"} <= set(outcomes)


# Where the two part on a real capture: number among the packets that are sent, and the difference.
CAPTURED = {
    "nDPI_fuzz-2006-09-29-28586.pcap": {13: "old-syn-ack", **dict.fromkeys((34, 41, 47, 55), "ack-of-unseen")},
    "nfstream_skype.pcap": dict.fromkeys((2173, 2835), "reset-outside-window"),
    "suricata_decode-sctp-01.pcap": {1: "sctp-handshake"},
    "zeek_tcp__reassembly.pcap": {8: "ack-of-unseen"},
}


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder.exists()], ids=lambda folder: folder.name)
def test_captures(folder: Path) -> None:
    """SPEC 4: real packets in their order, at once; a connection is followed up to the first difference."""
    judged = 0
    for path in sorted(folder.glob("*.pcap*")):
        inside, packets = conversation(path)
        if not packets:
            continue
        expected, apart = dict(CAPTURED.get(path.name, {})), set()
        with SideBySide((inside,), OPEN) as open_to_all:
            for number, packet in enumerate(packets, 1):
                outcome = open_to_all.judge(packet)
                if flow(packet) in apart:
                    continue
                judged += 1
                if number in expected:
                    assert outcome.fits(expected.pop(number)), f"{path.name}, packet {number}: {outcome}"
                    apart.add(flow(packet))
                assert flow(packet) in apart or outcome.agreed, f"{path.name}, packet {number}: {outcome}"
        assert not expected, path.name
    assert judged > 100


def test_every_difference_is_shown_by_a_story() -> None:
    """The list stays true: each name is the expectation of some step above."""
    told = {expected for rows in TCP_STORIES.values() for _, expected in rows}
    told |= {expected for story in STORIES for version in (4, 6) for _, expected in story(Family(version))}
    told |= {story.difference for story in timed_stories()}
    assert DIFFERENCES.keys() - told == set()


def test_every_difference_is_explained() -> None:
    """docs/semantics.md has the same names."""
    _, section = SEMANTICS.read_text().split("## Differences from nf_conntrack")
    assert re.findall(r"^\| `([a-z0-9-]+)`", section, re.MULTILINE) == list(DIFFERENCES)
