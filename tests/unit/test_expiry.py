"""Rules that end by themselves (`expires_at`): by the capture's time in a replay, by the wall's clock when live."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.packet import Packet
from scapy.utils import wrpcap

from dataplane import DataPlane, Policy
from dataplane.insight.explain import explain
from dataplane.insight.replayed_packet import Replayed
from dataplane.interchange.nftables import exported
from dataplane.policy import expiry
from dataplane.policy.mistakes import PolicyError
from dataplane.policy.schedule import TimedChange, load_changes
from dataplane.policy.write import as_yaml, document

START = 1_767_225_600  # 2026-01-01T00:00:00Z
POLICY = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: visit, direction: ingress, protocol: udp, multiport: "53", expires_at: "2026-01-01T00:00:10Z"}
      - {id: other, direction: ingress, protocol: udp, multiport: "54"}
      - {id: out, direction: egress, expires_at: "2026-01-01T01:00:20+01:00"}
instances:
  - {id: a, addresses: [10.0.0.1], security_groups: [sg]}
"""


def packet(at: float, port: int, *, source: int = 1000, back: bool = False) -> Packet:
    ends = {"src": "10.0.0.1", "dst": "192.0.2.9"} if back else {"src": "192.0.2.9", "dst": "10.0.0.1"}
    ports = {"sport": port, "dport": source} if back else {"sport": source, "dport": port}
    made = IP(**ends) / UDP(**ports) / b"data"
    made.time = START + at
    return made


def replayed(
    folder: Path, packets: list[Packet], policy: str = POLICY, changes: str | None = None
) -> tuple[list[tuple[str, str]], Any]:
    """Verdict and reason of each packet, and the summary."""
    wrpcap(str(folder / "capture.pcap"), packets)
    loaded = Policy.parse(policy)
    schedule: list[TimedChange] = []
    if changes:
        (folder / "changes.yaml").write_text(changes)
        schedule = load_changes(folder / "changes.yaml", loaded)
    verdicts = folder / "verdicts.jsonl"
    summary = DataPlane(loaded, seed=1).replay(folder / "capture.pcap", changes=schedule, verdicts=verdicts)
    told = [json.loads(line) for line in verdicts.read_text().splitlines()]
    return [(record["verdict"], record["checks"][0]["reason"]) for record in told], summary


def test_a_rule_ends_at_the_first_packet_at_or_after_its_time(tmp_path: Path) -> None:
    """SPEC 4.3, 5.2: inbound connections of the group are cut, of other rules too, and new ones are denied."""
    found, summary = replayed(
        tmp_path,
        [
            packet(0, 53),
            packet(1, 54),
            packet(9.999999, 53),
            packet(10, 53),
            packet(10.5, 54),
            packet(11, 53, source=1001),
            packet(12, 54, source=1001),
            packet(13, 54, source=1001, back=True),
        ],
    )
    assert found == [
        ("allow", "rule"),
        ("allow", "rule"),
        ("allow", "connection"),
        ("deny", "disconnected"),
        ("deny", "disconnected"),
        ("deny", "no-rule-matched"),
        ("allow", "rule"),
        ("allow", "connection"),
    ]
    (change,) = summary.changes
    assert change.to_dict() == {
        "at": "2026-01-01T00:00:10Z",
        "change": "rule visit expired",
        "applied": True,
        "disconnected": 2,
        "by_instance": {"a": 2},
        "revoked": 0,
    }


def test_one_whose_time_is_over_is_not_in_force(tmp_path: Path) -> None:
    found, summary = replayed(tmp_path, [packet(15, 53), packet(16, 54), packet(30, 99, back=True)])
    assert found == [("deny", "no-rule-matched"), ("allow", "rule"), ("deny", "no-rule-matched")]
    assert [applied.change.change.summary for applied in summary.changes] == ["rule visit expired", "rule out expired"]


def test_changes_and_ends_come_in_the_order_of_their_times(tmp_path: Path) -> None:
    """A later time keeps the rule and cuts nothing by itself; a change that brings back what has ended does not."""
    changes = """
- {at: 5, update_rule: {id: visit, expires_at: "2026-01-01T00:00:12Z"}}
- {at: 15, add_rule: {security_group: sg, rule: {id: new, direction: ingress, protocol: udp, multiport: "53",
    expires_at: "2026-01-01T00:00:14Z"}}}
- {at: 20, update_rule: {id: visit, expires_at: null}}
"""
    found, summary = replayed(
        tmp_path,
        [
            packet(0, 53),
            packet(6, 53),
            packet(11, 53),
            packet(12, 53, source=1002),
            packet(16, 53, source=1003),
            packet(21, 53, source=1004),
        ],
        changes=changes,
    )
    assert [verdict for verdict, _ in found] == ["allow", "allow", "allow", "deny", "deny", "allow"]
    assert [applied.result.total for applied in summary.changes][:2] == [0, 1]


@settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ends=st.integers(0, 20),
    other=st.none() | st.integers(0, 20),
    sent=st.lists(st.tuples(st.integers(0, 20), st.sampled_from([53, 54]), st.booleans()), min_size=1, max_size=12),
)
def test_it_is_as_if_somebody_deleted_the_rule_then(
    tmp_path: Path, ends: int, other: int | None, sent: list[tuple[int, int, bool]]
) -> None:
    """SPEC 5.2, 7: a schedule with that change, of a policy whose rules never end, has the same verdicts."""
    at = f"2026-01-01T00:00:{ends:02}Z"
    never = POLICY.replace(', expires_at: "2026-01-01T00:00:10Z"', "").replace(
        ', expires_at: "2026-01-01T01:00:20+01:00"', ""
    )
    ending = never.replace('multiport: "53"', f'multiport: "53", expires_at: "{at}"')
    packets = [packet(time, port, back=back) for time, port, back in sorted(sent)]
    changes = [f'- {{at: "{at}", delete_rule: {{id: visit}}}}']
    if other is not None:
        changes.insert(0, f'- {{at: "2026-01-01T00:00:{other:02}Z", update_rule: {{id: other, priority: 9}}}}')
    by_itself, _ = replayed(tmp_path, packets, ending, "\n".join(changes[:-1]) or None)
    by_change, _ = replayed(tmp_path, packets, never, "\n".join(sorted(changes)))
    assert by_itself == by_change


def test_a_change_does_not_bring_back_what_has_ended(tmp_path: Path) -> None:
    """SPEC 5.5: one that changes nothing cuts nothing, also behind the end of a rule that its policy still has."""
    changes = "- {at: 15, update_rule: {id: other, description: text}}\n"
    found, summary = replayed(
        tmp_path, [packet(0, 54), packet(12, 54, source=1001), packet(16, 54, source=1001)], changes=changes
    )
    assert [reason for _, reason in found] == ["rule", "rule", "connection"]
    assert [applied.result.total for applied in summary.changes] == [1, 0]


def test_an_explanation_tells_the_end_of_the_rule(tmp_path: Path) -> None:
    """SPEC 8.3."""
    wrpcap(str(tmp_path / "capture.pcap"), [packet(0, 53), packet(1, 53), packet(10, 53)])
    replay = Replayed(Policy.parse(POLICY), [str(tmp_path / "capture.pcap")])
    (check,) = explain(replay, 3).checks
    assert (check.check.verdict, check.check.reason) == ("deny", "disconnected")
    assert check.connection
    cut = next(event for event in check.connection.history if event.event == "disconnected")
    assert cut.change
    assert cut.change.change.summary == "rule visit expired"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("tomorrow", 'expires_at "tomorrow" is not allowed: write an RFC 3339 time such as 2026-01-31T12:00:00Z'),
        ("2026-01-01 ", "write an RFC 3339 time"),
        ("2026-01-01T00:00:00", "write an RFC 3339 time"),
    ],
)
def test_a_time_that_is_none_is_a_mistake(written: str, told: str) -> None:
    """SPEC 2: with its place."""
    with pytest.raises(PolicyError) as wrong:
        Policy.parse(POLICY.replace("2026-01-01T00:00:10Z", written))
    (mistake,) = wrong.value.mistakes
    assert told in mistake.message
    assert (mistake.line, mistake.column) == (5, POLICY.splitlines()[4].index('"2026') + 1)


def test_a_document_has_it_again() -> None:
    """Written as it was; and it is no difference that cuts (SPEC 5.5)."""
    policy = Policy.parse(POLICY)
    again = Policy.parse(as_yaml(document(policy)))
    assert again == policy
    assert Policy.parse(POLICY.replace('"2026-01-01T00:00:10Z"', "2026-01-01T00:00:10Z")) == policy
    assert document(again)["security_groups"][0]["security_group_rules"][0]["expires_at"] == "2026-01-01T00:00:10Z"
    assert json.loads(json.dumps(document(policy))) == document(policy)
    plane = DataPlane(policy, seed=1)
    plane.process(bytes(packet(0, 53)), time=1, link="raw")
    assert plane.apply({"update_rule": {"id": "visit", "expires_at": "2027-01-01T00:00:10Z"}}).total == 0


def test_the_policy_without_them_is_the_same_where_none_is_over() -> None:
    policy = Policy.parse(POLICY)
    assert expiry.without_expired(policy, (START + 9) * 10**9) is policy
    assert expiry.next_expiry(policy).text == "2026-01-01T00:00:10Z"  # type: ignore[union-attr]
    without = expiry.without_expired(policy, (START + 10) * 10**9)
    assert list(without.rules_by_id) == ["other", "out"]
    assert without.instances is policy.instances


def test_check_warns_and_export_lists(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY.replace("2026-01-01T01:00:20+01:00", "2126-01-01T00:00:00Z"))
    command = [sys.executable, "-m", "dataplane", "check", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    warnings = json.loads(done.stdout)["warnings"]
    assert "rule visit has expired at 2026-01-01T00:00:10Z: it is not in force" in warnings
    assert not any("rule out" in warning for warning in warnings)
    file.write_text(POLICY.replace('protocol: udp, multiport: "53"', 'protocol: tcp, multiport: "22"'))
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert b"opens TCP port 22" not in done.stdout, "what is not in force opens nothing"
    _, left_out = exported(Policy.load(file))
    assert "rule visit: that it ends at 2026-01-01T00:00:10Z" in left_out
