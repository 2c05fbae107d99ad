"""Every real capture through a policy (SPEC 7): a record for each packet, in the words of the SPEC; what is broken is
named with its byte offset; nothing is lost before it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataplane import DataPlane, Policy

from .real_captures import FOLDER, index

# One instance that may hold any address: every packet is checked in both directions.
POLICY = """
security_groups:
  - id: open
    security_group_rules:
      - {id: in4, direction: ingress}
      - {id: in6, direction: ingress, ethertype: IPv6}
      - {id: out4, direction: egress}
      - {id: out6, direction: egress, ethertype: IPv6}
instances:
  - {id: all, addresses: [203.0.113.77], allowed_address_pairs: [0.0.0.0/0, "::/0"], security_groups: [open]}
"""

WORDS = {
    "verdict": {"allow", "deny"},
    "direction": {"ingress", "egress"},
    "state": {"new", "established", "related", "disconnected", "invalid", "untracked"},
    "reason": {
        "rule",
        "no-rule-matched",
        "connection",
        "related",
        "disconnected",
        "invalid",
        "malformed",
        "table-full",
        "load-balancer",
        "control",
    },
    "connection": {"inbound", "outbound", None},
}

# What stops these before their end: part of the fault's text, and its byte offset.
FAULTS = {
    "libpcap_pcap-invalid-version-1.pcap": ("version 1", 4),
}


@pytest.mark.parametrize("row", index(), ids=lambda row: row["file"])
def test_a_real_capture(row: dict[str, str], tmp_path: Path) -> None:
    """SPEC 7."""
    verdicts = tmp_path / "verdicts.jsonl"
    summary = DataPlane(Policy.parse(POLICY), seed=1).replay(FOLDER / row["file"], verdicts=verdicts)
    records = [json.loads(line) for line in verdicts.read_text().splitlines()]
    (capture,) = summary.captures

    assert [r["packet"] for r in records] == list(range(1, summary.packets + 1))
    assert capture.packets == summary.packets == len(records)
    if row["file"] in FAULTS:
        text, offset = FAULTS[row["file"]]
        assert text in str(capture.fault)
        assert capture.offset == offset
    elif capture.fault is None:
        assert summary.packets == int(row["packets"])
    else:
        assert "damaged" in row["notes"] or "corrupt" in row["exercises"], capture.fault
        assert capture.offset is not None
    for record in records:
        _assert_well_formed(record)


def _assert_well_formed(record: dict[str, object]) -> None:
    assert list(record) == [
        *("packet", "time", "verdict", "checks"),
        *("protocol", "source", "destination", "source_port", "destination_port", "icmp_type", "icmp_code", "vlans"),
        *("capture", "capture_packet", "interface", "length"),
    ]
    assert record["capture_packet"] == record["packet"]
    checks = record["checks"]
    assert isinstance(checks, list)
    if record["verdict"] == "bypass":
        assert checks == []
        return
    assert record["verdict"] == ("deny" if any(c["verdict"] == "deny" for c in checks) else "allow")
    assert [c["direction"] for c in checks] in (["egress"], ["ingress"], ["egress", "ingress"])
    for check in checks:
        assert list(check) == [
            "instance",
            "direction",
            "verdict",
            "state",
            "reason",
            "rule",
            "security_group",
            "connection",
            "cause",
            "opened_by",
        ]
        assert check["connection"] or check["opened_by"] is None
        assert (check["cause"] is not None) >= (check["reason"] in ("invalid", "malformed"))
        for field, words in WORDS.items():
            assert check[field] in words, (field, record)
        assert (check["rule"] is None) == (check["security_group"] is None)
        if check["reason"] in ("rule", "connection", "related"):
            assert check["rule"] is not None
        if check["reason"] in ("invalid", "malformed"):
            assert (check["verdict"], check["state"], check["rule"]) == ("deny", "invalid", None)
        if check["reason"] in ("connection", "related"):
            assert check["connection"] is not None
