"""The service: what can be asked of a running firewall and told it, whatever brings the request.

There is one policy in force and one number for it, its generation, which each change makes one more. What reads or
changes the firewall runs in the one control thread, in the order of the requests, so that nobody else changes anything
between a request's look at the generation and its change; the event loop waits for none of it. A change is valid and in
force, as a whole, or refused and nothing has happened (SPEC 5.1, 5.6); the answer comes when it is in force.

A policy is read, and checked, in a thread of its own, one at a time, so that a large one keeps nobody waiting who only
asks; it meets the policy in force in the control thread, whichever that is by then. Changes and reloads keep their
order: a change that comes while a policy is read waits for it, and is not taken back by it unnoticed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from dataplane.control import audit, requests
from dataplane.control.answers import (
    FAILED,
    REFUSED,
    Deleted,
    FlowKnown,
    Imported,
    Refusal,
    Saved,
)
from dataplane.control.audit import NOBODY, STORE, Asker
from dataplane.control.canary import Canary
from dataplane.control.following import Following, Readers
from dataplane.control.operations import Operations
from dataplane.control.policy_control import PolicyControl, WaitingError
from dataplane.control.reading import PolicyReader
from dataplane.policy import Policy, PolicyError, expiry
from dataplane.policy.mistakes import UnfitError
from dataplane.policy.write import document
from dataplane.store import StoreBusyError, StoreChangedError, StoreError

if TYPE_CHECKING:
    from dataplane.control.requests import Request, Streaming, Upload
    from dataplane.store import SharedStore, Store

log = logging.getLogger("dataplane")
T = TypeVar("T")

#: How often is looked whether a change has waited long enough for its confirmation, at least.
_LOOK_SECONDS = 1.0
#: So long a change is tried again upon what others have made of the policy meanwhile.
_TRYING_SECONDS = 10.0
#: So long one waits for another program that holds the store, and between two looks whether it does still.
_BUSY_SECONDS, _BUSY_PAUSE_SECONDS = 5.0, 0.1
#: After so many seconds what could not be put in force is tried again.
_AGAIN_SECONDS = 2.0


class Service(PolicyControl):
    """A firewall that is asked and told things; `store` is where its policy is kept.

    `control` runs what it is given in the control thread. `failures` are the exceptions that mean that something could
    not be carried out. `held_back`: the policy in force is another than the one in the store, because that one was not
    confirmed. `ctl` as of `PolicyControl`.
    """

    def __init__(
        self,
        operations: Operations,
        store: Store,
        control: Executor,
        *,
        failures: tuple[type[Exception], ...] = (),
        held_back: bool = False,
        reloading: Callable[[], AbstractContextManager[object]] = nullcontext,
        ctl: str = "dataplane ctl",
    ) -> None:
        super().__init__(operations, store, held_back=held_back, ctl=ctl)
        self._reloading = reloading
        self._control = control
        self._failures = failures
        self._reverting: asyncio.Task[None] | None = None
        self._in_order, self._reader = asyncio.Lock(), PolicyReader()
        self._readers = Readers(operations, self.do, self._control, failures)

    async def do(self, function: Callable[..., T], *arguments: Any) -> T:
        """Runs a function in the control thread."""
        return await asyncio.get_running_loop().run_in_executor(self._control, function, *arguments)

    async def prepare(self) -> None:
        """Makes what the next change goes on from, while nobody waits for it.

        In the thread of changes: one that comes meanwhile has it at once, and neither makes it twice.
        """
        try:
            await self.do(self.operations.prepare)
        except MemoryError:
            log.warning("no memory for what the next change needs: that change takes longer")

    async def close(self) -> None:
        """Ends what goes on by itself; a change that waits for its confirmation waits no more, and is not reverted."""
        if self._reverting:
            self._reverting.cancel()
            await asyncio.gather(self._reverting, return_exceptions=True)
        await self._readers.close()

    # ---- what has one answer ----

    async def answer(self, request: Request, asker: Asker = NOBODY) -> Any:
        """The answer to a request. Raises an exception that `refusal` tells in words."""
        operations = self.operations
        match request:
            case requests.Ping():
                return {}
            case requests.Status():
                return await self.do(self.status)
            case requests.Counters():
                return await self.do(operations.counters)
            case requests.Stations():
                return await self.do(operations.stations)
            case requests.Rules():
                return await self.do(operations.rules, request.unused)
            case requests.Reload():
                return await self._reloaded(request, asker)
            case requests.Confirm():
                return await self.watched(lambda: self.confirm(request, asker))
            case requests.Difference():
                reading = await self._reader.read(
                    partial(_parsed, request.policy, "policy.json") if request.policy else self._store.load
                )
                return await self.do(lambda: self.difference(request, reading))
            case requests.ChangePolicy(dry_run=True):
                return await self.do(lambda: self.change(request, asker))
            case requests.ChangePolicy():
                return await self.changed(lambda: self.change(request, asker))
            case requests.CurrentPolicy():
                # It cannot change, so that writing it keeps nobody else waiting.
                return await asyncio.to_thread(document, operations.policy)
            case requests.Save():
                return await self.save(asker)
            case requests.FlowState():
                return await self.flow(request)
            case requests.Shadow(action="report"):
                return await self.do(operations.shadow_report, request.top)
            case requests.Shadow():
                return await self.shadow(request, asker)
            case requests.Connections(action="count"):
                return await self.do(operations.count, request.selection)
            case requests.Connections(action="delete" | "flush"):
                return await self.do(lambda: self.delete(request, asker))
        raise ValueError(f"command {request.command} is not served")

    def expect(self, request: Upload) -> None:
        """Raises ValueError where what is to be sent behind a request is too much."""
        most = self.operations.import_bytes
        if isinstance(request, requests.ImportConnections) and request.bytes > most:
            raise ValueError(
                f"{request.bytes:,} bytes are more than a state with as many connections as this table holds: at most"
                f" {most:,} are taken"
            )

    async def take(self, request: Upload, data: bytes, asker: Asker = NOBODY) -> Any:
        """The answer to a request and what was sent behind it. Raises an exception that `refusal` tells in words."""
        if isinstance(request, requests.ImportConnections):
            return await self._imported(data, asker)
        load = partial(Policy.parse, data, request.name)
        if request.dry_run:
            reading = await self._reader.read(load)
            return await self.do(lambda: self.apply(request, reading, asker))
        async with self._in_order:
            reading = await self._reader.read(load)
            return await self._upon_others(lambda: self.apply(request, reading, asker))

    def refusal(self, error: Exception) -> Refusal:
        """Why something is not done, in words; what nobody thought of goes to the log."""
        if isinstance(error, PolicyError):
            mistakes = tuple(asdict(mistake) | {"text": str(mistake)} for mistake in error.mistakes)
            number = f"{len(mistakes)} mistake{'' if len(mistakes) == 1 else 's'}"
            return Refusal(REFUSED, f"the policy is not valid, and the one before stays in force: {number}", mistakes)
        # Some of them are ValueErrors too.
        if isinstance(error, self._failures) and not isinstance(error, UnfitError):
            return Refusal(FAILED, str(error))
        if isinstance(error, ValueError):
            return Refusal(REFUSED, str(error))
        log.error("a request failed", exc_info=error)
        return Refusal(FAILED, "the request failed by a fault of dataplane: its log says more")

    def status(self) -> dict[str, Any]:
        """The firewall at a glance."""
        return {
            **self.operations.status(),
            "policy": self._store.name,
            "generation": self.generation,
            "loaded": self.reloads.loaded_at,
            "unsaved_changes": self._unsaved,
            "waiting": self._unconfirmed.record() if self._unconfirmed else None,
            "held_back": self._held_back,
            **({"store": self.shared.state()} if self.shared else {}),
            "changes": list(self._made),
        }

    # ---- the policy ----

    async def _reloaded(self, request: requests.Reload, asker: Asker) -> Any:
        if request.dry_run:
            reading = await self._reader.read(self._store.load)
            return await self.do(lambda: self.reload(request, reading, asker))
        with self._reloading():
            async with self._in_order:
                reading = await self._reader.read(self._store.load)
                return await self.watched(lambda: self.reload(request, reading, asker))

    async def changed(self, work: Callable[[], T]) -> T:
        """Does a change in the control thread, after the changes and reloads that were asked for before."""
        async with self._in_order:
            return await self._upon_others(work)

    async def _upon_others(self, work: Callable[[], T]) -> T:
        """Does a change, again where others have changed the policy in the store meanwhile."""
        until = time.monotonic() + _TRYING_SECONDS
        while True:
            try:
                return await self.watched(work)
            except StoreChangedError as error:
                if time.monotonic() > until:
                    audit.refused("a change", error, NOBODY)
                    raise
            await self._await_change()

    # ---- a store that others change too ----

    async def follow_store(self) -> None:
        """Puts in force what others make of the policy in the store, as long as it runs."""
        if self.shared is None:
            return await self._follow_processes()
        canary = Canary(self.shared, self.operations, self.do)
        await asyncio.gather(self._follow_hosts(self.shared), canary.run())

    async def _follow_hosts(self, shared: SharedStore) -> None:
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        said = ""

        def notify() -> None:
            # The loop may have ended meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(arrived.set)

        shared.follow(notify)
        while True:
            try:
                async with self._in_order:
                    await self._catch_up()
                said = ""
                await arrived.wait()
            except Exception as error:
                if str(error) != said:
                    said = str(error)
                    audit.refused(f"what has changed in {self._store.name}", error, STORE)
                # What is missing here may come, such as an interface.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(arrived.wait(), _AGAIN_SECONDS)
            arrived.clear()

    async def _catch_up(self) -> None:
        """Puts in force what has arrived, if anything has."""
        if self.shared and (version := self.shared.arrived):
            reading = await self._reader.read(version.policy)
            await self.watched(lambda: self.follow(reading, version))

    async def _await_change(self) -> None:
        """What others have made of the policy is in force when it returns, or has not come."""
        if self.shared:
            await asyncio.to_thread(self.shared.await_change)
            await self._catch_up()

    async def watched(self, work: Callable[[], T]) -> T:
        """Does something in the control thread; what waits for a confirmation afterwards is taken back in time."""
        try:
            return await self._when_free(work)
        finally:
            if self._unconfirmed and self._reverting is None:
                self._reverting = asyncio.create_task(self._revert_in_time())

    async def _when_free(self, work: Callable[[], T]) -> T:
        """Does something in the control thread, again where another program holds the store: others go on meanwhile."""
        until = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                return await self.do(work)
            except StoreBusyError as error:
                if time.monotonic() > until:
                    audit.refused("a change", error, NOBODY)
                    raise
            await asyncio.sleep(_BUSY_PAUSE_SECONDS)

    async def _revert_in_time(self) -> None:
        try:
            while waiting := self._unconfirmed:
                if left := waiting.left():
                    await asyncio.sleep(min(left, _LOOK_SECONDS))
                    continue
                try:
                    await self.do(self._revert_unless_confirmed, waiting)
                except Exception as error:
                    log.error("the policy before cannot be put in force again, and is tried once more: %s", error)
                    await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self._reverting = None

    async def end_rules(self) -> None:
        """Ends rules when their time is over by the wall's clock, as long as it runs."""
        looked_at, ends = self.operations.policy, expiry.next_expiry(self.operations.policy)
        while True:
            if looked_at is not self.operations.policy:
                looked_at = self.operations.policy
                ends = expiry.next_expiry(looked_at)
            if ends and (left := (ends.ns - time.time_ns()) / 1e9) < _LOOK_SECONDS:
                await asyncio.sleep(max(0.0, left))
                try:
                    await self.do(self.expire)
                    continue
                except Exception as error:
                    log.error("rules whose time is over cannot be taken out, and it is tried once more: %s", error)
            # The clock may be set meanwhile, and the policy be another.
            await asyncio.sleep(_LOOK_SECONDS)

    async def _follow_processes(self) -> None:
        """Puts in force what another process keeps in the store, as a reload does, as long as it runs."""
        tried: int | None = None
        said = ""
        while self._store.keeps_changes:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                found = await self.do(self._store.kept_elsewhere)
            except StoreError as error:
                if str(error) != said:
                    said = str(error)
                    log.error("%s", error)
                continue
            said = ""
            if found in (None, tried):
                continue
            # What cannot be put in force is tried once; the log says why it is not.
            tried = found
            with contextlib.suppress(PolicyError, ValueError, *self._failures):
                try:
                    await self._reloaded(requests.Reload(command="reload"), STORE)
                except WaitingError:
                    if await self._no_longer_waiting():
                        tried = None

    async def _no_longer_waiting(self) -> bool:
        """Returns when no change waits for its confirmation; whether what is kept in the store is to be looked at then.

        Not where it is what a reload has put in force for a while, and was taken back.
        """
        while waiting := self._unconfirmed:
            await asyncio.sleep(_LOOK_SECONDS)
            if waiting.is_reload:
                return False
        return True

    async def shadow(self, request: requests.Shadow, asker: Asker = NOBODY) -> dict[str, Any]:
        """Begins a shadow, in place of the one that there is, or ends it. Raises PolicyError; nothing changes then."""
        try:
            if request.action == "end":
                await self.do(self.operations.end_shadow)
                audit.done("shadow ended", asker)
                return {}
            if request.policy is None:
                raise ValueError("a shadow needs a policy")
            policy = await asyncio.to_thread(_parsed, request.policy, request.name)
            begun = await self.do(self.operations.begin_shadow, policy, request.name)
        except Exception as error:
            audit.refused(f"shadow: {request.action} {request.name}", error, asker)
            raise
        audit.done("shadow judges beside the policy in force", asker, file=request.name, **begun)
        return begun

    # ---- connections and state ----

    def delete(self, request: requests.Connections, asker: Asker = NOBODY) -> Deleted:
        """Takes chosen connections out of the table, or with `flush` all that pass; in the control thread."""
        if request.action == "delete" and request.selection.is_empty:
            error = ValueError("delete needs at least one filter: flush deletes all connections")
            audit.refused("deletion of connections", error, asker)
            raise error
        chosen = request.selection.model_dump(exclude_none=True)
        what = ", ".join(f"{name} {value}" for name, value in chosen.items()) or "all"
        try:
            deleted, by_instance = self.operations.delete(request.selection)
        except Exception as error:
            audit.refused(f"deletion of connections: {what}", error, asker)
            raise
        audit.done(f"connections deleted: {what}", asker, deleted=deleted, by_instance=by_instance)
        return {"deleted": deleted}

    async def listed(self, request: requests.Connections | requests.Flows) -> AsyncGenerator[list[dict[str, Any]]]:
        """The chosen connections or flows, some at a time; the table goes on changing meanwhile."""
        if isinstance(request, requests.Flows):
            batches = self.operations.flows_listed(request)
        else:
            batches = self.operations.connections(request.selection)
        while (batch := await self.do(next, batches, None)) is not None:
            yield batch

    async def flow(self, request: requests.FlowState) -> FlowKnown:
        """What is known of a flow; the control thread is only needed to look it up."""
        taken, generation = await self.do(lambda: (self.operations.flow(request), self.generation))
        encoded = await asyncio.to_thread(self.operations.encoded, taken)
        return {"generation": generation, "state": base64.b64encode(encoded).decode()}

    async def exported(self, request: requests.Connections) -> bytes:
        """The chosen connections for another firewall, in the form of the state file."""
        taken = await self.do(self.operations.exported, request.selection)
        return await asyncio.to_thread(self.operations.encoded, taken)

    async def _imported(self, data: bytes, asker: Asker) -> Imported:
        """Takes connections of another firewall in, some at a time; others may use the control thread in between."""
        try:
            arriving = await asyncio.to_thread(self.operations.arriving, data)
            while await self.do(arriving.take_some):
                pass
        except Exception as error:
            audit.refused("import of connections", error, asker)
            raise
        imported = arriving.record()
        audit.done("connections imported", asker, **imported)
        return imported

    async def save(self, asker: Asker = NOBODY) -> Saved:
        """Writes the state; the control thread is only needed to read the table."""
        try:
            taken = await self.do(self.operations.save)
            saved = await asyncio.to_thread(self.operations.write, taken)
        except Exception as error:
            audit.refused("save of the state", error, asker)
            raise
        audit.done("state saved", asker, **saved)
        return saved

    # ---- what goes on ----

    def following(self, request: Streaming) -> AbstractAsyncContextManager[Following]:
        """What a request wants to be told of, from now on. Raises ValueError."""
        return self._readers.following(request)


def _parsed(policy: dict[str, Any], name: str) -> Policy:
    """A document as a policy. Raises PolicyError."""
    return Policy.parse(json.dumps(policy), name)
