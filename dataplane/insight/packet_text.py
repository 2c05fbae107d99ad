"""Packets as people write them (SPEC 8), read and written.

PROTOCOL SRC[:PORT] > DST[:PORT] [FLAGS|TYPE[/CODE]] [id NUMBER]

tcp 10.0.0.5:4000 > 192.168.0.10:22 S
icmp 10.0.0.5 > 192.168.0.10 echo-request id 7
udp [2001:db8::1]:53 > [2001:db8::2]:4000
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import NoReturn

from dataplane.packet_words import NAMES, PORTED, PROTOCOLS, icmp_words
from dataplane.policy import icmp
from dataplane.policy.addresses import address_text
from dataplane.policy.fields import PORT_MAX
from dataplane.policy.mistakes import alternatives, nearest, shown
from dataplane.terminal import host_port

TCP, UDP, ICMP, ICMPV6 = (PROTOCOLS[name] for name in ("tcp", "udp", "icmp", "icmpv6"))
#: Headers that stand before the transport header of IPv6, by number: no protocol of a packet.
_EXTENSIONS = {
    0: "hop-by-hop options",
    43: "routing",
    44: "fragment",
    51: "authentication",
    60: "destination options",
    135: "mobility",
}
SYN, ACK = 0x02, 0x10
_FLAGS = {"F": 0x01, "S": SYN, "R": 0x04, "P": 0x08, "A": ACK, "U": 0x20, "E": 0x40, "C": 0x80}

_FORM = "PROTOCOL SRC[:PORT] > DST[:PORT] [FLAGS|TYPE[/CODE]]"
EXAMPLE = "tcp 10.0.0.5:4000 > 192.168.0.10:22 S"


class PacketTextError(ValueError):
    """A packet that is not written as it should be: the sentence says where, what was found, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet by what rules and connections know it by. Addresses are 4 or 16 bytes; ports are 0 where there is none.

    `flags`, `sequence` and `acknowledgement` are those of a TCP header, `icmp_id` is the identifier of an ICMP query.
    """

    protocol: int
    source: bytes
    destination: bytes
    source_port: int = 0
    destination_port: int = 0
    flags: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    icmp_id: int = 0
    sequence: int = 0
    acknowledgement: int = 0

    def __str__(self) -> str:
        words = [NAMES.get(self.protocol, str(self.protocol)), self._end(self.source, self.source_port), ">"]
        words.append(self._end(self.destination, self.destination_port))
        if self.protocol == TCP:
            words.append("".join(letter for letter, bit in _FLAGS.items() if self.flags & bit) or "none")
        if self.is_icmp:
            words.append(icmp_words(NAMES[self.protocol], self.icmp_type, self.icmp_code))
            words += ["id", str(self.icmp_id)] if self.icmp_id else []
        return " ".join(words)

    def _end(self, address: bytes, port: int) -> str:
        return host_port(address_text(address), port if self.protocol in PORTED else None)

    @property
    def is_icmp(self) -> bool:
        """Whether it is a message of its family's ICMP."""
        return self.protocol == (ICMP if len(self.source) == 4 else ICMPV6)


def parse_packet(text: str) -> Packet:
    """Reads a packet. Raises PacketTextError.

    Without FLAGS a TCP packet is a SYN, without TYPE an ICMP one is an echo-request.
    """
    return _Reader(text).packet()


class _Reader:
    """The words of a text, one after the other, with their columns."""

    def __init__(self, text: str) -> None:
        self._words = [(found.group(), found.start() + 1) for found in re.finditer(r">|[^\s>]+", text)]
        self._end = len(text.rstrip()) + 1
        self._at = 0

    def packet(self) -> Packet:
        number, ports = self._protocol()
        source, source_port = self._address("the source", ports)
        word, column = self._next('">" and the destination')
        if word != ">":
            self._fail(column, f'{shown(word)} stands where ">" is needed')
        destination, destination_port = self._address("the destination", ports)
        if len(source) != len(destination):
            self._fail(column, "the addresses are of two families: write both as IPv4 or both as IPv6")
        packet = Packet(number, source, destination, source_port, destination_port)
        self._check_family(packet)
        values = self._tcp() if number == TCP else self._icmp(NAMES[number]) if packet.is_icmp else {}
        if self._at < len(self._words):
            word, column = self._words[self._at]
            self._fail(column, f"{shown(word)} is one word too many: the packet ends before it")
        return Packet(number, source, destination, source_port, destination_port, **values)

    def _fail(self, column: int, message: str) -> NoReturn:
        raise PacketTextError(f"packet, column {column}: {message}")

    def _next(self, needed: str) -> tuple[str, int]:
        if self._at == len(self._words):
            form = f"write {_FORM}, in quotes, as {EXAMPLE!r}"
            self._fail(self._end, f"the text ends where {needed} should follow: {form}")
        self._at += 1
        return self._words[self._at - 1]

    def _more(self) -> str | None:
        return self._words[self._at][0] if self._at < len(self._words) else None

    def _protocol(self) -> tuple[int, bool]:
        word, column = self._next("a protocol")
        name = word.lower()
        number = PROTOCOLS.get(name, -1)
        if name.isascii() and name.isdecimal() and len(name) <= 3:
            number = int(name)
        if not 0 <= number <= 255:
            near = nearest(name, PROTOCOLS)
            names = alternatives([*PROTOCOLS, "a number 0..255"])
            self._fail(
                column, f"protocol {shown(word)} is not known: write {names}{f'; did you mean {near}?' if near else ''}"
            )
        return number, number in PORTED

    def _address(self, which: str, ports: bool) -> tuple[bytes, int]:
        word, column = self._next(which)
        bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", word)
        if bracketed:
            address, port = bracketed.group(1), bracketed.group(2)
        elif word.count(":") > 1:
            address, port = word, None
        else:
            address, colon, behind = word.partition(":")
            port = behind if colon else None
        try:
            packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        except OSError:
            self._fail(column, f"{shown(address)} is no address: write {which} as 10.0.0.5:4000 or [2001:db8::5]:4000")
        if ports and port is None:
            inner = f"[{address}]" if ":" in address else address
            self._fail(column, f"{which} {shown(word)} has no port: write it behind the address, as {inner}:4000")
        if not ports and port is not None:
            self._fail(
                column, f"{which} {shown(word)} has a port, which this protocol has not: write the address alone"
            )
        if port is None:
            return packed, 0
        if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= PORT_MAX):
            self._fail(column, f"port {shown(port)} of {which} is not allowed: 0..65535 is")
        return packed, int(port)

    def _check_family(self, packet: Packet) -> None:
        column, six = self._words[0][1], len(packet.source) == 16
        if packet.protocol == ICMP and six:
            self._fail(column, "icmp belongs to IPv4, and the addresses are IPv6: write icmpv6")
        if packet.protocol == ICMPV6 and not six:
            self._fail(column, "icmpv6 belongs to IPv6, and the addresses are IPv4: write icmp")
        if six and packet.protocol in _EXTENSIONS:
            name = _EXTENSIONS[packet.protocol]
            self._fail(column, f"{packet.protocol} is IPv6's {name} header and no protocol: write what is behind it")

    def _tcp(self) -> dict[str, int]:
        if self._more() is None:
            return _numbered(_FLAGS["S"])
        word, column = self._next("flags")
        letters = "" if word.lower() == "none" else word.upper().replace(".", "A")
        if not set(letters) <= _FLAGS.keys():
            self._fail(column, f"flags {shown(word)} are not known: write letters of {''.join(_FLAGS)}, as S, SA or PA")
        return _numbered(sum(_FLAGS[letter] for letter in set(letters)))

    def _icmp(self, protocol: str) -> dict[str, int]:
        types = icmp.type_names(protocol)
        kind, code, identifier = types["echo-request"], 0, 0
        if self._more() not in (None, "id"):
            word, column = self._next("a type")
            name, slash, behind = word.partition("/")
            kind = self._number(column, "type", name, types)
            codes = icmp.code_names(protocol, kind)
            code = self._number(column + len(name) + 1, "code", behind, codes) if slash else 0
        if self._more() == "id":
            self._next("id")
            word, column = self._next("the identifier")
            if not (word.isascii() and word.isdecimal() and len(word) <= 5 and int(word) <= 0xFFFF):
                self._fail(column, f"identifier {shown(word)} is not allowed: 0..65535 is")
            identifier = int(word)
        return {"icmp_type": kind, "icmp_code": code, "icmp_id": identifier}

    def _number(self, column: int, what: str, word: str, known: dict[str, int]) -> int:
        if word.lower() in known:
            return known[word.lower()]
        if word.isascii() and word.isdecimal() and len(word) <= 3 and int(word) <= 255:
            return int(word)
        near = nearest(word, known)
        words = alternatives([*known, "a number 0..255"])
        self._fail(
            column, f"{what} {shown(word)} is not known: write {words}{f'; did you mean {near}?' if near else ''}"
        )


def _numbered(flags: int) -> dict[str, int]:
    """Flags of a segment with numbers from 0 on, so that S, SA and A are a handshake."""
    return {
        "flags": flags,
        "sequence": int(not flags & _FLAGS["S"]),
        "acknowledgement": int(bool(flags & _FLAGS["A"])),
    }
