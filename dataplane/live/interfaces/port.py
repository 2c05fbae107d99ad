"""A port: an interface in use, with what stands behind it; and what became of ports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dataplane.live.interfaces import packet_socket, tap

if TYPE_CHECKING:
    from dataplane.policy.document import Instance, LoadBalancer


@dataclass(frozen=True, slots=True)
class Port:
    """An interface in use; without instance and balancer it is an uplink. `fds` are one for each worker."""

    name: str
    kind: Literal["tap", "packet"]
    fds: tuple[int, ...]
    made: bool
    instance: Instance | None = None
    balancer: LoadBalancer | None = None
    namespace: str | None = None

    @property
    def is_attached(self) -> bool:
        """Whether the interface still exists."""
        return tap.is_attached(self.fds[0]) if self.kind == "tap" else packet_socket.is_attached(self.fds[0])

    @property
    def has_carrier(self) -> bool:
        """Whether anybody is at its other end; that of a TAP that we hold is the host's, which is always there."""
        return self.kind == "tap" or packet_socket.has_carrier(self.fds[0])


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of the ports. `changed` are those that stand for something else now, as they are from now on.

    `warnings` are sentences about what the policy says and no interface got.
    """

    added: tuple[Port, ...] = ()
    removed: tuple[Port, ...] = ()
    changed: tuple[Port, ...] = ()
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)
