"""TCP conversations in time, played on an engine: what the stories of tcp_stories.py do not tell, which the model and
the kernel play too.

A row is: seconds, who sends (I the initiator, R the responder), flags, length, sequence number, acknowledgement,
window, and what must come out: `new`, `ok` (established by the connection), or the cause why it is invalid.
"""

from __future__ import annotations

from dataplane import DataPlane, Policy
from tests.property.frames import ethernet
from tests.support.segment import INSIDE, Segment

POLICY = f"""
security_groups:
  - id: sg
    security_group_rules: [{{id: in, direction: ingress, protocol: tcp, multiport: "80"}}]
instances: [{{id: server, addresses: [{INSIDE}], security_groups: [sg]}}]
"""

Row = tuple[float, str, str, int, int, int, int, str]

HANDSHAKE: list[Row] = [
    (0.0, "I", "S", 0, 0, 0, 8000, "new"),
    (0.1, "R", "S.", 0, 0, 1, 9000, "ok"),
    (0.2, "I", ".", 0, 1, 1, 8000, "ok"),
]


def segment(
    side: str, flags: str, length: int, seq: int, ack: int, window: int, scale: int | None = None, port: int = 40000
) -> bytes:
    """A frame of one side."""
    body = Segment(side, flags, length, seq, ack, window, scale).packet(port)
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", body)


def outcome(firewall: DataPlane, at: float, frame: bytes) -> str:
    """What comes of a frame, in a row's words."""
    (check,) = firewall.process(frame, time_ns=round(at * 1e9)).checks
    if check.reason == "rule" and check.verdict == "allow":
        return "new"
    if check.verdict == "allow":
        return {"connection": "ok"}.get(check.reason, check.reason)
    return check.cause or check.reason


def play(rows: list[Row], conntrack: str = "") -> DataPlane:
    """An engine that has judged the rows, each as it says."""
    firewall = DataPlane(Policy.parse(POLICY + conntrack), seed=1)
    for number, (at, side, flags, length, seq, ack, window, expected) in enumerate(rows, 1):
        found = outcome(firewall, at, segment(side, flags, length, seq, ack, window))
        assert found == expected, f"row {number} {rows[number - 1]}: {found}"
    return firewall


def states(firewall: DataPlane) -> list[str]:
    """The states of all connections."""
    return [connection.state for connection in firewall.connections]
