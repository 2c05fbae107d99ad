"""Where a policy is kept: what a running firewall loads it from, whatever that is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from dataplane.policy import Policy


class StoreError(Exception):
    """A policy cannot be kept, or loaded: one sentence that says why."""


class StoreAwayError(StoreError):
    """What keeps the policy does not answer: later it may. `is_done` is False, or None where it may be done or not."""

    def __init__(self, message: str, *, is_done: bool | None = False) -> None:
        super().__init__(message)
        self.is_done = is_done


class StoreChangedError(StoreError):
    """Somebody else has changed the policy that is kept, and it is not in force here yet."""


class StoreBusyError(StoreError):
    """Another program holds what keeps the policy, at this moment."""


class StorePartError(StoreError):
    """What is kept here is a part of the policy: it is changed elsewhere."""


class Store(Protocol):
    """A place that a policy is loaded from; `name` is what people know it by."""

    @property
    def name(self) -> str:
        """Its name, such as that of a file."""

    @property
    def keeps_changes(self) -> bool:
        """Whether a change of the policy in force is kept here; else it is gone with the next load."""

    def load(self) -> Policy:
        """The policy that is kept there now. Raises PolicyError, StoreError."""

    def kept_elsewhere(self) -> int | None:
        """The number of the policy that another process has kept here since it was loaded or kept last; None: none has.

        Raises StoreError.
        """

    def keeping(self, policy: Policy, now: float) -> AbstractContextManager[None]:
        """Keeps a policy if what is done within succeeds, as a whole or not at all. `now` is in seconds since 1970.

        It is kept at the begin, and taken back where what is done within fails. Raises StoreError at the begin where
        it cannot be kept, and at the end where it cannot be taken back. Nothing is kept where changes are not.
        """

    def close(self) -> None:
        """Nothing is asked of it any more."""


class KeepingStore(Store, Protocol):
    """A store that keeps changes, and that may have no policy yet."""

    @property
    def is_empty(self) -> bool:
        """Whether no policy was kept in it yet."""


class Version(Protocol):
    """A policy as it was kept at some time."""

    def policy(self) -> Policy:
        """The policy; for any thread. Raises PolicyError."""


class Trial(Protocol):
    """A policy that a host is to judge by beside the one in force."""

    @property
    def id(self) -> str:
        """It is this one's alone."""

    def policy(self) -> Policy:
        """The policy; for any thread. Raises PolicyError."""


@runtime_checkable
class SharedStore(Store, Protocol):
    """A store that others change too: what they do comes by itself, and is put in force here.

    `arrived` and `follow` are for any thread, the rest for the one that `keeping` is called in.
    """

    @property
    def arrived(self) -> Version | None:
        """What was kept last, as far as it is known here, while it is not in force; None where it is."""

    def taken(self, version: Version) -> None:
        """What had arrived is in force."""

    def failed(self, version: Version, why: str) -> None:
        """What had arrived cannot be put in force."""

    def expect_changes(self) -> None:
        """Raises StoreError where no change can be kept now."""

    @property
    def canary(self) -> Trial | None:
        """What this host is to judge by beside the policy in force; for any thread."""

    def tell_canary(self, told: dict[str, Any] | None) -> None:
        """What has come of it: `id`, and packets judged `same` and `changed` in so many `seconds`, or an `error`.

        None: there is none.
        """

    def follow(self, notify: Callable[[], None]) -> None:
        """Begins to watch; `notify` is called, from any thread, when something has arrived."""

    def await_change(self) -> None:
        """Waits, not for long, until what others have changed has arrived; for any thread."""

    def state(self) -> dict[str, Any]:
        """How far it has come, as JSON values; for any thread."""
