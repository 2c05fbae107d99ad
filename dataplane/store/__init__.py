"""Where a policy is kept: what a running firewall loads it from, whatever that is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dataplane.policy import Policy


class StoreError(Exception):
    """A policy cannot be kept, or loaded: one sentence that says why."""


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

        Raises StoreError at the begin, and at the end where that fails. Nothing is kept where changes are not.
        """


class KeepingStore(Store, Protocol):
    """A store that keeps changes, and that may have no policy yet."""

    @property
    def is_empty(self) -> bool:
        """Whether no policy was kept in it yet."""

    def close(self) -> None:
        """Nothing is asked of it any more."""
