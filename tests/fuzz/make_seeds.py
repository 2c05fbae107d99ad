"""Makes the seeds of fuzz_capture, fuzz_pipeline and fuzz_live: what they find hard to come upon by chance.

Run `python -m tests.fuzz.make_seeds` after a change of this file. fuzz_capture also begins from the folder pcaps,
fuzz_fast_path from the seeds of fuzz_pipeline, and fuzz_policy from examples.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from tests.property.frames import datagram, error, ethernet, icmp, packed, packet, query, tcp

SEEDS = Path(__file__).parent / "seeds"
HOST, PEER = "10.0.0.1", "192.0.2.1"
HOST6, PEER6 = "2001:db8::1", "2001:db8::2"
ETHERNET, RAW, NULL, LOOP, SLL, SLL2, PPP, PPPOE, CISCO_HDLC, NFLOG, PKTAP, STRANGE = range(12)
SYN, ACK, FIN, RST = 2, 16, 1, 4

#: What passes before a frame, as fuzz_pipeline counts it: 1 ms, 30 s.
SOON, LATER = 1, 4
#: A link type with this added has the policy put in force anew before its frame.
CHANGE = 0xF0


def frame(ip: bytes, ethertype: int | None = None, vlan: int = 0) -> bytes:
    return ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", ip, ethertype, vlan)


def segment(to_host: bool, flags: int, seq: int, ack: int, payload: bytes = b"") -> bytes:
    ends, ports = ((PEER, HOST), (40000, 80)) if to_host else ((HOST, PEER), (80, 40000))
    return packet(*ends, 6, tcp(*ends, ports, flags, seq, ack, payload))


def fragments(ident: int, sizes: Iterable[int]) -> list[bytes]:
    """An IPv4 datagram in pieces."""
    whole, offset, made = datagram(PEER, HOST, 17, (4000, 53), bytes(sum(sizes) - 8)), 0, []
    for size in sizes:
        body, more = whole[offset : offset + size], offset + size < len(whole)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, ident, more << 13 | offset // 8, 64, 17, 0)
        made.append(frame(head + packed(PEER) + packed(HOST) + body))
        offset += size
    return made


def fragments6() -> list[bytes]:
    """The same in IPv6, behind a header of destination options."""
    whole, made = datagram(PEER6, HOST6, 17, (4000, 53), bytes(40)), []
    for offset in (0, 24):
        body, more = whole[offset : offset + 24], offset + 24 < len(whole)
        headers = bytes([44, 0, 1, 4, 0, 0, 0, 0]) + struct.pack("!BBHI", 17, 0, offset | more, 7)
        head = struct.pack("!IHBB", 6 << 28, len(headers + body), 60, 64) + packed(PEER6) + packed(HOST6)
        made.append(frame(head + headers + body))
    return made


def steps(*frames: bytes | tuple[int, int, bytes]) -> bytes:
    """An input of fuzz_pipeline: frames, or tuples of link type, time passed, and frame."""
    data = b""
    for item in frames:
        link, time, content = item if isinstance(item, tuple) else (ETHERNET, SOON, item)
        data += struct.pack("!BBH", link, time, len(content)) + content
    return data


def pipeline() -> dict[str, bytes]:
    syn, syn_ack = segment(True, SYN, 1000, 0), segment(False, SYN | ACK, 5000, 1001)
    established = [syn, syn_ack, segment(True, ACK, 1001, 5001, b"GET /")]
    ping = packet(PEER, HOST, 1, query(PEER, HOST, 8, 7))
    solicitation = icmp(PEER6, HOST6, 135, 0, bytes(4) + packed(HOST6) + bytes.fromhex("0101020000000001"))
    report = icmp(PEER6, HOST6, 143, 0, struct.pack("!HHBBH", 0, 1, 4, 0, 0) + packed("ff02::fb"))
    router = packet(PEER6, HOST6, 58, icmp(PEER6, HOST6, 2, 0, packet(HOST6, PEER6, 17, bytes(8))), extension=True)
    unreachable = packet(PEER, HOST, 1, error(PEER, HOST, 3, 1, syn_ack))
    tagged = struct.pack("!HHHH", 5, 0x8100, 6, 0x0800) + ping
    pieces = fragments(1, [24, 24, 16])
    return {
        "tcp-close": steps(
            *map(frame, established),
            *map(frame, [segment(False, FIN | ACK, 5001, 1006), segment(True, FIN | ACK, 1006, 5002), syn]),
        ),
        "tcp-change-reset": steps(
            *map(frame, established),
            (CHANGE, LATER, frame(segment(True, ACK, 1006, 5001))),
            frame(segment(False, RST, 5001, 0)),
            frame(unreachable),
        ),
        "fragments": steps(pieces[2], pieces[1], pieces[0], pieces[1], *fragments6()[::-1], *fragments(2, [24, 16])),
        "icmp": steps(frame(ping), (ETHERNET, LATER, frame(packet(HOST, PEER, 1, query(HOST, PEER, 0, 7))))),
        "icmpv6": steps(
            frame(packet(PEER6, HOST6, 58, solicitation, hop_limit=255)),
            frame(packet(PEER6, HOST6, 58, report, hop_limit=1)),
            frame(router),
        ),
        "protocols": steps(
            *(frame(packet(PEER, HOST, p, datagram(PEER, HOST, p, (68, 67)))) for p in (17, 33, 47, 50, 132, 136)),
        ),
        "links": steps(
            (RAW, SOON, ping),
            (NULL, SOON, struct.pack("<I", 2) + ping),
            (LOOP, SOON, struct.pack("!I", 2) + ping),
            (SLL, SOON, struct.pack("!HHH8sH", 0, 1, 6, b"\2", 0x0800) + ping),
            (SLL2, SOON, struct.pack("!HHIHBB8s", 0x0800, 0, 1, 1, 0, 6, b"\2") + ping),
            (PPP, SOON, b"\xff\x03\x00\x21" + ping),
            (PPP, SOON, b"\x21" + ping),
            (PPPOE, SOON, struct.pack("!BBHHH", 0x11, 0, 1, len(ping) + 2, 0x21) + ping),
            (CISCO_HDLC, SOON, b"\x0f\x00\x08\x00" + ping),
            (NFLOG, SOON, struct.pack("<BBHHH4sHH", 2, 0, 0, 8, 1, b"", len(ping) + 4, 9) + ping),
            (PKTAP, SOON, struct.pack("<III96x", 108, 1, 12) + ping),
            (STRANGE, SOON, ping),
            frame(b"\xaa\xaa\x03\0\0\0\x08\0" + ping, 8 + len(ping)),
            frame(tagged, 0x88A8),
            frame(struct.pack("!II", 16 << 12 | 64, 17 << 12 | 0x100 | 64) + ping, 0x8847),
            frame(struct.pack("!BBHHH", 0x11, 0, 1, len(ping) + 2, 0x21) + ping, 0x8864),
            frame(
                struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + bytes(6) + packed(PEER) + bytes(6) + packed(HOST), 0x0806
            ),
        ),
    }


#: Ports of fuzz_live, each also as the receiver of a frame; and what receivers there are besides.
A, B, UPLINK, BALANCER, STRANGER, EVERYBODY, AS_IS = range(7)
OTHER, STRANGERS = "10.0.0.2", "10.0.0.3"


def passing(*frames: tuple[int, int, bytes] | tuple[int, int, bytes, int]) -> bytes:
    """An input of fuzz_live: tuples of port, receiver, frame, and time passed; what `frame` makes is from the port."""
    data = b""
    for port, receiver, content, *time in frames:
        own = content[6:12] == frame(b"\x45")[6:12]
        data += struct.pack("!BBH", port + ((time or [SOON])[0] << 5), receiver << 1 | own, len(content)) + content
    return data


def live() -> dict[str, bytes]:
    pieces, more = fragments(1, [24, 24, 16]), fragments(2, [24, 16])
    others = [piece[:26] + packed(HOST) + packed(OTHER) + piece[34:] for piece in pieces]
    request = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + bytes.fromhex("020000000001") + packed(HOST)
    arp = frame(request + bytes(6) + packed(PEER), 0x0806)
    forged = frame(segment(True, SYN, 1000, 0))
    question = frame(packet(PEER, HOST, 17, datagram(PEER, HOST, 17, (4000, 53), b"?")))
    answer = frame(packet(HOST, PEER, 17, datagram(HOST, PEER, 17, (53, 4000), b"!")))
    gateway, strangers = "02:00:00:00:00:63", packet(STRANGERS, PEER, 17, datagram(STRANGERS, PEER, 17, (4000, 60)))
    to_gateway = [ethernet(gateway, "02:00:00:00:00:09", *rest) for rest in ((b"?" * 40, 0x88B5), (strangers, None, 7))]
    from_gateway = [ethernet(gateway, "02:00:00:00:00:01", question[14:], None, vlan) for vlan in (0, 7)]
    return {
        "taken": passing(
            (STRANGER, UPLINK, to_gateway[0]),
            (UPLINK, A, from_gateway[0]),
            (STRANGER, UPLINK, to_gateway[1]),
            (UPLINK, A, from_gateway[1]),
            (STRANGER, UPLINK, frame(strangers)),
            (UPLINK, STRANGER, frame(strangers)),
        ),
        "conversation": passing(
            (A, EVERYBODY, arp), (UPLINK, A, question), (A, UPLINK, answer), (BALANCER, A, question)
        ),
        "fragments": passing(
            *((UPLINK, A, piece) for piece in (pieces[2], pieces[1], pieces[0])),
            *((UPLINK, EVERYBODY, piece) for piece in more[::-1]),
            *((A, B, piece) for piece in others[::-1]),
            (UPLINK, A, pieces[1], LATER),
        ),
        "forged": passing((A, UPLINK, forged), (UPLINK, B, answer), (B, EVERYBODY, forged[:20]), (UPLINK, A, question)),
    }


def block(order: str, kind: int, body: bytes) -> bytes:
    """A block of a pcapng file."""
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + size + body + size


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def pcapng(order: str) -> bytes:
    """Two sections; interfaces with options; enhanced, simple and old packet blocks; names, and an unknown block."""
    content = frame(packet(PEER, HOST, 1, query(PEER, HOST, 8, 7)))
    n, end = len(content), struct.pack(f"{order}HH", 0, 0)
    section = block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    resolution = option(order, 9, b"\x09") + option(order, 14, struct.pack(f"{order}q", 5)) + end
    interface = block(order, 1, struct.pack(f"{order}HHI", 1, 0, 64) + resolution)
    raw = block(order, 1, struct.pack(f"{order}HHI", 101, 0, 0) + option(order, 9, b"\x8a") + end)
    enhanced = struct.pack(f"{order}IIIII", 0, 1, 2, n, n) + content + bytes(-n % 4) + option(order, 2, bytes(4)) + end
    return b"".join(
        [
            *(section, interface, raw, block(order, 6, enhanced)),
            block(order, 3, struct.pack(f"{order}I", n) + content),
            block(order, 2, struct.pack(f"{order}HHIIII", 1, 0, 1, 2, n - 14, n - 14) + content[14:]),
            *(block(order, 4, end), block(order, 0x0BAD, b"?"), section, interface, block(order, 6, enhanced)),
        ]
    )


def captures() -> dict[str, bytes]:
    content = frame(segment(True, SYN, 1000, 0))
    made = {"pcapng-little": pcapng("<"), "pcapng-big": pcapng(">")}
    for name, order, magic in (("pcap-big-us", ">", 0xA1B2C3D4), ("pcap-little-ns", "<", 0xA1B23C4D)):
        header = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, 0x30000001)
        records = [struct.pack(f"{order}IIII", at, 999_999, 40, len(content)) + content[:40] for at in (2, 1)]
        made[name] = header + b"".join(records)
    return made


def main() -> None:
    for target, inputs in (("fuzz_capture", captures()), ("fuzz_pipeline", pipeline()), ("fuzz_live", live())):
        for name, data in inputs.items():
            path = SEEDS / target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


if __name__ == "__main__":
    main()
