"""The screen's requests to a firewall: each by a connection that is made anew when the one before has ended."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from dataplane.live.client import ControlClient, RefusedError, UnreachableError
from dataplane.terminal import host_port

#: So many connections are taken from a firewall at a time.
LISTED = 5000


class Asker:
    """Asks the firewall at a control socket, one request at a time, from any thread.

    Raises UnreachableError where there is none; the next request tries anew.
    """

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._client: ControlClient | None = None
        self._lock = threading.Lock()
        self._open: set[ControlClient] = set()
        self._aborted = False

    def call(self, command: str, **arguments: Any) -> Any:
        """The result of a command. Raises RefusedError, UnreachableError."""
        with self._lock:
            try:
                if self._client is None:
                    self._client = self._connect()
                return self._client.call(command, **arguments)
            except UnreachableError:
                self._end()
                raise

    def _connect(self) -> ControlClient:
        client = ControlClient(self.socket)
        self._open.add(client)
        if self._aborted:
            # Whoever aborts may not have seen it.
            self._close(client)
            raise UnreachableError(f"{self.socket}: nothing is asked any more")
        return client

    def _close(self, client: ControlClient) -> None:
        self._open.discard(client)
        client.close()

    def _end(self) -> None:
        if self._client:
            self._close(self._client)
            self._client = None

    def abort(self) -> None:
        """Ends all connections for good, whoever waits for an answer: who asks now or later gets UnreachableError."""
        self._aborted = True
        for client in list(self._open):
            client.abort()

    def close(self) -> None:
        """Ends the connection."""
        with self._lock:
            self._end()

    # ---- what the screen shows ----

    def reading(self) -> tuple[dict[str, Any], dict[str, Any], float]:
        """Status, counters, and when they were read."""
        try:
            return self.call("status"), self.call("counters"), time.monotonic()
        except UnreachableError:
            # It may have been cut off for its silence, or the firewall be another by now.
            return self.call("status"), self.call("counters"), time.monotonic()

    def connections(self, selection: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int]:
        """At most `LISTED` of the chosen connections, and how many there are. Raises RefusedError."""
        count: int = self.call("conntrack", action="count", selection=dict(selection))["count"]
        client = self._connect()
        try:
            listed = client.stream("conntrack", action="list", selection=dict(selection))
            return list(islice(listed, LISTED)), count
        finally:
            self._close(client)

    def delete(self, connection: Mapping[str, Any]) -> int:
        """Takes a connection out of the table; how many went, which of pings may be several."""
        deleted: int = self.call("conntrack", action="delete", selection=selection_of(connection))["deleted"]
        return deleted


def selection_of(connection: Mapping[str, Any]) -> dict[str, Any]:
    """The words that mean a connection, and no other unless it is ICMP."""
    (source, sport), (destination, dport) = ends(connection)
    named = {
        "protocol": str(connection["protocol"]),
        "source": source,
        "destination": destination,
        "source_port": sport,
        "destination_port": dport,
        "instance": connection["instance"],
        "origin": connection["origin"],
    }
    return {name: value for name, value in named.items() if value is not None}


End = tuple[str, int | None]


def ends(connection: Mapping[str, Any]) -> tuple[End, End]:
    """Source and destination of the first packet."""
    here = connection["local"], connection["local_port"]
    there = connection["remote"], connection["remote_port"]
    return (there, here) if connection["origin"] == "inbound" else (here, there)


def packet_of(connection: Mapping[str, Any]) -> str:
    """The next packet of a connection from who began it, as packets are written (SPEC 8)."""
    source, destination = (host_port(*end) for end in ends(connection))
    text = f"{connection['protocol']} {source} > {destination}"
    if connection["icmp_id"] is not None:
        return f"{text} {connection['icmp_type']} id {connection['icmp_id']}"
    return f"{text} A" if connection["protocol"] == "tcp" else text


@dataclass(frozen=True, slots=True)
class Told:
    """What an explanation says, a sentence a line; `verdict` is that of the packet."""

    verdict: str
    lines: tuple[str, ...]


def next_packet(asker: Asker, connection: Mapping[str, Any]) -> Told:
    """What the firewall would do with a connection's next packet now, and why. Raises as `Asker.call`; ValueError."""
    from dataplane.insight import sentences
    from dataplane.insight.packet_text import parse_packet
    from dataplane.insight.running_firewall import explained, question
    from dataplane.live import state

    text = packet_of(connection)
    written = parse_packet(text)
    answer = asker.call("flow", **question(written))
    known = state.decoded(base64.b64decode(answer["state"]), "the policy in force")
    with explained(written, None, known, with_remedies=False) as found:
        judged = found.judged
        lines = [f"its next packet, {text}", sentences.headline(found)]
        for check in found.checks:
            lines += [f"near miss: {sentence}" for sentence in sentences.near_misses(check)]
            lines += [f"tried {group}: {what}" for group, what in sentences.tried_words(check)]
            if check.connection:
                lines.append(f"connection: {sentences.history_words(check.connection, judged.packet, judged.first_ns)}")
        return Told(found.verdict, tuple(lines))


#: What goes wrong with a request, in a sentence each.
FAILURES = (UnreachableError, RefusedError, ValueError)
