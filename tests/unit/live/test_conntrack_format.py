"""Lines in the format of conntrack-tools."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane.live.conntrack_format import connection_line, drop_line, event_line
from dataplane.live.records import connection_record

from .scene import filled

BASE: dict[str, Any] = {
    "instance": "web-1",
    "origin": "inbound",
    "protocol": "tcp",
    "state": "ESTABLISHED",
    "local": "10.0.0.1",
    "local_port": 22,
    "remote": "192.0.2.9",
    "remote_port": 40000,
    "icmp_id": None,
    "icmp_type": None,
    "rule": "A01",
    "security_group": "sg",
    "disconnected": False,
    "expires_in": 599.9,
    "idle": 0.1,
}
OURS = "mark=0 use=1 instance=web-1 origin=inbound rule=A01 security_group=sg"
OURS_OUT = OURS.replace("inbound", "outbound")
ICMP = {"protocol": "icmp", "local_port": None, "remote_port": None, "icmp_id": 7, "icmp_type": 8, "expires_in": 30}
PLAIN = {"local_port": None, "remote_port": None, "expires_in": 30, "state": "REPLIED"}


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {},
            "tcp      6 599 ESTABLISHED src=192.0.2.9 dst=10.0.0.1 sport=40000 dport=22 "
            f"src=10.0.0.1 dst=192.0.2.9 sport=22 dport=40000 [ASSURED] {OURS}",
        ),
        (
            {"origin": "outbound", "state": "SYN_SENT"},
            "tcp      6 599 SYN_SENT src=10.0.0.1 dst=192.0.2.9 sport=22 dport=40000 [UNREPLIED] "
            f"src=192.0.2.9 dst=10.0.0.1 sport=40000 dport=22 {OURS_OUT}",
        ),
        (
            {"protocol": "udp", "state": "UNREPLIED", "expires_in": 29.0},
            "udp      17 29 src=192.0.2.9 dst=10.0.0.1 sport=40000 dport=22 [UNREPLIED] "
            f"src=10.0.0.1 dst=192.0.2.9 sport=22 dport=40000 {OURS}",
        ),
        (
            {"protocol": "udp", "state": "REPLIED"},
            "udp      17 599 src=192.0.2.9 dst=10.0.0.1 sport=40000 dport=22 "
            f"src=10.0.0.1 dst=192.0.2.9 sport=22 dport=40000 [ASSURED] {OURS}",
        ),
        (
            ICMP | {"state": "UNREPLIED"},
            "icmp     1 30 src=192.0.2.9 dst=10.0.0.1 type=8 code=0 id=7 [UNREPLIED] "
            f"src=10.0.0.1 dst=192.0.2.9 type=0 code=0 id=7 {OURS}",
        ),
        (
            ICMP | {"protocol": "icmpv6", "icmp_type": 128, "state": "REPLIED"},
            "icmpv6   58 30 src=192.0.2.9 dst=10.0.0.1 type=128 code=0 id=7 "
            f"src=10.0.0.1 dst=192.0.2.9 type=129 code=0 id=7 {OURS}",
        ),
        (
            PLAIN | {"protocol": "gre"},
            f"gre      47 30 src=192.0.2.9 dst=10.0.0.1 src=10.0.0.1 dst=192.0.2.9 [ASSURED] {OURS}",
        ),
        (
            PLAIN | {"protocol": "99", "rule": None, "security_group": None},
            "unknown  99 30 src=192.0.2.9 dst=10.0.0.1 src=10.0.0.1 dst=192.0.2.9 [ASSURED] "
            "mark=0 use=1 instance=web-1 origin=inbound",
        ),
        (
            {"disconnected": True},
            "tcp      6 599 ESTABLISHED src=192.0.2.9 dst=10.0.0.1 sport=40000 dport=22 "
            f"src=10.0.0.1 dst=192.0.2.9 sport=22 dport=40000 [ASSURED] [DISCONNECTED] {OURS}",
        ),
    ],
)
def test_a_connection(values: dict[str, Any], line: str) -> None:
    """As conntrack -L prints it; what it has no word for comes last."""
    assert connection_line(BASE | values) == line


@pytest.mark.parametrize(
    ("event", "begin"),
    [
        ("NEW", "    [NEW] tcp      6 599 ESTABLISHED src="),
        ("UPDATE", " [UPDATE] tcp      6 599 ESTABLISHED src="),
        ("DESTROY", "[DESTROY] tcp      6 src="),
    ],
)
def test_an_event(event: str, begin: str) -> None:
    """As conntrack -E prints it: what is gone has no time left."""
    assert event_line({"event": event, "connection": BASE}).startswith(begin)


DROP = {
    "time": 1_700_000_000.25,
    "port": "tap0",
    "instance": "web-1",
    "direction": "ingress",
    "state": "invalid",
    "reason": "invalid",
    "cause": "tcp-window",
    "rule": None,
    "security_group": None,
    "protocol": "tcp",
    "source": "fd00::9",
    "source_port": 40000,
    "destination": "fd00::1",
    "destination_port": 22,
    "icmp_id": None,
    "length": 86,
}


@pytest.mark.parametrize(
    ("values", "end"),
    [
        ({}, "deny ingress web-1 tcp [fd00::9]:40000 > [fd00::1]:22 invalid (tcp-window) port=tap0 length=86"),
        (
            {"cause": None, "reason": "rule", "rule": "no", "security_group": "sg", "suppressed": 1234},
            "deny ingress web-1 tcp [fd00::9]:40000 > [fd00::1]:22 rule rule=no security_group=sg port=tap0 length=86 "
            "(and 1,234 more before it that were not shown)",
        ),
        (
            {"protocol": None, "source": None, "destination": None, "reason": "invalid", "cause": "not-ip"},
            "deny ingress web-1 not-ip invalid (not-ip) port=tap0 length=86",
        ),
        (
            {"protocol": "icmpv6", "source_port": None, "destination_port": None, "icmp_id": 77},
            "deny ingress web-1 icmpv6 fd00::9 > fd00::1 id=77 invalid (tcp-window) port=tap0 length=86",
        ),
    ],
)
def test_a_drop(values: dict[str, Any], end: str) -> None:
    line = drop_line(DROP | values)
    assert line[line.index("deny") :] == end


def test_records_of_live_connections_make_lines() -> None:
    """The kind of an ICMP query is not taken for a port."""
    firewall = filled()
    lines = [connection_line(connection_record(c, now_ns=firewall.now())) for c in firewall.connections]
    assert any(
        line.startswith(
            "icmp     1 29 src=10.0.0.1 dst=192.0.2.9 type=8 code=0 id=77 src=192.0.2.9 dst=10.0.0.1 type=0"
        )
        for line in lines
    ), lines
