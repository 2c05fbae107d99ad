#!/usr/bin/env python3
"""Table 3: for each of the rules A01 to A04, packets that just match it and packets that just do not."""

import sys
from pathlib import Path

from conversation import Capture, Host, TcpConversation
from scapy.layers.inet import UDP
from scapy.layers.l2 import GRE
from scapy.packet import Raw

ECS_A1 = Host("10.1.0.11", "fa:16:3e:00:13:a1")
ECS_A2 = Host("10.1.0.12", "fa:16:3e:00:13:a2")
ECS_B1 = Host("10.2.0.11", "fa:16:3e:00:13:b1")


def outside(address: str) -> Host:
    """A host beyond the subnet's gateway."""
    return Host(address, "fa:16:3e:ff:ff:01")


def main(path: Path) -> None:
    capture = Capture()
    seconds = 0

    def attempt(source: Host, port: int) -> None:
        nonlocal seconds
        TcpConversation(capture, source, ECS_A1, 50_000 + seconds, port).syn(float(seconds))
        seconds += 1

    # A01: any protocol within Sg-A.
    capture.add(0.0, ECS_A2, ECS_A1, UDP(sport=6000, dport=5000) / Raw(b"ping"))
    capture.add(0.1, ECS_A1, ECS_A2, UDP(sport=5000, dport=6000) / Raw(b"pong"))
    capture.add(0.2, ECS_A2, ECS_A1, GRE(proto=0x0800))
    # A02: three TCP ports from Sg-B.
    seconds = 1
    for port in (21, 22, 23, 24, 25, 26, 27, 28):
        attempt(ECS_B1, port)
    capture.add(9.0, ECS_B1, ECS_A1, UDP(sport=6001, dport=22) / Raw(b"no TCP"))
    # A03: three TCP ports from an address group with a prefix, an address and a range.
    seconds = 10
    for port in (79, 80, 81, 82, 83):
        attempt(outside("10.3.0.5"), port)
    for address in ("10.4.0.7", "10.4.0.8", "10.5.0.9", "10.5.0.10", "10.5.0.19", "10.5.0.20"):
        attempt(outside(address), 80)
    # A04: four TCP ports from a CIDR block.
    for port in (21, 22, 23, 24, 25, 26):
        attempt(outside("192.168.7.7"), port)
    for address in ("192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0"):
        attempt(outside(address), 22)
    # The address group changes at 32.5 s.
    seconds = 33
    for address in ("10.4.0.7", "10.4.0.8"):
        attempt(outside(address), 80)
    capture.write(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "table-3.pcapng"))
