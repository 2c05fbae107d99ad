"""Rules that end by themselves while the firewall runs: a change like any other, told in the log."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dataplane import Policy
from dataplane.live.client import RefusedError
from dataplane.live.daemon import _in_force

from .scene import POLICY
from .served import Served


def moment(seconds: float) -> str:
    """A time so many seconds from now."""
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()


def test_a_rule_ends_while_it_runs(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """SPEC 5.2: what is inbound is cut; no reload brings it back, and it is no change that a reload takes back."""
    served.policy.write_text(POLICY.replace("{id: web,", f'{{id: web, expires_at: "{moment(1.5)}",'))
    told = served.call("reload")
    assert (told["disconnected"]["total"], told["generation"]) == (0, 2), "when it ends says nothing about packets"
    with caplog.at_level(logging.INFO, "dataplane"):

        async def ended() -> None:
            work = asyncio.create_task(served.service.end_rules())
            async with asyncio.timeout(20):
                while "web" in served.firewall.policy.rules_by_id:
                    await asyncio.sleep(0.05)
            work.cancel()

        asyncio.run(ended())
    status = served.call("status")
    assert (status["generation"], status["unsaved_changes"]) == (3, 0)
    assert {c.remote for c in served.firewall.connections if c.disconnected} == {"192.0.2.9", "fd00::9"}
    lines = [(record.getMessage(), getattr(record, "cause", None)) for record in caplog.records]
    assert any(text.startswith("rule web deleted from security group sg") for text, _ in lines)
    assert any(text.startswith("rule web has expired at ") and cause == "expires_at" for text, cause in lines)
    assert served.call("reload")["changed"] is False


def test_one_that_is_over_is_refused_as_a_change(served: Served) -> None:
    """SPEC 5.6: nobody believes that it is in force."""
    rule = {"id": "late", "direction": "ingress", "expires_at": moment(-1)}
    with pytest.raises(RefusedError, match=r"rule late has expired at .*; give it a time that is to come, or none"):
        served.change({"add_rule": {"security_group": "sg", "rule": rule}})
    assert served.call("status")["generation"] == 1
    served.change({"add_rule": {"security_group": "sg", "rule": rule | {"expires_at": moment(600)}}})
    assert "late" in served.firewall.policy.rules_by_id


def test_what_is_taken_back_comes_without_what_has_ended(served: Served) -> None:
    """The policy before is in force again as it would be by now."""
    rule = {"id": "short", "direction": "ingress", "expires_at": moment(1)}
    served.change({"add_rule": {"security_group": "sg", "rule": rule}})
    served.change({"delete_rule": {"id": "out"}}, confirm=100)
    time.sleep(1.1)
    served.call("confirm", revert=True)
    assert "out" in served.firewall.policy.rules_by_id
    assert "short" not in served.firewall.policy.rules_by_id


def test_a_start_leaves_out_what_is_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    policy = Policy.parse(POLICY.replace("{id: web,", '{id: web, expires_at: "2020-01-01T00:00:00Z",'))
    assert "web" not in _in_force(policy).rules_by_id
    assert caplog.messages == ["rule web has expired at 2020-01-01T00:00:00Z: it is not in force"]
