"""A replay of which no packet touches an instance says so, with the busiest addresses of its captures (SPEC 7)."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from dataplane import DataPlane, Policy
from dataplane.replay import Summary

POLICY = """
security_groups: [{id: sg, security_group_rules: [{id: out, direction: egress}]}]
instances: [{id: ecs, addresses: [192.0.2.1], security_groups: [sg]}]
"""
A, B = "10.0.0.1", "10.0.0.2"


def frame(source: str, destination: str) -> bytes:
    ip = IPv6 if ":" in source else IP
    return bytes(Ether(dst="02:00:00:00:00:02") / ip(src=source, dst=destination) / UDP(sport=1, dport=2) / b"x")


def write(path: Path, frames: Sequence[bytes]) -> Path:
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    path.write_bytes(data + b"".join(struct.pack("<IIII", 1000, 0, len(f), len(f)) + f for f in frames))
    return path


def replayed(frames: Sequence[bytes], tmp_path: Path) -> Summary:
    return DataPlane(Policy.parse(POLICY), seed=1).replay(write(tmp_path / "capture.pcap", frames))


def busiest(summary: Summary) -> list[tuple[str, int]]:
    return [(busy["address"], busy["packets"]) for busy in summary.to_dict()["busiest_addresses"]]


def test_the_busiest_addresses_are_named(tmp_path: Path) -> None:
    """A packet counts for its source and its destination; what no host has as its address is left out."""
    frames = [frame(A, B)] * 3 + [frame(A, "224.0.0.1"), frame("2001:db8::1", "ff02::1"), frame(A, A)]
    frames.append(bytes(Ether() / ARP(psrc="0.0.0.0", pdst=B)))
    frames.append(frame("0.0.0.0", "255.255.255.255"))
    summary = replayed(frames, tmp_path)
    assert busiest(summary) == [(A, 5), (B, 4), ("2001:db8::1", 1)]
    (sentence,) = summary.advice
    assert sentence.startswith("No packet is from or to an instance of the policy")
    assert f"{A} (5), {B} (4), 2001:db8::1 (1)" in sentence


def test_a_policy_without_instances_is_told_so(tmp_path: Path) -> None:
    """SPEC 7: as one is that was imported; no addresses are there to compare, or to map to."""
    summary = DataPlane(Policy.parse("instances: []"), seed=1).replay(write(tmp_path / "a.pcap", [frame(A, B)]))
    (sentence,) = summary.advice
    assert sentence.startswith(
        f"The policy has no instances, so nothing was checked: the busiest addresses of the captures are {A}"
    )
    assert "Write one for each that" in sentence


@pytest.mark.parametrize("at", [0, 1, 5000, 9999])
def test_one_packet_of_an_instance_is_enough(at: int, tmp_path: Path) -> None:
    frames = [frame(A, B)] * 10_000
    frames[at] = frame(A, "192.0.2.1")
    summary = replayed(frames, tmp_path)
    assert (busiest(summary), summary.advice) == ([], [])
    assert summary.verdicts["bypass"].packets == 9999


def test_an_empty_capture_has_no_address(tmp_path: Path) -> None:
    summary = replayed([], tmp_path)
    assert (busiest(summary), summary.advice) == ([], [])


def test_frames_without_addresses(tmp_path: Path) -> None:
    summary = replayed([bytes(Ether(type=0x88CC) / (b"x" * 50))], tmp_path)
    assert busiest(summary) == []
    assert "no packet has an IP address of a host" in summary.advice[0]


def test_many_addresses_do_not_hide_the_busiest(tmp_path: Path) -> None:
    """In bounded memory: the true count is between packets - overcount and packets."""
    sources = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(256, 20_256)]
    frames = [frame(source, B) for source in sources]
    frames[::4] = [frame(A, B)] * len(frames[::4])
    summary = replayed(frames, tmp_path)
    true = Counter({B: len(frames), A: len(frames[::4])})
    assert [busy.address for busy in summary.busiest_addresses[:2]] == [B, A]
    for busy in summary.busiest_addresses[:2]:
        assert busy.packets - busy.overcount <= true[busy.address] <= busy.packets


def test_the_command_says_so(tmp_path: Path) -> None:
    """In the text and by --json."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    capture = write(tmp_path / "capture.pcap", [frame(A, B)])
    command = [sys.executable, "-m", "dataplane", "replay", str(tmp_path / "policy.yaml"), str(capture)]
    text, values = (subprocess.run([*command, *more], capture_output=True, check=True) for more in ([], ["--json"]))
    assert f"{A} (1), {B} (1)" in text.stdout.decode()
    assert json.loads(values.stdout)["busiest_addresses"][0] == {"address": A, "packets": 1, "overcount": 0}
