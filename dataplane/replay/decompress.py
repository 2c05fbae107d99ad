"""Compressed data decompressed as a stream, up to the very place where it is cut short or damaged.

The libraries keep what came before an error in the piece that they were given to themselves. So pieces are small, and
where one fails its parts are tried again (gzip), or a piece is one block, which is good or bad as a whole (zstd). Of
xz, bzip2 and LZ4, damage takes what came of up to a piece before it.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import zstandard

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_MAGIC = {"gzip": GZIP, "zstd": ZSTD, "xz": b"\xfd7zX", "bzip2": b"BZh", "lz4": b"\x04\x22\x4d\x18"}
# The largest that zstd knows, as of `zstd --long=31`.
_WINDOW_MAX = 1 << 31


def compression_of(magic: bytes) -> str | None:
    """What the first four bytes of a stream say it is compressed with; None for nothing that is known."""
    for name, begin in _MAGIC.items():
        if magic.startswith(begin):
            return name
    return "zstd" if _is_skippable(magic) else None


def decompressed(compression: str, stream: io.BufferedReader) -> Iterator[bytes]:
    """What a stream holds. Raises DamagedError behind the last byte that can be had."""
    if compression == "gzip":
        return gunzip(stream)
    if compression == "zstd":
        return unzstd(stream)
    return _members(stream, compression, *_unpacker(compression))


def _unpacker(compression: str) -> tuple[Callable[[], Any], tuple[type[Exception], ...]]:
    """What makes an object that decompresses one member, and the errors that it raises."""
    try:
        if compression == "xz":
            import lzma

            return lzma.LZMADecompressor, (lzma.LZMAError,)
        if compression == "bzip2":
            import bz2

            return bz2.BZ2Decompressor, (OSError, ValueError)
        import lz4.frame
    except ModuleNotFoundError as missing:
        raise DamagedError(f"cannot be read without {missing.name}: install it, or decompress it first") from None
    return lz4.frame.LZ4FrameDecompressor, (RuntimeError,)


# What of xz, bzip2 and LZ4 is decompressed at once.
_SMALL_PIECE = 1 << 10


def _members(
    stream: io.BufferedReader, name: str, unpacker: Callable[[], Any], errors: tuple[type[Exception], ...]
) -> Iterator[bytes]:
    """What members, one behind the other, hold."""
    current, behind, data = unpacker(), False, b""
    while data := data or stream.read1(_SMALL_PIECE):
        if behind and name == "xz":
            # Streams are padded with zeros (xz file format, 2.2).
            data = data.lstrip(b"\0")
            if not data:
                continue
        try:
            yield current.decompress(data)
        except errors as error:
            if behind:
                raise DamagedError(f"is followed by bytes that are no {name} data") from None
            raise DamagedError(f"is damaged: {error}") from None
        behind, data = current.eof, current.unused_data or b""
        if behind:
            current = unpacker()
    if not behind:
        raise DamagedError("is cut short")


def _is_skippable(magic: bytes) -> bool:
    """Whether a zstd frame begins so that holds no data (RFC 8878, 3.1.2), such as pzstd's first."""
    return len(magic) == 4 and magic[1:] == b"\x2a\x4d\x18" and magic[0] >> 4 == 5


# What the most repetitive data makes of one piece is a thousand times as long.
_PIECE = 1 << 15


class DamagedError(Exception):
    """The compressed data ends early or is not what it should be: the end of a sentence that begins with its name."""


def gunzip(stream: io.BufferedReader) -> Iterator[bytes]:
    """What the members of a gzip file hold. Raises DamagedError behind the last byte that can be had."""
    unpacker, behind, data = zlib.decompressobj(wbits=31), False, b""
    while data := data or stream.read1(_PIECE):
        if behind:
            # Tapes and some programs pad with zeros.
            data = data.lstrip(b"\0")
            if not data:
                continue
        try:
            yield from _inflated(unpacker, data)
        except zlib.error as error:
            if behind:
                raise DamagedError("is followed by bytes that are no gzip data") from None
            raise DamagedError(f"is damaged: {str(error).rpartition(': ')[2]}") from None
        behind, data = unpacker.eof, unpacker.unused_data
        if unpacker.eof:
            unpacker = zlib.decompressobj(wbits=31)
    if not behind:
        raise DamagedError("is cut short")


def _inflated(unpacker: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """All that comes of `data`, to the byte in which it is damaged; then zlib.error."""
    before = unpacker.copy()
    try:
        unpacked = unpacker.decompress(data)
    except zlib.error:
        if len(data) == 1:
            raise
        middle = len(data) // 2
        yield from _inflated(before, data[:middle])
        yield from _inflated(before, data[middle:])
    else:
        yield unpacked


def unzstd(stream: io.BufferedReader) -> Iterator[bytes]:
    """What the frames of a zstd file hold. Raises DamagedError behind the last block that can be had."""
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW_MAX)
    while magic := stream.read(4):
        if _is_skippable(magic):
            _skip(stream, int.from_bytes(_exactly(stream, 4), "little"))
        elif magic == ZSTD:
            try:
                yield from _frame(stream, unpacker.decompressobj())
            except zstandard.ZstdError as error:
                raise DamagedError(f"is damaged: {str(error).rpartition(': ')[2]}") from None
        elif ZSTD.startswith(magic):
            raise DamagedError("is cut short")
        else:
            raise DamagedError("is followed by bytes that are no zstd data")


# RFC 8878, 3.1.1: a frame is a header, blocks with a header each, and a checksum.
_SINGLE_SEGMENT, _CHECKSUM, _LAST_BLOCK = 1 << 5, 1 << 2, 1 << 0
_DICTIONARY_ID_SIZE, _CONTENT_SIZE_SIZE = (0, 1, 2, 4), (0, 2, 4, 8)
_RLE_BLOCK = 1


def _frame(stream: io.BufferedReader, unpacker: zstandard.ZstdDecompressionObj) -> Iterator[bytes]:
    """What one frame holds, its magic number being read already."""
    descriptor = _exactly(stream, 1)
    flags = descriptor[0]
    single = flags & _SINGLE_SEGMENT != 0
    size = (not single) + _DICTIONARY_ID_SIZE[flags & 3] + (_CONTENT_SIZE_SIZE[flags >> 6] or single)
    unpacker.decompress(ZSTD + descriptor + _exactly(stream, size))
    last = False
    while not last:
        head = _exactly(stream, 3)
        word = int.from_bytes(head, "little")
        last = word & _LAST_BLOCK != 0
        size = 1 if word >> 1 & 3 == _RLE_BLOCK else word >> 3
        body = stream.read(size)
        yield unpacker.decompress(head + body)
        if len(body) < size:
            raise DamagedError("is cut short")
    if flags & _CHECKSUM:
        unpacker.decompress(_exactly(stream, 4))


def _exactly(stream: io.BufferedReader, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise DamagedError("is cut short")
    return data


def _skip(stream: io.BufferedReader, size: int) -> None:
    while size:
        size -= len(_exactly(stream, min(size, _PIECE)))
