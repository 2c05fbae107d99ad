"""Real captures as a router between two networks would see them: IP packets from and to one endpoint.

Left out is what no router forwards, whatever its filter says (broken IPv4 headers, source routes, multicast, addresses
without meaning elsewhere), what asks for more than one packet (fragments), and super-packets that no wire has carried.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import cast

from scapy.error import Scapy_Exception
from scapy.utils import RawPcapReader

from tests.property.frames import checksum

ROOT = Path(__file__).resolve().parents[2]
#: The project's own, and a folder of others as in tests/capture/test_real_captures.py.
FOLDERS = (ROOT / "pcaps", Path(os.environ.get("CAPTURES", ROOT.parent / "shared" / "captures")))

#: Link type -> length of its header, at whose end the ethertype stands.
LINK_HEADER = {1: 14, 113: 16}
RAW_LINKS = (101, 228, 229)
VLANS = (b"\x81\x00", b"\x88\xa8")


def conversation(path: Path) -> tuple[str, list[bytes]]:
    """The address that most packets come from or go to, and those packets."""
    packets = [packet for packet in _packets(path) if _forwarded(packet)]
    if not packets:
        return "", []
    (inside, _), *_ = Counter(address for packet in packets for address in ends(packet)).most_common(1)
    return str(ip_address(inside)), [packet for packet in packets if inside in ends(packet)]


def ends(packet: bytes) -> tuple[bytes, bytes]:
    """Source and destination."""
    return (packet[8:24], packet[24:40]) if packet[0] >> 4 == 6 else (packet[12:16], packet[16:20])


def flow(packet: bytes) -> tuple[bytes, ...]:
    """What packets of one connection share, both ways: addresses, protocol, and ports where there are any."""
    start = 40 if packet[0] >> 4 == 6 else (packet[0] & 15) * 4
    protocol = packet[6:7] if packet[0] >> 4 == 6 else packet[9:10]
    return (*sorted(ends(packet)), protocol, *sorted((packet[start : start + 2], packet[start + 2 : start + 4])))


def _packets(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file, RawPcapReader(cast(str, file)) as reader:
            for frame, metadata in reader:
                link = getattr(metadata, "linktype", None) or getattr(reader, "linktype", 0)
                packet = _network_layer(frame, int(link or 0))
                if packet and len(packet) >= {4: 20, 6: 40}.get(packet[0] >> 4, len(packet) + 1):
                    yield packet
    except Scapy_Exception:
        return


def _network_layer(frame: bytes, link: int) -> bytes:
    if link in RAW_LINKS:
        return frame
    start = LINK_HEADER.get(link, len(frame))
    while frame[start - 2 : start] in VLANS:
        start += 4
    return frame[start:] if frame[start - 2 : start] in (b"\x08\x00", b"\x86\xdd") else b""


def _forwarded(packet: bytes) -> bool:
    source, destination = ends(packet)
    if source == destination or not (_unicast(source) and _unicast(destination)):
        return False
    if packet[0] >> 4 == 6:
        return packet[7] > 1 and packet[4:6] != bytes(2) and packet[6] != 44
    header = (packet[0] & 15) * 4
    options = packet[20:header].lstrip(b"\x01")
    source_routed = options[:1] in (b"\x83", b"\x89")
    fragment = packet[6] & 0x3F or packet[7]
    sized = packet[2:4] != bytes(2) and header >= 20
    return packet[8] > 1 and sized and not fragment and not source_routed and checksum(packet[:header]) == 0


def _unicast(address: bytes) -> bool:
    read = ip_address(address)
    special = read.is_multicast or read.is_loopback or read.is_unspecified or read.is_link_local or read.is_reserved
    return not special and address[0] != 0
