"""Which connections are meant, in the words of conntrack-tools."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from dataplane.connection_table import PROTOCOLS, Connections, protocol_number
from dataplane.policy.fields import PROTOCOLS_WITH_PORTS
from dataplane.policy.mistakes import alternatives

if TYPE_CHECKING:
    from dataplane.flow import FlowRecord

_WITH_PORTS = frozenset(protocol_number(name) for name in PROTOCOLS_WITH_PORTS)


class Selection(BaseModel):
    """What must be true of a connection; what is left out may be anything.

    Source and destination, with their ports, are those of the connection's first packet.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: str | None = None
    source: str | None = None
    destination: str | None = None
    source_port: int | None = Field(default=None, ge=1, le=65535)
    destination_port: int | None = Field(default=None, ge=1, le=65535)
    state: str | None = None
    instance: str | None = None
    origin: Literal["inbound", "outbound"] | None = None
    disconnected: bool | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it means all connections."""
        return not self.model_dump(exclude_none=True)

    def views(self, connections: Connections) -> list[Connections]:
        """The views of a connection table that hold these connections, each connection in one of them.

        The side that the first packet came from depends on the connection's origin, so there may be a view for each.
        Raises ValueError for a word that is not known.
        """
        if (self.source_port or self.destination_port) and not self._has_ports():
            raise ValueError(f"a port needs a protocol with ports: {alternatives(PROTOCOLS_WITH_PORTS)}")
        chosen = connections.filter(
            protocol=self.protocol, state=self.state, instance=self.instance, disconnected=self.disconnected
        )
        sided = self.source or self.destination or self.source_port or self.destination_port
        if not sided:
            return [chosen.filter(origin=self.origin)]
        return [self._seen_from(origin, chosen) for origin in ("inbound", "outbound") if self.origin in (None, origin)]

    def of_flows(self, connections: Connections) -> Callable[[FlowRecord], bool]:
        """Whether a flow is meant, by the same words. Raises ValueError as `views`."""
        self.views(connections)
        source, destination = (ip_network(end) if end else None for end in (self.source, self.destination))
        protocol = None if self.protocol is None else protocol_number(self.protocol)
        state = self.state and self.state.upper()

        def is_meant(flow: FlowRecord) -> bool:
            here, there = (flow.local, flow.local_port), (flow.remote, flow.remote_port)
            (src, sport), (dst, dport) = (there, here) if flow.origin == "inbound" else (here, there)
            return (
                self.instance in (None, flow.instance)
                and self.origin in (None, flow.origin)
                and state in (None, flow.state)
                and self.source_port in (None, sport)
                and self.destination_port in (None, dport)
                and (protocol is None or _number_of(flow.protocol) == protocol)
                and (self.disconnected is None or self.disconnected == (flow.end == "disconnected"))
                and all(
                    network is None or (address is not None and ip_address(address) in network)
                    for network, address in ((source, src), (destination, dst))
                )
            )

        return is_meant

    def _has_ports(self) -> bool:
        return self.protocol is not None and protocol_number(self.protocol) in _WITH_PORTS

    def _seen_from(self, origin: str, chosen: Connections) -> Connections:
        if origin == "inbound":
            return chosen.filter(
                origin=origin,
                remote=self.source,
                remote_port=self.source_port,
                local=self.destination,
                local_port=self.destination_port,
            )
        return chosen.filter(
            origin=origin,
            local=self.source,
            local_port=self.source_port,
            remote=self.destination,
            remote_port=self.destination_port,
        )


def _number_of(protocol: str | int | None) -> int | None:
    """The number of a flow's protocol; None for ARP and what is no IP."""
    return PROTOCOLS.get(protocol) if isinstance(protocol, str) else protocol
