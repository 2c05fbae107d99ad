"""What stands in front of IP in captures (SPEC 7): every link layer is read, and what is none of them is `bypass`."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from dataplane import DataPlane, Policy
from tests.property.frames import datagram, packet

POLICY = """
security_groups: [{id: sg, security_group_rules: [{id: in4}, {id: in6, ethertype: IPv6}]}]
instances: [{id: a, addresses: [10.0.0.1, "2001:db8::1"], mac: "fa:16:3e:00:00:01", security_groups: [sg]}]
""".replace("{id: in4}", "{id: in4, direction: ingress}").replace("IPv6}", "IPv6, direction: ingress}")

IP4 = packet("192.0.2.1", "10.0.0.1", 17, datagram("192.0.2.1", "10.0.0.1", 17, (4000, 53)))
IP6 = packet("2001:db8::9", "2001:db8::1", 17, datagram("2001:db8::9", "2001:db8::1", 17, (4000, 53)))
MACS = bytes.fromhex("fa163e000001020000000002")
SNAP = b"\xaa\xaa\x03\0\0\0"


def pcap(link_type: int, *frames: bytes) -> bytes:
    records = b"".join(struct.pack("<IIII", n, 0, len(f), len(f)) + f for n, f in enumerate(frames))
    return struct.pack("<IHHqII", 0xA1B2C3D4, 2, 4, 0, 65535, link_type) + records


def nflog(order: str, family: int, ip: bytes) -> bytes:
    head = struct.pack("BBH", family, 0, 0) + struct.pack(f"{order}HH", 7, 10) + b"ab\0\0"
    return head + struct.pack(f"{order}HH", len(ip) + 4, 9) + ip


CARRIED = [
    *[(0, struct.pack(f"{order}I", 2) + IP4) for order in "<>"],
    *[(link, struct.pack(f"{o}I", af) + IP6) for link in (0, 108) for o in "<>" for af in (10, 23, 24, 26, 28, 30)],
    *[(9, head + IP4) for head in (b"\xff\x03\x00\x21", b"\x00\x21", b"\x21", b"\xff\x03\x21")],
    *[(50, head + IP6) for head in (b"\xff\x03\x00\x57", b"\x57", b"\x0f\x00\x86\xdd")],
    (166, b"\x01\x03\x00\x21" + IP4),
    (204, b"\x00\xff\x03\x00\x21" + IP4),
    (51, struct.pack("!BBHHH", 0x11, 0, 7, len(IP4) + 2, 0x21) + IP4),
    *[(104, head + IP4) for head in (b"\x0f\x00\x08\x00", b"\x8f\x00\x08\x00")],
    *[(239, nflog(order, 2, IP4)) for order in "<>"],
    *[(239, nflog("<", family, IP6)) for family in (10, 7, 5)],
    *[(link, struct.pack("<III96x", 108, 1, 12) + IP4) for link in (149, 258)],
    (258, struct.pack("<III144x", 156, 1, 1) + MACS + b"\x08\x00" + IP4),
    (258, struct.pack("<III96x", 108, 1, 0) + struct.pack("<I", 30) + IP6),
    (1, MACS + struct.pack("!H", len(IP4) + 8) + SNAP + b"\x08\x00" + IP4 + bytes(9)),
    (1, MACS + b"\x81\x00\x00\x05" + struct.pack("!H", len(IP6) + 8) + SNAP + b"\x86\xdd" + IP6),
    (1, MACS + struct.pack("!H", len(IP4) + 3) + b"\x06\x06\x03" + IP4),
    (113, struct.pack("!HHH8sH", 0, 1, 6, b"\2", 4) + SNAP + b"\x08\x00" + IP4),
    (276, struct.pack("!HHIHBB8s", 0x86DD, 0, 1, 1, 0, 6, b"\2") + IP6),
]


@pytest.mark.parametrize(("link_type", "frame"), CARRIED)
def test_ip_is_found(tmp_path: Path, link_type: int, frame: bytes) -> None:
    """SPEC 7: the packet is checked where it enters; cut anywhere, it harms nobody."""
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(link_type, frame, *(frame[:n] for n in range(len(frame)))))
    summary = DataPlane(Policy.parse(POLICY)).replay(path)
    assert not summary.faults
    assert summary.verdicts["allow"].packets >= 1
    assert summary.packets == len(frame) + 1


NOTHING = [
    (1, MACS + struct.pack("!H", len(IP4) + 90) + SNAP + b"\x08\x00" + IP4),
    (1, MACS + struct.pack("!H", len(IP4) + 8) + b"\xaa\xaa\x03\0\0\x0c\x08\0" + IP4),
    (9, b"\xff\x03\xc0\x21" + IP4),
    (104, b"\x0f\x00\x80\x35" + IP4),
    (149, IP4 + bytes(120)),
    (258, struct.pack("<III96x", 108, 0, 12) + IP4),
    (258, struct.pack("<III96x", 108, 1, 258) + IP4),
    (0, struct.pack("<I", 7) + IP4),
    (239, b"\x02\x00\0\0\x03\0\x09\0" + IP4),
]


@pytest.mark.parametrize(("link_type", "frame"), NOTHING)
def test_what_carries_no_ip_is_bypass(tmp_path: Path, link_type: int, frame: bytes) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(link_type, frame))
    assert DataPlane(Policy.parse(POLICY)).replay(path).verdicts["bypass"].packets == 1


def test_a_link_type_that_is_not_supported_is_counted_and_named(tmp_path: Path) -> None:
    """SPEC 7: neither: verdict `bypass`. The replay goes on, in pcapng with the other interfaces."""
    path = tmp_path / "usb.pcap"
    path.write_bytes(pcap(189, b"x" * 64, b"y" * 64))
    summary = DataPlane(Policy.parse(POLICY)).replay(path)
    assert not summary.faults
    assert summary.verdicts["bypass"].packets == 2
    assert summary.to_dict()["captures"][0]["strange_links"] == [{"link_type": 189, "name": "USB_LINUX", "packets": 2}]


def test_the_link_local_address_of_the_mac_is_the_instances(tmp_path: Path) -> None:
    """SPEC 7: an instance with a mac also has the link-local address made from it."""
    ours, other = "fe80::f816:3eff:fe00:1", "fe80::f816:3eff:fe00:2"
    path = tmp_path / "x.pcap"
    ends = [(other, ours), (ours, other), ("fe80::5", other)]
    path.write_bytes(pcap(101, *(packet(a, b, 17, datagram(a, b, 17, (4000, 53))) for a, b in ends)))
    verdicts = DataPlane(Policy.parse(POLICY)).replay(path).verdicts
    assert [verdicts[word].packets for word in ("allow", "deny", "bypass")] == [1, 1, 1]
