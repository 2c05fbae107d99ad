"""Faults of ports that are 0, and of what has none: one named case each."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from dataplane import DataPlane, Policy
from dataplane.insight.explain import explain
from dataplane.insight.replayed_packet import Replayed
from tests.property import frames
from tests.property.test_jobs import compare, write

MAC = "02:00:00:00:00:01"
SERVER, CLIENT = "10.0.0.1", "192.0.2.1"
POLICY = Policy.parse(
    """
security_groups:
  - id: g
    security_group_rules:
      - {id: ssh, direction: ingress, protocol: tcp, multiport: "22"}
      - {id: all, direction: ingress, protocol: sctp}
instances:
"""
    + "".join(f"  - {{id: i{n}, addresses: [10.0.0.{n}], security_groups: [g]}}\n" for n in range(1, 17))
)


def frame(packet: bytes) -> bytes:
    return frames.ethernet(MAC, MAC, packet)


def syn(ports: tuple[int, int], client: str = CLIENT, server: str = SERVER) -> bytes:
    return frames.packet(client, server, 6, frames.tcp(client, server, ports, 2, 1, 0))


def fragments(packet: bytes, size: int) -> list[bytes]:
    """A packet of IPv4 in pieces of so many bytes, a multiple of eight."""
    head, body = packet[:20], packet[20:]
    pieces = []
    for at in range(0, len(body), size):
        flags = at // 8 | (0x2000 if at + size < len(body) else 0)
        piece = body[at : at + size]
        made = head[:2] + (20 + len(piece)).to_bytes(2) + b"\0\7" + flags.to_bytes(2) + head[8:10] + b"\0\0" + head[12:]
        pieces.append(made[:10] + frames.checksum(made).to_bytes(2) + made[12:] + piece)
    return pieces


def test_ports_of_zero_are_ports(tmp_path: Path) -> None:
    """Both 0, they were told as if there were none, and `explain` told no rules that were asked (SPEC 7, 8.2, 8.3)."""
    sctp = frames.packet(CLIENT, SERVER, 132, frames.datagram(CLIENT, SERVER, 132, (0, 0)))
    later = fragments(syn((1, 22)), 8)[1]
    path = tmp_path / "x.pcap"
    write(path, list(enumerate(map(frame, (syn((0, 0)), sctp, later)))))
    for ending in ("jsonl", "csv", "parquet"):
        summary = DataPlane(POLICY).replay(
            path, verdicts=tmp_path / f"v.{ending}", flows=tmp_path / f"f.{ending}", top=10
        )
    ports = [(0, 0), (0, 0), (None, None)]
    records = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [(record["source_port"], record["destination_port"]) for record in records] == ports
    flows = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert [(flow["remote_port"], flow["local_port"]) for flow in flows] == ports
    for name, columns in (("v", ("source_port", "destination_port")), ("f", ("remote_port", "local_port"))):
        with (tmp_path / f"{name}.csv").open() as file:
            rows = [tuple(row[column] for column in columns) for row in csv.DictReader(file)]
        assert rows == [("0", "0"), ("0", "0"), ("", "")]
        parquet = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / f"{name}.parquet")
        assert [tuple(row[column] for column in columns) for row in parquet.to_pylist()] == ports
    assert {flow.destination_port for flow in summary.denied_flows} == {0, None}
    explanation = explain(Replayed(POLICY, [str(path)]), 1)
    ((group,),) = (check["groups"] for check in explanation.to_dict()["checks"])
    assert group["rules"][0]["mismatch"] == ["multiport"]


def test_what_has_no_ports_is_no_consequence(tmp_path: Path) -> None:
    """Of a fragment that had waited it depended on the number of threads whose consequence it was (SPEC 7, --jobs).

    A cut header and a later fragment have no ports, which are not the same ones.
    """
    packets = []
    for n in range(1, 17):
        server = f"10.0.0.{n}"
        cut = frames.packet(CLIENT, server, 6, bytes(10))
        ack = frames.packet(CLIENT, server, 6, frames.tcp(CLIENT, server, (5, 443), 16, 1, 1, bytes(20)))
        first, later = fragments(ack, 24)
        packets += [cut, later, first]
    compare(POLICY, list(enumerate(map(frame, packets))))
    write(tmp_path / "x.pcap", list(enumerate(map(frame, packets))))
    summary = DataPlane(POLICY).replay(tmp_path / "x.pcap", top=100)
    assert sum(flow.packets for flow in summary.denied_flows) == 48
