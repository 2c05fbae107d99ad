"""A running firewall that is asked about a packet before it comes, and a change that a restart takes back."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataplane.live.client import ControlClient

from .network import needs_root_and, network
from .running import INSIDE, OUTSIDE, POLICY, Conversation, Running, connected

pytestmark = needs_root_and("ip")

OTHER = POLICY.replace('"8080"', '"8080,9999"')


@pytest.fixture
def firewall(tmp_path: Path) -> Iterator[Running]:
    with network() as net:
        made = Running(net, tmp_path)
        made.start()
        yield made


def explained(firewall: Running, packet: str) -> tuple[str, str]:
    """Verdict and reason of the one check of a packet."""
    found = json.loads(firewall.ctl("explain", packet, "--json").stdout)
    (check,) = found["checks"]
    return found["verdict"], check["reason"]


def asked(firewall: Running, command: str, **arguments: Any) -> Any:
    with ControlClient(firewall.control) as client:
        if command == "conntrack":
            return list(client.stream(command, **arguments))
        return client.call(command, **arguments)


def test_what_is_explained_is_what_then_happens(firewall: Running) -> None:
    """SPEC 8.3, 5.3: of a connection, of a new one and of one that was cut; the asking is not noticed."""
    talk = Conversation(firewall.out, firewall.a, INSIDE, 8080)
    assert talk.goes_on()
    port = talk.client.getsockname()[1]
    (before,) = asked(firewall, "conntrack", action="list", selection={"protocol": "tcp"})
    rules = asked(firewall, "counters")["rules"]
    assert explained(firewall, f"tcp {OUTSIDE}:{port} > {INSIDE}:8080 PA") == ("allow", "connection")
    assert explained(firewall, f"tcp {OUTSIDE}:{port} > {INSIDE}:9999 S") == ("deny", "no-rule-matched")
    (after,) = asked(firewall, "conntrack", action="list", selection={"protocol": "tcp"})
    assert asked(firewall, "counters")["rules"] == rules
    times = ("idle", "expires_in")
    assert [after[key] for key in after if key not in times] == [before[key] for key in before if key not in times]
    assert after["idle"] > before["idle"]
    assert talk.goes_on()
    with pytest.raises(TimeoutError):
        connected(firewall.out, INSIDE, 9999, seconds=0.5)
    asked(firewall, "change", change={"delete_rule": {"id": "ping"}})
    assert explained(firewall, f"tcp {OUTSIDE}:{port} > {INSIDE}:8080 PA") == ("deny", "disconnected")
    assert not talk.goes_on(within=1)
    talk.close()


def test_a_restart_takes_back_what_was_not_confirmed(firewall: Running) -> None:
    """Even where the firewall is killed; the next reload puts the file in force."""
    firewall.policy.write_text(OTHER)
    assert asked(firewall, "reload", confirm=600)["waiting"]["seconds_left"] == pytest.approx(600, abs=5)
    assert "8080,9999" in json.dumps(asked(firewall, "policy"))
    firewall.stop(signal.SIGKILL)
    firewall.start()
    assert f"{firewall.policy} is not in force: its last reload was not confirmed" in firewall.log
    assert f"; dataplane ctl --socket {firewall.control} reload puts it in force" in firewall.log
    assert "8080,9999" not in json.dumps(asked(firewall, "policy"))
    assert asked(firewall, "status")["held_back"] is True
    assert asked(firewall, "reload")["changed"] is True
    assert "8080,9999" in json.dumps(asked(firewall, "policy"))
    assert asked(firewall, "status")["held_back"] is False
