"""Faults of explanations that were found: one named case each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from dataplane import DataPlane, Policy
from dataplane.policy.schedule import load_changes
from tests.property import frames
from tests.property.test_jobs import write

MAC = "02:00:00:00:00:01"
CLIENT, SERVER = "192.0.2.1", "10.0.0.1"
POLICY = """
security_groups: [{id: g, security_group_rules: [{id: dns, direction: ingress, protocol: udp, multiport: "53"}]}]
instances: [{id: a, addresses: [10.0.0.1], security_groups: [g]}]
"""


def test_a_remedy_says_when_it_turns_the_verdict(tmp_path: Path) -> None:
    """One that turned it just before the packet alone was told as a change at 0, where it does not (SPEC 8.3)."""

    def explained(*more: str) -> str:
        words = ("explain", "policy.yaml", "x.pcap", "--packet", "3", "--changes", "changes.yaml", *more)
        command = [sys.executable, "-m", "dataplane", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60).stdout

    def allowed(*changes: dict[str, Any]) -> int:
        policy, tried = Policy.parse(POLICY), tmp_path / "tried.yaml"
        tried.write_text(yaml.safe_dump(list(changes)))
        summary = DataPlane(policy).replay(tmp_path / "x.pcap", changes=load_changes(tried, policy))
        return summary.verdicts["allow"].packets

    undoing = {"at": 1, "apply_policy": "other.yaml"}
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "other.yaml").write_text(POLICY.replace("dns", "other"))
    (tmp_path / "changes.yaml").write_text(yaml.safe_dump([undoing]))
    packet = frames.packet(CLIENT, SERVER, 17, frames.datagram(CLIENT, SERVER, 17, (5, 7)))
    write(tmp_path / "x.pcap", [(second * 10**9, frames.ethernet(MAC, MAC, packet)) for second in (0, 0, 500)])
    text = explained()
    told, *_ = yaml.safe_load(text[text.index("  - at:") : text.index("More:")])
    assert told["at"] == 500
    change = {name: value for name, value in told.items() if name != "at"}
    assert json.loads(explained("--json"))["remedies"][0] == {"change": change, "verdict": "allow", "at": 500}
    assert allowed(undoing, told) == 1
    assert allowed({**told, "at": 0}, undoing) == 2
