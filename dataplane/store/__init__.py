"""Where a policy is kept: what a running firewall loads it from, whatever that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dataplane.policy import Policy


class Store(Protocol):
    """A place that a policy is loaded from; `name` is what people know it by."""

    @property
    def name(self) -> str:
        """Its name, such as that of a file."""

    def load(self) -> Policy:
        """The policy that is kept there now. Raises PolicyError."""
