"""The slow, plain reference: what SPEC and the seed say about each packet, written without the engine's code.

    model = Model(document)                      # a mapping as of SPEC 2, valid
    verdict = model.process(frame, time_ns)      # an Ethernet frame -> what `--verdicts` says of it (SPEC 7)
    model.apply(change, time_ns)                 # a change of SPEC 7 without `at`

A packet's way, the same for both directions: the instances that hold its addresses, then at each check damage, control
traffic (4.8), the load balancer (SPEC 3.5), ICMP errors (4.5), the connection entry (4.1 to 4.5, 5.3), the
rules (3).

The words of an answer where SPEC 7 leaves a choice:

    first packet, allowed         new           rule             the rule             inbound|outbound
    first packet, denied          new           rule             the rule             null
                                  new           no-rule-matched  null                 null
    no room for the entry         new           table-full       null                 null
    a later packet                established   connection       that admitted it     its origin
    ICMP error, fitting           related       related          of the connection    its origin
    packet or error, cut          disconnected  disconnected     null                 its origin
    TCP that hits an entry        invalid       invalid          null                 its origin
    other invalid                 invalid       invalid          null                 null
    damaged                       invalid       malformed        null                 null
    balancer, control             untracked     load-balancer, control   null         null

Readings that the specification leaves open, as taken here:

* The clock is the greatest time seen so far, of packets and of changes; a packet from the past is judged at that clock.
* An entry is known by protocol and the local and the remote end. For ICMP queries it is the kind of query, the
  identifier, and which end asks: each end's queries are connections of their own.
* A cut entry answers before the segment itself is looked at: even an impossible or closing segment is `disconnected`.
* An ICMP error fits when it goes to the source of the packet that it quotes and that packet passed the instance in the
  other direction. It need not come from the quoted destination, and a quoted segment's numbers say nothing.
* ICMP types that are neither queries, their replies, nor the errors named in 4.5 are invalid (redirects too).
* DHCP to a server that did not answer last, and answers that nobody asked for, are judged by the rules. Who asks
  has no address yet in a replay: an answer with the transaction of such a question is one that was asked for.
* With `on_change: reevaluate` a packet that keeps its connection is answered with the rule that keeps it: state
  established, reason rule. One that does not is `disconnected` as before, and leaves the timer alone.
* Only the table of a single instance is bounded as 4.9 says; the fair share among several is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any

from . import packet_model as wire
from .control_traffic_model import control_traffic, dhcp_message, discovery_options, transaction
from .packet_model import Address, Packet, decode
from .policy_model import (
    Difference,
    balanced,
    edit,
    expiry_ns,
    find,
    first_match,
    holder,
    holders,
    known_by_mac,
    own_mac,
    pairs,
    rules,
    settle,
)
from .tcp_model import INITIATOR, RESPONDER, RST, TcpConnection, plain_syn, possible

SECOND = 1_000_000_000

Key = tuple[object, ...]


@dataclass(frozen=True)
class Check:
    """One packet at one instance in one direction (SPEC 7)."""

    instance: str
    direction: str
    verdict: str
    state: str
    reason: str
    rule: str | None = None
    security_group: str | None = None
    connection: str | None = None


@dataclass(frozen=True)
class Verdict:
    """A packet's record (SPEC 7): allow, deny or bypass, and its checks, egress first."""

    verdict: str
    checks: tuple[Check, ...] = ()


@dataclass
class Connection:
    """An entry; times in nanoseconds. `judged` is the packet that the rules allowed, `cut` when
    a change disconnected it; `born` orders the tentative ones."""

    origin: str
    rule: str
    security_group: str
    remote: Address
    judged: Packet
    born: int
    last: int
    tcp: TcpConnection | None = None
    icmp: bool = False
    both_ways: bool = False
    cut: int | None = None

    def timeout_name(self) -> str:
        """Which timeout holds in the state that the connection is in (SPEC 4.2)."""
        if self.tcp is not None:
            by_state = {
                "half-open": "tcp_half_open",
                "established": "tcp_established",
                "closing": "tcp_fin_wait",
                "half-closed": "tcp_close_wait",
            }
            return by_state.get(self.tcp.state, "tcp_close")
        if self.icmp:
            return "icmp"
        return "other_bidirectional" if self.both_ways else "other_unidirectional"

    def tentative(self) -> bool:
        """Whether it goes first when the table is full (SPEC 4.9): half-open, closed, or seen one way only."""
        return self.tcp.state in ("half-open", "closed") if self.tcp is not None else not self.both_ways


class Model:
    """One host's policy, connections and clock."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = settle(document)
        self.clock = 0
        self.zones: dict[str, dict[Key, Connection]] = {}
        self._born = 0
        self._outside = self.refused_for_its_place = False
        self._owners: dict[tuple[Address, int], str] = {}
        #: When an instance asked for DHCP, by name and family, or somebody without an address, by transaction.
        self._asked: dict[tuple[object, object], int] = {}
        self._dhcp_server: dict[tuple[str, int], Address] = {}
        #: What is left of what an instance sent as control traffic, in nanoseconds of the rate, and when that was.
        self._control_level: dict[str, tuple[int, int]] = {}

    def process(self, frame: bytes, time_ns: int) -> Verdict:
        """Judges one Ethernet frame; `UnmodelledError` for a fragment."""
        self._end_rules(time_ns)
        self.clock = max(self.clock, time_ns)
        packet = decode(frame)
        if packet is None:
            return Verdict("bypass")
        checks: list[Check] = []
        self._outside = self.refused_for_its_place = False
        sender, receiver = self._ends(packet)
        if sender is not None:
            checks.append(self._check(packet, sender, "egress"))
        elif packet.protocol == wire.UDP and not packet.malformed:
            client, server = (68, 67) if packet.family == 4 else (546, 547)
            asks = (packet.source_port, packet.destination_port) == (client, server)
            if asks and dhcp_message(packet, asks=True):
                self._asked[transaction(packet)] = self.clock
        if receiver is not None and all(check.verdict == "allow" for check in checks):
            checks.append(self._check(packet, receiver, "ingress"))
        elif receiver is not None and self._outside:
            self._note_unseen(packet, receiver["id"])
        if not packet.malformed and not (checks and checks[0].verdict == "deny"):
            self._learn_owners(packet, sender)
        if not checks:
            return Verdict("bypass")
        return Verdict("deny" if any(check.verdict == "deny" for check in checks) else "allow", tuple(checks))

    def apply(self, change: Mapping[str, Any], time_ns: int) -> None:
        """Makes one change at once and as a whole (SPEC 5); `RefusedChangeError` leaves everything as it was."""
        self._end_rules(time_ns)
        self._change(change, time_ns)

    def _change(self, change: Mapping[str, Any], time_ns: int) -> None:
        new = edit(self.document, change)
        self.clock = max(self.clock, time_ns)
        difference = Difference.between(self.document, new)
        before, self.document = self.document, new
        remaining = {instance["id"] for instance in new["instances"]}
        self.zones = {instance: zone for instance, zone in self.zones.items() if instance in remaining}
        gone = {instance["id"] for instance in before["instances"]} - remaining
        self._asked = {place: time for place, time in self._asked.items() if place[0] not in gone}
        self._dhcp_server = {place: who for place, who in self._dhcp_server.items() if place[0] not in gone}
        self._control_level = {name: level for name, level in self._control_level.items() if name not in gone}
        for instance, zone in self.zones.items():
            for connection in zone.values():
                if connection.origin != "inbound" or connection.cut is not None or not self.alive(connection):
                    continue
                revoked = (connection.rule, connection.remote) in difference.revoked
                if instance in difference.instances or revoked or self._denied(instance, connection, difference):
                    connection.cut = self.clock

    def _end_rules(self, time_ns: int) -> None:
        """Rules that end by themselves are deleted at that time, one after the other."""
        ends = ((expiry_ns(rule), rule["id"]) for _, rule in rules(self.document) if "expires_at" in rule)
        for moment, rule_id in sorted(ends):
            if moment <= time_ns:
                self._change({"delete_rule": {"id": rule_id}}, moment)

    def _denied(self, instance: str, connection: Connection, difference: Difference) -> bool:
        """SPEC 5.4: whether a deny rule that the remote address came to would decide about the connection now."""
        here = find(self.document["instances"], instance)
        match = first_match(self.document, here, "ingress", connection.judged)
        return match is not None and (match[0]["id"], connection.remote) in difference.arrived

    def alive(self, connection: Connection, now: int = 0) -> bool:
        """SPEC 4.2: while now - last packet < timeout; SPEC 5.3: for a cut one, since the change.

        `now` is another moment than the clock's, where it is later.
        """
        since = connection.last if connection.cut is None else connection.cut
        timeout = self.document["conntrack"]["timeouts"][connection.timeout_name()]
        return bool(max(self.clock, now) - since < timeout * SECOND)

    def connection(self, instance: str, key: Key, now: int = 0) -> Connection | None:
        """The live entry under a key in an instance's zone, at the clock or at `now` if that is later."""
        connection = self.zones.get(instance, {}).get(key)
        return connection if connection is not None and self.alive(connection, now) else None

    def _network(self, address: Address, vlan: int) -> tuple[Address, int]:
        """An address, with its VLAN where two instances have it as their own: then it is in two networks."""
        return address, vlan if len(holders(self.document, address)[0]) > 1 else 0

    def _holder(self, address: Address, macs: list[str], vlan: int) -> dict[str, Any] | None:
        return holder(self.document, address, macs, self._owners.get(self._network(address, vlan)))

    def _ends(self, packet: Packet) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """The instances that hold the packet's source and destination; who announces to itself is both."""
        inside = [] if packet.arp_mac is None else [packet.arp_mac]
        said = [*inside, packet.source_mac]
        sender = self._holder(packet.source, said, packet.vlan)
        to = [packet.destination_mac, *(said if packet.source == packet.destination else [])]
        return sender, self._holder(packet.destination, to, packet.vlan)

    def _learn_owners(self, packet: Packet, sender: dict[str, Any] | None) -> None:
        """Who announces or sends from an address that several hold, and is known by its MAC, has it (SPEC 7).

        What was refused as it left its instance tells nothing, nor does what an instance says of another one.
        """
        if packet.icmp is not None and packet.icmp.type == 136 and control_traffic(packet, "ingress"):
            body = packet.icmp.body
            option = next((o[2:8].hex(":") for o in discovery_options(body[24:]) if o[0] == 2 and len(o) == 8), "")
            told = self._told(IPv6Address(body[8:24]), option, packet)
            if sender is None or told is sender:
                self._give(IPv6Address(body[8:24]), told, packet.vlan)
        if packet.protocol == 112 and sender is not None:
            for address in self._redundant(packet, sender):
                self._give(address, sender, packet.vlan)
        self._give(packet.source, self._told(packet.source, packet.arp_mac or "", packet), packet.vlan)

    def _told(self, address: Address, inside: str, packet: Packet) -> dict[str, Any] | None:
        """The holder that a MAC inside the packet tells, else the frame's."""
        found = known_by_mac(self.document, address, inside)
        if found is None:
            return known_by_mac(self.document, address, packet.source_mac)
        return None if self._is_forged(packet, found) else found

    def _is_forged(self, packet: Packet, instance: dict[str, Any]) -> bool:
        speakers = [i["id"] for i in self.document["instances"] if own_mac(i) == packet.source_mac]
        return bool(speakers) and instance["id"] not in speakers

    def _redundant(self, packet: Packet, sender: dict[str, Any]) -> Iterator[Address]:
        """What the master that sends an advertisement of VRRP or CARP has: the addresses in it (VRRP alone), and the
        virtual IPs that go with the virtual MAC that it comes from."""
        body, size = packet.body, 4 if packet.family == 4 else 16
        if len(body) < 8 or body[0] & 15 != 1 or self._is_forged(packet, sender):
            return
        carp = body[0] == 0x21 and body[3] == 7 and len(body) == 36
        if (carp and body[2] == body[5] == 255) or (not carp and body[2] == 0):
            return
        if not carp:
            listed = [body[8 + size * n : 8 + size * (n + 1)] for n in range(body[3])]
            yield from (ip_address(address) for address in listed if len(address) == size)
        for text, mac in pairs(sender):
            if mac == packet.source_mac and "/" not in text:
                yield ip_address(text)

    def _give(self, address: Address, instance: dict[str, Any] | None, vlan: int) -> None:
        own, virtual = holders(self.document, address)
        if instance is not None and instance in own + virtual and len(own + virtual) > 1:
            self._owners[self._network(address, vlan)] = instance["id"]

    def _check(self, packet: Packet, instance: dict[str, Any], direction: str) -> Check:
        name = instance["id"]
        if packet.malformed or (packet.wrong_sum and self.document["conntrack"]["verify_checksums"]):
            return Check(name, direction, "deny", "invalid", "malformed")
        control = (self._dhcp if packet.protocol == wire.UDP else self._control)(packet, instance, direction)
        if control is False:
            return _invalid(name, direction, None)
        if control:
            within = direction == "ingress" or self._within_rate(packet, name)
            return Check(name, direction, "allow" if within else "deny", "untracked", "control")
        far_end = (
            (packet.source, packet.source_mac)
            if direction == "ingress"
            else (packet.destination, packet.destination_mac)
        )
        if balanced(self.document, instance, *far_end):
            return Check(name, direction, "allow", "untracked", "load-balancer")
        if packet.is_icmp and packet.icmp is not None and packet.icmp.type in wire.ERRORS[packet.family]:
            return self._check_error(packet, name, direction)
        key = connection_key(packet, direction, self._tag(packet, name))
        if key is None:
            return _invalid(name, direction, None)
        connection = self.connection(name, key)
        if connection is None:
            return self._check_first(packet, instance, direction, key)
        if connection.cut is not None:
            return self._check_cut(packet, instance, direction, key, connection)
        return self._check_later(packet, instance, direction, key, connection)

    def _within_rate(self, packet: Packet, name: str) -> bool:
        """SPEC 4.8: what an instance may send as control traffic, 1,000 packets a second and 12,000 at once. ARP is one
        packet; of what is IP each 128 bytes that IP says count as one more."""
        said = len(packet.body) + (20 if packet.family == 4 else max(len(packet.between) - 1, 0))
        cost = 1 if packet.arp_mac is not None else 1 + said // 128
        level, since = self._control_level.get(name, (0, 0))
        level = max(0, level - (self.clock - since))
        fits = level + cost * SECOND // 1000 <= 12 * SECOND
        self._control_level[name] = (level + cost * SECOND // 1000 if fits else level), self.clock
        return fits

    def _control(self, packet: Packet, _: dict[str, Any], direction: str) -> bool | None:
        return control_traffic(packet, direction)

    def _dhcp(self, packet: Packet, instance: dict[str, Any], direction: str) -> bool | None:
        """SPEC 4.8: of an instance as the client; as a server only where the policy says it, and then by rules."""
        client, server = (68, 67) if packet.family == 4 else (546, 547)
        place = instance["id"], packet.family
        from_server = packet.source_port == server
        if direction == "egress" and packet.family == 4 and packet.destination_port == client and not from_server:
            # Clients look at the cookie, not at the port.
            serves = packet.body[8 + 236 : 8 + 240] == b"\x63\x82\x53\x63"
            return False if serves and not instance.get("dhcp_server") else None
        if packet.destination_port == client and (from_server or packet.family == 6):
            if direction == "egress":
                return None if instance.get("dhcp_server") else False
            if not dhcp_message(packet, asks=False):
                return False if from_server else None
            heard = self._asked.get(transaction(packet))
            asked = self._asked.get(place)
            if not any(time is not None and self.clock - time < 60 * SECOND for time in (heard, asked)):
                return None
            self._dhcp_server[place] = packet.source
            return True
        if direction == "ingress" or (packet.source_port, packet.destination_port) != (client, server):
            return None
        if not dhcp_message(packet, asks=True):
            return False
        everybody = {ip_address(a) for a in ("255.255.255.255", "ff02::1:2", "ff05::1:3")}
        if packet.destination not in everybody | {self._dhcp_server.get(place)}:
            return None
        self._asked[place] = self.clock
        return True

    def _check_first(self, packet: Packet, instance: dict[str, Any], direction: str, key: Key) -> Check:
        """The first packet of a connection, or of one that replaces a closing one (SPEC 4.1, 4.4)."""
        name = instance["id"]
        if packet.icmp is not None and packet.icmp.type not in wire.QUERIES[packet.family]:
            return _invalid(name, direction, None)
        if packet.tcp is not None and not plain_syn(packet.tcp):
            loose = self.document["conntrack"]["tcp_loose"] and not packet.tcp.flags & RST
            if not loose or not possible(packet.tcp):
                return _invalid(name, direction, None)
        match = first_match(self.document, instance, direction, packet)
        if match is None:
            return Check(name, direction, "deny", "new", "no-rule-matched")
        rule, group = match
        if rule["action"] == "deny":
            return Check(name, direction, "deny", "new", "rule", rule["id"], group)
        zone = self.zones.setdefault(name, {})
        if not self._room(zone, key):
            return Check(name, direction, "deny", "new", "table-full")
        origin = "inbound" if direction == "ingress" else "outbound"
        remote = packet.source if direction == "ingress" else packet.destination
        self._born += 1
        zone[key] = Connection(
            origin, rule["id"], group, remote, packet, self._born, self.clock, icmp=packet.icmp is not None
        )
        if packet.tcp is not None:
            tcp = TcpConnection(be_liberal=self.document["conntrack"]["tcp_be_liberal"])
            tcp.open(packet.tcp)
            zone[key].tcp = tcp
        return Check(name, direction, "allow", "new", "rule", rule["id"], group, origin)

    def _check_alone(self, packet: Packet, instance: dict[str, Any], direction: str) -> Check:
        """A packet whose two ends are one, on its way in: the entry that it found is that of its own way out."""
        if packet.tcp is not None and not plain_syn(packet.tcp):
            loose = self.document["conntrack"]["tcp_loose"] and not packet.tcp.flags & RST
            if not loose or not possible(packet.tcp):
                return _invalid(instance["id"], direction, None)
        match = first_match(self.document, instance, direction, packet)
        if match is None:
            return Check(instance["id"], direction, "deny", "new", "no-rule-matched")
        rule, group = match
        return Check(instance["id"], direction, rule["action"], "new", "rule", rule["id"], group)

    def _room(self, zone: dict[Key, Connection], key: Key) -> bool:
        """Makes room for one more entry where a tentative one can go (SPEC 4.9)."""
        for other in [k for k, connection in zone.items() if not self.alive(connection)]:
            del zone[other]
        if key in zone or len(zone) < self.document["conntrack"]["max_entries"]:
            return True
        candidates = [k for k, connection in zone.items() if connection.tentative()]
        if not candidates:
            return False
        del zone[min(candidates, key=lambda k: zone[k].born)]
        return True

    def _check_later(
        self, packet: Packet, instance: dict[str, Any], direction: str, key: Key, connection: Connection
    ) -> Check:
        name = instance["id"]
        if _side(direction, connection) == RESPONDER and _to_itself(packet):
            return self._check_alone(packet, instance, direction)
        firm, ignored = not connection.tentative(), False
        if packet.tcp is not None and connection.tcp is not None:
            outcome = connection.tcp.take(packet.tcp, _side(direction, connection))
            if outcome == "new connection":
                return self._check_first(packet, instance, direction, key)
            if outcome in ("invalid", "outside"):
                self._outside = self.refused_for_its_place = outcome == "outside"
                return _invalid(name, direction, connection.origin)
            ignored = outcome == "ignored"
        if not ignored:
            self._refresh(direction, connection)
        if firm and connection.tentative():
            # A connection that closed lines up behind those that were tentative before it.
            self._born += 1
            connection.born = self._born
        found = (connection.rule, connection.security_group, connection.origin)
        return Check(name, direction, "allow", "established", "connection", *found)

    def _note_unseen(self, packet: Packet, name: str) -> None:
        """SPEC 4.4: what was refused for its place on its way out is a place that its receiver may agree with."""
        key = connection_key(packet, "ingress", self._tag(packet, name))
        connection = None if key is None else self.connection(name, key)
        if connection is not None and connection.cut is None and connection.tcp is not None and packet.tcp is not None:
            connection.tcp.refuse(packet.tcp, _side("ingress", connection))

    def _refresh(self, direction: str, connection: Connection) -> None:
        connection.last = self.clock
        if _side(direction, connection) == RESPONDER:
            connection.both_ways = True

    def _check_cut(
        self, packet: Packet, instance: dict[str, Any], direction: str, key: Key, connection: Connection
    ) -> Check:
        """A packet of a disconnected connection (SPEC 5.3, 5.7)."""
        name, origin = instance["id"], connection.origin
        held = Check(name, direction, "deny", "disconnected", "disconnected", connection=origin)
        again = self.document["conntrack"]["on_change"] == "reevaluate"
        if not again or _side(direction, connection) == RESPONDER:
            return held
        match = first_match(self.document, instance, direction, packet)
        if match is None or match[0]["action"] == "deny":
            return held
        rule, group = match
        tcp, segment = connection.tcp, packet.tcp
        if tcp is not None and segment is not None:
            outcome = tcp.take(segment, INITIATOR)
            if outcome == "new connection":
                return self._check_first(packet, instance, direction, key)
            if outcome in ("invalid", "outside"):
                self.refused_for_its_place = outcome == "outside"
                return held
        connection.cut, connection.rule, connection.security_group = None, rule["id"], group
        connection.judged = packet
        self._refresh(direction, connection)
        return Check(name, direction, "allow", "established", "rule", rule["id"], group, origin)

    def _tag(self, packet: Packet, name: str) -> int:
        """The VLANs, where they tell connections apart: another instance has an address of this one."""
        instance = next(i for i in self.document["instances"] if i["id"] == name)
        return (
            packet.vlan if any(len(holders(self.document, ip_address(a))[0]) > 1 for a in instance["addresses"]) else 0
        )

    def _check_error(self, packet: Packet, name: str, direction: str) -> Check:
        """An ICMP error (SPEC 4.5): it changes nothing, whatever the answer."""
        assert packet.icmp is not None
        quoted = packet.icmp.quoted
        if quoted is None or quoted.family != packet.family or packet.destination != quoted.source:
            return _invalid(name, direction, None)
        key = connection_key(quoted, "egress" if direction == "ingress" else "ingress", self._tag(packet, name))
        connection = None if key is None else self.connection(name, key)
        if connection is None:
            return _invalid(name, direction, None)
        if connection.cut is not None:
            return Check(name, direction, "deny", "disconnected", "disconnected", connection=connection.origin)
        found = (connection.rule, connection.security_group, connection.origin)
        return Check(name, direction, "allow", "related", "related", *found)


def connection_key(packet: Packet, direction: str, vlan: int = 0) -> Key | None:
    """How a packet's entry is found in a zone (SPEC 4.5, 4.7); None for ICMP that belongs to no connection."""
    ends = (packet.source, packet.source_port), (packet.destination, packet.destination_port)
    local, remote = ends if direction == "egress" else ends[::-1]
    if packet.icmp is None:
        return (packet.protocol, local, remote, *([vlan] if vlan else []))
    queries = wire.QUERIES[packet.family]
    replies = {reply: query for query, reply in queries.items()}
    kind = packet.icmp.type
    if kind not in queries and kind not in replies:
        return None
    asked_here = (kind in queries) == (direction == "egress")
    return (packet.protocol, local, remote, replies.get(kind, kind), packet.icmp.identifier, asked_here, vlan)


def _side(direction: str, connection: Connection) -> int:
    from_instance = direction == "egress"
    return INITIATOR if from_instance == (connection.origin == "outbound") else RESPONDER


def _to_itself(packet: Packet) -> bool:
    """Whether both ends of a packet are one and the same."""
    ends = (packet.source, packet.source_port), (packet.destination, packet.destination_port)
    return packet.icmp is None and ends[0] == ends[1]


def _invalid(instance: str, direction: str, connection: str | None) -> Check:
    return Check(instance, direction, "deny", "invalid", "invalid", connection=connection)
