"""Capture files opened for C to read: plain ones are mapped, compressed ones and standard input come through a pipe."""

from __future__ import annotations

import fcntl
import io
import os
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.replay.decompress import DamagedError, compression_of, gunzip, unzstd

_CHUNK = 1 << 20
_FORMATS = {lib.DP_CAPTURE_UNKNOWN: None, lib.DP_CAPTURE_PCAP: "pcap", lib.DP_CAPTURE_PCAPNG: "pcapng"}


@dataclass(frozen=True, slots=True)
class CaptureStatus:
    """How far a capture was read. `fault` says what stopped it before its end, at byte `offset`; None if nothing did.

    The offset of a compressed capture counts decompressed bytes, and `fault` says so. `position` and `size` are bytes
    of the file, for a progress bar; `size` is 0 where it is not known.
    """

    name: str
    format: str | None
    packets: int
    bytes: int
    position: int
    size: int
    fault: str | None
    offset: int | None


class _Pump:
    """A thread that writes a stream, decompressed where its magic says so, into a pipe whose other end C reads.

    `magic` are the first bytes of the stream; `taken` those of them that were read from it already.
    """

    def __init__(self, source: io.FileIO, magic: bytes, taken: bytes) -> None:
        self.fault: str | None = None
        self.written = 0
        self.compression = compression_of(magic)
        self.read_end, self._write_end = os.pipe()
        fcntl.fcntl(self._write_end, fcntl.F_SETPIPE_SZ, _CHUNK)
        self._stream: io.BufferedReader = io.BufferedReader(_Headed(taken, source), _CHUNK)
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for chunk in self._chunks():
                view = memoryview(chunk)
                while view:
                    written = os.write(self._write_end, view)
                    self.written += written
                    view = view[written:]
        except BrokenPipeError:
            pass
        except DamagedError as error:
            self.fault = f"the {self.compression} data {error}"
        except Exception as error:
            # Whatever makes reading fail is a fault of the capture.
            self.fault = f"the {self.compression or 'stream'} data cannot be read: {error}"
        finally:
            os.close(self._write_end)

    def _chunks(self) -> Iterator[bytes]:
        if self.compression == "gzip":
            return gunzip(self._stream)
        if self.compression == "zstd":
            return unzstd(self._stream)
        return iter(lambda: self._stream.read1(_CHUNK), b"")

    def close(self) -> None:
        os.close(self.read_end)
        self._thread.join()


class _Headed(io.RawIOBase):
    """A stream some of whose first bytes have been read already."""

    def __init__(self, head: bytes, source: io.FileIO) -> None:
        self._head = head
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._source.read(len(buffer)) or b""
        self._head = self._head[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


class _Capture:
    def __init__(self, name: str) -> None:
        self.name = name
        self.fault: str | None = None
        self.handle: Any = None
        self.pump: _Pump | None = None
        self._file: io.FileIO | None = None
        try:
            fd = self._open(name)
        except OSError as error:
            self.fault = error.strerror or str(error)
            return
        out = ffi.new("struct dp_capture **")
        check(lib.dp_capture_open(fd, out), f"opening {name}")
        self.handle = ffi.gc(out[0], lib.dp_capture_free)

    def _open(self, name: str) -> int:
        if name == "-":
            self.name = "standard input"
        target = sys.stdin.fileno() if name == "-" else name
        self._file = source = io.FileIO(target, closefd=name != "-")
        mode = os.fstat(source.fileno()).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(None, "it is a directory")
        if not stat.S_ISREG(mode):
            head = _read_head(source)
            self.pump = _Pump(source, head, head)
            return self.pump.read_end
        magic = os.pread(source.fileno(), 4, 0)
        if compression_of(magic) is None:
            return source.fileno()
        self.pump = _Pump(source, magic, b"")
        return self.pump.read_end

    def close(self) -> None:
        if self.handle is not None:
            ffi.release(self.handle)
            self.handle = None
        if self.pump:
            self.pump.close()
        if self._file:
            self._file.close()


def _read_head(source: io.FileIO) -> bytes:
    head = b""
    while len(head) < 4:
        more = source.read(4 - len(head))
        if not more:
            break
        head += more
    return head


class Captures:
    """Captures by path (``-`` is standard input), open until the end of a ``with`` block.

    A path that cannot be opened is a fault of that capture, told by `status`, and no exception.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._captures = [_Capture(str(path)) for path in paths]
        self._handles = ffi.new("struct dp_capture *[]", [c.handle for c in self._captures if c.handle is not None])
        out = ffi.new("struct dp_replay **")
        check(lib.dp_replay_new(self._handles, len(self._handles), out), "merging the captures")
        self.handle = ffi.gc(out[0], lib.dp_replay_free)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all files; the handle is of no use afterwards."""
        ffi.release(self.handle)
        for capture in self._captures:
            capture.close()

    def next_time(self) -> int | None:
        """Time of the next packet in nanoseconds, None at the end."""
        time = ffi.new("uint64_t *")
        return time[0] if check(lib.dp_replay_next_time(self.handle, time), "reading a capture") else None

    def status(self) -> list[CaptureStatus]:
        """How far each capture has been read."""
        return [_status(capture) for capture in self._captures]


def _status(capture: _Capture) -> CaptureStatus:
    if capture.handle is None:
        return CaptureStatus(capture.name, None, 0, 0, 0, 0, capture.fault, 0)
    status = ffi.new("struct dp_capture_status *")
    lib.dp_capture_status(capture.handle, status)
    fault, offset = None, None
    if status.error:
        fault = (
            ffi.string(status.detail).decode(errors="replace") or ffi.string(lib.dp_error_text(status.error)).decode()
        )
        offset = status.offset
    pump = capture.pump
    # A stream that breaks off looks like a truncated capture: what broke it says more.
    if pump and pump.fault and status.error in (0, lib.DP_E_TRUNCATED):
        fault, offset = pump.fault, pump.written
    if fault and pump and pump.compression:
        fault += " (the offset counts decompressed bytes)"
    return CaptureStatus(
        name=capture.name,
        format=_FORMATS[status.format],
        packets=status.packets,
        bytes=status.bytes,
        position=status.position,
        size=status.size,
        fault=fault,
        offset=offset,
    )
