#!/usr/bin/env python3
"""A rule change at 5 s cuts an inbound SSH connection for 600 s; an outbound HTTPS connection goes on."""

import sys
from pathlib import Path

from conversation import Capture, Host, TcpConversation

ECS = Host("172.16.0.5", "fa:16:3e:00:55:0a")
GATEWAY = "fa:16:3e:ff:ff:01"
PC = Host("203.0.113.10", GATEWAY)
BASTION = Host("203.0.113.20", GATEWAY)
INTERNET = Host("198.51.100.7", GATEWAY)


def main(path: Path) -> None:
    capture = Capture()
    ssh = TcpConversation(capture, PC, ECS, 50022, 22)
    https = TcpConversation(capture, ECS, INTERNET, 40443, 443)

    ssh.open(0.0)
    ssh.server_sends(0.1, b"SSH-2.0-OpenSSH_9.2p1\r\n")
    ssh.client_sends(0.2, b"SSH-2.0-OpenSSH_9.2p1\r\n")
    ssh.server_sends(0.3)
    https.open(1.0)
    https.client_sends(1.1, b"\x16\x03\x01 client hello")
    https.server_sends(1.2, b"\x16\x03\x03 server hello")

    # The change at 5 s. The client repeats what is not acknowledged; the server sends on its own, late.
    ssh.client_sends(6.0, b"typed", lost=True)
    ssh.client_sends(6.2, b"typed", lost=True)
    ssh.server_sends(7.0, b"late answer", lost=True)
    https.client_sends(8.0, b"\x17\x03\x03 request")
    https.server_sends(8.1, b"\x17\x03\x03 response")
    # A connection with another 5-tuple is judged by the new rules at once.
    TcpConversation(capture, PC, ECS, 50023, 22).syn(9.0)
    bastion = TcpConversation(capture, BASTION, ECS, 50022, 22)
    bastion.open(10.0)
    # The same 5-tuple has to wait until the hold is over, and a second change at 300 s prolongs nothing.
    TcpConversation(capture, PC, ECS, 50022, 22).syn(200.0)
    https.client_sends(250.0, b"\x17\x03\x03 request")
    https.server_sends(250.1, b"\x17\x03\x03 response")
    ssh.server_sends(400.0, b"late answer", lost=True)
    bastion.client_sends(401.0, b"SSH-2.0-OpenSSH_9.2p1\r\n", lost=True)
    ssh.server_sends(604.999999, b"late answer", lost=True)
    # The hold of the first connection is over at 605 s.
    ssh.server_sends(605.0, b"late answer", lost=True)
    TcpConversation(capture, PC, ECS, 50022, 22).syn(606.0)
    https.client_sends(700.0, b"\x17\x03\x03 request")
    https.server_sends(700.1, b"\x17\x03\x03 response")
    # And that of the second at 900 s: until then it had been established for 290 s.
    bastion.client_sends(899.0, b"SSH-2.0-OpenSSH_9.2p1\r\n", lost=True)
    TcpConversation(capture, BASTION, ECS, 50022, 22).syn(900.0)
    capture.write(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "ssh-cut.pcap"))
