"""`dataplane learn` (SPEC 8.7): from made and from real captures, by the library and as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import wrpcap

from dataplane import DataPlane, Policy
from dataplane.insight.learn import learn
from dataplane.insight.lint import lint

from .real_captures import FOLDER, index

ROOT = Path(__file__).resolve().parents[2]
SERVER, CLIENT = "10.0.0.1", "192.0.2.1"
INSTANCES = "instances:\n- {id: server, addresses: [10.0.0.1], security_groups: [old]}\n"
NOBODY = Policy.parse("instances: [{id: nobody, addresses: [203.0.113.77]}]")


def segment(flags: str, *, leaves: bool = False, port: int = 4000) -> Packet:
    ends, ports = ((SERVER, CLIENT), (80, port)) if leaves else ((CLIENT, SERVER), (port, 80))
    numbers = {"S": (100, 0), "SA": (900, 101), "A": (901, 101) if leaves else (101, 901)}[flags]
    return (
        Ether()
        / IP(src=ends[0], dst=ends[1])
        / TCP(sport=ports[0], dport=ports[1], flags=flags, seq=numbers[0], ack=numbers[1])
    )


def datagram(source: str, destination: str, ports: tuple[int, int]) -> Packet:
    return Ether() / IP(src=source, dst=destination) / UDP(sport=ports[0], dport=ports[1]) / b"data"


ASKED = [datagram(SERVER, "192.0.2.53", (5000, 53)), datagram("192.0.2.53", SERVER, (53, 5000))]
UNANSWERED = [datagram("192.0.2.66", SERVER, (6000, 161)), segment("S", port=4001)]
PINGED = [
    Ether() / IP(src=CLIENT, dst=SERVER) / ICMP(type=8, id=3),
    Ether() / IP(src=SERVER, dst=CLIENT) / ICMP(type=0, id=3),
]
SPOKEN = [segment("S"), segment("SA", leaves=True), segment("A")]


def capture(folder: Path, packets: list[Packet]) -> Path:
    for n, packet in enumerate(packets):
        packet.time = 1700000000 + n / 100
    wrpcap(str(folder / "x.pcap"), packets)
    (folder / "instances.yaml").write_text(INSTANCES)
    return folder / "x.pcap"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dataplane", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)


def test_rules_for_what_was_answered_and_for_nothing_else(tmp_path: Path) -> None:
    """SPEC 8.7: inbound, outbound and ICMP; what nobody answered gets no rule."""
    packets = [*SPOKEN, *UNANSWERED, *ASKED, *PINGED]
    done = run("learn", capture(tmp_path, packets), "--instances", tmp_path / "instances.yaml")
    assert done.returncode == 0, done.stderr
    assert "Learned 3 rules from 3 connections that were answered; 2 were not." in done.stderr
    values = yaml.safe_load(done.stdout)
    common: dict[str, Any] = {"ethertype": "IPv4"}
    (group,) = values["security_groups"]
    assert [
        {k: v for k, v in rule.items() if k not in ("id", "description")} for rule in group["security_group_rules"]
    ] == [
        {
            "direction": "ingress",
            **common,
            "protocol": "icmp",
            "icmp_type": 8,
            "icmp_code": 0,
            "remote_ip_prefix": "192.0.2.1/32",
        },
        {"direction": "ingress", **common, "protocol": "tcp", "multiport": "80", "remote_ip_prefix": "192.0.2.1/32"},
        {"direction": "egress", **common, "protocol": "udp", "multiport": "53", "remote_ip_prefix": "192.0.2.53/32"},
    ]
    assert values["instances"] == [{"id": "server", "addresses": [SERVER], "security_groups": ["learned-server"]}]
    assert [rule["description"] for rule in group["security_group_rules"]][
        1
    ] == "Learned from 1 connection, first packet 1"


def test_a_part_of_the_captures_with_other_addresses(tmp_path: Path) -> None:
    """`--time` and `--map` are those of replay: what is learned holds for a replay with them."""
    part = ("--time", "0.03..", "--map", f"{CLIENT}=198.51.100.1")
    done = run(
        "learn", capture(tmp_path, [*SPOKEN, *PINGED, *ASKED]), "--instances", tmp_path / "instances.yaml", *part
    )
    assert done.returncode == 0, done.stderr
    (group,) = yaml.safe_load(done.stdout)["security_groups"]
    rules = {(rule["protocol"], rule["remote_ip_prefix"]) for rule in group["security_group_rules"]}
    assert rules == {("icmp", "198.51.100.1/32"), ("udp", "192.0.2.53/32")}


def test_connections_that_were_seen_from_their_middle_on(tmp_path: Path) -> None:
    """Only they make the policy take up such connections; a late segment of one that was seen whole does not."""
    talk = [segment("A"), segment("A", leaves=True)]
    learned = learn(Policy.parse("instances: [{id: server, addresses: [10.0.0.1]}]"), [str(capture(tmp_path, talk))])
    assert (learned.answered, learned.mid_stream, learned.policy.conntrack.tcp_loose) == (1, 1, True)
    assert "tcp_loose: true" in learned.notes[0]
    whole = learn(Policy.parse("instances: [{id: server, addresses: [10.0.0.1]}]"), [str(capture(tmp_path, SPOKEN))])
    assert (whole.answered, whole.mid_stream, whole.policy.conntrack.tcp_loose) == (1, 0, False)
    assert whole.notes == []


def test_the_policy_is_written_and_nothing_is_destroyed(tmp_path: Path) -> None:
    """`-o` takes a new file; the policy that is there is overwritten with --force only. `dataplane check` passes it."""
    path, out = capture(tmp_path, SPOKEN), tmp_path / "learned.yaml"
    arguments = ("learn", path, "--instances", tmp_path / "instances.yaml", "-o", out)
    assert run(*arguments).returncode == 0
    assert run("check", out).returncode == 0
    before = out.read_bytes()
    refused = run(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "would overwrite a policy" in refused.stderr
    assert run(*arguments, "--force").returncode == 0
    assert out.read_bytes() == before
    for bad in (path, tmp_path / "instances.yaml"):
        assert run(*arguments[:-1], bad, "--force").returncode == 2


def test_json_and_faults(tmp_path: Path) -> None:
    """SPEC 7: exit status 3 for a capture that is cut short, with what was learned before; 2 for bad instances."""
    path = capture(tmp_path, SPOKEN)
    path.write_bytes(path.read_bytes()[:-5])
    done = run("learn", path, "--instances", tmp_path / "instances.yaml", "--json")
    assert done.returncode == 3
    told = json.loads(done.stdout)
    assert told["connections"] == {"answered": 1, "unanswered": 0, "mid_stream": 0}
    Policy.model_validate(told["policy"])
    (tmp_path / "list.yaml").write_text("- {id: a, addresses: [10.0.0.1]}\n- {id: b, adresses: [10.0.0.2]}\n")
    bad = run("learn", path, "--instances", tmp_path / "list.yaml")
    assert bad.returncode == 2
    assert "list.yaml:2:11: " in bad.stderr
    assert run("learn", "-", "--instances", tmp_path / "list.yaml").returncode == 2
    assert run("learn", tmp_path / "missing", "--instances", tmp_path / "instances.yaml").returncode == 3


def flows(policy: Policy, path: Path, folder: Path) -> list[dict[str, Any]]:
    DataPlane(policy).replay(path, flows=folder / "flows.jsonl")
    return [json.loads(line) for line in (folder / "flows.jsonl").read_text().splitlines()]


def answered(found: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    names = ("instance", "origin", "community_id", "last", "packets_in", "packets_out", "bytes_in", "bytes_out")
    return {tuple(flow[name] for name in names) for flow in found if flow["packets_in"] and flow["packets_out"]}


@pytest.mark.parametrize("row", index(), ids=lambda row: row["file"])
def test_a_real_capture(row: dict[str, str], tmp_path: Path) -> None:
    """SPEC 8.7: under the learned policy every answered connection passes as it did where all was allowed, each rule is
    needed, since without it one of them does not, and lint finds none that is redundant."""
    path = FOLDER / row["file"]
    busiest = DataPlane(NOBODY).replay(path).busiest_addresses[:3]
    if not busiest:
        pytest.skip("no packet has an address of a host")
    instances = [{"id": f"i{n}", "addresses": [busy.address]} for n, busy in enumerate(busiest)]
    learned = learn(Policy.model_validate({"instances": instances}), [str(path)])
    assert not any("do not pass" in note for note in learned.notes)
    assert not {finding.kind for finding in lint(learned.policy)} & {"shadowed", "redundant"}
    values = learned.document
    rules = [
        {"id": f"{way}{family}", "direction": way, "ethertype": family}
        for way in ("ingress", "egress")
        for family in ("IPv4", "IPv6")
    ]
    every = {
        **values,
        "security_groups": [{"id": "all", "security_group_rules": rules}],
        "address_groups": [],
        "instances": [{**instance, "security_groups": ["all"]} for instance in values["instances"]],
    }
    wanted = answered(flows(Policy.model_validate(every), path, tmp_path))
    if not learned.mid_stream:
        assert wanted <= answered(flows(learned.policy, path, tmp_path))
    if learned.rules <= 8:
        passing = answered(flows(learned.policy, path, tmp_path))
        for group in values["security_groups"]:
            for rule in list(group["security_group_rules"]):
                group["security_group_rules"].remove(rule)
                assert passing - answered(flows(Policy.model_validate(values), path, tmp_path))
                group["security_group_rules"].append(rule)
