"""`dataplane replay --flows` as a user calls it (SPEC 8.2): formats, how flows end, what two runs have in common."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import communityid
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import wrpcap

from dataplane import DataPlane, Policy
from dataplane._core import ffi
from dataplane.flow import flow_records
from dataplane.policy.schedule import load_changes
from dataplane.verdict import Names

from .real_captures import FOLDER, index
from .test_real_captures import POLICY as ANY_ADDRESS

ROOT = Path(__file__).resolve().parents[2]
FIELDS = (
    *("instance", "origin", "protocol", "local", "local_port", "remote", "remote_port", "community_id"),
    *("first", "last", "first_packet", "packets_in", "packets_out", "bytes_in", "bytes_out", "packets_denied"),
    *("verdict", "reason", "rule", "security_group", "state", "end"),
)
POLICY = """
security_groups:
  - id: web
    security_group_rules:
      - {id: in, direction: ingress, protocol: tcp, multiport: "80"}
      - {id: dns, direction: egress, protocol: udp, multiport: "53"}
instances: [{id: server, addresses: [10.0.0.1], security_groups: [web]}]
"""
SERVER, CLIENT = "10.0.0.1", "192.0.2.1"


def segment(port: int, flags: str, seq: int, ack: int, *, leaves: bool = False) -> Packet:
    ends, ports = ((SERVER, CLIENT), (80, port)) if leaves else ((CLIENT, SERVER), (port, 80))
    return Ether() / IP(src=ends[0], dst=ends[1]) / TCP(sport=ports[0], dport=ports[1], flags=flags, seq=seq, ack=ack)


def handshake(port: int) -> list[Packet]:
    return [
        segment(port, "S", 100, 0),
        segment(port, "SA", 900, 101, leaves=True),
        segment(port, "A", 101, 901),
    ]


def flows_of(
    folder: Path, packets: list[tuple[float, Packet]], policy: str = POLICY, changes: str | None = None
) -> list[dict[str, Any]]:
    """The flows of packets with their times, in the library."""
    for time, packet in packets:
        packet.time = 1700000000 + time
    wrpcap(str(folder / "x.pcap"), [packet for _, packet in packets])
    schedule = []
    if changes:
        (folder / "changes.yaml").write_text(changes)
        schedule = load_changes(folder / "changes.yaml", Policy.parse(policy))
    DataPlane(Policy.parse(policy)).replay(folder / "x.pcap", changes=schedule, flows=folder / "f.jsonl")
    flows = [json.loads(line) for line in (folder / "f.jsonl").read_text().splitlines()]
    assert all(tuple(flow) == FIELDS for flow in flows)
    return flows


def timed(*groups: tuple[float, list[Packet]]) -> list[tuple[float, Packet]]:
    return [(start + i / 100, packet.copy()) for start, packets in groups for i, packet in enumerate(packets)]


def test_how_connections_end(tmp_path: Path) -> None:
    """SPEC 8.2, `end`: by what the connection table says when it goes, or at the end of the capture."""
    close = [
        segment(4001, "FA", 101, 901),
        segment(4001, "FA", 901, 102, leaves=True),
        segment(4001, "A", 102, 902),
    ]
    packets = timed(
        (0, [segment(4000, "S", 1, 0)]),
        (100, handshake(4001) + close),
        (101, [*handshake(4002), segment(4002, "R", 101, 0)]),
        (102, handshake(4003)),
        (150, handshake(4004)),
        (151, handshake(4005)[:1]),
    )
    changes = "- {at: 103, add_rule: {security_group: web, rule: {id: new, direction: egress, protocol: udp}}}\n"
    flows = flows_of(tmp_path, packets, changes=changes)
    assert [(flow["remote_port"], flow["state"], flow["end"]) for flow in flows] == [
        (4000, "SYN_SENT", "expired"),
        (4001, "TIME_WAIT", "closed"),
        (4002, "CLOSE", "reset"),
        (4003, "ESTABLISHED", "disconnected"),
        (4004, "ESTABLISHED", "live"),
        (4005, "SYN_SENT", "live"),
    ]


def test_a_port_used_again_is_another_connection(tmp_path: Path) -> None:
    """SPEC 8.2: the first one is closed by it; both have the same community id."""
    close = [segment(4001, "FA", 101, 901)]
    again = [segment(4001, "S", 50000, 0)]
    one, other = flows_of(tmp_path, timed((0, handshake(4001) + close), (5, again)))
    assert (one["state"], one["end"], one["packets_in"], one["packets_out"]) == ("FIN_WAIT", "closed", 3, 1)
    assert (other["first_packet"], other["end"], other["packets_in"]) == (5, "live", 1)
    assert one["community_id"] == other["community_id"]


def test_an_instance_that_is_taken_out_loses_its_connections(tmp_path: Path) -> None:
    """SPEC 8.2, `end` disconnected: also of one that was closing."""
    (tmp_path / "other.yaml").write_text("instances: [{id: another, addresses: [10.0.0.2]}]\n")
    packets = timed((0, [*handshake(4000), segment(4000, "FA", 101, 901), *handshake(4001)]), (9, handshake(4002)))
    flows = flows_of(tmp_path, packets, changes=f"- {{at: 5, apply_policy: {tmp_path / 'other.yaml'}}}\n")
    assert [(flow["instance"], flow["state"], flow["end"]) for flow in flows] == [
        ("server", "FIN_WAIT", "disconnected"),
        ("server", "ESTABLISHED", "disconnected"),
    ]


def test_a_full_table_evicts(tmp_path: Path) -> None:
    """SPEC 8.2 and 4.9: `evicted` is who had to make room."""
    packets = timed((0, [segment(port, "S", 1, 0) for port in range(4000, 4005)]))
    flows = flows_of(tmp_path, packets, POLICY + "conntrack: {max_entries: 2}\n")
    assert [flow["end"] for flow in flows] == ["evicted"] * 3 + ["live"] * 2


def test_a_denied_flow_is_one_record_both_ways(tmp_path: Path) -> None:
    """SPEC 8.2: a record for each denied flow that never became a connection; its packets are denied, none passed."""
    there = Ether() / IP(src=CLIENT, dst=SERVER) / UDP(sport=5000, dport=161) / b"ask"
    back = Ether() / IP(src=SERVER, dst=CLIENT) / UDP(sport=161, dport=5000) / b"answer"
    (flow,) = flows_of(tmp_path, timed((0, [there, back, there])))
    assert [flow[name] for name in FIELDS[:7]] == ["server", "inbound", "udp", SERVER, 161, CLIENT, 5000]
    assert (flow["first"], flow["last"]) == (1700000000.0, 1700000000.02)
    assert [flow[name] for name in FIELDS[10:16]] == [1, 0, 0, 0, 0, 3]
    assert [flow[name] for name in FIELDS[16:]] == ["deny", "no-rule-matched", None, None, None, None]


def test_a_denied_flow_that_becomes_a_connection_is_the_connection(tmp_path: Path) -> None:
    """SPEC 8.2: only those that never became one have a record of their own."""
    there = Ether() / IP(src=CLIENT, dst=SERVER) / UDP(sport=5000, dport=161) / b"ask"
    changes = "- {at: 1, add_rule: {security_group: web, rule: {id: snmp, direction: ingress, protocol: udp}}}\n"
    (flow,) = flows_of(tmp_path, timed((0, [there]), (2, [there])), changes=changes)
    assert [flow[name] for name in FIELDS[10:16]] == [1, 1, 0, 45, 0, 1]
    assert [flow[name] for name in FIELDS[16:]] == ["allow", "rule", "snmp", "web", "UNREPLIED", "live"]


def test_what_is_related_counts_to_the_connection(tmp_path: Path) -> None:
    """SPEC 4.5, 8.2: an ICMP error belongs to the connection that it quotes; pings have no ports."""
    query = IP(src=SERVER, dst=CLIENT) / UDP(sport=5000, dport=53) / b"name"
    error = Ether() / IP(src="192.0.2.254", dst=SERVER) / ICMP(type=3, code=1) / bytes(query)
    ping = Ether() / IP(src=CLIENT, dst=SERVER) / ICMP(type=8, id=7)
    related, denied = flows_of(tmp_path, timed((0, [Ether() / query, error, ping])))
    assert [related[name] for name in FIELDS[:7]] == ["server", "outbound", "udp", SERVER, 5000, CLIENT, 53]
    assert (related["packets_in"], related["packets_out"], related["rule"]) == (1, 1, "dns")
    assert (denied["protocol"], denied["local_port"], denied["remote_port"]) == ("icmp", None, None)


def run(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "dataplane", "replay", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, cwd=ROOT, check=False, timeout=60)


CASE = ["examples/ssh-cut/policy.yaml", "pcaps/ssh-cut.pcap", "--changes", "examples/ssh-cut/changes.yaml"]


def test_the_formats_say_the_same(tmp_path: Path) -> None:
    """SPEC 8.2: JSON lines, .csv, .parquet, the fields in the order of the SPEC; with --verdicts beside it."""
    files = [tmp_path / name for name in ("f.jsonl", "f.csv", "f.parquet")]
    for file in files:
        done = run(*CASE, "--flows", file, "--verdicts", tmp_path / "v.jsonl")
        assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in files[0].read_text().splitlines()]
    with open(files[1], newline="") as file:
        rows = list(csv.DictReader(file))
    table = pyarrow.parquet.read_table(files[2])
    assert tuple(lines[0]) == tuple(rows[0]) == tuple(table.column_names) == FIELDS
    assert len(lines) == len(rows) == table.num_rows == 6
    for line, row, values in zip(lines, rows, table.to_pylist(), strict=True):
        for name in ("first", "last"):
            assert float(row[name]) == line[name]
            assert values.pop(name).timestamp() == line[name]
        assert {name: "" if line[name] is None else str(line[name]) for name in row} | {
            name: row[name] for name in ("first", "last")
        } == row
        assert values.items() <= line.items()
    assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 32


def test_standard_output_and_standard_input(tmp_path: Path) -> None:
    """`-` is standard output, the summary goes to standard error; both outputs there are refused."""
    data = (ROOT / "pcaps" / "ssh-cut.pcap").read_bytes()
    plain = run(*CASE, "--flows", "-")
    assert plain.returncode == 0
    assert len(plain.stdout.splitlines()) == 6
    assert b"packets" in plain.stderr
    assert run(CASE[0], "-", *CASE[2:], "--flows", "/dev/stdout", stdin=data).stdout == plain.stdout
    refused = run(*CASE, "--flows", "-", "--verdicts", "-")
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert b"name a file for one of them" in refused.stderr


def test_no_output_destroys_anything(tmp_path: Path) -> None:
    """As of --verdicts: neither an input, nor another output, nor a capture or policy without --force."""
    (tmp_path / "x.pcap").write_bytes((ROOT / "pcaps" / "ssh-cut.pcap").read_bytes())
    (tmp_path / "old.csv").write_text("old\n")
    for more in (["--flows", "pcaps/ssh-cut.pcap"], ["--flows", tmp_path / "x.pcap"], ["--flows", CASE[0], "--force"]):
        assert run(*CASE, *more).returncode == 2
    same = run(*CASE, "--flows", tmp_path / "both", "--verdicts", tmp_path / "both")
    assert same.returncode == 2
    assert b"would write the same file" in same.stderr
    assert run(CASE[0], "missing.pcap", "--flows", tmp_path / "old.csv").returncode == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.csv", "x.pcap"]
    assert (tmp_path / "old.csv").read_text() == "old\n"


def test_what_cannot_be_written_is_named() -> None:
    """A sentence with the file, exit status 2."""
    done = run(*CASE, "--flows", "/dev/full")
    assert done.returncode == 2
    assert done.stderr == b"/dev/full: No space left on device: the flows could not be written\n"


@pytest.mark.skipif(not index(), reason="the real captures are not there")
def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    """Nothing depends on the engine's key, which is another one in each run."""
    (tmp_path / "policy.yaml").write_text(ANY_ADDRESS)
    names = [row["file"] for row in index() if 100 <= int(row["packets"] or 0) <= 5000][:8]
    for out in ("one", "two"):
        assert (
            run(tmp_path / "policy.yaml", *(FOLDER / name for name in names), "--flows", tmp_path / out).returncode == 0
        )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() != b""


PORTS = st.integers(1, 65535)


def community_id(
    protocol: int,
    source: bytes,
    destination: bytes,
    ports: tuple[int, int] = (0, 0),
    icmp: tuple[int, int] | None = None,
) -> str | None:
    """The id of a flow as its record has it."""
    array = ffi.new("struct dp_flow_record[1]")
    flow, names = array[0].flow, Names()
    array[0].zone = names.zone("a")
    flow.family, flow.protocol = 4 if len(source) == 4 else 6, protocol
    ffi.memmove(flow.source, source, len(source))
    ffi.memmove(flow.destination, destination, len(destination))
    flow.source_port, flow.destination_port = ports
    if icmp:
        flow.icmp, (flow.icmp_type, flow.icmp_code) = 1, icmp
    (record,) = flow_records(array, 1, names)
    return record.community_id


@given(
    st.one_of(
        st.tuples(*[st.binary(min_size=4, max_size=4)] * 2), st.tuples(*[st.binary(min_size=16, max_size=16)] * 2)
    ),
    st.sampled_from([6, 17, 132]),
    st.tuples(PORTS, PORTS),
)
def test_community_ids_are_those_of_its_package(
    ends: tuple[bytes, bytes], protocol: int, ports: tuple[int, int]
) -> None:
    """Community ID 1, seed 0; the same for both directions."""
    expected = communityid.CommunityID().calc(communityid.FlowTuple(protocol, *ends, *ports))
    assert community_id(protocol, *ends, ports) == expected
    assert community_id(protocol, *ends[::-1], ports[::-1]) == expected
    without = communityid.CommunityID().calc(communityid.FlowTuple(47, *ends))
    assert community_id(47, *ends) == without


@given(st.binary(min_size=32, max_size=32), st.sampled_from([1, 58]), st.integers(0, 255), st.integers(0, 255))
def test_community_ids_of_icmp(ends: bytes, protocol: int, icmp_type: int, code: int) -> None:
    """A reply has the id of its request; what has no reply keeps its direction."""
    size = 16 if protocol == 58 else 4
    source, destination = ends[:size], ends[16 : 16 + size]
    expected = communityid.CommunityID().calc(communityid.FlowTuple(protocol, source, destination, icmp_type, code))
    assert community_id(protocol, source, destination, icmp=(icmp_type, code)) == expected


def test_a_published_community_id() -> None:
    """The first TCP and the first UDP flow of the specification's baseline."""
    tcp = community_id(6, bytes((128, 232, 110, 120)), bytes((66, 35, 250, 204)), (34855, 80))
    udp = community_id(17, bytes((192, 168, 1, 52)), bytes((8, 8, 8, 8)), (54585, 53))
    assert (tcp, udp) == ("1:LQU9qZlK+B5F3KDmev6m5PMibrg=", "1:d/FP5EW3wiY1vCndhwleRRKHowQ=")
