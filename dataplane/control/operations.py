"""What the service asks of a firewall: an interface, so that nothing here knows packets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from dataplane.control.answers import Disconnected, Imported, Saved
    from dataplane.control.requests import Flows, FlowState, Streaming
    from dataplane.control.selection import Selection
    from dataplane.policy import Policy


@dataclass(frozen=True, slots=True)
class Effect:
    """What a policy does when it comes into force; `warnings` are sentences about interfaces."""

    disconnected: Disconnected
    warnings: tuple[str, ...] = ()


class Subscription(Protocol):
    """One reader of the feed, who loses what he does not take in time."""

    lost: int

    def take(self) -> bytes:
        """All that is queued, as the reader gets it."""

    def ending(self) -> bytes:
        """What comes behind the last of it."""


class Source(Protocol):
    """What subscriptions are told by, in the control thread."""

    def subscribe(self, subscription: Any) -> None:
        """Gives a subscription what it wants from now on."""

    def unsubscribe(self, subscription: Any) -> None:
        """The subscription gets nothing more."""

    def look_for_losses(self) -> None:
        """Counts what could not be told."""


class Feed(Source, Protocol):
    """What workers tell while somebody wants to know; called in the control thread, but for `fd` and `is_dense`."""

    @property
    def fd(self) -> int:
        """A descriptor that is readable while there are items."""

    @property
    def is_dense(self) -> bool:
        """Whether somebody wants all that there is."""

    def pump(self) -> int | None:
        """Hands out some of what there is; None while no reader keeps up."""


class Arriving(Protocol):
    """Connections on their way into the firewall; in the control thread."""

    def take_some(self) -> bool:
        """Takes in the next of them; whether there are more."""

    def record(self) -> Imported:
        """What has become of them."""


class Operations(Protocol):
    """The firewall as the service drives it; all runs in the control thread, but for `write`."""

    @property
    def feed(self) -> Feed:
        """Its feed."""

    @property
    def policy(self) -> Policy:
        """The policy in force."""

    def changed(self, *changes: Mapping[str, Any]) -> Policy:
        """The policy in force with changes made in their order, which is not in force yet. Raises ChangeError."""

    def rehearse(self, policy: Policy) -> Effect:
        """What putting a policy in force would do."""

    def difference(self, policy: Policy) -> dict[str, Any]:
        """What putting a policy in force would do to connections: `connections`, `flows` and `rules` of the answer."""

    def put_in_force(self, policy: Policy) -> Effect:
        """Puts a policy in force; where that fails, all stays as it was."""

    def prepare(self) -> None:
        """Makes what the next change goes on from, so that it need not."""

    def hold_back(self, policy: Policy | None) -> bool:
        """Has a restart begin with this policy, whatever the store has then; None for that in the store.

        Whether there is a place to keep it in.
        """

    def status(self) -> dict[str, Any]:
        """What it does, at a glance."""

    def counters(self) -> dict[str, Any]:
        """All counters."""

    def stations(self) -> list[dict[str, Any]]:
        """The MACs that the switch knows."""

    def rules(self, unused: float | None) -> list[dict[str, Any]]:
        """The rules in force with the times of their use; those alone that were not used for so many seconds."""

    def connections(self, selection: Selection) -> Iterator[list[dict[str, Any]]]:
        """The chosen connections, some at a time. Raises ValueError for a selection that cannot be meant."""

    def flows_listed(self, request: Flows) -> Iterator[list[dict[str, Any]]]:
        """The chosen flows, some at a time. Raises ValueError for a selection without meaning."""

    def source(self, request: Streaming) -> Source:
        """Where what a request wants to be told of comes from. Raises ValueError where there is nothing of it."""

    def begin_shadow(self, policy: Policy, name: str) -> dict[str, Any]:
        """Has another policy judge all packets beside the one in force, in place of the shadow that there is."""

    def end_shadow(self) -> None:
        """Ends it. Raises ValueError where there is none."""

    def shadow_report(self, top: int) -> dict[str, Any]:
        """What it has judged otherwise. Raises ValueError where there is none."""

    def count(self, selection: Selection) -> dict[str, Any]:
        """How many of the chosen connections there are."""

    def delete(self, selection: Selection) -> tuple[int, dict[str, int]]:
        """Takes the chosen connections out of the table; how many, and how many of each instance there were."""

    def flow(self, request: FlowState) -> Any:
        """What is known of a flow. Raises ValueError for addresses that are none."""

    def exported(self, selection: Selection) -> Any:
        """What is known of the chosen connections. Raises ValueError for a selection that cannot be meant."""

    def encoded(self, taken: Any) -> bytes:
        """What is known of connections, in the form of the state file; for any thread."""

    @property
    def import_bytes(self) -> int:
        """How much what is imported may be at most."""

    def arriving(self, data: bytes) -> Arriving:
        """Connections of another firewall, from the form of the state file; for any thread.

        Raises ValueError where that is damaged.
        """

    def save(self) -> Any:
        """The state to be written. Raises ValueError where there is no place for it."""

    def write(self, taken: Any) -> Saved:
        """Writes the state."""

    def subscription(self, request: Streaming, notify: Callable[[], None]) -> Subscription:
        """A subscription that the feed does not know yet. Raises ValueError."""
