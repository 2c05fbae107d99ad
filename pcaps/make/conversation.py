"""Packets with fixed times and sequence numbers, for captures whose timing is the point.

Times are seconds after 2023-11-14 22:13:20 UTC (1,700,000,000 seconds after the epoch). The same script writes the
same bytes each time.
"""

from dataclasses import dataclass, field
from pathlib import Path

from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from scapy.utils import PcapNgWriter, PcapWriter

START = 1_700_000_000


@dataclass(frozen=True)
class Host:
    """An end of a conversation: an IPv4 address and a MAC."""

    address: str
    mac: str


@dataclass
class Capture:
    """Frames in the order of their times, written as pcap or, by the file's ending, as pcapng."""

    frames: list[tuple[float, Packet]] = field(default_factory=list)

    def add(self, at: float, source: Host, destination: Host, payload: Packet) -> None:
        frame = Ether(src=source.mac, dst=destination.mac) / IP(src=source.address, dst=destination.address) / payload
        self.frames.append((at, frame))

    def write(self, path: Path) -> None:
        writer = PcapNgWriter(str(path)) if path.suffix == ".pcapng" else PcapWriter(str(path), linktype=1)
        with writer:
            for at, frame in sorted(self.frames, key=lambda entry: entry[0]):
                built = Ether(bytes(frame))
                built.time = START + at
                writer.write(built)


@dataclass
class Ping:
    """Echo requests and replies under one identifier; a reply follows its request by 1 ms."""

    capture: Capture
    source: Host
    destination: Host
    identifier: int

    def request(self, at: float, sequence: int) -> None:
        echo = ICMP(type=8, id=self.identifier, seq=sequence) / Raw(b"dataplane")
        self.capture.add(at, self.source, self.destination, echo)

    def reply(self, at: float, sequence: int) -> None:
        echo = ICMP(type=0, id=self.identifier, seq=sequence) / Raw(b"dataplane")
        self.capture.add(at, self.destination, self.source, echo)

    def exchange(self, at: float, sequence: int) -> None:
        self.request(at, sequence)
        self.reply(at + 0.001, sequence)


class TcpConversation:
    """A TCP connection between two hosts; each side's sequence number and acknowledgement follow what it sent."""

    def __init__(self, capture: Capture, client: Host, server: Host, client_port: int, server_port: int) -> None:
        self.capture = capture
        self.client = client
        self.server = server
        self.client_port = client_port
        self.server_port = server_port
        self.client_next = 1_000
        self.server_next = 5_000

    def syn(self, at: float) -> None:
        """The client's SYN; a second call is a retransmission."""
        self._segment(at, True, "S", 1_000, 0)
        self.client_next = 1_001

    def syn_ack(self, at: float) -> None:
        self._segment(at, False, "SA", 5_000, self.client_next)
        self.server_next = 5_001

    def open(self, at: float) -> None:
        """SYN, SYN+ACK and ACK, a millisecond apart."""
        self.syn(at)
        self.syn_ack(at + 0.001)
        self.client_sends(at + 0.002)

    def client_sends(self, at: float, data: bytes = b"", lost: bool = False) -> None:
        """A segment from the client; with `lost`, what follows repeats it, as when nobody acknowledges it."""
        self._segment(at, True, "PA" if data else "A", self.client_next, self.server_next, data)
        if not lost:
            self.client_next += len(data)

    def server_sends(self, at: float, data: bytes = b"", lost: bool = False) -> None:
        """A segment from the server; `lost` as above."""
        self._segment(at, False, "PA" if data else "A", self.server_next, self.client_next, data)
        if not lost:
            self.server_next += len(data)

    def _segment(self, at: float, from_client: bool, flags: str, seq: int, ack: int, data: bytes = b"") -> None:
        ports = (self.client_port, self.server_port) if from_client else (self.server_port, self.client_port)
        ends = (self.client, self.server) if from_client else (self.server, self.client)
        segment = TCP(sport=ports[0], dport=ports[1], flags=flags, seq=seq, ack=ack, window=64_240)
        self.capture.add(at, *ends, segment / Raw(data) if data else segment)
