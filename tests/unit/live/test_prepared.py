"""What a change goes on from is there before the first one comes, where somebody waits for it: in a live firewall
(SPEC 5.1: in force at once)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataplane import DataPlane, Policy
from dataplane.control import requests
from dataplane.live import event_loop, simulation
from dataplane.live.event_loop import EventLoop
from dataplane.live.operations import Operations
from dataplane.live.process import seccomp
from dataplane.live.process.signals import Signals
from dataplane.live.simulation import NoChanges
from dataplane.policy.rule_list import RuleList
from dataplane.store.file import PolicyFile

from .scene import POLICY, filled
from .served import NoPorts

CHANGE = {"add_rule": {"security_group": "sg", "rule": {"id": "new", "direction": "ingress", "protocol": "udp"}}}


def worked_out(policy: Policy) -> list[set[str]]:
    """What is known of a policy and of its groups besides what the document says."""
    return [set(part.__dict__) for part in (policy, *policy.security_groups)]


def test_the_first_change_of_a_firewall_works_out_nothing_of_the_policy_before() -> None:
    ports: Any = NoPorts()
    firewall = filled()
    before = firewall.policy
    Operations(firewall, ports).prepare()
    assert firewall.policy is before
    assert before == Policy.parse(POLICY)
    known = worked_out(before)
    firewall.apply(CHANGE)
    assert firewall.policy.rule("new").protocol == "udp"
    assert worked_out(before) == known


class WatchedPorts(NoPorts):
    """No ports, which are looked after as if there were some."""

    def __init__(self) -> None:
        self.watch_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def refresh(self) -> NoChanges:
        return NoChanges()


@pytest.fixture
def watched_ports() -> Iterator[Any]:
    ports = WatchedPorts()
    yield ports
    os.close(ports.watch_fd)


def test_a_firewall_prepares_itself_once_it_has_said_that_it_is_ready(
    watched_ports: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And goes on where that cannot be done, with a sentence in the log."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    operations = Operations(filled(), watched_ports)
    done = []

    def prepare() -> None:
        done.append("prepared")
        os.kill(os.getpid(), signal.SIGTERM)
        raise MemoryError

    async def served(signals: Signals) -> None:
        loop = EventLoop(operations, watched_ports, PolicyFile(tmp_path / "policy.yaml"), signals, None)
        await asyncio.wait_for(loop.run(None, None), 60)

    monkeypatch.setattr(operations, "prepare", prepare)
    monkeypatch.setattr(event_loop, "notify", lambda **said: done.extend(said))
    # This process goes on afterwards.
    monkeypatch.setattr(seccomp, "install", lambda: 0)
    with Signals() as signals:
        asyncio.run(served(signals))
    assert done == ["READY", "STATUS", "prepared", "STOPPING"]
    said = [(record.levelname, record.getMessage(), record.exc_info) for record in caplog.records]
    assert ("WARNING", "no memory for what the next change needs: that change takes longer", None) in said
    assert all(level != "ERROR" for level, _, _ in said)


class NoServers:
    """What serves the API to nobody."""

    keys = None
    names: tuple[str, ...] = ()

    async def start(self, app: object) -> None:
        """Nobody comes."""

    async def close(self) -> None:
        """Nobody was there."""


def test_so_does_the_api_without_live_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    servers: Any = NoServers()
    explanation: Any = (None, None)

    def prepare(self: Operations) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    async def served(signals: Signals) -> None:
        kept = PolicyFile(tmp_path / "policy.yaml")
        await asyncio.wait_for(simulation._serve(filled(), kept, servers, signals, explanation), 60)

    monkeypatch.setattr(Operations, "prepare", prepare)
    with Signals() as signals:
        asyncio.run(served(signals))


def test_what_it_advises_names_its_socket(watched_ports: Any, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    operations = Operations(filled(), watched_ports)
    with Signals() as signals:
        store = PolicyFile(tmp_path / "policy.yaml")
        loop = EventLoop(operations, watched_ports, store, signals, None, control=tmp_path / "control sock")
    loop._service.change(requests.ChangePolicy(command="change", change=CHANGE, confirm=60))
    again = requests.ChangePolicy(command="change", change=CHANGE)
    with pytest.raises(ValueError, match=f": dataplane ctl --socket '{tmp_path}/control sock' confirm keeps it"):
        loop._service.change(again)


def test_who_makes_no_change_does_not_pay_for_it() -> None:
    firewall = DataPlane(Policy.parse(POLICY), seed=1)
    firewall.process(bytes(64), time_ns=0)
    firewall.rehearse(Policy.parse(POLICY))
    assert "rules_by_id" not in firewall.policy.__dict__


def test_very_many_rules_are_in_parts_before_one_is_replaced() -> None:
    rules = [{"id": str(i), "direction": "ingress"} for i in range(3000)]
    policy = Policy.model_validate({"security_groups": [{"id": "sg", "security_group_rules": rules}]})
    firewall = DataPlane(policy, seed=1)
    firewall.prepare()
    assert isinstance(policy.group("sg").security_group_rules, RuleList)
    assert policy == Policy.model_validate({"security_groups": [{"id": "sg", "security_group_rules": rules}]})
    firewall.apply(CHANGE)
    assert [rule.id for rule in firewall.policy.group("sg").security_group_rules] == [*map(str, range(3000)), "new"]
