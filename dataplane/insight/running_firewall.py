"""A packet as a running firewall would judge it now, which does not notice (SPEC 8.3).

The firewall gives its policy and the connections that the packet may belong to, as they stand. Both are put into a
plane of our own, which judges the packet: the engine is the same, so is what it decides. There is no port in that but
the one that is named; what a firewall knows besides policy and connections (a full table, the rate of control traffic,
who asked for DHCP, waiting fragments) has no part.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dataplane import conntrack
from dataplane._core import lib
from dataplane.insight.explain import Explanation, as_capture, explain
from dataplane.insight.packet_text import ACK, SYN, TCP, parse_packet
from dataplane.insight.replayed_packet import ConnectionHistory, Event, Key, Replayed, WatchedPlane
from dataplane.live import state
from dataplane.packet_words import PORTED
from dataplane.policy.addresses import address_text
from dataplane.verdict import ORIGIN_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dataplane.connection_table import Connection
    from dataplane.insight.packet_text import Packet
    from dataplane.live.state import State
    from dataplane.policy.model import Policy


@dataclass(frozen=True)
class AtRunning(Replayed):
    """A packet, as the one of a capture, behind what a running firewall has `known` of its flow."""

    packet: Packet | None = None
    known: State | None = None

    def plane(self, policy: Policy) -> WatchedPlane:
        """A plane under what is in force, with its connections, after a change to another policy if that is one."""
        assert self.known
        plane = WatchedPlane(self.policy)
        plane.advance(self.known.saved_ns)
        state.restore(plane, self.known, passed_ns=0)
        if policy is not self.policy:
            plane.replace(policy, time_ns=self.known.saved_ns)
        return plane

    def histories(self, packet: int, wanted: Sequence[Key | None]) -> tuple[ConnectionHistory | None, ...]:
        """The connections, a place in the result for each: those that the packet opens, and those of before."""
        opened = super().histories(packet, [key if key and key.opened_by else None for key in wanted])
        return tuple(
            self._continued(packet, key) if key and not key.opened_by else history
            for key, history in zip(wanted, opened, strict=True)
        )

    def _continued(self, packet: int, key: Key) -> ConnectionHistory | None:
        """A connection that the firewall has, as it would stand behind the packet."""
        assert self.known
        before = self._found(self.plane(self.policy), key)
        after = self._found(self.run(packet, self.policy, self.changes)[0], key)
        if before is None or after is None:
            return None
        told = [Event(None, before.last_ns, "last-packet")]
        if before.disconnected:
            told = [Event(None, before.last_ns, "disconnected"), Event(None, before.expires_ns, "held-until")]
            if not after.disconnected:
                told = [told[0], Event(packet, self.known.saved_ns, "kept")]
        inbound = after.origin == "inbound"
        return ConnectionHistory(
            origin=after.origin,
            state=after.state,
            opened_by=None,
            rule=after.rule,
            security_group=after.security_group,
            protocol=self.packet.protocol if self.packet else 0,
            remote=after.remote,
            port=after.local_port if inbound else after.remote_port,
            icmp_type=after.icmp_type,
            history=tuple(told),
        )

    def _found(self, plane: WatchedPlane, key: Key) -> Connection | None:
        """The connection of a zone and origin that the packet belongs to."""
        instance = plane.names.instances[key.zone]
        for connection in plane.connections.filter(instance=instance, origin=ORIGIN_WORDS[key.origin]):
            if connection.icmp_id is None or (self.packet and connection.icmp_id == self.packet.icmp_id):
                return connection
        return None


def question(packet: Packet) -> dict[str, Any]:
    """The arguments of the request for what a firewall knows of a packet's flow (`control.requests.FlowState`)."""
    ported = packet.protocol in PORTED
    return {
        "protocol": packet.protocol,
        "source": address_text(packet.source),
        "destination": address_text(packet.destination),
        "source_port": packet.source_port or None if ported else None,
        "destination_port": packet.destination_port or None if ported else None,
    }


def in_place(packet: Packet, known: State) -> Packet:
    """A TCP segment with the numbers that come next in its connection; all else as it is.

    A segment that is written out says nothing of them. A SYN begins a connection, wherever it stands.
    """
    if packet.protocol != TCP:
        return packet
    for saved in state.records_of(known):
        from_remote = bytes(saved.remote)[: len(packet.source)] == packet.source
        inbound = saved.origin == lib.DP_INBOUND
        side = conntrack.I if from_remote == inbound else conntrack.R
        numbers = {}
        if not packet.flags & SYN:
            numbers["sequence"] = saved.tcp_end[side]
        if packet.flags & ACK:
            numbers["acknowledgement"] = saved.tcp_end[1 - side]
        return replace(packet, **numbers)
    return packet


@contextmanager
def explained(packet: Packet, at: str | None, known: State, *, with_remedies: bool = True) -> Iterator[Explanation]:
    """Why a packet would be judged as it would; it is seen `at` an instance's interface, or where addresses tell.

    The explanation is good for as long as the context lasts. Raises ValueError for an instance that is not there.
    """
    sent = in_place(packet, known)
    with as_capture([sent], [known.saved_ns]) as path:
        yield explain(AtRunning(known.policy, [path], (), at, packet=sent, known=known), 1, with_remedies=with_remedies)


def question_of(text: str) -> dict[str, Any]:
    """The same as `question`, of a packet as it is written. Raises PacketTextError."""
    return question(parse_packet(text))


def answer_of(text: str, at: str | None, encoded: bytes) -> dict[str, Any]:
    """The explanation of a packet as JSON values, from what a firewall tells of its flow. Raises ValueError."""
    known = state.decoded(encoded, "the policy in force")
    with explained(parse_packet(text), at, known) as found:
        return found.to_dict()
