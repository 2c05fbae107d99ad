"""Short words for stories written by hand: who sends what to whom and when, and the answer on one line.

Each is played by the model and by the engine, which must say the same of every packet and every change.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from dataplane import DataPlane, Policy

from . import frames
from .beside_engine import agree, refused
from .model import SECOND, Model
from .policy_model import RefusedChangeError
from .story import START_NS, tell_verdict

MAC = "02:00:00:00:00:01"
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32}


def rule(name: str, direction: str = "ingress", **fields: Any) -> dict[str, Any]:
    """A rule, IPv4 and allow unless said otherwise."""
    return {"id": name, "direction": direction, **fields}


def group(name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    """An SG."""
    return {"id": name, "security_group_rules": list(rules)}


def instance(name: str, address: str, *groups: str, **fields: Any) -> dict[str, Any]:
    """An instance with one address."""
    return {"id": name, "addresses": [address], "security_groups": list(groups), **fields}


class Scene:
    """Model, engine and a clock; each method that sends returns the verdict as `story.tell_verdict` writes it."""

    def __init__(self, groups: list[dict[str, Any]], instances: list[dict[str, Any]], **rest: Any) -> None:
        document = {"security_groups": groups, "instances": instances, **rest}
        self.model = Model(document)
        self.engine = DataPlane(Policy.parse(json.dumps(document)), seed=0)
        self.second = 0.0

    def at(self, second: float) -> Scene:
        """Sets the time of what follows, in seconds from the start."""
        self.second = second
        return self

    def change(self, **change: Any) -> None:
        """Applies a change of SPEC 7. Raises RefusedChangeError where both refuse it."""
        with tempfile.TemporaryDirectory() as directory:
            engine_refuses = refused(self.engine, change, self._now(), Path(directory))
        try:
            self.model.apply(change, self._now())
        except RefusedChangeError:
            assert engine_refuses, "the engine takes the change"
            raise
        assert not engine_refuses, "the engine refuses the change"

    def ip(self, packet: bytes, source_mac: str = MAC, destination_mac: str = MAC) -> str:
        """Sends an IP packet."""
        frame = frames.ethernet(source_mac, destination_mac, packet)
        return self.frame(frame)

    def frame(self, frame: bytes) -> str:
        """Sends a frame."""
        expected = self.model.process(frame, self._now())
        found = self.engine.process(frame, time_ns=self._now())
        assert agree(expected, found), f"the engine says {tell_verdict(found)}, the model {tell_verdict(expected)}"
        return tell_verdict(expected)

    def datagram(
        self, protocol: int, source: str, destination: str, ports: tuple[int, int] = (0, 0), **mac: str
    ) -> str:
        """Sends UDP, GRE and the like."""
        return self.ip(datagram(protocol, source, destination, ports), **mac)

    def ping(self, source: str, destination: str, reply: bool = False, identifier: int = 7, **mac: str) -> str:
        """Sends an echo request, or a reply."""
        return self.ip(ping(source, destination, reply, identifier), **mac)

    def tcp(
        self, source: str, destination: str, ports: tuple[int, int], flags: str, seq: int, ack: int = 0, length: int = 0
    ) -> str:
        """Sends a TCP segment; flags as in "SA"."""
        bits = sum(FLAGS[flag] for flag in flags)
        body = frames.tcp(source, destination, ports, bits, seq, ack, bytes(length))
        return self.ip(frames.packet(source, destination, 6, body))

    def error(self, source: str, quoted: bytes, destination: str, kind: int = 3) -> str:
        """Sends an ICMP error about a packet."""
        protocol = 58 if ":" in source else 1
        return self.ip(frames.packet(source, destination, protocol, frames.error(source, destination, kind, 0, quoted)))

    def handshake(self, client: str, server: str, ports: tuple[int, int], seq: int = 100) -> list[str]:
        """SYN, SYN-ACK and ACK; the server's numbers start at 900 more."""
        back = ports[::-1]
        return [
            self.tcp(client, server, ports, "S", seq),
            self.tcp(server, client, back, "SA", seq + 900, seq + 1),
            self.tcp(client, server, ports, "A", seq + 1, seq + 901),
        ]

    def _now(self) -> int:
        return START_NS + round(self.second * SECOND)


def datagram(protocol: int, source: str, destination: str, ports: tuple[int, int] = (0, 0)) -> bytes:
    """An IP packet with UDP, GRE and the like in it."""
    return frames.packet(source, destination, protocol, frames.datagram(source, destination, protocol, ports))


def ping(source: str, destination: str, reply: bool = False, identifier: int = 7) -> bytes:
    """An IP packet with an echo request or reply in it."""
    request, answer, protocol = (128, 129, 58) if ":" in source else (8, 0, 1)
    body = frames.query(source, destination, answer if reply else request, identifier)
    return frames.packet(source, destination, protocol, body)
