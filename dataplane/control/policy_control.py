"""The policy in force as it is changed: loaded again, changed in memory, confirmed or taken back, ended in part.

All of it runs in the control thread, where a policy comes that was read elsewhere. A change is valid and in force, as a
whole, or refused and nothing has happened (SPEC 5.1, 5.6); each is one more generation, and the log tells it.
"""

from __future__ import annotations

import json
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dataplane.control import audit, requests
from dataplane.control.audit import EXPIRY, NOBODY, STORE, Asker
from dataplane.control.confirmation import Unconfirmed
from dataplane.control.differences import different, first_differences, some_differences
from dataplane.control.times import Times
from dataplane.policy import Policy, expiry
from dataplane.policy.expiry import without_expired
from dataplane.policy.structural_sharing import rules_between
from dataplane.store import SharedStore, StoreBusyError, StoreChangedError

if TYPE_CHECKING:
    from dataplane.control.answers import Applied, Changed, Confirmed, Different, Disconnected, Made, Reloaded
    from dataplane.control.operations import Effect, Operations
    from dataplane.control.reading import Reading
    from dataplane.store import Store, Version

#: So many changes are remembered, and of each so many differences.
MADE_MAX, _TOLD_MAX = 32, 5
_REASON_MAX = 500


class WaitingError(ValueError):
    """Another change waits for its confirmation."""


class GenerationError(ValueError):
    """Another policy is in force than the asker has seen."""


@dataclass(slots=True)
class Reloads:
    """What became of the policy in its store since the start."""

    succeeded: int = 0
    failed: int = 0
    seconds: float = 0.0
    loaded_at: float = field(default_factory=time.time)


class PolicyControl:
    """The policy in force; `store` is where it is kept.

    `held_back`: the policy in force is another than the one in the store, because that one was not confirmed. `ctl` is
    what a command to it begins with.
    """

    def __init__(
        self, operations: Operations, store: Store, *, held_back: bool = False, ctl: str = "dataplane ctl"
    ) -> None:
        self.operations = operations
        self.generation = 1
        self.reloads = Reloads()
        self._store = store
        #: Where others change the policy too.
        self.shared = store if isinstance(store, SharedStore) else None
        self._unsaved = 0
        self._loaded = operations.policy
        self._unconfirmed: Unconfirmed | None = None
        self._held_back = held_back
        self._ctl = ctl
        self.times = Times(known=getattr(store, "times", None))
        self._made: deque[Made] = deque(maxlen=MADE_MAX)

    def reload(self, request: requests.Reload, reading: Reading, asker: Asker = NOBODY) -> Reloaded:
        """Puts in force what was read of the store. On a PolicyError, with every mistake, the old one stays."""
        started, name = reading.started, self._store.name
        try:
            self._expect(request)
            policy = self.operations.changed({"apply_policy": without_expired(reading.policy(), time.time_ns())})
            taken_back = self._taken_back(policy)
            answer = self._change_to(policy, asker, request, f"reload of {name}")
        except StoreBusyError:
            raise
        except Exception as error:
            if not request.dry_run:
                self.reloads.failed += 1
                audit.refused_policy(f"reload of {name}, the policy before stays in force", error, asker)
            raise
        if not request.dry_run:
            self.reloads.succeeded += 1
            self.reloads.seconds = time.perf_counter() - started
            self.reloads.loaded_at = time.time()
            self._unsaved = 0
            self._loaded = policy
            self._held_back = False
            if not self._unconfirmed:
                self.operations.hold_back(None)
            audit.done(
                "policy reloaded" if answer["changed"] else "policy reloaded, nothing changed",
                asker,
                file=name,
                disconnected=answer["disconnected"]["total"],
            )
        return {"policy": name, "taken_back": taken_back, **answer, "seconds": time.perf_counter() - started}

    def difference(self, request: requests.Difference, reading: Reading) -> Different:
        """What a reload, or another policy, would do to live connections. Raises PolicyError for one with mistakes."""
        name = self._store.name if request.policy is None else "policy"
        policy = self.operations.changed({"apply_policy": without_expired(reading.policy(), time.time_ns())})
        effect = self.operations.rehearse(policy)
        found = self.operations.difference(policy)
        return {
            "policy": name,
            "generation": self.generation,
            "connections": found["connections"],
            "flows": found["flows"],
            "rules": found["rules"],
            "disconnected": effect.disconnected,
            "warnings": list(effect.warnings),
        }

    def _taken_back(self, policy: Policy) -> int:
        """How many of the changes in memory a policy does not have.

        They are known by what they changed: where it has some of that, no more than what it does not have.
        """
        if not self._unsaved:
            return 0
        now = self.operations.policy
        made = different(self._loaded, now)
        lacking = made & different(now, policy)
        return self._unsaved if lacking == made and made else min(self._unsaved, len(lacking))

    def change(self, request: requests.ChangePolicy, asker: Asker = NOBODY) -> Changed:
        """Makes changes of SPEC 7 in memory: what is kept in the store stays as it is. Raises ChangeError."""
        before, dry_run = self.operations.policy, request.dry_run
        changes = request.change if isinstance(request.change, list) else [request.change]
        told = json.dumps(request.change)
        try:
            self._expect(request)
            if any("apply_policy" in change for change in changes):
                raise ValueError("apply_policy is no change of a running firewall: use reload")
            policy = self.operations.changed(*changes)
            for sentence in expiry.warnings(policy, time.time_ns()):
                raise ValueError(f"{sentence}; give it a time that is to come, or none")
            answer = self._change_to(policy, asker, request, f"change {told}")
        except (StoreChangedError, StoreBusyError):
            # It is made again, upon what others have made.
            raise
        except Exception as error:
            if not dry_run:
                audit.refused(f"change {told}", error, asker)
            raise
        self._count(answer, told, asker)
        return {
            **answer,
            "new_rules": sorted(rule for rule in rules_between(before, policy)[1] if rule not in before.rules_by_id),
            "unsaved_changes": self._unsaved,
            "policy_file": self._store.name,
        }

    def apply(self, request: requests.ApplyPolicy, reading: Reading, asker: Asker = NOBODY) -> Applied:
        """Puts a policy that was read in force, and keeps it where changes are. Raises PolicyError."""
        before, what, now_ns = self.operations.policy, f"apply {request.name}", time.time_ns()
        try:
            self._expect(request)
            given = reading.policy()
            policy = self.operations.changed({"apply_policy": without_expired(given, now_ns)})
            answer = self._change_to(policy, asker, request, what)
        except (StoreChangedError, StoreBusyError):
            raise
        except Exception as error:
            if not request.dry_run:
                audit.refused_policy(what, error, asker)
            raise
        self._count(answer, what, asker)
        answer["warnings"] += expiry.warnings(given, now_ns)
        told, total = some_differences(before, policy, audit.SHOWN_MAX)
        return {
            **answer,
            "differences": told,
            "differences_total": total,
            "unsaved_changes": self._unsaved,
            "policy_file": self._store.name,
        }

    def _count(self, answer: Changed, told: str, asker: Asker) -> None:
        """Counts a change in memory that the store does not have."""
        if answer["dry_run"]:
            return
        if answer["changed"]:
            self._unsaved += not self._store.keeps_changes
        else:
            audit.done(f"nothing changed by {told}", asker)

    def confirm(self, request: requests.Confirm, asker: Asker = NOBODY) -> Confirmed:
        """Confirms the change that waits for it, or takes it back. Raises ValueError where none waits."""
        waiting = self._unconfirmed
        what = "revert" if request.revert else "confirmation"
        try:
            if waiting is None:
                raise ValueError("no change waits for a confirmation: it was confirmed, or taken back, or made without")
            self._expect_generation(request.expected_generation)
            if request.revert:
                return self._revert(waiting, asker, "taken back")
        except Exception as error:
            audit.refused(what, error, asker)
            raise
        with self._store.keeping(self.operations.policy, waiting.made_at):
            self._unconfirmed = None
        if waiting.is_reload:
            self.operations.hold_back(None)
        audit.done(f"confirmed: {waiting.what}", asker, generation=self.generation)
        nothing: Disconnected = {"total": 0, "by_instance": {}, "revoked": 0}
        return {
            "confirmed": True,
            "change": waiting.what,
            "generation": self.generation,
            "disconnected": nothing,
            "warnings": [],
        }

    def _revert(self, waiting: Unconfirmed, asker: Asker, why: str) -> Confirmed:
        """Puts the policy of before in force again, as one change, and all that was known of it."""
        # What waited was not kept: a store that is full, away, or changed by others meanwhile hinders no way back.
        answer = self._change_to(without_expired(waiting.before, time.time_ns()), asker, keep=False)
        self._unconfirmed = None
        self._unsaved, self._loaded, self.reloads.loaded_at = waiting.unsaved, waiting.loaded, waiting.loaded_at
        # What is in the store is not in force; a restart must not bring it back.
        self._held_back = self._held_back or waiting.is_reload
        audit.done(f"{why}, and the policy before is in force again: {waiting.what}", asker, generation=self.generation)
        return {
            "confirmed": False,
            "change": waiting.what,
            "generation": self.generation,
            "disconnected": answer["disconnected"],
            "warnings": answer["warnings"],
        }

    def _revert_unless_confirmed(self, waiting: Unconfirmed) -> None:
        # It may have been confirmed while this waited for its turn.
        if self._unconfirmed is waiting:
            self._revert(waiting, waiting.asker, "not confirmed in time")

    def expire(self) -> Changed | None:
        """Takes out the rules whose time is over, as one change; None where there are none. In the control thread."""
        now_ns, before = time.time_ns(), self.operations.policy
        ended = expiry.expired(before, now_ns)
        if not ended:
            return None
        # It ends whatever becomes of the store, out of which the next change takes it.
        answer = self._change_to(without_expired(before, now_ns), EXPIRY, keep=False)
        self._loaded = without_expired(self._loaded, now_ns)
        for sentence in expiry.warnings(before, now_ns):
            audit.done(sentence, EXPIRY, generation=self.generation)
        return answer

    def follow(self, reading: Reading, version: Version) -> None:
        """Puts in force what others have made of the policy in the store. Raises PolicyError; the old one stays then.

        A change that waits for its confirmation ends with it, and is not kept.
        """
        assert self.shared
        try:
            policy = self.operations.changed({"apply_policy": without_expired(reading.policy(), time.time_ns())})
            self._change_to(policy, STORE, keep=False)
        except Exception as error:
            self.shared.failed(version, " ".join(str(error).split())[:_REASON_MAX])
            raise
        self.shared.taken(version)
        if waiting := self._unconfirmed:
            self._unconfirmed = None
            self.operations.hold_back(None)
            audit.refused(f"confirmation of {waiting.what}", "somebody else has changed the policy since", STORE)
        self._loaded, self._held_back, self.reloads.loaded_at = policy, False, time.time()

    def _expect(self, request: requests.Reload | requests.ChangePolicy | requests.ApplyPolicy) -> None:
        self._expect_generation(request.expected_generation)
        if self._unconfirmed and not request.dry_run:
            raise WaitingError(self._unconfirmed.refusal(self._ctl))
        if self.shared and not request.dry_run and not isinstance(request, requests.Reload):
            self.shared.expect_changes()

    def _expect_generation(self, generation: int | None) -> None:
        if generation not in (None, self.generation):
            raise GenerationError(
                f"the policy in force is of generation {self.generation}, and {generation} was expected: it has been"
                f" changed since then; look at it again ({self._ctl} policy) before you change it"
            )

    def _change_to(
        self,
        policy: Policy,
        asker: Asker,
        request: requests.Reload | requests.ChangePolicy | requests.ApplyPolicy | None = None,
        what: str = "",
        *,
        keep: bool = True,
    ) -> Changed:
        """Puts a policy in force as a request wants it; without one, now and for good.

        `keep`: it is kept in the store, where that keeps changes.
        """
        before, now = self.operations.policy, time.time()
        changed = policy is not before
        dry_run = request is not None and request.dry_run
        seconds = request.confirm if request and changed and not dry_run else None
        warnings = self._remember(before, isinstance(request, requests.Reload)) if seconds else []
        try:
            if dry_run:
                effect = self.operations.rehearse(policy)
            else:
                effect = self._put_in_force(policy, now, keep=keep and not seconds)
        except Exception:
            if seconds and not self._held_back:
                self.operations.hold_back(None)
            raise
        if changed and not dry_run:
            self.generation += 1
            self.times.note(before, policy, now)
            audit.changed(before, policy, asker, generation=self.generation, disconnected=effect.disconnected)
            self._made.append(
                {
                    "generation": self.generation,
                    "time": now,
                    "by": asker.extra(),
                    "differences": first_differences(before, policy, _TOLD_MAX),
                    "disconnected": effect.disconnected,
                }
            )
        answer: Changed = {
            "changed": changed,
            "dry_run": dry_run,
            "generation": self.generation,
            "disconnected": effect.disconnected,
            "on_change": policy.conntrack.on_change,
            "warnings": [*effect.warnings, *warnings],
        }
        if seconds:
            self._unconfirmed = Unconfirmed(
                what=what,
                asker=asker,
                generation=self.generation,
                made_at=now,
                until=time.monotonic() + seconds,
                before=before,
                loaded=self._loaded,
                loaded_at=self.reloads.loaded_at,
                unsaved=self._unsaved,
                is_reload=isinstance(request, requests.Reload),
            )
            answer["waiting"] = self._unconfirmed.record()
            audit.done(f"it is taken back in {seconds:g} s unless it is confirmed: {what}", asker)
        return answer

    def _put_in_force(self, policy: Policy, now: float, *, keep: bool) -> Effect:
        """Puts a policy in force; if it is to be kept, and the store keeps changes, both are done or neither.

        `now`, in seconds since 1970, is the time that is kept of what came and changed.
        """
        with self._store.keeping(policy, now) if keep else nullcontext():
            return self.operations.put_in_force(policy)

    def _remember(self, before: Policy, is_reload: bool) -> list[str]:
        """Has a restart begin with the policy before; in sentences why it would not.

        A change in memory is not there after a restart anyway.
        """
        if not is_reload or self.operations.hold_back(before):
            return []
        return [
            f"there is no state file (--state): a restart before the confirmation begins with {self._store.name} as is"
        ]
