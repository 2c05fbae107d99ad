"""SPEC 8.5: `replay --coverage`, what captures never hit of a policy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.property.frames import datagram, ethernet, packet, tcp

ROOT = Path(__file__).parents[2]
POLICY = """\
security_groups:
  - id: web
    security_group_rules:
      - {id: ssh, direction: ingress, protocol: tcp, multiport: "22"}
      - {id: dns, direction: ingress, protocol: udp, multiport: "53", action: deny}
      - {id: http, direction: ingress, protocol: tcp, multiport: "80"}
      - {id: off, direction: ingress, protocol: tcp, enabled: false}
      - {id: out, direction: egress}
  - id: db
    security_group_rules:
      - {id: sql, direction: ingress, protocol: tcp, multiport: "3306"}
instances:
  - {id: a, addresses: [192.168.0.10], security_groups: [web]}
  - {id: b, addresses: [192.168.0.11], security_groups: [db]}
  - {id: c, addresses: [192.168.0.12], security_groups: [db]}
"""
CLIENT = "198.51.100.1"


def frame(source: str, destination: str, protocol: int, port: int) -> bytes:
    ports = (40000, port)
    body = tcp(source, destination, ports, 2, 1, 0) if protocol == 6 else datagram(source, destination, 17, ports)
    return ethernet("02:00:00:00:00:09", "02:00:00:00:00:05", packet(source, destination, protocol, body))


def capture(*frames: bytes) -> bytes:
    """A pcap file with a frame a second."""
    data = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    for second, content in enumerate(frames):
        size = len(content).to_bytes(4, "little")
        data += (1_700_000_000 + second).to_bytes(4, "little") + bytes(4) + size + size + content
    return data


def replay(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dataplane", "replay", "policy.yaml", "capture.pcap", *options],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY)
    frames = [
        frame(CLIENT, "192.168.0.10", 6, 22),
        frame(CLIENT, "192.168.0.10", 17, 53),
        # From an instance to an instance: allowed by the first, denied by no rule of the second.
        frame("192.168.0.10", "192.168.0.11", 6, 22),
    ]
    (tmp_path / "capture.pcap").write_bytes(capture(*frames))
    return tmp_path


EXPECTED: dict[str, Any] = {
    "packets": 3,
    "rules": {
        "total": 5,
        "hit": 3,
        "never_hit": [
            {"rule": "http", "security_group": "web"},
            {"rule": "sql", "security_group": "db"},
        ],
    },
    "security_groups": {"total": 2, "hit": 1, "never_hit": ["db"]},
    "instances": {"total": 3, "hit": 2, "never_hit": ["c"]},
}


def test_what_was_never_hit(folder: Path) -> None:
    """A rule that is not enabled is left out; an instance is hit by a packet that no rule matches, too."""
    done = replay(folder, "--coverage", "coverage.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((folder / "coverage.json").read_text()) == EXPECTED


def test_standard_output_is_for_one(folder: Path) -> None:
    """The summary goes to standard error then."""
    done = replay(folder, "--coverage", "-")
    assert json.loads(done.stdout) == EXPECTED
    assert done.stderr
    done = replay(folder, "--coverage", "-", "--verdicts", "-")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--verdicts and --coverage would both write to standard output" in done.stderr


def test_what_changes_bring_counts_too(folder: Path) -> None:
    """Rules of the policy before and of the one at the end, and those between that were hit."""
    (folder / "changes.yaml").write_text(
        "- {at: 0.5, add_rule: {security_group: web, rule: {id: now, direction: egress, protocol: tcp,"
        " multiport: '22', action: deny}}}\n"
        "- {at: 0.6, add_rule: {security_group: web, rule: {id: idle, direction: egress, protocol: gre}}}\n"
        "- {at: 2.5, delete_rule: {id: now}}\n"
        "- {at: 2.6, delete_rule: {id: http}}\n"
    )
    (folder / "capture.pcap").write_bytes(
        (folder / "capture.pcap").read_bytes() + capture(*[frame(CLIENT, "192.168.0.10", 6, 22)] * 4)[24:]
    )
    done = replay(folder, "--changes", "changes.yaml", "--coverage", "coverage.json")
    assert (done.returncode, done.stderr) == (0, "")
    rules = json.loads((folder / "coverage.json").read_text())["rules"]
    assert {item["rule"] for item in rules["never_hit"]} == {"out", "http", "sql", "idle"}
    assert (rules["total"], rules["hit"]) == (7, 3)


def test_an_input_is_not_overwritten(folder: Path) -> None:
    done = replay(folder, "--coverage", "capture.pcap")
    assert done.returncode == 2
    assert "--coverage" in done.stderr
    assert (folder / "capture.pcap").read_bytes()[:4] == bytes.fromhex("d4c3b2a1")
