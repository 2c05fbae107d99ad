"""SPEC 7, the summary: of the flows denied most, causes come first, and what came of each is folded under it."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from dataplane import DataPlane, Policy
from dataplane.cli.summary import print_summary
from dataplane.replay import Summary
from dataplane.replay.denied_flows import DeniedFlow, Traffic
from tests.property.frames import ethernet, packet, query, tcp

POLICY = """
security_groups:
  - id: sg
    security_group_rules: [{id: web, direction: ingress, protocol: tcp, multiport: "80"}]
instances: [{id: server, addresses: [10.0.0.1], security_groups: [sg]}]
"""
SERVER, CLIENT, OTHER = "10.0.0.1", "192.0.2.9", "192.0.2.8"
SYN, ACK, PUSH, RST = 2, 16, 24, 4


def segment(source: str, destination: str, ports: tuple[int, int], flags: int, payload: bytes = b"") -> bytes:
    body = tcp(source, destination, ports, flags, 1000, 0 if flags == SYN else 5000, payload)
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packet(source, destination, 6, body))


def echo(source: str, destination: str, kind: int, identifier: int) -> bytes:
    body = query(source, destination, kind, identifier)
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packet(source, destination, 1, body))


#: A login that is denied: its SYN twice, the answer of a server that heard it all the same, data, and an end.
LOGIN = [
    segment(CLIENT, SERVER, (40000, 22), SYN),
    segment(CLIENT, SERVER, (40000, 22), SYN),
    segment(SERVER, CLIENT, (22, 40000), SYN | ACK),
    segment(CLIENT, SERVER, (40000, 22), ACK),
    segment(CLIENT, SERVER, (40000, 22), PUSH, b"hello"),
    segment(SERVER, CLIENT, (22, 40000), RST),
]
#: The middle of a connection, of which no beginning was seen.
MIDDLE = [segment(OTHER, SERVER, (41000, 80), PUSH, b"x") for _ in range(9)]


def captured(path: Path, frames: list[bytes]) -> Path:
    data = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    for n, frame in enumerate(frames):
        data += struct.pack("<IIII", n, 0, len(frame), len(frame)) + frame
    path.write_bytes(data)
    return path


def replayed(tmp_path: Path, frames: list[bytes], firewall: DataPlane | None = None, top: int = 10) -> Summary:
    firewall = firewall or DataPlane(Policy.parse(POLICY), seed=1)
    return firewall.replay(captured(tmp_path / "capture.pcap", frames), top=top)


def told(flow: DeniedFlow) -> tuple[str, str, str | None, int | None, int, int]:
    return (
        flow.direction,
        flow.reason,
        flow.cause,
        flow.destination_port,
        flow.packets,
        flow.consequences.packets,
    )


def test_causes_come_before_what_has_none_that_was_seen(tmp_path: Path) -> None:
    """Both directions are folded under the denied first packets, however many of either kind there are."""
    summary = replayed(tmp_path, MIDDLE + LOGIN)
    assert [told(flow) for flow in summary.denied_flows] == [
        ("ingress", "no-rule-matched", None, 22, 2, 4),
        ("ingress", "invalid", "tcp-no-connection", 80, 9, 0),
    ]
    assert summary.denied_flows[0].consequences == Traffic(4, sum(map(len, LOGIN[2:])))
    assert replayed(tmp_path, MIDDLE + LOGIN, top=1).denied_flows == summary.denied_flows[:1]


def test_both_ways_of_what_was_cut_are_one_flow(tmp_path: Path) -> None:
    """SPEC 5.2: not one for each port of a client; and connections that a client has to the same port are one."""
    firewall = DataPlane(Policy.parse(POLICY), seed=1)
    ports = (43000, 43001, 43002)
    replayed(tmp_path, [segment(CLIENT, SERVER, (port, 80), SYN) for port in ports], firewall)
    firewall.apply({"update_rule": {"id": "web", "priority": 2}})
    answers = [segment(SERVER, CLIENT, (80, port), SYN | ACK) for port in ports]
    summary = replayed(tmp_path, [*answers, segment(CLIENT, SERVER, (43000, 80), ACK)], firewall)
    (flow,) = summary.denied_flows
    assert told(flow) == ("ingress", "disconnected", None, 80, 4, 0)
    assert (flow.source, flow.destination) == (CLIENT, SERVER)


def test_the_order_is_by_all_packets_of_a_cause(tmp_path: Path) -> None:
    """A flow's consequences weigh as much as its first packets."""
    others = [segment(OTHER, SERVER, (42000 + n, 23), SYN) for n in range(5)]
    summary = replayed(tmp_path, others + LOGIN)
    assert [told(flow) for flow in summary.denied_flows] == [
        ("ingress", "no-rule-matched", None, 22, 2, 4),
        ("ingress", "no-rule-matched", None, 23, 5, 0),
    ]


def test_a_connection_to_another_service_is_no_consequence(tmp_path: Path) -> None:
    """Only the same hosts and the same service: neither another port, nor another client, nor the way round."""
    strangers = [
        segment(CLIENT, SERVER, (40000, 2222), ACK),
        segment(OTHER, SERVER, (40000, 22), ACK),
        segment(SERVER, CLIENT, (40000, 22), ACK),
    ]
    summary = replayed(tmp_path, LOGIN[:1] + strangers)
    assert [flow.consequences.packets for flow in summary.denied_flows] == [0, 0, 0, 0]


def test_the_answer_to_a_denied_echo_is_a_consequence(tmp_path: Path) -> None:
    """SPEC 4.5: nobody asked, as far as was let through."""
    frames = [echo(CLIENT, SERVER, 8, 7), echo(SERVER, CLIENT, 0, 7), echo(SERVER, OTHER, 0, 7)]
    first, last = replayed(tmp_path, frames).denied_flows
    assert (first.reason, first.source, first.packets, first.consequences.packets) == ("no-rule-matched", CLIENT, 1, 1)
    assert (last.cause, last.destination, last.consequences.packets) == ("icmp-unsolicited", OTHER, 0)


def test_other_kinds_of_invalid_are_causes(tmp_path: Path) -> None:
    """What is invalid by itself is told with its cause, by its number among all."""
    summary = replayed(tmp_path, [*MIDDLE, segment(CLIENT, SERVER, (40000, 80), 3)])
    assert [flow.cause for flow in summary.denied_flows] == ["tcp-flags", "tcp-no-connection"]


def test_consequences_are_those_of_this_replay(tmp_path: Path) -> None:
    """What the engine counted before is taken off, also where only consequences are new."""
    firewall = DataPlane(Policy.parse(POLICY), seed=1)
    replayed(tmp_path, LOGIN, firewall)
    (flow,) = replayed(tmp_path, [*LOGIN[3:5]], firewall).denied_flows
    assert (flow.packets, flow.consequences.packets, flow.overcount) == (0, 2, 0)


def test_the_table_folds_them(tmp_path: Path) -> None:
    """A line of its own under the cause, with the packets that are not among the cause's."""
    out = io.StringIO()
    print_summary(replayed(tmp_path, MIDDLE + LOGIN), out, top=10)
    lines = [" ".join(line.split()) for line in out.getvalue().partition("Flows denied most")[2].splitlines()]
    rows = [line for line in lines if "server" in line or "because of it" in line]
    assert rows == [
        f"server ingress tcp {CLIENT} > {SERVER} port 22 no-rule-matched 2 108",
        "and without a connection because of it invalid 4 221",
        f"server ingress tcp {OTHER} > {SERVER} port 80 invalid, tcp-no-connection 9 495",
    ]


@pytest.mark.parametrize("length", [8, 80, 255])
def test_lines_for_a_pipe_are_whole(tmp_path: Path, length: int) -> None:
    """A row of a table is one line, however long the ids in it are."""
    name = "n" * length
    out = io.StringIO()
    firewall = DataPlane(Policy.parse(POLICY.replace("server", name)), seed=1)
    print_summary(replayed(tmp_path, MIDDLE + LOGIN, firewall), out, top=10)
    rows = [line for line in out.getvalue().splitlines() if name in line]
    assert [line.split()[-1] for line in rows] == ["108", "495"]


def test_the_advice_is_about_what_no_denial_explains(tmp_path: Path) -> None:
    """Nobody is told to take up connections in the middle because their beginning was denied."""
    assert replayed(tmp_path, LOGIN).advice == []
    (advice,) = replayed(tmp_path, MIDDLE + LOGIN).advice
    assert advice.startswith("9 TCP packets belong to no connection")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_word_is_cut_at_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest cause, and an address of IPv4 as long as it gets."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    away = "203.113.213.199"
    frames = [segment(away, SERVER, (41000, 54321), PUSH, b"x" * 1200) for _ in range(9)]
    out = _Terminal()
    print_summary(replayed(tmp_path, frames), out, top=10)
    table = out.getvalue().partition("Flows denied most")[2]
    assert {"ingress", "tcp-no-connection", away, SERVER, "54321"} <= set(table.split())
    assert max(map(len, table.splitlines())) <= 80
