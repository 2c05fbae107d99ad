#!/usr/bin/env python3
"""Figure 2: single packets that each show one step of the matching sequence."""

import sys
from pathlib import Path

from conversation import Capture, Host, Ping, TcpConversation
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import UDP

ECS = Host("192.168.0.11", "fa:16:3e:00:02:0a")
GATEWAY = "fa:16:3e:ff:ff:01"
NEAR = Host("10.0.0.7", GATEWAY)
MIDDLE = Host("10.0.1.7", GATEWAY)
FAR = Host("10.0.2.7", GATEWAY)
STRANGER = Host("192.0.2.7", GATEWAY)


def main(path: Path) -> None:
    capture = Capture()
    web = TcpConversation(capture, NEAR, ECS, 40001, 80)
    web.open(0.0)
    TcpConversation(capture, STRANGER, ECS, 40002, 80).syn(1.0)
    TcpConversation(capture, NEAR, ECS, 40003, 443).syn(2.0)
    TcpConversation(capture, MIDDLE, ECS, 40004, 443).syn(3.0)
    Ping(capture, FAR, ECS, 0x0201).request(4.0, 1)
    Ping(capture, NEAR, ECS, 0x0202).exchange(5.0, 1)
    TcpConversation(capture, NEAR, ECS, 40005, 22).syn(6.0)
    TcpConversation(capture, MIDDLE, ECS, 40006, 22).syn(7.0)
    capture.add(8.0, NEAR, ECS, UDP(sport=40007, dport=53) / DNS(id=1, qd=DNSQR(qname="ecs.example")))
    TcpConversation(capture, ECS, NEAR, 40008, 80).syn(9.0)
    # The groups change places at 10 s.
    web.client_sends(11.0, b"GET / HTTP/1.0\r\n\r\n")
    TcpConversation(capture, NEAR, ECS, 40009, 80).syn(12.0)
    Ping(capture, FAR, ECS, 0x0203).request(13.0, 1)
    capture.write(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "figure-2.pcap"))
