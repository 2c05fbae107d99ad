"""Times in files: seconds since the first packet, or RFC 3339 (SPEC 7, `--changes`)."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from dataplane import DataPlane, Policy, PolicyError
from dataplane.policy.schedule import TimedItem, load_changes
from dataplane.policy.times import Moment, due_ns
from tests.property.frames import datagram, ethernet, packet

SECOND = 1_000_000_000
#: 2026-01-31 12:00:00 UTC.
NOON = 1769860800


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-31T12:00:00Z", NOON * SECOND),
        ("2026-01-31t12:00:00z", NOON * SECOND),
        ("2026-01-31 12:00:00.5Z", NOON * SECOND + SECOND // 2),
        ("2026-01-31T13:00:00.000000001+01:00", NOON * SECOND + 1),
        ("2026-01-31T06:30:00-05:30", NOON * SECOND),
        ("2026-01-31T12:00:00.1234567899Z", NOON * SECOND + 123_456_789),
        ("2024-02-29T00:00:00Z", 1709164800 * SECOND),
        ("2016-12-31T23:59:60Z", 1483228800 * SECOND),
    ],
)
def test_moments(text: str, ns: int) -> None:
    """RFC 3339, 5.6: any case of T and Z, a space for T, any fraction, any offset, a leap second."""
    assert (Moment(text).ns, Moment(text).text) == (ns, text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31",
        "2026-01-31T12:00Z",
        "2026-01-31T12:00:00",
        "2026-02-30T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:61Z",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00+0100",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59Z",
        "２026-01-31T12:00:00Z",
        " 2026-01-31T12:00:00Z",
        "noon",
    ],
)
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no|has no|is before|out of range|must be in"):
        Moment(text)


def test_the_order_is_exact() -> None:
    """Two moments that are the same as floating-point numbers."""
    early, late = Moment("2026-01-31T12:00:00.000000001Z"), Moment("2026-01-31T12:00:00.000000002Z")
    assert float(early) == float(late)
    assert sorted([late, early]) == [early, late]
    assert sorted([late, early])[0].ns == early.ns


def test_nothing_is_due_before_the_first_packet() -> None:
    assert due_ns(2.5, 7) == 2_500_000_007
    assert due_ns(Moment("1970-01-01T00:00:03Z"), 7) == 3 * SECOND
    assert due_ns(Moment("1970-01-01T00:00:03Z"), 4 * SECOND) == 4 * SECOND


def test_two_ways_in_one_file(tmp_path: Path) -> None:
    """Their order is not known; it is told once, with its place."""
    path = tmp_path / "changes.yaml"
    item = "- {{at: {}, delete_rule: {{id: a}}}}\n"
    path.write_text("".join(map(item.format, ("1", "2", "2026-01-31T12:00:00Z", "3"))))
    with pytest.raises(PolicyError) as caught:
        load_changes(path)
    assert str(caught.value) == (
        f"{path}:3:8: at is written in two ways: let all changes of a file have seconds since the first packet, or"
        " RFC 3339 times"
    )


def test_the_schema_takes_both() -> None:
    number, text = TimedItem.model_json_schema()["properties"]["at"]["anyOf"]
    assert (number["type"], number["minimum"]) == ("number", 0)
    assert text == {"type": "string", "format": "date-time"}


POLICY = """
security_groups:
  - {id: g, security_group_rules: [{id: dns, direction: ingress, protocol: udp, multiport: "53"}]}
instances: [{id: server, addresses: [10.0.0.1], security_groups: [g]}]
"""


@pytest.mark.parametrize(
    ("at", "allowed"),
    [
        ("2026-01-31T11:00:00Z", 0),
        ("2026-01-31T12:00:00Z", 0),
        ("2026-01-31T12:00:00.000000001Z", 1),
        ("2026-01-31T13:00:02+01:00", 2),
        ("2026-01-31T12:00:03.000001Z", 4),
    ],
)
def test_a_change_at_a_moment(tmp_path: Path, at: str, allowed: int) -> None:
    """It is made just before the first packet at or after it: of four flows, one a second from noon on."""
    frames = []
    for n in range(4):
        body = datagram("192.0.2.1", "10.0.0.1", 17, (4000 + n, 53))
        frames.append(ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packet("192.0.2.1", "10.0.0.1", 17, body)))
    capture = tmp_path / "capture.pcap"
    capture.write_bytes(
        bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
        + b"".join(struct.pack("<IIII", NOON + n, 0, len(f), len(f)) + f for n, f in enumerate(frames))
    )
    (tmp_path / "changes.yaml").write_text(f"- {{at: {at}, delete_rule: {{id: dns}}}}\n")
    summary = DataPlane(Policy.parse(POLICY), seed=1).replay(capture, changes=load_changes(tmp_path / "changes.yaml"))
    assert summary.verdicts["allow"].packets == allowed
    (change,) = summary.to_dict()["changes"]
    assert (change["at"], change["applied"]) == (at, allowed < 4)
