"""The blocks of a pcapng file, as draft-ietf-opsawg-pcapng has them: little-endian, nanoseconds, Ethernet."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

SECTION, INTERFACE, NAMES, STATISTICS, PACKET = 0x0A0D0D0A, 1, 4, 5, 6
_COMMENT, _APPLICATION, _NAME, _DESCRIPTION, _RESOLUTION, _FLAGS, _DROPPED = 1, 4, 2, 3, 9, 2, 5
_ETHERNET = 1
#: Behind type, length, interface, time, and the option's own head.
_DROPPED_AT = 24
_END = bytes(4)
_RECEIVED, _SENT, _CHECKSUM_NOT_READY = 1, 2, 1 << 9


def section(application: str) -> bytes:
    """The block that a file begins with."""
    body = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    return _block(SECTION, body + _options((_APPLICATION, application.encode())))


def interface(name: str, description: str) -> bytes:
    """The block that describes an interface; they are numbered from 0 as they come."""
    body = struct.pack("<HHI", _ETHERNET, 0, 0)
    described = (_NAME, name.encode()), (_DESCRIPTION, description.encode())
    return _block(INTERFACE, body + _options(*described, (_RESOLUTION, b"\x09")))


def packet(
    number: int, time_ns: int, frame: bytes, length: int, *, sent: bool, comment: str, offloaded: bool = False
) -> bytes:
    """A frame at interface `number`; `length` is that on the wire.

    `offloaded`: nobody looks at its transport checksum, which is not complete yet or was found right.
    """
    flags = (_SENT if sent else _RECEIVED) | (_CHECKSUM_NOT_READY if offloaded else 0)
    head = struct.pack("<IIIII", number, time_ns >> 32, time_ns & 0xFFFFFFFF, len(frame), max(length, len(frame)))
    options = _options((_COMMENT, comment.encode()), (_FLAGS, struct.pack("<I", flags)))
    return _block(PACKET, head + _padded(frame) + options)


def statistics(number: int, time_ns: int, dropped: int) -> bytes:
    """How many frames of an interface are missing because nobody took them in time."""
    body = struct.pack("<III", number, time_ns >> 32, time_ns & 0xFFFFFFFF)
    return _block(STATISTICS, body + _options((_DROPPED, struct.pack("<Q", dropped))))


def dropped_of(block: bytes) -> int:
    """The number in a block that `statistics` made."""
    number: int = struct.unpack_from("<Q", block, _DROPPED_AT)[0]
    return number


def kind_of(block: bytes) -> int:
    """The type of a block, such as `PACKET`."""
    kind: int = struct.unpack_from("<I", block)[0]
    return kind


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _options(*options: tuple[int, bytes]) -> bytes:
    return b"".join(_option(code, value) for code, value in options) + _END


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


# ---- what another file had, again: from either byte order to little-endian ----

#: Sizes of the numbers that options of interfaces and of packets are; all others are bytes.
_INTERFACE_NUMBERS = {8: 8, 10: 4, 14: 8, 16: 8, 17: 8}
_PACKET_NUMBERS = {2: 4, 4: 8, 5: 8, 6: 4}
#: Custom options begin with the number of whose they are.
_CUSTOM = (2988, 2989, 19372, 19373)
_OFFSET = 14


def comment_option(comment: str) -> bytes:
    """A comment as an option, cut where it is longer than one can be."""
    return _option(_COMMENT, comment.encode()[:0xFFF0])


def section_again(body: bytes, *, swapped: bool) -> bytes:
    """The head of a section with the options of another one."""
    options = _again(body[16:], {}, swapped=swapped)
    return _block(SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + options + _END)


def names_again(body: bytes, *, swapped: bool) -> bytes:
    """A block of names as it was."""
    order, records, at = ">" if swapped else "<", b"", 0
    while at + 4 <= len(body):
        kind, size = struct.unpack_from(order + "HH", body, at)
        records += struct.pack("<HH", kind, size) + _padded(body[at + 4 : at + 4 + size])
        at += 4 + size + -size % 4
        if kind == 0:
            break
    return _block(NAMES, records + _again(body[at:], {}, swapped=swapped) + _END)


def interface_of(link_type: int) -> bytes:
    """The block that describes an interface of which no more is known than its link type; nanoseconds."""
    return _block(INTERFACE, struct.pack("<HHI", link_type & 0xFFFF, 0, 0) + _options((_RESOLUTION, b"\x09")))


def interface_again(body: bytes, *, swapped: bool) -> tuple[bytes, Callable[[int], int]]:
    """An interface described as it was, and how its timestamps are made of nanoseconds since 1970."""
    head = struct.unpack_from((">" if swapped else "<") + "HHI", body)
    options = _again(body[8:], _INTERFACE_NUMBERS, swapped=swapped)
    found = dict(_walk(options, "<"))
    value = found.get(_RESOLUTION, b"\x06")[0]
    units = 1 << (value & 0x7F) if value & 0x80 else 10**value
    offset = struct.unpack("<q", found[_OFFSET])[0] if len(found.get(_OFFSET, b"")) == 8 else 0

    def timestamp(time_ns: int) -> int:
        return max(0, time_ns - offset * 10**9) * units // 10**9 & 0xFFFFFFFFFFFFFFFF

    return _block(INTERFACE, struct.pack("<HHI", *head) + options + _END), timestamp


def packet_options_again(options: bytes, *, swapped: bool) -> bytes:
    """Options of a packet as they were, without an end."""
    return _again(options, _PACKET_NUMBERS, swapped=swapped) if options else b""


def packet_again(number: int, timestamp: int, frame: bytes, length: int, options: bytes) -> bytes:
    """A frame at interface `number`, at a time in that one's units; `options` have no end."""
    head = struct.pack("<IIIII", number, timestamp >> 32, timestamp & 0xFFFFFFFF, len(frame), length)
    return _block(PACKET, head + _padded(frame) + options + _END)


def _walk(options: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Options by code and value, up to the end or the first that cannot be."""
    at = 0
    while at + 4 <= len(options):
        code, size = struct.unpack_from(order + "HH", options, at)
        if code == 0 or at + 4 + size > len(options):
            break
        yield code, options[at + 4 : at + 4 + size]
        at += 4 + size + -size % 4


def _again(options: bytes, numbers: dict[int, int], *, swapped: bool) -> bytes:
    made = b""
    for code, value in _walk(options, ">" if swapped else "<"):
        size = 4 if code in _CUSTOM else numbers.get(code, 0)
        made += _option(code, value[:size][::-1] + value[size:] if swapped and size <= len(value) else value)
    return made


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)
