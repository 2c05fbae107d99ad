"""Stories: a policy and what happens under it, played against the model one event at a time.

An event names hosts and what they do; the `Player` makes the frames, lets the model judge them, and hands out each
`PacketStep` and `ChangeStep` with the model's answer. TCP endpoints receive only what the model lets through, so that
they go on as real ones would. `tell` prints a story for people.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from . import frames
from .conversation import Conversations, Flow, Host
from .model import SECOND, Model, Verdict
from .packet_model import TCP, Tcp
from .policy_model import RefusedChangeError, members

START_NS = 1_700_000_000 * SECOND

#: ICMP messages that quote a packet, by name: (type, code) in IPv4 and IPv6. SPEC 4.5 names all but the last.
ERROR_TYPES = {
    "unreachable": ((3, 3), (1, 4)),
    "too big": ((3, 4), (2, 0)),
    "time exceeded": ((11, 0), (3, 0)),
    "parameter problem": ((12, 0), (4, 0)),
    "source quench": ((4, 0), (1, 0)),
    "redirect": ((5, 1), (127, 0)),
}

CHECK_FIELDS = ("instance", "direction", "verdict", "state", "reason", "rule", "security_group", "connection")


@dataclass(frozen=True)
class Event:
    """`wait_ns` passes before it; the packet's timestamp lies `late_ns` in the past; its frame may have a VLAN tag."""

    wait_ns: int = field(default=0, kw_only=True)
    late_ns: int = field(default=0, kw_only=True)
    vlan: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class Datagram(Event):
    """One packet of a flow that is not TCP, from the server when `reply`."""

    flow: Flow
    reply: bool = False
    extension: bool = False


@dataclass(frozen=True)
class Segments(Event):
    """TCP segments of a flow, each (from the server?, step of `endpoint.STEPS`)."""

    flow: Flow
    steps: Sequence[tuple[bool, str]]


@dataclass(frozen=True)
class Query(Event):
    """An ICMP query of type `kind` from client to server, or with `reply` set its reply."""

    client: Host
    server: Host
    kind: int
    identifier: int
    reply: int | None = None


@dataclass(frozen=True)
class Error(Event):
    """An ICMP error, `kind` of `ERROR_TYPES`, about the packet `back` packets ago, quoting `quoted` bytes of it.

    `source` None is the destination of that packet, `target` None its source.
    """

    back: int
    kind: str
    source: Host | None = None
    target: Host | None = None
    quoted: int = 100


@dataclass(frozen=True)
class Message(Event):
    """Any other packet: `body` as payload of `protocol`, or a frame of `ethertype` when there is no protocol."""

    source: Host
    destination: Host
    protocol: int | None
    body: bytes
    hop_limit: int = 64
    ethertype: int = 0x88CC


@dataclass(frozen=True)
class Change(Event):
    """A change of SPEC 7; `broken` ones are refused for a value that is not allowed."""

    change: Mapping[str, Any]
    broken: bool = False


@dataclass(frozen=True)
class PacketStep:
    """A frame and the model's answer."""

    title: str
    frame: bytes
    time_ns: int
    expected: Verdict


@dataclass(frozen=True)
class ChangeStep:
    """A change and whether it must be refused."""

    change: Mapping[str, Any]
    time_ns: int
    refused: bool


@dataclass(frozen=True)
class Story:
    """A policy document and the events under it."""

    document: Mapping[str, Any]
    events: Sequence[Event]


class Player:
    """Plays one story once."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.model = Model(story.document)
        self.conversations = Conversations(self.model)
        self.now = START_NS
        self._changed_ns = 0
        self._sent: list[tuple[Host, Host, bytes]] = []

    def play(self) -> Iterator[PacketStep | ChangeStep]:
        """The steps in order; the model has judged each when it is handed out."""
        for event in self.story.events:
            self.now += event.wait_ns
            if isinstance(event, Change):
                if not self._joins_again(event.change):
                    yield self._change(event)
            elif isinstance(event, Segments):
                yield from self._segments(event)
            else:
                made = self._make(event)
                if made is not None:
                    yield self._send(event, *made)

    def _joins_again(self, change: Mapping[str, Any]) -> bool:
        """Whether an instance is added to an SG that it is in: refused or nothing, the specification does not say."""
        value = change.get("add_instance")
        if value is None:
            return False
        joined = members(self.model.document, value["security_group"])
        return value["instance"] in [instance["id"] for instance in joined]

    def _change(self, event: Change) -> ChangeStep:
        refused = event.broken
        if not refused:
            try:
                self.model.apply(event.change, self.now)
            except RefusedChangeError:
                refused = True
        self._changed_ns = self.now
        return ChangeStep(event.change, self.now, refused)

    def _time(self, event: Event) -> int:
        """A packet's timestamp. None lies before a change that has been made: a replay would not make it so."""
        return max(self.now - event.late_ns, self._changed_ns)

    def _send(
        self, event: Event, title: str, source: Host, destination: Host, ip: bytes, ethertype: int | None, vlan: int
    ) -> PacketStep:
        frame = frames.ethernet(source.mac, destination.mac, ip, ethertype, vlan)
        if not isinstance(event, Message):
            self._sent.append((source, destination, ip))
        time_ns = self._time(event)
        return PacketStep(title, frame, time_ns, self.model.process(frame, time_ns))

    def _make(self, event: Event) -> tuple[str, Host, Host, bytes, int | None, int] | None:
        """Title, ends, IP packet, ethertype and VLAN of an event of one packet; None when there is nothing to send."""
        if isinstance(event, Datagram):
            flow, ports = event.flow, event.flow.ports
            ends = flow.client, flow.server
            if event.reply:
                ends, ports = ends[::-1], ports[::-1]
            body = frames.datagram(ends[0].address, ends[1].address, flow.protocol, ports)
            ip = frames.packet(ends[0].address, ends[1].address, flow.protocol, body, extension=event.extension)
            return _title(f"protocol {flow.protocol}", *ends, ports), *ends, ip, None, event.vlan
        if isinstance(event, Query):
            kind = event.kind if event.reply is None else event.reply
            ends = (event.client, event.server) if event.reply is None else (event.server, event.client)
            body = frames.query(ends[0].address, ends[1].address, kind, event.identifier)
            return _title(f"icmp type {kind} id {event.identifier}", *ends), *ends, _icmp(*ends, body), None, event.vlan
        if isinstance(event, Error):
            return self._make_error(event)
        if isinstance(event, Message):
            ends = event.source, event.destination
            if event.protocol is None:
                return _title(f"no IP {event.body.hex()}", *ends), *ends, event.body, event.ethertype, event.vlan
            ip = frames.packet(ends[0].address, ends[1].address, event.protocol, event.body, event.hop_limit)
            return _title(f"protocol {event.protocol} {event.body.hex()}", *ends), *ends, ip, None, event.vlan
        raise TypeError(event)

    def _make_error(self, event: Error) -> tuple[str, Host, Host, bytes, int | None, int] | None:
        if len(self._sent) <= event.back:
            return None
        source, destination, quoted = self._sent[-1 - event.back]
        quoted = quoted[: event.quoted]
        origin, target = event.source or destination, event.target or source
        if (":" in origin.address) != (":" in target.address) or origin.mac == target.mac:
            return None
        kind, code = ERROR_TYPES[event.kind][":" in origin.address]
        body = frames.error(origin.address, target.address, kind, code, quoted)
        about = f"{source.address} > {destination.address}, {len(quoted)} bytes"
        title = _title(f"icmp {event.kind} {kind}/{code} about [{about}]", origin, target)
        return title, origin, target, _icmp(origin, target, body), None, event.vlan

    def _segments(self, event: Segments) -> Iterator[PacketStep]:
        """The segments of an event, up to the first that does not arrive: what follows would answer it."""
        for from_server, wanted in event.steps:
            step = self.conversations.fitting(event.flow, from_server, wanted, self._time(event))
            if step is None:
                continue
            sent = self._segment(event, from_server, step)
            yield sent
            if sent.expected.verdict == "deny":
                return

    def _segment(self, event: Segments, from_server: bool, step: str) -> PacketStep:
        flow = event.flow
        ends, ports = (flow.client, flow.server), flow.ports
        pair = self.conversations.endpoints(flow)
        if from_server:
            ends, ports, pair = ends[::-1], ports[::-1], pair[::-1]
        segment, payload = pair[0].make(step)
        addresses = ends[0].address, ends[1].address
        body = frames.tcp(*addresses, ports, segment.flags, segment.seq, segment.ack, payload)
        title = _title(f"tcp {step} {_numbers(segment)}", *ends, ports)
        sent = self._send(event, title, *ends, frames.packet(*addresses, TCP, body), None, 0)
        if sent.expected.verdict != "deny":
            pair[1].take(segment)
        return sent


def _icmp(source: Host, destination: Host, body: bytes) -> bytes:
    return frames.packet(source.address, destination.address, 58 if ":" in source.address else 1, body, 255)


def _title(what: str, source: Host, destination: Host, ports: tuple[int, int] = (0, 0)) -> str:
    ends = [
        f"{host.address}{f' port {port}' if port else ''}"
        for host, port in zip((source, destination), ports, strict=True)
    ]
    return f"{ends[0]} > {ends[1]}  {what}  ({source.mac} > {destination.mac})"


def _numbers(segment: Tcp) -> str:
    names = [name for bit, name in enumerate("FSRPAUEC") if segment.flags >> bit & 1]
    return f"[{''.join(names)}] seq {segment.seq} ack {segment.ack} len {segment.length}"


def tell(story: Story, lines: Sequence[str]) -> str:
    """The policy as YAML, then what happened."""
    return "\n".join(["", yaml.safe_dump(json.loads(json.dumps(story.document)), sort_keys=False), *lines])


def tell_step(step: PacketStep | ChangeStep) -> str:
    """One line for a change; for a packet its answer below it."""
    at = f"{(step.time_ns - START_NS) / SECOND:10.3f}"
    if isinstance(step, ChangeStep):
        return f"{at}  change {json.dumps(step.change)}{'  (to be refused)' if step.refused else ''}"
    return f"{at}  {step.title}\n            model:  {tell_verdict(step.expected)}"


def tell_verdict(verdict: Any) -> str:
    """A verdict of the model or the engine on one line."""
    checks = [
        " ".join(str(getattr(check, name)) for name in CHECK_FIELDS if getattr(check, name) is not None)
        for check in verdict.checks
    ]
    return f"{verdict.verdict}{''.join(f' | {check}' for check in checks)}"
