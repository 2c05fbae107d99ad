"""A shadow: another policy judges live packets beside the one in force, and enforces nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.network import needs_root_and, network
from tests.system.running import INSIDE, OUTSIDE, POLICY, Running

pytestmark = needs_root_and("ip", "ping")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with network() as net:
        yield Running(net, tmp_path)


def test_what_a_shadow_denies_passes_and_is_told(running: Running, tmp_path: Path) -> None:
    """By the report, the counters and the flow log; a policy that cannot be loaded changes nothing; off frees it."""
    shadow, broken, log = tmp_path / "new.yaml", tmp_path / "broken.yaml", tmp_path / "flows"
    shadow.write_text(POLICY.replace("{id: ping, direction: ingress, protocol: icmp}", "{id: none, direction: egress}"))
    broken.write_text("security_groups: [{id: 7x, security_group_rules: nothing}]")
    running.start("--flow-log", str(log))
    assert running.ping(running.a, OUTSIDE)
    assert "1 live connection taken over" in running.ctl("shadow", str(shadow)).stdout
    assert running.ping(running.out, INSIDE, count=2)
    assert running.ping(running.a, OUTSIDE)
    assert "broken.yaml" in running.ctl("shadow", str(broken), status=2).stderr

    report = running.json("shadow", "report")
    assert report["policy"] == str(shadow)
    (flow,) = report["flows"]
    assert (flow["flow"], flow["packets"]) == (f"icmp {OUTSIDE} > {INSIDE} echo-request", 4)
    assert flow["old"] == {"verdict": "allow", "reason": "rule", "rule": "ping"}
    assert flow["new"] == {"verdict": "deny", "reason": "no-rule-matched", "rule": None}
    assert report["packets"]["changed"] == 4
    assert report["packets"]["same"] >= 2
    assert running.json("counters")["shadow"]["would-deny"] == 4
    assert "would get another verdict" in running.ctl("shadow").stdout
    assert str(shadow) in running.ctl("status").stdout

    # The policy in force is changed as ever; the shadow judges on.
    running.ctl("rule", "delete", "ping")
    assert not running.ping(running.out, INSIDE)
    assert running.json("counters")["shadow"]["would-deny"] == 4

    assert "has ended" in running.ctl("shadow", "off").stdout
    assert "there is no shadow" in running.ctl("shadow", "report", status=2).stderr
    assert running.json("status")["shadow"] is None
    assert running.stop() == 0
    told = [record for record in map(json.loads, log.read_text().splitlines()) if "shadow" in record]
    assert [(record["remote"], record["verdict"], record["shadow"]) for record in told] == [
        (OUTSIDE, "allow", {"verdict": "deny", "reason": "no-rule-matched", "rule": None, "packets": 4})
    ]


def test_a_firewall_starts_with_a_shadow_or_not_at_all(running: Running, tmp_path: Path) -> None:
    shadow = tmp_path / "new.yaml"
    shadow.write_text(POLICY)
    running.start("--shadow", str(shadow), "--workers", "2")
    assert running.ping(running.out, INSIDE)
    assert running.json("shadow")["packets"]["changed"] == 0
    assert running.json("shadow")["packets"]["same"] >= 2
