#!/usr/bin/env python3
"""A rule change at 9.5 s cuts two running inbound pings for 30 s; an outbound ping goes on."""

import sys
from pathlib import Path

from conversation import Capture, Host, Ping

ECS = Host("172.16.0.5", "fa:16:3e:00:30:0a")
GATEWAY = "fa:16:3e:ff:ff:01"
PC = Host("203.0.113.10", GATEWAY)
OTHER_PC = Host("203.0.113.20", GATEWAY)
INTERNET = Host("198.51.100.7", GATEWAY)


def main(path: Path) -> None:
    capture = Capture()
    inbound = Ping(capture, PC, ECS, 0x1001)
    other = Ping(capture, OTHER_PC, ECS, 0x1002)
    outbound = Ping(capture, ECS, INTERNET, 0x2001)

    for sequence, at in enumerate((0.0, 3.0, 6.0, 9.0)):
        outbound.exchange(at, sequence)
        inbound.exchange(at + 0.2, sequence)
        other.exchange(at + 0.4, sequence)
    # A request just before the change at 9.5 s, answered after it.
    inbound.request(9.499, 4)
    inbound.reply(9.501, 4)
    # Disconnected from 9.5 s on. The outbound rule is deleted at 20 s, which prolongs nothing.
    for sequence, at in enumerate((12.0, 15.0, 18.0, 21.0, 24.0, 27.0, 30.0, 33.0, 36.0), start=5):
        outbound.exchange(at, sequence)
        inbound.request(at + 0.2, sequence)
        other.request(at + 0.4, sequence)
    Ping(capture, ECS, INTERNET, 0x2002).request(37.0, 0)
    # The last moment of the hold, and the first after it.
    inbound.request(39.499999, 14)
    inbound.exchange(39.5, 15)
    other.request(39.6, 15)
    outbound.exchange(40.0, 15)
    inbound.exchange(42.0, 16)
    other.request(42.2, 16)
    capture.write(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "icmp-30s.pcap"))
