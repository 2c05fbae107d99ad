"""Checksums: `verify_checksums` makes a packet with a wrong one malformed, and offloading is no mistake."""

from __future__ import annotations

import struct

import pytest

from dataplane import DataPlane, Policy
from dataplane._core import ffi, lib
from tests.property.frames import checksum, datagram, ethernet, icmp, packed, packet, query, tcp

SERVER, CLIENT = "10.0.0.1", "192.0.2.9"
SERVER6, CLIENT6 = "fd00::1", "2001:db8::9"
POLICY = """
security_groups:
  - id: sg
    security_group_rules: [{id: in4, direction: ingress}, {id: in6, direction: ingress, ethertype: IPv6}]
instances: [{id: server, addresses: [10.0.0.1, "fd00::1"], security_groups: [sg]}]
"""
ON = "conntrack: {verify_checksums: true}\n"
IP4, IP6 = 14, 14


@pytest.fixture
def firewall() -> DataPlane:
    return DataPlane(Policy.parse(POLICY + ON), seed=1)


def cause(firewall: DataPlane, frame: bytes) -> str | None:
    """Why a frame is malformed, None when it is not."""
    (check,) = firewall.process(frame, time=1).checks
    assert check.reason == "malformed" or check.cause != "bad-checksum"
    return check.cause if check.reason == "malformed" else None


def frame(protocol: int, body: bytes, six: bool = False, extension: bool = False) -> bytes:
    ends = (CLIENT6, SERVER6) if six else (CLIENT, SERVER)
    packed_packet = packet(*ends, protocol, body, extension=extension)
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", packed_packet)


def flipped(whole: bytes, at: int) -> bytes:
    """The same with one bit of the byte at `at` turned round."""
    return whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]


def transports(six: bool) -> dict[str, tuple[int, bytes]]:
    """A packet of each kind that has a checksum, of odd length where that can be."""
    ends = (CLIENT6, SERVER6) if six else (CLIENT, SERVER)
    ping = query(*ends, 128 if six else 8, 7)
    return {
        "tcp": (6, tcp(*ends, (4000, 80), 2, 1, 0, b"odd length.")),
        "udp": (17, datagram(*ends, 17, (4000, 80), b"odd length.")),
        "udp-lite": (136, datagram(*ends, 136, (4000, 80), b"odd length.")),
        "dccp": (33, datagram(*ends, 33, (4000, 80), b"four")),
        "sctp": (132, datagram(*ends, 132, (4000, 80))),
        "icmp": (58 if six else 1, ping),
    }


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("kind", ["tcp", "udp", "udp-lite", "dccp", "sctp", "icmp"])
@pytest.mark.parametrize("extension", [False, True], ids=["", "options"])
def test_a_wrong_transport_checksum_is_malformed(kind: str, six: bool, extension: bool) -> None:
    """Checksums: also behind IPv4 options and IPv6 extension headers; Ethernet's padding is not part of it."""
    protocol, body = transports(six)[kind]
    right = frame(protocol, body, six, extension)
    wrong = flipped(right, len(right) - 1)
    on = DataPlane(Policy.parse(POLICY + ON), seed=1)
    assert cause(on, right + b"padding") is None
    assert cause(on, wrong + b"padding") == "bad-checksum"
    assert on.counters().entries == 1
    for elsewhere in (POLICY, POLICY + "conntrack: {verify_checksums: false}\n"):
        assert cause(DataPlane(Policy.parse(elsewhere), seed=1), wrong) is None


def test_the_ipv4_header_checksum(firewall: DataPlane) -> None:
    """Checksums, RFC 791 3.1: also of a fragment; a zero is wrong, there is no way to have none."""
    right = frame(17, datagram(CLIENT, SERVER, 17, (4000, 53)), extension=True)
    assert cause(firewall, right) is None
    assert cause(firewall, flipped(right, IP4 + 8)) == "bad-checksum"
    assert cause(firewall, right[: IP4 + 10] + b"\0\0" + right[IP4 + 12 :]) == "bad-checksum"
    piece = right[: IP4 + 6] + b"\x20\0" + right[IP4 + 8 :]
    assert cause(firewall, piece) == "bad-checksum"


def test_udp_without_a_checksum(firewall: DataPlane) -> None:
    """SPEC 4.8: 0 is none in IPv4 (RFC 768) and, for tunnels, in IPv6 (RFC 6935)."""
    for six in (False, True):
        protocol, body = transports(six)["udp"]
        assert cause(firewall, frame(protocol, body[:6] + b"\0\0" + body[8:], six)) is None


def test_what_is_not_complete_is_not_looked_at(firewall: DataPlane) -> None:
    """Checksums: present and complete; a fragment's transport checksum and a cut packet's cannot be held against it."""
    body = datagram(CLIENT, SERVER, 17, (4000, 53), bytes(32))
    wrong = frame(17, flipped(body, 20))
    header = wrong[IP4 : IP4 + 6] + b"\x20\0" + wrong[IP4 + 8 : IP4 + 10] + b"\0\0" + wrong[IP4 + 12 : IP4 + 20]
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    assert cause(firewall, wrong[:IP4] + header + wrong[IP4 + 20 :]) is None
    frames = ffi.new("struct dp_frame[2]")
    records = ffi.new("struct dp_record[2]")
    buffer = ffi.from_buffer("uint8_t[]", wrong)
    for cut, c in zip((0, 1), frames, strict=True):
        c.data, c.captured, c.length = buffer, len(wrong) - cut, len(wrong)
    assert lib.dp_engine_process(firewall.handle, frames, 2, records, ffi.NULL) == 0
    assert [records[n].check[0].reason for n in range(2)] == [lib.DP_REASON_MALFORMED, lib.DP_REASON_CONNECTION]


def partial(protocol: int, six: bool, with_length: bool = True) -> bytes:
    """A TCP or UDP packet as it is given to a card: the sum of the pseudo-header where the checksum will be."""
    ends = (CLIENT6, SERVER6) if six else (CLIENT, SERVER)
    _, body = transports(six)["tcp" if protocol == 6 else "udp"]
    length = struct.pack("!I", len(body) if with_length else 0)
    pseudo = packed(ends[0]) + packed(ends[1]) + length + struct.pack("!I", protocol)
    field = struct.pack("!H", checksum(pseudo) ^ 0xFFFF)
    at = 16 if protocol == 6 else 6
    return frame(protocol, body[:at] + field + body[at + 2 :], six)


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("protocol", [6, 17])
def test_a_checksum_left_to_the_card_is_no_mistake(firewall: DataPlane, protocol: int, six: bool) -> None:
    """Checksums, offload-aware: the pseudo-header's sum alone; another bit of it is wrong as ever."""
    whole = partial(protocol, six)
    at = (40 if six else 20) + 14 + (16 if protocol == 6 else 6)
    assert cause(firewall, whole) is None
    assert cause(firewall, flipped(whole, at)) == "bad-checksum"
    assert cause(firewall, partial(protocol, six, with_length=False)) == (None if protocol == 6 else "bad-checksum")


def test_super_packets_without_an_ip_length_are_no_mistake(firewall: DataPlane) -> None:
    """Checksums, offload-aware: the card fills in the IP length, and with it the header's checksum."""
    segment = tcp(CLIENT, SERVER, (4000, 80), 2, 1, 0, bytes(3000))
    whole = frame(6, flipped(segment, 16))
    assert cause(firewall, whole[: IP4 + 2] + b"\0\0" + whole[IP4 + 4 :]) is None
    whole = frame(6, flipped(tcp(CLIENT6, SERVER6, (4000, 80), 2, 1, 0, bytes(3000)), 16), six=True)
    assert cause(firewall, whole[: IP6 + 4] + b"\0\0" + whole[IP6 + 6 :]) is None


def test_a_frame_marked_as_offloaded_is_not_looked_at(firewall: DataPlane) -> None:
    """Checksums: live traffic says it of a frame (virtio-net); the IPv4 header's checksum is looked at all the same."""
    wrong = frame(6, flipped(transports(False)["tcp"][1], 16))
    answers = []
    for data, flags in ((wrong, 0), (wrong, lib.DP_FRAME_CHECKSUM_OFFLOADED), (flipped(wrong, IP4 + 8), 1)):
        c, record = ffi.new("struct dp_frame *"), ffi.new("struct dp_record *")
        buffer = ffi.from_buffer("uint8_t[]", data)
        c.data, c.captured, c.length, c.flags = buffer, len(data), len(data), flags
        assert lib.dp_engine_process(firewall.handle, c, 1, record, ffi.NULL) == 0
        answers.append(record.check[0].reason)
    assert answers == [lib.DP_REASON_MALFORMED, lib.DP_REASON_RULE, lib.DP_REASON_MALFORMED]


def test_packets_on_their_way_to_another_address_are_not_looked_at(firewall: DataPlane) -> None:
    """RFC 8200 8.1, RFC 791 3.1: the checksum counts the last destination, which the header does not show yet."""
    body = flipped(datagram(CLIENT6, SERVER6, 17, (4000, 53)), 6)
    for segments_left, expected in ((1, None), (0, "bad-checksum")):
        routing = bytes([17, 2, 4, segments_left]) + bytes(4) + packed("fd00::77")
        assert cause(firewall, frame(43, routing + body, six=True)) == expected
    home = bytes([17, 2, 1, 2, 0, 0, 0xC9, 16]) + packed("fd00::78")
    assert cause(firewall, frame(60, home + body, six=True)) is None
    body = flipped(datagram(CLIENT, SERVER, 17, (4000, 53)), 6)
    for pointer, expected in ((4, None), (8, "bad-checksum")):
        options = bytes([131, 7, pointer]) + packed("10.0.0.77") + b"\0"
        head = struct.pack("!BBHHHBBH", 0x47, 0, 28 + len(body), 1, 0, 64, 17, 0) + packed(CLIENT) + packed(SERVER)
        head += options
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        assert cause(firewall, ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", head + body)) == expected


def test_the_engine_parameter_holds_where_the_policy_is_silent() -> None:
    """Checksums: on for live and off for replay, unless the policy says it; a change of policy keeps that."""
    wrong = frame(6, flipped(transports(False)["tcp"][1], 16))
    for text, parameter, expected in (
        (POLICY, False, None),
        (POLICY, True, "bad-checksum"),
        (POLICY + ON, False, "bad-checksum"),
        (POLICY + "conntrack: {verify_checksums: false}\n", True, None),
    ):
        firewall = DataPlane(Policy.parse(text), seed=1, verify_checksums=parameter)
        assert cause(firewall, wrong) == expected
        firewall.apply({"delete_rule": {"id": "in6"}}, time=1)
        assert cause(firewall, wrong) == expected


def test_an_instance_elsewhere_is_not_denied(firewall: DataPlane) -> None:
    """SPEC 7: a packet of nobody here is bypass, whatever its checksum."""
    stray = packet(CLIENT, "10.9.9.9", 1, flipped(icmp(CLIENT, "10.9.9.9", 8, 0, bytes(8)), 4))
    assert firewall.process(ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", stray), time=1).verdict == "bypass"
