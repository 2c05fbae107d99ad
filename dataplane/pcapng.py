"""The blocks of a pcapng file, as draft-ietf-opsawg-pcapng has them: little-endian, nanoseconds, Ethernet."""

from __future__ import annotations

import struct

SECTION, INTERFACE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 5, 6
_COMMENT, _APPLICATION, _NAME, _DESCRIPTION, _RESOLUTION, _FLAGS, _DROPPED = 1, 4, 2, 3, 9, 2, 5
_ETHERNET = 1
#: Behind type, length, interface, time, and the option's own head.
_DROPPED_AT = 24
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
    return b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options) + bytes(4)


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size
