"""The service without a transport, over a policy that is kept in no file."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from dataplane.control import requests
from dataplane.control.answers import FAILED, REFUSED
from dataplane.control.policy_control import GenerationError
from dataplane.control.service import Service
from dataplane.live.event_loop import FAILURES
from dataplane.live.interfaces.ports import PortError
from dataplane.live.interfaces.required import required_by
from dataplane.live.operations import Operations
from dataplane.policy import ChangeError, Policy, PolicyError

from .scene import POLICY, filled
from .served import NoPorts


@dataclass
class Memory:
    """A policy that is kept here."""

    text: str = POLICY
    name: str = "memory"
    keeps_changes: bool = False

    def keeping(self, policy: Policy, now: float) -> contextlib.AbstractContextManager[None]:
        """Nothing is kept."""
        return contextlib.nullcontext()

    def load(self) -> Policy:
        """What the text says now."""
        return Policy.parse(self.text, self.name)


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
def service(store: Memory) -> Iterator[Service]:
    ports: Any = NoPorts()
    with ThreadPoolExecutor(1) as control:
        yield Service(Operations(filled(), ports), store, control, failures=FAILURES)


def ask(service: Service, **request: Any) -> Any:
    """The answer to a request of the control protocol."""
    kind = requests.REQUESTS[request["command"]]
    return asyncio.run(service.answer(kind.model_validate(request)))


def test_a_policy_is_loaded_from_wherever_it_is_kept(service: Service, store: Memory) -> None:
    assert ask(service, command="status")["policy"] == "memory"
    store.text = POLICY.replace("protocol: tcp", "protocol: udp", 1)
    rehearsed = ask(service, command="reload", dry_run=True)
    assert (rehearsed["changed"], rehearsed["generation"]) == (True, 1)
    told = ask(service, command="reload", expected_generation=1)
    assert (told["policy"], told["changed"], told["generation"]) == ("memory", True, 2)
    assert told["disconnected"] == rehearsed["disconnected"]
    assert (service.reloads.succeeded, service.reloads.failed) == (1, 0)


def test_a_change_says_what_it_did(service: Service) -> None:
    """SPEC 5.1, 5.2: and that the store does not have it."""
    told = ask(
        service,
        command="change",
        change={"create_group": {"id": "g", "security_group_rules": [{"direction": "egress"}]}},
    )
    assert told == {
        "changed": True,
        "dry_run": False,
        "generation": 2,
        "disconnected": {"total": 0, "by_instance": {}, "revoked": 0},
        "on_change": "hold",
        "warnings": [],
        "new_rules": ["g/1"],
        "unsaved_changes": 1,
        "policy_file": "memory",
    }
    ask(service, command="reload")
    assert "g" not in service.operations.policy.groups_by_id
    assert ask(service, command="status")["unsaved_changes"] == 0


def test_what_is_refused_and_what_fails(service: Service, store: Memory) -> None:
    """SPEC 5.6: nothing happens, and the reason is told as what it is."""
    store.text = "instances: 5\nregion: [a]\n"
    with pytest.raises(PolicyError) as mistaken:
        ask(service, command="reload")
    refusal = service.refusal(mistaken.value)
    assert (refusal.kind, len(refusal.mistakes)) == (REFUSED, 2)
    assert refusal.error == "the policy is not valid, and the one before stays in force: 2 mistakes"
    with pytest.raises(ChangeError) as unknown:
        ask(service, command="change", change={"delete_group": {"id": "none"}})
    assert service.refusal(unknown.value).kind == REFUSED
    with pytest.raises(GenerationError) as late:
        ask(service, command="change", change={"delete_group": {"id": "none"}}, expected_generation=7)
    assert service.refusal(late.value).kind == REFUSED
    assert service.refusal(PortError("interface x is gone")).kind == FAILED
    without = Policy.parse("instances: [{id: a, addresses: [10.0.0.1]}]")
    with pytest.raises(PortError, match="instance a in the policy has no interface") as told:
        required_by(without, ())
    assert service.refusal(told.value).kind == REFUSED
    assert service.generation == 1


@dataclass
class Slow(Memory):
    """The same, which is read only once it may be."""

    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    goes_on: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def load(self) -> Policy:
        self.begun.release()
        assert self.goes_on.acquire(timeout=60)
        return super().load()


@pytest.fixture
def slow(service: Service) -> Slow:
    service._store = made = Slow()
    return made


CHANGE = {"create_group": {"id": "g", "security_group_rules": [{"direction": "egress"}]}}


def test_a_policy_that_is_being_read_keeps_nobody_waiting(service: Service, slow: Slow) -> None:
    """What only asks is answered meanwhile; a change comes behind the reload that was there before it."""

    async def asked() -> None:
        reload = asyncio.create_task(service.answer(requests.Reload(command="reload")))
        assert await asyncio.to_thread(slow.begun.acquire, timeout=60)
        change = asyncio.create_task(service.answer(requests.ChangePolicy(command="change", change=CHANGE)))
        for command in (requests.Status(command="status"), requests.Counters(command="counters")):
            assert await asyncio.wait_for(service.answer(command), 20)
        dry_run = requests.ChangePolicy(command="change", change=CHANGE, dry_run=True)
        assert (await asyncio.wait_for(service.answer(dry_run), 20))["generation"] == 1
        assert not reload.done()
        assert not change.done()
        slow.text = POLICY.replace("protocol: tcp", "protocol: udp", 1)
        slow.goes_on.release()
        assert (await reload)["generation"] == 2
        assert (await change)["generation"] == 3

    asyncio.run(asked())
    assert "g" in service.operations.policy.groups_by_id
    assert ask(service, command="status")["unsaved_changes"] == 1


def test_policies_are_read_one_at_a_time(service: Service, slow: Slow) -> None:
    """Also when who asked for the first is gone before it was read: then nothing comes of it."""

    async def asked() -> None:
        first = asyncio.create_task(service.answer(requests.Reload(command="reload")))
        assert await asyncio.to_thread(slow.begun.acquire, timeout=60)
        first.cancel()
        others = [
            asyncio.create_task(service.answer(requests.Reload(command="reload", dry_run=True))),
            asyncio.create_task(service.answer(requests.Difference(command="difference"))),
        ]
        for _ in others:
            assert await asyncio.wait_for(service.answer(requests.Status(command="status")), 20)
            assert not slow.begun.acquire(blocking=False)
            slow.goes_on.release()
            assert await asyncio.to_thread(slow.begun.acquire, timeout=60)
        slow.goes_on.release()
        assert [answer["generation"] for answer in await asyncio.gather(*others)] == [1, 1]
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(asked())
    assert service.reloads.succeeded == 0


def test_a_policy_that_cannot_be_read_keeps_none_from_being_read(service: Service, store: Memory) -> None:
    store.text = "instances: 5"
    for _ in range(2):
        with pytest.raises(PolicyError):
            ask(service, command="reload")
    assert service.reloads.failed == 2
    store.text = POLICY
    assert ask(service, command="reload")["generation"] == 1
