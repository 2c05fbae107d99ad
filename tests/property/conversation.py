"""The TCP conversations of a story: their endpoints, and which steps they may take.

The model answers for any segment, but not every answer of its follows from the specification. `Conversations.fitting`
keeps the stories clear of what is left open:

* a SYN with another number while one is half-open, and any SYN on a cut connection that may be judged again;
* data before a SYN-ACK, and what follows a RST in a half-open connection;
* a SYN-ACK on a closing connection;
* a RST inside the window that is not at its edge, which a real end would only challenge (RFC 5961, 3);
* numbers of another connection, or forged ones, where there is no window: after a pick-up in mid-stream, or with
  tcp_be_liberal.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from .endpoint import STEPS, Endpoint
from .model import Connection, Model
from .packet_model import TCP
from .policy_model import holder
from .tcp_model import ACK, FAR, RST, SYN, TcpConnection, distance

ROUTER_MAC = "02:00:00:00:ff:01"


@dataclass(frozen=True)
class Host:
    """One end: an address and the MAC that stands in frames from and to it."""

    address: str
    mac: str = ROUTER_MAC


@dataclass(frozen=True)
class Flow:
    """Who talks to whom; ports are (client, server) and 0 for protocols without."""

    protocol: int
    client: Host
    server: Host
    ports: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Seen:
    """One zone's live entry, and the endpoints as it sees them: its initiator's and its responder's."""

    entry: Connection
    tcp: TcpConnection
    ends: tuple[Endpoint, Endpoint]

    @property
    def unlimited(self) -> bool:
        """Whether the entry knows no window."""
        return self.tcp.picked_up or self.tcp.be_liberal

    def expects(self, sender: Endpoint) -> bool:
        """Whether an endpoint's next number is the next one for the entry, or any will do."""
        end = self.tcp.sides[sender is self.ends[1]].end
        return end is None or end == sender.sent

    @property
    def strange(self) -> bool:
        """Whether the endpoints have gone on to numbers that are not this entry's."""
        pairs = zip(self.tcp.sides, self.ends, strict=True)
        return any(side.end is not None and abs(distance(end.sent, side.end)) > FAR for side, end in pairs)


class Conversations:
    """Endpoints by their addresses and ports, and the model whose entries they meet."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._endpoints: dict[tuple[str, int, str, int], Endpoint] = {}

    def endpoints(self, flow: Flow) -> tuple[Endpoint, Endpoint]:
        """Client and server; a flow the other way round on the same ports has the same two."""
        client, server = (flow.client.address, flow.ports[0]), (flow.server.address, flow.ports[1])
        for key, number, peer_number in ((client + server, 1000, 5000), (server + client, 5000, 1000)):
            self._endpoints.setdefault(key, Endpoint(number, peer_number))
        return self._endpoints[client + server], self._endpoints[server + client]

    def fitting(self, flow: Flow, from_server: bool, step: str, now: int) -> str | None:
        """The step itself, or the nearest one that is clear of what is left open, or None."""
        zones, seen = self._seen(flow, now)
        states = {one.tcp.state for one in seen}
        flags = STEPS[step]
        if flags & (SYN | ACK) == SYN:
            return step if flags != SYN else self._fitting_syn(flow, from_server, step, seen)
        if any(one.unlimited and one.strange for one in seen):
            return None
        if any(one.tcp.aborted for one in seen):
            return None
        if step.startswith("forged"):
            loose = self.model.document["conntrack"]["tcp_loose"]
            return None if any(one.unlimited for one in seen) or (loose and len(seen) < zones) else step
        sender = self.endpoints(flow)[from_server]
        if flags & RST and not all(one.expects(sender) for one in seen):
            return None
        if step == "data" and any(one.tcp.unanswered for one in seen):
            return "ack"
        return None if flags == SYN | ACK and states & {"closing", "closed"} else step

    def _fitting_syn(self, flow: Flow, from_server: bool, step: str, seen: list[Seen]) -> str | None:
        states = {one.tcp.state for one in seen}
        again = self.model.document["conntrack"]["on_change"] == "reevaluate"
        if again and any(one.entry.cut is not None for one in seen):
            return None
        if states & {"closing", "closed"}:
            return "new syn" if states <= {"closing", "closed"} else None
        if "half-open" in states or any(one.unlimited for one in seen):
            known = self.endpoints(flow)[from_server].fresh or "half-open" not in states
            return "syn" if known and not any(one.strange for one in seen) else None
        fresh = all(end.fresh for end in self.endpoints(flow))
        return step if states or fresh else "new syn"

    def _seen(self, flow: Flow, now: int) -> tuple[int, list[Seen]]:
        """How many of the two ends are instances, and what their zones hold for the flow."""
        ends = [(ip_address(flow.client.address), flow.ports[0]), (ip_address(flow.server.address), flow.ports[1])]
        pair = self.endpoints(flow)
        zones, seen = 0, []
        for host, (local, remote), own in ((flow.client, ends, pair), (flow.server, ends[::-1], pair[::-1])):
            instance = holder(self.model.document, local[0], [host.mac])
            if instance is None:
                continue
            zones += 1
            entry = self.model.connection(instance["id"], (TCP, local, remote), now)
            if entry is not None and entry.tcp is not None:
                seen.append(Seen(entry, entry.tcp, own if entry.origin == "outbound" else own[::-1]))
        return zones, seen
