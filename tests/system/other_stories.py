"""Stories of all but TCP, written by hand: UDP, ICMP queries and errors, other protocols, fragments.

A step is one datagram, whole or in fragments, and what must come out: a word that kernel and engine both say, or the
name of a difference between them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from tests.property import frames
from tests.property.frames import checksum, datagram, packed, packet, query, tcp
from tests.support.differences import NEW, NO, OK, RELATED, UNTRACKED
from tests.support.segment import INSIDE, INSIDE6, OUTSIDE, OUTSIDE6
from tests.system.side_by_side import ROUTER, ROUTER6

Step = tuple[tuple[bytes, ...], str]
Story = list[Step]

UDP, GRE, ESP, SCTP, UDP_LITE = 17, 47, 50, 132, 136


class Family:
    """The ends of a story, and its packets, in one family of addresses."""

    def __init__(self, version: int) -> None:
        self.version, self.identifier = version, 0
        self.inside, self.outside, self.router = (
            (INSIDE, OUTSIDE, ROUTER) if version == 4 else (INSIDE6, OUTSIDE6, ROUTER6)
        )
        self.icmp = 1 if version == 4 else 58
        self.request, self.reply = (8, 0) if version == 4 else (128, 129)
        self.unreachable = (3, 1) if version == 4 else (1, 3)

    def ends(self, side: str) -> tuple[str, str]:
        """Source and destination: `I` sends from inside, `O` from outside, `X` as a router on the way."""
        sources = {"I": self.inside, "O": self.outside, "X": self.router}
        return sources[side], self.outside if side == "I" else self.inside

    def ip(self, side: str, protocol: int, body: bytes) -> bytes:
        """A packet from one side with a body as it is."""
        return packet(*self.ends(side), protocol, body)

    def sent(self, side: str, protocol: int, ports: tuple[int, int] = (0, 0)) -> bytes:
        """A whole datagram of a protocol."""
        return self.ip(side, protocol, datagram(*self.ends(side), protocol, ports, bytes(12)))

    def udp(self, side: str, source: int, destination: int) -> bytes:
        """A UDP datagram."""
        return self.sent(side, UDP, (source, destination))

    def query(self, side: str, kind: int, identifier: int) -> bytes:
        """An ICMP query or reply."""
        return self.ip(side, self.icmp, query(*self.ends(side), kind, identifier))

    def message(self, side: str, kind: int, code: int = 0, body: bytes = bytes(28), hop_limit: int = 64) -> bytes:
        """Any ICMP message."""
        ends = self.ends(side)
        return packet(*ends, self.icmp, frames.icmp(*ends, kind, code, body), hop_limit=hop_limit)

    def error(self, side: str, quoted: bytes, kind: tuple[int, int] | None = None) -> bytes:
        """An ICMP error, by default host or address unreachable."""
        return self.message(side, *(kind or self.unreachable), bytes(4) + quoted)

    def fragment(self, protocol: int, offset: int, body: bytes, more: bool = True) -> bytes:
        """A fragment from outside, of the same datagram as those before it."""
        if self.version == 6:
            return self.ip("O", 44, struct.pack("!BBHI", protocol, 0, offset | more, self.identifier) + body)
        whole = self.ip("O", protocol, body)
        head = (
            whole[:4]
            + struct.pack("!HH", self.identifier, more << 13 | offset // 8)
            + whole[8:10]
            + bytes(2)
            + whole[12:20]
        )
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body

    def fragments(self, protocol: int, body: bytes, *cuts: int) -> list[bytes]:
        """A new datagram from outside, cut at these offsets."""
        self.identifier += 1
        ends = [*cuts, len(body)]
        starts = [0, *cuts]
        return [
            self.fragment(protocol, start, body[start:end], end < len(body))
            for start, end in zip(starts, ends, strict=True)
        ]


def udp(f: Family) -> Story:
    """Both ways; ports and addresses that are another connection."""
    return [
        ((f.udp("O", 4000, 53),), NEW),
        ((f.udp("O", 4000, 53),), OK),
        ((f.udp("I", 53, 4000),), OK),
        ((f.udp("O", 4000, 54),), NO),
        ((f.udp("I", 4001, 5000),), NEW),
        ((f.udp("O", 5000, 4001),), OK),
        ((f.udp("O", 5000, 4002),), NO),
        ((f.udp("X", 5000, 4001),), NO),
        ((f.ip("O", UDP, struct.pack("!HHHH", 4003, 53, 4, 0) + bytes(4)),), NO),
        ((f.ip("O", UDP, struct.pack("!HHHH", 4003, 53, 40, 0) + bytes(4)),), NO),
        ((f.ip("O", UDP, struct.pack("!HHHH", 4003, 53, 10, 0) + bytes(4)),), NEW),
    ]


def echo(f: Family) -> Story:
    """Identifiers, both directions at once, replies that nobody asked for."""
    return [
        ((f.query("O", f.request, 7),), NEW),
        ((f.query("I", f.reply, 8),), NO),
        ((f.query("I", f.reply, 7),), OK),
        ((f.query("I", f.reply, 7),), OK),
        ((f.query("I", f.request, 7),), NEW),
        ((f.query("O", f.reply, 7),), OK),
        ((f.query("O", f.reply, 9),), NO),
        ((f.query("X", f.reply, 7),), NO),
        ((f.message("O", f.request, 1, struct.pack("!HH", 7, 1)),), "icmp-code"),
    ]


def icmp_kinds(f: Family) -> Story:
    """Every type that is neither tracked nor control, and queries that have replies of their own."""
    if f.version == 4:
        others = [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 19, 30, 40, 42, 43, 127, 255]
        queries = [((f.query("O", kind, 3),), NEW) for kind in (13, 15, 17)]
        replies = [((f.query("I", kind, 3),), OK) for kind in (14, 16, 18)]
        unsolicited = [((f.query("O", kind, 4),), NO) for kind in (14, 16, 18)]
        return [*(((f.message("O", kind),), NO) for kind in others), *queries, *replies, *unsolicited]
    others = [0, 1, 2, 3, 4, 5, 100, 127, 138, 140, 141, 144, 150, 155, 200, 255]
    neighbours = {135: bytes(4) + packed(f.inside), 136: bytes(4) + packed(f.outside)}
    # Of these, what fits does not go to a unicast address beyond the link.
    routers = {133: bytes(4), 134: bytes(12)}
    listeners = {130: 20, 131: 20, 132: 20, 143: 4}
    return [
        *(((f.message("O", kind),), NO) for kind in others),
        *(((f.message("O", kind, 0, body, hop_limit=255),), UNTRACKED) for kind, body in neighbours.items()),
        *(((f.message("O", kind, 0, body),), "neighbour-discovery-checks") for kind, body in neighbours.items()),
        *(((f.message("O", kind, 0, body, 255),), "neighbour-discovery-checks") for kind, body in routers.items()),
        *(((f.message("O", kind, 0, bytes(size)),), "multicast-listener-checks") for kind, size in listeners.items()),
        *(((f.message("O", kind),), "multicast-router-discovery") for kind in (151, 152)),
        ((f.message("O", 139),), "icmpv6-node-information"),
    ]


def icmp_errors(f: Family) -> Story:
    """Errors of a live connection, of none, of one the other way round, to the wrong host, and cut short."""
    asked, answer = f.udp("O", 4000, 53), f.udp("I", 53, 4000)
    transport = 20 if f.version == 4 else 40
    kinds = [(3, 4), (11, 0), (12, 0), (4, 0)] if f.version == 4 else [(2, 0), (3, 0), (4, 0)]
    odd_kind = ((5, 1), "icmp-redirect") if f.version == 4 else ((100, 0), "icmpv6-unknown-error")
    return [
        ((asked,), NEW),
        ((f.error("I", asked),), RELATED),
        ((f.error("X", asked),), NO),
        ((answer,), OK),
        ((f.error("O", answer),), RELATED),
        ((f.error("X", answer),), RELATED),
        ((f.error("I", answer),), NO),
        *(((f.error("X", answer, kind),), RELATED) for kind in kinds),
        ((f.error("X", f.udp("I", 53, 4009)),), NO),
        ((f.error("X", f.error("I", asked)),), NO),
        ((f.error("X", answer[: transport + 8]),), RELATED),
        ((f.error("X", answer[: transport + 7]),), "short-quote"),
        ((f.error("X", answer, odd_kind[0]),), odd_kind[1]),
    ]


def icmp_errors_of_other_protocols(f: Family) -> Story:
    """Errors that quote echo, TCP, GRE and ESP."""
    ping, syn = f.query("I", f.request, 5), f.ip("I", 6, tcp(*f.ends("I"), (1000, 80), 2, 1, 0))
    transport = 20 if f.version == 4 else 40
    return [
        ((ping,), NEW),
        ((f.error("X", ping),), RELATED),
        ((f.error("X", f.query("I", f.request, 6)),), NO),
        ((syn,), NEW),
        ((f.error("X", syn[: transport + 8]),), RELATED),
        *(
            step
            for protocol in (GRE, ESP)
            for step in (
                ((f.error("X", f.sent("I", protocol)),), NO),
                ((f.sent("I", protocol),), NEW),
                ((f.error("X", f.sent("I", protocol)),), RELATED),
            )
        ),
    ]


def other_protocols(f: Family) -> Story:
    """Tracked by addresses and protocol; UDP-Lite also by its ports. What no rule lets in must be asked for."""
    steps: Story = []
    for protocol in (GRE, ESP):
        steps += [((f.sent(side, protocol),), word) for side, word in (("O", NEW), ("O", OK), ("I", OK), ("X", NEW))]
    for protocol in (4, 41, 89, 103, 115, 253):
        body = {"O": f.ip("O", protocol, bytes(28)), "I": f.ip("I", protocol, bytes(28))}
        steps += [((body[side],), word) for side, word in (("O", NO), ("I", NEW), ("O", OK))]
    steps += [
        ((f.sent("O", UDP_LITE, (4000, 53)),), NEW),
        ((f.sent("I", UDP_LITE, (53, 4000)),), OK),
        ((f.sent("I", UDP_LITE, (53, 4001)),), NEW),
        ((f.ip("O", UDP_LITE, struct.pack("!HHHH", 4002, 53, 3, 1) + bytes(4)),), "udp-lite-header"),
    ]
    return steps


def sctp(f: Family) -> Story:
    """An association, a tag that is not its own, and data without one."""
    opening = struct.pack("!BBHIIHHI", 1, 0, 20, 77, 65535, 1, 1, 1)
    answer = struct.pack("!BBHIIHHI", 2, 0, 20, 88, 65535, 1, 1, 1)
    data = struct.pack("!BBHIHHI", 0, 3, 20, 1, 1, 0, 0) + bytes(4)

    def chunk(side: str, ports: tuple[int, int], tag: int, body: bytes) -> bytes:
        return f.ip(side, SCTP, struct.pack("!HHII", *ports, tag, 0) + body)

    out, back = (4000, 80), (80, 4000)
    return [
        ((chunk("O", out, 0, opening),), NEW),
        ((chunk("I", back, 77, answer),), OK),
        ((chunk("O", out, 88, struct.pack("!BBH", 10, 0, 4)),), OK),
        ((chunk("I", back, 77, struct.pack("!BBH", 11, 0, 4)),), OK),
        ((chunk("O", out, 88, data),), OK),
        ((chunk("O", out, 89, data),), "sctp-tag"),
        ((chunk("O", (4001, 80), 88, data),), "sctp-handshake"),
    ]


def pptp(f: Family) -> Story:
    """GRE of version 1 has a call number for each direction."""
    head = [struct.pack("!HHHHI", 0x3001, 0x880B, 4, call, 1) + bytes(4) for call in (5, 6)]
    return [((f.ip("I", GRE, head[0]),), NEW), ((f.ip("O", GRE, head[1]),), "pptp-call")]


def ip_headers(f: Family) -> Story:
    """Headers cut or wrong."""
    whole = f.udp("O", 4000, 53)
    steps: Story = [
        ((whole[:-1],), NO),
        ((f.ip("O", 6, tcp(*f.ends("O"), (4000, 80), 2, 1, 0)[:19]),), NO),
        ((f.ip("O", f.icmp, query(*f.ends("O"), f.request, 1)[:7]),), NO),
        ((whole + b"padding",), NEW),
    ]
    if f.version == 6:
        return [*steps, ((f.udp("I", 4001, 9)[:4] + bytes(2) + f.udp("I", 4001, 9)[6:],), "zero-length")]
    wrong = f.udp("O", 4001, 53)
    unsized = f.udp("I", 4002, 9)
    unsized = unsized[:2] + bytes(2) + unsized[4:10] + bytes(2) + unsized[12:20] + unsized[20:]
    unsized = unsized[:10] + struct.pack("!H", checksum(unsized[:20])) + unsized[12:]
    return [
        *steps,
        ((wrong[:10] + bytes([wrong[10] ^ 1]) + wrong[11:],), "ip-checksum"),
        ((unsized,), "zero-length"),
    ]


def whole_datagrams(f: Family) -> Story:
    """In any order, with a fragment twice, allowed or not, and of several protocols."""
    allowed, other, denied = (datagram(*f.ends("O"), UDP, ports, bytes(200)) for ports in ((1, 53), (2, 53), (3, 54)))
    ping = frames.icmp(*f.ends("O"), f.request, 0, bytes(60))
    syn = tcp(*f.ends("O"), (4, 80), 2, 1, 0, bytes(40))

    def cut(body: bytes, *order: int) -> tuple[bytes, ...]:
        parts = f.fragments(UDP, body, 64, 128)
        return tuple(parts[place] for place in order)

    return [
        (cut(allowed, 0, 1, 2), NEW),
        ((f.udp("I", 53, 1),), OK),
        (cut(allowed, 2, 1, 0), OK),
        (cut(other, 2, 0, 1), NEW),
        (cut(denied, 0, 1, 2), NO),
        (cut(denied, 2, 1, 0), NO),
        (cut(allowed, 0, 1, 1, 0, 2), OK),
        (tuple(f.fragments(f.icmp, ping, 32)), NEW),
        (tuple(f.fragments(6, syn, 24)), NEW),
        ((f.fragment(UDP, 0, datagram(*f.ends("O"), UDP, (5, 53)), more=False),), NEW),
    ]


def incomplete(f: Family) -> Story:
    """The last fragment is missing."""
    whole = datagram(*f.ends("O"), UDP, (1, 53), bytes(200))
    return [(tuple(f.fragments(UDP, whole, 64, 128)[:2]), "incomplete-datagram")]


def headless(f: Family) -> Story:
    """The first fragment is missing."""
    whole = datagram(*f.ends("O"), UDP, (1, 53), bytes(200))
    return [(tuple(f.fragments(UDP, whole, 64, 128)[1:]), NO)]


def overlapping(f: Family) -> Story:
    """Teardrop: the second fragment covers the end of the first."""
    a, b, c = f.fragments(UDP, datagram(*f.ends("O"), UDP, (1, 53), bytes(200)), 64, 128)
    return [((a, f.fragment(UDP, 56, bytes(72)), c, b), NO)]


def too_long(f: Family) -> Story:
    """Ping of death."""
    a, *_ = f.fragments(UDP, datagram(*f.ends("O"), UDP, (1, 53), bytes(200)), 64)
    return [((a, f.fragment(UDP, 65528, bytes(64), more=False)), NO)]


def tiny(f: Family) -> Story:
    """The first fragment cuts the TCP header."""
    cut = f.fragments(6, tcp(*f.ends("O"), (4000, 80), 2, 1, 0, bytes(8)), 16)
    return [(tuple(cut), "tiny-first-fragment" if f.version == 4 else NO)]


def ragged(f: Family) -> Story:
    """A fragment with more to come is no multiple of eight bytes long."""
    whole = datagram(*f.ends("O"), UDP, (1, 53), bytes(24))
    cut = (f.fragment(UDP, 0, whole[:30]), f.fragment(UDP, 24, whole[24:], more=False))
    return [(cut, "ragged-fragment" if f.version == 4 else NO)]


def behind_the_end(f: Family) -> Story:
    """A fragment lies behind the last one."""
    a, b, c = f.fragments(UDP, datagram(*f.ends("O"), UDP, (1, 53), bytes(200)), 64, 128)
    stray = f.fragment(UDP, 800, bytes(8), more=False)
    return [((c, stray, a, b), NO if f.version == 4 else "fragment-behind-end")]


STORIES: list[Callable[[Family], Story]] = [
    udp, echo, icmp_kinds, icmp_errors, icmp_errors_of_other_protocols, other_protocols, sctp, pptp, ip_headers,
    whole_datagrams, incomplete, headless, overlapping, too_long, tiny, ragged, behind_the_end,
]  # fmt: skip
