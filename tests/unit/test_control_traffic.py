"""Neighbour discovery and MLD that are well-formed pass without rules, and no other (SPEC 4.8)."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from dataplane import DataPlane, Policy
from tests.property.frames import ethernet, icmp, packed, packet

HOST, PEER, GROUP = "fe80::1", "fe80::2", "ff02::16"
POLICY = """
security_groups: [{id: closed}]
instances: [{id: host, addresses: ["fe80::1"], security_groups: [closed]}]
"""
LINK_LAYER = bytes.fromhex("0101aa0004000a04")
NONCE = bytes.fromhex("0e01010203040506")


@pytest.fixture
def firewall() -> DataPlane:
    return DataPlane(Policy.parse(POLICY), seed=1)


def reason(firewall: DataPlane, source: str, destination: str, kind: int, rest: bytes, hop_limit: int) -> str:
    frame = ethernet(
        "02:00:00:00:00:01",
        "02:00:00:00:00:02",
        packet(source, destination, 58, icmp(source, destination, kind, 0, rest), hop_limit=hop_limit),
    )
    (check,) = firewall.process(frame, time=0).checks
    return check.reason


SOLICIT = bytes(4) + packed(PEER)
REDIRECT = bytes(4) + packed(PEER) * 2
FIXED = {133: bytes(4), 134: bytes(12), 135: SOLICIT, 136: SOLICIT, 137: REDIRECT}


@pytest.mark.parametrize("kind", FIXED)
@pytest.mark.parametrize(
    ("options", "hop_limit", "expected"),
    [
        (b"", 255, "control"),
        (LINK_LAYER + NONCE, 255, "control"),
        (LINK_LAYER, 64, "invalid"),
        (LINK_LAYER + bytes(8), 255, "invalid"),
        (LINK_LAYER + NONCE[:6], 255, "invalid"),
        (b"\x01\x02" + bytes(6), 255, "invalid"),
        (b"\x01", 255, "invalid"),
    ],
    ids=["no option", "two options", "hop limit", "length 0", "cut", "too long", "one byte"],
)
def test_neighbour_discovery(firewall: DataPlane, kind: int, options: bytes, hop_limit: int, expected: str) -> None:
    """RFC 4861, 4.6: options fill the message; each has a length, and it is not 0."""
    assert reason(firewall, PEER, HOST, kind, FIXED[kind] + options, hop_limit) == expected


@pytest.mark.parametrize(("kind", "rest"), [(135, SOLICIT + LINK_LAYER), (143, struct.pack("!HH", 0, 1) + bytes(20))])
def test_a_message_cut_by_the_snap_length_is_judged_by_what_is_there(
    firewall: DataPlane, tmp_path: Path, kind: int, rest: bytes
) -> None:
    """A truncated capture makes nothing invalid."""
    message = packet(HOST, PEER, 58, icmp(HOST, PEER, kind, 0, rest), hop_limit=1 if kind == 143 else 255)
    frame = ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", message)
    data = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    for captured in range(14 + 40 + 8, len(frame) + 1):
        data += struct.pack("<IIII", 0, 0, captured, len(frame)) + frame[:captured]
    (tmp_path / "cut.pcap").write_bytes(data)
    summary = firewall.replay(tmp_path / "cut.pcap")
    assert summary.verdicts["allow"].packets == summary.packets > 20


RECORD = struct.pack("!BBH", 4, 0, 0) + packed("ff02::fb")
WITH_SOURCES = struct.pack("!BBH", 1, 0, 2) + packed("ff02::fb") + packed(PEER) * 2
WITH_DATA = struct.pack("!BBH", 2, 2, 0) + packed("ff02::fb") + bytes(8)


@pytest.mark.parametrize(
    ("records", "body", "expected"),
    [
        (0, b"", "control"),
        (3, RECORD + WITH_SOURCES + WITH_DATA, "control"),
        (1, RECORD + b"more", "control"),
        (2, RECORD, "invalid"),
        (1, RECORD[:19], "invalid"),
        (1, WITH_SOURCES[:-1], "invalid"),
        (1, WITH_DATA[:-8], "invalid"),
        (65535, RECORD, "invalid"),
    ],
    ids=["none", "three", "more behind", "one too few", "cut", "a source cut", "auxiliary data cut", "far too few"],
)
def test_reports_of_multicast_listeners(firewall: DataPlane, records: int, body: bytes, expected: str) -> None:
    """RFC 3810, 5.2: as many records as it says, with their sources and auxiliary data."""
    rest = struct.pack("!HH", 0, records) + body
    assert reason(firewall, HOST, GROUP, 143, rest, 1) == expected
