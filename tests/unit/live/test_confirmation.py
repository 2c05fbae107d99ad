"""Changes that are taken back unless they are confirmed: one change each, never half of one, over a restart too."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataplane.control import confirmation
from dataplane.live import state
from dataplane.live.client import RefusedError
from dataplane.live.daemon import Options, _held_back
from dataplane.live.interfaces.ports import PortError

from .scene import POLICY
from .served import Served
from .test_ctl import ctl

OTHER = POLICY.replace('multiport: "80"', 'multiport: "443"')
DELETE = {"delete_rule": {"id": "out"}}


class Clock:
    """The monotonic clock of those who wait, which can be moved on."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._monotonic = time.monotonic

    def monotonic(self) -> float:
        return self._monotonic() + self.ahead

    def time(self) -> float:
        """The wall's, of which nothing depends."""
        return -1e9 * self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(confirmation, "time", made)
    return made


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def ports(served: Served) -> str | None:
    """What rule web is about in the policy in force."""
    return served.firewall.policy.rules_by_id["web"][1].multiport


def test_a_change_is_taken_back_by_the_monotonic_clock(
    served: Served, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A step of the wall's clock moves nothing; the way back is a change of its own, which cuts what it cuts."""
    told = served.change(DELETE, confirm=100)
    assert (told["generation"], told["unsaved_changes"]) == (2, 1)
    waiting = served.call("status")["waiting"]
    assert 90 < waiting["seconds_left"] <= 100
    assert (waiting["generation"], waiting["change"]) == (2, 'change {"delete_rule": {"id": "out"}}')
    assert waiting["by"]["uid"] == 0
    with caplog.at_level(logging.INFO, "dataplane"):
        clock.ahead = 101
        until(lambda: served.call("status")["waiting"] is None)
    assert "out" in served.firewall.policy.rules_by_id
    status = served.call("status")
    assert (status["generation"], status["unsaved_changes"], status["held_back"]) == (3, 0, False)
    words = [record.getMessage() for record in caplog.records]
    assert any(text.startswith("rule out added to security group sg") for text in words)
    assert any(text.startswith("not confirmed in time, and the policy before is in force again") for text in words)


def test_what_is_confirmed_stays(served: Served, clock: Clock) -> None:
    """And nothing waits any more: a second confirmation is refused."""
    served.policy.write_text(OTHER)
    served.call("reload", confirm=100)
    assert served.call("confirm", expected_generation=2)["confirmed"] is True
    clock.ahead = 200
    time.sleep(1.2)
    assert (ports(served), served.call("status")["generation"]) == ("443", 2)
    assert not state.held_back_path(served.state).exists()
    with pytest.raises(RefusedError, match="no change waits for a confirmation"):
        served.call("confirm")


def test_a_second_change_meanwhile_is_refused(served: Served, clock: Clock) -> None:
    """With the reason, whoever makes it; what only asks is not."""
    served.change(DELETE, confirm=100)
    for command, more in (
        ("change", {"change": {"delete_rule": {"id": "web"}}}),
        ("change", {"change": {"delete_rule": {"id": "web"}}, "confirm": 5}),
        ("reload", {}),
    ):
        with pytest.raises(RefusedError, match=r"a change waits for its confirmation for 100 s more"):
            served.call(command, **more)
    assert served.call("reload", dry_run=True)["changed"] is True
    assert served.call("status")["generation"] == 2
    told = served.call("confirm", revert=True)
    assert (told["confirmed"], told["generation"]) == (False, 3)
    assert served.call("reload")["changed"] is False


def test_a_way_back_that_fails_is_tried_again(served: Served, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC 5.6: the change stays as a whole until the policy before can be in force as a whole."""
    served.change(DELETE, confirm=100)
    put_in_force = served.operations.put_in_force
    tried = []

    def failing(policy: Any) -> Any:
        tried.append(policy)
        if len(tried) == 1:
            raise PortError("interface x is gone")
        return put_in_force(policy)

    monkeypatch.setattr(served.operations, "put_in_force", failing)
    clock.ahead = 101
    until(lambda: served.call("status")["waiting"] is None)
    assert len(tried) == 2
    assert "out" in served.firewall.policy.rules_by_id


def started(served: Served) -> str | None:
    """Which ports web would have under a firewall that is started now; None for those of the policy file."""
    policy = _held_back(Options(policy=served.policy, state=served.state))
    return policy.rules_by_id["web"][1].multiport if policy else None


def test_a_restart_begins_with_the_policy_before(served: Served, clock: Clock) -> None:
    """While the change waits, and when it was taken back, until a reload puts what the file says in force."""
    served.policy.write_text(OTHER)
    served.call("reload", confirm=100)
    assert (ports(served), started(served)) == ("443", "80")
    clock.ahead = 101
    until(lambda: served.call("status")["waiting"] is None)
    assert (ports(served), started(served)) == ("80", "80")
    assert served.call("status")["held_back"] is True
    assert served.call("reload")["changed"] is True
    assert (ports(served), started(served)) == ("443", None)
    assert served.call("status")["held_back"] is False


def test_a_policy_before_that_is_damaged_is_told(
    served: Served, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    served.policy.write_text(OTHER)
    served.call("reload", confirm=100)
    kept = state.held_back_path(served.state)
    kept.write_bytes(kept.read_bytes()[:-1])
    assert started(served) is None
    assert caplog.records[-1].getMessage() == (
        f"{kept}: its checksum is wrong: it is damaged or was cut short; it is ignored, and the policy file is in force"
    )


def test_a_reload_that_fails_keeps_nothing(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC 5.6."""

    def failing(policy: Any) -> Any:
        raise PortError("interface x is gone")

    served.policy.write_text(OTHER)
    monkeypatch.setattr(served.operations, "put_in_force", failing)
    with pytest.raises(RefusedError, match="interface x is gone"):
        served.call("reload", confirm=100)
    assert served.call("status")["waiting"] is None
    assert not state.held_back_path(served.state).exists()


def test_what_changes_nothing_waits_for_nothing(served: Served) -> None:
    assert "waiting" not in served.call("reload", confirm=100)
    assert "waiting" not in served.change(DELETE, confirm=100, dry_run=True)
    assert served.call("status")["waiting"] is None


def test_the_commands(served: Served, tmp_path: Path) -> None:
    """`--confirm` of changes and of `reload`, `confirm`, and what `status` says."""
    lines = ctl(served, "rule", "delete", "out", "--confirm", "5m").stdout.decode().splitlines()
    assert lines[3].startswith("It is taken back in 300 s, at ")
    # As it is typed: of another socket, this one would confirm nothing.
    assert lines[3].endswith(f"unless it is confirmed: dataplane ctl --socket {served.socket} confirm")
    text = ctl(served, "status").stdout.decode()
    assert 'change {"delete_rule": {"id": "out"}} (by uid 0, pid ' in text
    done = ctl(served, "reload")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"dataplane ctl confirm keeps it" in done.stderr
    assert ctl(served, "confirm", "--revert").stdout.startswith(b"Taken back: ")
    assert ctl(served, "confirm").returncode == 2
    served.policy.write_text(OTHER)
    answer = json.loads(ctl(served, "reload", "--confirm", "60", "--json").stdout)
    assert answer["waiting"]["seconds_left"] == pytest.approx(60, abs=1)
    assert ctl(served, "confirm").stdout.startswith(b"Confirmed: reload of ")
    assert ctl(served, "reload", "--confirm", "soon").returncode == 2
    for text in ("0", "8d", "0.5s"):
        done = ctl(served, "reload", "--confirm", text)
        told = f"--confirm {text} is not allowed: give a time from 1 second to 7 days, as 5m"
        assert (done.returncode, told in " ".join(done.stderr.decode().split())) == (2, True)
