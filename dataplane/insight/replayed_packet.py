"""One packet of a replay as it was judged there, and the history of the connections that it belongs to.

The replay is the one of `dataplane replay`, up to the packet. It is made once to learn the verdict and which packets
opened the connections, and, for a packet that belongs to any, once more to note what happened to these
(csrc/history.h). One reading could do only by noting what happens to every connection until then, in memory that no
bound holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dataplane import conntrack
from dataplane._core import ffi, lib
from dataplane._core.errors import check as raise_on_error
from dataplane.connection_table import connection_of
from dataplane.packet_words import address_in, flow_words
from dataplane.plane import Plane
from dataplane.policy.model import Policy
from dataplane.policy.schedule import TimedChange
from dataplane.replay import Captures, Replay, Summary
from dataplane.replay.captures import CaptureStatus
from dataplane.replay.window import WHOLE, Part
from dataplane.update import Disconnected
from dataplane.verdict import CONN_STATE_WORDS, Names, Verdict, verdict_of

#: What became of a connection when it came into a state; states that a reader need not know of are left out.
_ARRIVED = {
    **dict.fromkeys((conntrack.SYN_RECEIVED, conntrack.SYN_RECEIVED_I), "answered"),
    **dict.fromkeys((conntrack.ICMP_TWO_WAY, conntrack.OTHER_TWO_WAY), "answered"),
    conntrack.ESTABLISHED: "established",
    **dict.fromkeys(conntrack.FIN_SEEN, "closing"),
    **dict.fromkeys(conntrack.HALF_CLOSED, "half-closed"),
    conntrack.TIME_WAIT: "closed",
    conntrack.CLOSE: "reset",
}


class Key(NamedTuple):
    """What a connection is known by: its zone, the packet that opened it (0: one that was there before), its origin."""

    zone: int
    opened_by: int
    origin: int


class NoSuchPacketError(LookupError):
    """The captures have fewer packets: `packets`. `faults` are captures that were not read to their end; `left_out`
    says that a window leaves out all packets, where it does.
    """

    def __init__(self, packets: int, faults: Sequence[CaptureStatus], left_out: str | None = None) -> None:
        super().__init__(left_out or f"the captures have {packets} packets")
        self.packets = packets
        self.faults = faults
        self.left_out = left_out


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a connection at `time_ns`; `packet` is None where no packet did it.

    `event` is ``opened``, ``answered``, ``established``, ``closing``, ``half-closed``, ``closed``, ``reset``,
    ``disconnected`` (by `change`), ``held-until`` (when a disconnected one is gone), ``kept`` (SPEC 5.7),
    ``last-packet`` (of a connection that was there before), ``expired``, or ``ended`` where a new one replaced it, it
    gave way to others, or its instance left.
    """

    packet: int | None
    time_ns: int
    event: str
    change: TimedChange | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values (SPEC 8.3)."""
        return {"packet": self.packet, "time": seconds(self.time_ns), "event": self.event}


@dataclass(frozen=True, slots=True)
class ConnectionHistory:
    """A connection as it stood behind the packet, and what happened to it until then.

    Its sides are text, its ports None where it has none; `rule` admitted it. An ICMP query has its type in `icmp_type`.
    """

    origin: str
    state: str
    opened_by: int | None
    rule: str | None
    security_group: str | None
    protocol: int
    remote: str
    port: int | None
    icmp_type: int | None
    history: tuple[Event, ...]
    more: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON values (SPEC 8.3)."""
        return {
            "origin": self.origin,
            "state": self.state,
            "opened_by": self.opened_by,
            "rule": self.rule,
            "history": [event.to_dict() for event in self.history],
        }


@dataclass(frozen=True, slots=True)
class Judged:
    """A packet that was judged: its number, `struct dp_record` and `struct dp_flow`, and its connection by check.

    `policy` is the one in force for it; `first_ns` is the time of the first packet of all; `seen` is its capture's
    place among the captures and its number there.
    """

    packet: int
    verdict: Verdict
    words: str
    record: Any
    flow: Any
    seen: tuple[int, int]
    first_ns: int
    policy: Policy
    connections: tuple[ConnectionHistory | None, ...]
    names: Names


def seconds(time_ns: int) -> float:
    """Nanoseconds as seconds, as near as a number of JSON gets."""
    return round(time_ns / conntrack.NANOSECONDS, 9)


class WatchedPlane(Plane):
    """A plane that tells of the changes made to it: before which frame, counted from 1, each was made."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.made: list[tuple[int, Policy]] = []
        self.after_change: Callable[[], None] | None = None

    def replace(self, policy: Policy, *, time_ns: int = 0) -> Disconnected:
        result = super().replace(policy, time_ns=time_ns)
        self.made.append((lib.dp_engine_frames(self.handle) + 1, policy))
        if self.after_change:
            self.after_change()
        return result


@dataclass
class _Found:
    """Takes the records of a replay until the packet has come, which ends the replay."""

    packet: int
    captures: Captures
    packets: int = 0
    record: Any = None
    flow: Any = None
    seen: tuple[int, int] = (0, 0)

    def write(self, records: Any, flows: Any, seen: Any, n: int) -> None:
        at = self.packet - self.packets - 1
        self.packets += n
        if 0 <= at < n:
            self.record = ffi.new("struct dp_record *", records[at])
            self.flow = ffi.new("struct dp_flow *", flows[at])
            self.seen = seen[at].capture, seen[at].number
            self.captures.stop()


@dataclass(frozen=True)
class Replayed:
    """What is replayed: a policy, captures by path, and a schedule of changes; all can be read more than once.

    `at` is the instance at whose interface the captures were taken, if they were (SPEC 7); `part` is what of them is
    read.
    """

    policy: Policy
    paths: Sequence[str]
    changes: Sequence[TimedChange] = field(default=())
    at: str | None = None
    part: Part = WHOLE

    def judge(self, packet: int) -> Judged:
        """The packet with this number, and its connections. Raises as `Replay` does, and NoSuchPacketError."""
        plane, found, first, _ = self.run(packet, self.policy, self.changes)
        made = [policy for before, policy in plane.made if before <= packet]
        record = found.record
        checks = [record.check[i] for i in range(record.checks)]
        return Judged(
            packet=packet,
            verdict=verdict_of(record, plane.names),
            words=flow_words(found.flow),
            record=record,
            flow=found.flow,
            seen=found.seen,
            first_ns=first,
            policy=made[-1] if made else self.policy,
            connections=self.histories(packet, [_key(c) for c in checks]),
            names=plane.names,
        )

    def verdict(
        self, packet: int, policy: Policy | None = None, changes: Sequence[TimedChange] | None = None
    ) -> Verdict:
        """The packet's verdict where the policy or the schedule is another. Raises as `judge` does."""
        plane, found, *_ = self.run(packet, policy or self.policy, self.changes if changes is None else changes)
        return verdict_of(found.record, plane.names)

    def scan(self, packet: int, look: Callable[[int, Any, Any, int], None]) -> None:
        """Shows every batch up to the one with the packet: its first packet's number, records, flows, how many."""
        seen = 0

        def look_at(records: Any, flows: Any, _: Any, n: int) -> None:
            nonlocal seen
            look(seen + 1, records, flows, n)
            seen += n

        self.run(packet, self.policy, self.changes, look=look_at)

    def plane(self, policy: Policy) -> WatchedPlane:
        """What the captures are replayed through, under a policy."""
        return WatchedPlane(policy)

    def run(
        self,
        packet: int,
        policy: Policy,
        changes: Sequence[TimedChange],
        *,
        prepare: Callable[[WatchedPlane], None] | None = None,
        look: Callable[[Any, Any, Any, int], None] | None = None,
    ) -> tuple[WatchedPlane, _Found, int, Summary]:
        """Replays up to a packet; what it was judged by, what was found, and the time of the first packet of all."""
        with Captures(self.paths, part=self.part) as captures:
            plane = self.plane(policy)
            if prepare:
                prepare(plane)
            found = _Found(packet, captures)

            def write(records: Any, flows: Any, seen: Any, n: int) -> None:
                if look:
                    look(records, flows, seen, n)
                found.write(records, flows, seen, n)

            replay = Replay(plane, captures, changes=changes, at=self.at, write=write)
            first = captures.first_time() or 0
            summary = replay.run(top=0)
            if found.record is None:
                told = summary.advice[0] if captures.left_out_from is not None else None
                raise NoSuchPacketError(found.packets, summary.faults, told)
            return plane, found, first, summary

    # ---- histories ----

    def history(self, packet: int, check: Any) -> ConnectionHistory | None:
        """What became, up to a packet, of the connection that the `struct dp_check` of an earlier one belongs to."""
        return self.histories(packet, [_key(check)])[0]

    def histories(self, packet: int, wanted: Sequence[Key | None]) -> tuple[ConnectionHistory | None, ...]:
        """The connections, a place in the result for each."""
        keys = list(dict.fromkeys(key for key in wanted if key))
        if not keys:
            return (None,) * len(wanted)
        with ExitStack() as stack:
            noted: list[_History] = []

            def prepare(plane: WatchedPlane) -> None:
                history = _History(plane, keys)
                stack.callback(history.close)
                plane.after_change = history.look
                noted.append(history)

            summary = self.run(packet, self.policy, self.changes, prepare=prepare)[3]
            # Those that rules have made by their end are among them.
            made = [applied.change for applied in summary.changes]
            # A fragment that waited got the answer of its first, which may have opened the connection behind it.
            told = {key: noted[0].told(n, max(packet, key.opened_by), made) for n, key in enumerate(keys)}
        return tuple(told[key] if key else None for key in wanted)


def _key(check: Any) -> Key | None:
    """What the connection of a `struct dp_check` is known by; None for one without."""
    return Key(check.zone, check.opened_by, check.origin) if check.origin else None


class _History:
    """Notes what happens to connections of one plane, by which change, if one did it."""

    def __init__(self, plane: WatchedPlane, keys: Sequence[Key]) -> None:
        self._plane = plane
        watched = ffi.new("struct dp_watched[]", [key._asdict() for key in keys])
        out = ffi.new("struct dp_history **")
        raise_on_error(lib.dp_history_new(plane.handle, watched, len(keys), out), "noting histories")
        self._handle = out[0]
        self._known = [0] * len(keys)
        self._changes = 0
        #: The change, by its place in the schedule, of events that were noted with one.
        self._cause: dict[tuple[int, int], int] = {}

    def look(self) -> None:
        """Notes what the change just made has done."""
        for which, known in enumerate(self._known):
            self._known[which] = max(known, len(self._events(which)[0]))
        lib.dp_history_look(self._handle)
        for which, known in enumerate(self._known):
            for at in range(known, len(self._events(which)[0])):
                self._cause[which, at] = self._changes
        self._changes += 1

    def close(self) -> None:
        lib.dp_history_free(self._handle)

    def _events(self, which: int) -> tuple[list[Any], int]:
        events = ffi.new("struct dp_history_event[]", lib.DP_HISTORY_EVENTS)
        lost = ffi.new("uint64_t *")
        n = lib.dp_history_events(self._handle, which, events, len(events), lost)
        return [ffi.new("struct dp_history_event *", events[i]) for i in range(n)], lost[0]

    def told(self, which: int, packet: int, changes: Sequence[TimedChange]) -> ConnectionHistory | None:
        """What was noted of one up to a packet."""
        events, more = self._events(which)
        told = list[Event]()
        held = False
        last = None
        for at, event in enumerate(events):
            if event.frame > packet:
                break
            last = event.connection
            cause = self._cause.get((which, at))
            by = None if cause is not None else event.frame
            if event.event == lib.DP_EVENT_NEW:
                told.append(Event(by, event.time_ns, "opened"))
            elif event.event == lib.DP_EVENT_DESTROY:
                told = [e for e in told if e.event != "held-until"]
                expired = last.expires_ns <= event.time_ns
                told.append(Event(None, min(last.expires_ns, event.time_ns), "expired" if expired else "ended"))
            elif last.disconnected and not held:
                change = None if cause is None else changes[cause]
                told.append(Event(None, last.last_ns, "disconnected", change))
                told.append(Event(None, last.expires_ns, "held-until"))
            elif held and not last.disconnected:
                told = [e for e in told if e.event != "held-until"]
                told.append(Event(by, event.time_ns, "kept"))
            else:
                word = _ARRIVED.get(last.state)
                if word and told[-1].event != word:
                    told.append(Event(by, event.time_ns, word))
            held = bool(last.disconnected)
        if last is None:
            return None
        named = connection_of(last, self._plane.names)
        inbound = named.origin == "inbound"
        return ConnectionHistory(
            origin=named.origin,
            state=CONN_STATE_WORDS[last.state],
            opened_by=events[0].frame,
            rule=named.rule,
            security_group=named.security_group,
            protocol=last.protocol,
            remote=address_in(last.remote, last.family),
            port=named.local_port if inbound else named.remote_port,
            icmp_type=named.icmp_type,
            history=tuple(told),
            more=more,
        )
