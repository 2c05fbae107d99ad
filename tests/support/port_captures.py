"""Captures that were taken at the ports of a firewall, and what their replay says."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from dataplane import DataPlane, Policy, pcapng
from dataplane.replay import Summary
from tests.property.frames import datagram, ethernet, packed, packet, tcp

A, B, C, ELB, GATEWAY, STRANGE = (f"02:00:00:00:00:{n:02x}" for n in (1, 2, 3, 0x64, 9, 0x77))
VIRTUAL, BROADCAST, ALL_NODES = "00:00:5e:00:01:07", "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"
OUTSIDE = "192.0.2.9"
POLICY = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: web, direction: ingress, protocol: tcp, multiport: "80"}
      - {id: udp, direction: ingress, protocol: udp, multiport: "5000"}
      - {id: out, direction: egress}
instances:
  - {id: a, addresses: [10.0.0.1], mac: "02:00:00:00:00:01", security_groups: [sg], interface: tap-a,
     allowed_address_pairs: [{ip: 10.0.0.50, mac: "00:00:5e:00:01:07"}]}
  - {id: b, addresses: [10.0.0.2], mac: "02:00:00:00:00:02", security_groups: [sg], interface: tap-b}
  - {id: c, addresses: [10.0.0.3], security_groups: [sg], interface: tap-c}
load_balancers:
  - {id: elb, addresses: [10.0.0.100], mac: "02:00:00:00:00:64", backends: [a], transfer_client_ip: true,
     interface: elb0}
uplinks: [{interface: eth0}]
"""
#: The interfaces of a capture that has all of the policy's, and their numbers.
ALL = (("tap-a", "instance a"), ("tap-b", "instance b"), ("tap-c", "instance c"), ("elb0", ""), ("eth0", "uplink"))
TAP_A, TAP_B, TAP_C, ELB0, ETH0 = range(5)
SYN, SYN_ACK, ACK = 2, 0x12, 0x10
ALLOW, DENY, BYPASS = "allow", "deny", "bypass"


def segment(source: str, destination: str, ports: tuple[int, int], flags: int, macs: tuple[str, str]) -> bytes:
    seq, ack = (1, 0) if flags == SYN else (1, 2) if flags == SYN_ACK else (2, 2)
    return ethernet(*macs, packet(source, destination, 6, tcp(source, destination, ports, flags, seq, ack)))


def udp(source: str, destination: str, port: int, macs: tuple[str, str]) -> bytes:
    body = datagram(source, destination, 17, (4000, port), b"x")
    return ethernet(*macs, packet(source, destination, 17, body))


def arp(sender: str, target: str, macs: tuple[str, str], named: str | None = None, operation: int = 1) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    mac = bytes.fromhex((named or macs[0]).replace(":", ""))
    return ethernet(*macs, head + mac + packed(sender) + bytes(6) + packed(target), 0x0806)


#: A frame with the interface at which it was seen, and whether that received it; None where the capture does not tell.
Seen = tuple[bytes, int, bool | None]


def capture(path: Path, frames: list[Seen], *interfaces: tuple[str, str], start: int = 1000) -> Path:
    """A pcapng file; a frame a second."""
    blocks = [pcapng.section("dataplane test"), *(pcapng.interface(*described) for described in interfaces)]
    for second, (frame, number, received) in enumerate(frames, start):
        block = bytearray(pcapng.packet(number, second * 10**9, frame, len(frame), sent=received is False, comment=""))
        if received is None:
            # The flags are the last option but the end.
            block[-12:-8] = bytes(4)
        blocks.append(bytes(block))
    path.write_bytes(b"".join(blocks))
    return path


def pcap(path: Path, frames: list[bytes], start: int = 1000) -> Path:
    """A pcap file, which tells neither interface nor direction."""
    blocks = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    for second, frame in enumerate(frames, start):
        blocks.append(struct.pack("<IIII", second, 0, len(frame), len(frame)) + frame)
    path.write_bytes(b"".join(blocks))
    return path


def replay(tmp_path: Path, *captures: Path, policy: str = POLICY, **options: Any) -> list[dict[str, Any]]:
    records, _ = replayed(tmp_path, *captures, policy=policy, **options)
    return records


def replayed(
    tmp_path: Path, *captures: Path, policy: str = POLICY, **options: Any
) -> tuple[list[dict[str, Any]], Summary]:
    verdicts = tmp_path / "v.jsonl"
    summary = DataPlane(Policy.parse(policy)).replay(*captures, verdicts=verdicts, **options)
    assert not summary.faults
    return [json.loads(line) for line in verdicts.read_text().splitlines()], summary


def told(record: dict[str, Any]) -> tuple[str, ...]:
    """Verdict, then instance, direction, reason and cause of each check."""
    words = [record["verdict"]]
    for check in record["checks"]:
        words += [check["instance"], check["direction"], check["reason"], *([check["cause"]] if check["cause"] else [])]
    return tuple(words)
