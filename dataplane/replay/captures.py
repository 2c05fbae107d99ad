"""Captures opened for C to read: plain files it reads itself, all else is fed to it when it wants more."""

from __future__ import annotations

import io
import os
import resource
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.replay.decompress import compression_of
from dataplane.replay.reading import GrowingFile, KnownFile, Reading, StoppedError, Waiting, open_stream
from dataplane.replay.urls import is_remote
from dataplane.replay.window import WHOLE, Part, c_mappings

if TYPE_CHECKING:
    from dataplane.replay.remote import RemoteFile, RemoteStream

_FORMATS = {lib.DP_CAPTURE_UNKNOWN: None, lib.DP_CAPTURE_PCAP: "pcap", lib.DP_CAPTURE_PCAPNG: "pcapng"}
_STARVED = 2


class CaptureError(OSError):
    """A capture that cannot be opened; the text says which and why."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


class StrangeLink(NamedTuple):
    """Packets whose link type, a number of the registry of tcpdump.org, is not supported; `name` is None for many."""

    link_type: int
    name: str | None
    packets: int


#: Link types that carry no IP, or not so that it can be found, and are met in captures all the same.
_LINK_NAMES = {
    105: "IEEE802_11",
    117: "PFLOG",
    119: "PRISM_HEADER",
    127: "IEEE802_11_RADIOTAP",
    163: "IEEE802_11_AVS",
    177: "LINUX_LAPD",
    187: "BLUETOOTH_HCI_H4",
    189: "USB_LINUX",
    190: "CAN20B",
    192: "PPI",
    195: "IEEE802_15_4_WITHFCS",
    201: "BLUETOOTH_HCI_H4_WITH_PHDR",
    220: "USB_LINUX_MMAPPED",
    227: "CAN_SOCKETCAN",
    230: "IEEE802_15_4_NOFCS",
    249: "USBPCAP",
    251: "BLUETOOTH_LE_LL",
    253: "NETLINK",
    254: "BLUETOOTH_LINUX_MONITOR",
    266: "USB_DARWIN",
    288: "USB_2_0",
}


class CaptureStatus(NamedTuple):
    """How far a capture was read. `fault` says what stopped it before its end, at byte `offset`; None if nothing did.

    The offset of a compressed capture counts decompressed bytes, and `fault` says so. `position` and `size` are bytes
    of the file, for a progress bar; `size` is 0 where it is not known. Packets of `strange_links` are ``bypass``.
    """

    name: str
    format: str | None
    packets: int
    bytes: int
    position: int
    size: int
    fault: str | None
    offset: int | None
    strange_links: Sequence[StrangeLink] = ()

    @property
    def words(self) -> str:
        """The fault with its place."""
        return f"at byte {self.offset}: {self.fault}"

    def to_dict(self) -> dict[str, Any]:
        """The status as JSON values."""
        return {**self._asdict(), "strange_links": [link._asdict() for link in self.strange_links]}


class _Capture:
    """One capture: its handle, and what feeds it."""

    def __init__(self, name: str, waiting: Waiting, *, hold: bool, follow: bool) -> None:
        self.name = "standard input" if name == "-" else name
        self.reading: Reading | None = None
        self._path = name
        self._waiting = waiting
        self._follow = follow
        self._file: io.FileIO | None = None
        self._known: KnownFile | RemoteStream | None = None
        self._remote: RemoteFile | None = None
        out = ffi.new("struct dp_capture **")
        try:
            if is_remote(name):
                self._open_remote(name, out)
            else:
                self._about = os.fstat(sys.stdin.fileno()) if name == "-" else os.stat(name)
                if stat.S_ISDIR(self._about.st_mode):
                    raise IsADirectoryError(None, "it is a directory")
                self._open(name, out, hold=hold)
        except OSError as error:
            raise CaptureError(error.errno, error.strerror or str(error), self.name) from None
        except ValueError as error:
            # Documents name captures too, and a name in them may hold what no file's name does.
            raise CaptureError(None, f"it is no name of a file: {error}", self.name) from None
        self.handle: Any = ffi.gc(out[0], lib.dp_capture_free)

    def _open_remote(self, url: str, out: Any) -> None:
        from dataplane.replay.remote import RemoteFile

        if self._follow:
            raise OSError(None, "a file that is named by a URL cannot be followed as it grows")
        self._remote = RemoteFile.look(url)
        check(lib.dp_capture_open_fed(True, out), f"opening {url}")

    def _open(self, name: str, out: Any, *, hold: bool) -> None:
        if not stat.S_ISREG(self._about.st_mode):
            check(lib.dp_capture_open_fed(False, out), f"opening {name}")
            self.reading = Reading(open_stream(name, self._about.st_mode, self._waiting))
            return
        self._file = file = io.FileIO(sys.stdin.fileno() if name == "-" else name, closefd=name != "-")
        hold = hold or name == "-"
        self._about = os.fstat(file.fileno())
        if self._follow:
            check(lib.dp_capture_open_fed(False, out), f"opening {name}")
            self.reading = Reading(GrowingFile(file, None if name == "-" else name, self._waiting))
            return
        if compression_of(os.pread(file.fileno(), 4, 0)):
            check(lib.dp_capture_open_fed(True, out), f"opening {name}")
        else:
            path = ffi.NULL if hold else ffi.new("char[]", os.fsencode(name))
            check(lib.dp_capture_open(file.fileno(), path, out), f"opening {name}")
        if not hold:
            file.close()
            self._file = None

    def feed(self) -> None:
        """Gives the capture the bytes that it wants next. Raises StoppedError."""
        if self.reading is None or (self.reading.given and not lib.dp_capture_wanted(self.handle)):
            self.rest()
            if self._remote:
                self._known = self._remote.open(again=self._known is not None)
            else:
                self._known = KnownFile(self._path, self._about, self._file)
            self.reading = Reading(self._known, self._waiting.ahead)
        piece = self.reading.next()
        data = ffi.from_buffer("uint8_t[]", piece) if piece else ffi.NULL
        check(lib.dp_capture_feed(self.handle, data, len(piece)), f"reading {self.name}")

    def bytes_read(self) -> int:
        """How many bytes of the file have been read."""
        if self._known:
            return self._known.at
        status = ffi.new("struct dp_capture_status *")
        lib.dp_capture_status(self.handle, status)
        return int(status.position)

    def rest(self) -> None:
        """Lets go what feeds it, until it wants its bytes from the first on."""
        if self.reading:
            self.reading.close()
            self.reading = None

    def rests(self) -> bool:
        """Whether all that was fed is forgotten, because the time of the capture is still to come."""
        return self.reading is not None and bool(self.reading.given) and not lib.dp_capture_wanted(self.handle)

    def close(self) -> None:
        ffi.release(self.handle)
        self.rest()
        if self._file:
            self._file.close()


class Captures:
    """Captures by path (``-`` is standard input), open until the end of a ``with`` block.

    Raises CaptureError for the first path that cannot be opened. With `follow`, a regular file is read on as it grows,
    until `stop`. Packets outside of the window of `part` are as if they were not there; addresses in frames are judged
    and told by its mappings.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        follow: bool = False,
        part: Part = WHOLE,
    ) -> None:
        self.paths = [str(path) for path in paths]
        self._waiting = Waiting()
        self._captures: list[_Capture] = []
        self._fed: _Capture | None = None
        held = _descriptors_to_hold()
        try:
            for path in paths:
                hold = len(self._captures) < held
                self._captures.append(_Capture(str(path), self._waiting, hold=hold, follow=follow))
        except BaseException:
            self._close_all()
            raise
        self._handles = ffi.new("struct dp_capture *[]", [c.handle for c in self._captures])
        out = ffi.new("struct dp_replay **")
        check(lib.dp_replay_new(self._handles, len(self._handles), out), "merging the captures")
        self.handle = ffi.gc(out[0], lib.dp_replay_free)
        self._window = part.window
        #: Time of the first packet in nanoseconds, where the window leaves all of them out.
        self.left_out_from: int | None = None
        if part.mappings:
            mapped = c_mappings(part.mappings)
            check(lib.dp_replay_map(self.handle, mapped, len(mapped)), "mapping addresses")
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all files; the handle is of no use afterwards."""
        ffi.release(self.handle)
        self._close_all()

    def _close_all(self) -> None:
        for capture in self._captures:
            capture.close()

    def before_waiting(self, call: Callable[[], None]) -> None:
        """Has `call` called whenever input pauses."""
        self._waiting.before = call

    def wake_by(self, descriptor: int) -> None:
        """Makes whatever waits look, once `descriptor` is readable, whether it should stop."""
        self._waiting.wake = descriptor

    def stop(self) -> None:
        """Asks for reading to end soon; a signal handler may call this."""
        self._waiting.stopping = True

    @property
    def stopping(self) -> bool:
        """Whether an end was asked for and not made yet."""
        return self._waiting.stopping and not self._stopped

    def supply(self) -> bool:
        """Feeds the capture that everything waits for, or makes an end where that was asked for; False if neither."""
        if self.stopping:
            self._stop()
            return True
        starved = -1 if self._stopped else lib.dp_replay_starved(self.handle)
        if starved < 0:
            return False
        capture = self._captures[starved]
        if self._fed and self._fed is not capture and self._fed.rests():
            self._fed.rest()
        self._fed = capture
        try:
            capture.feed()
        except StoppedError:
            self._stop()
        return True

    def interfaces(self, known: int) -> list[str | int]:
        """The interfaces that records have named behind the first `known`: the name that a pcapng file gives, else the
        number in its section."""
        found: list[str | int] = []
        for number in range(known + 1, lib.dp_replay_interfaces(self.handle) + 1):
            interface = lib.dp_replay_interface(self.handle, number)
            named = interface.name != ffi.NULL
            found.append(ffi.string(interface.name).decode(errors="replace") if named else interface.number)
        return found

    def _stop(self) -> None:
        lib.dp_replay_stop(self.handle)
        self._stopped = True

    def first_time(self) -> int | None:
        """Time of the first packet in nanoseconds, None where there is none; to be asked before all else."""
        first = self.next_time()
        if first is None or self._window is None:
            return first
        lib.dp_replay_between(self.handle, *self._window.bounds(first))
        self._window = None
        begin = self.next_time()
        self.left_out_from = first if begin is None else None
        return begin

    def next_time(self) -> int | None:
        """Time of the next packet in nanoseconds, None at the end."""
        time = ffi.new("uint64_t *")
        while (next_one := check(lib.dp_replay_next_time(self.handle, time), "reading a capture")) == _STARVED:
            self.supply()
        return time[0] if next_one else None

    def bytes_read(self) -> int:
        """How many bytes of the files have been read, compressed ones as they are."""
        return sum(capture.bytes_read() for capture in self._captures)

    def status(self) -> list[CaptureStatus]:
        """How far each capture has been read."""
        return [_status(capture) for capture in self._captures]


def _descriptors_to_hold() -> int:
    """How many files may be held open; each further one is opened for a moment whenever it is read."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1024 if allowed == resource.RLIM_INFINITY else max(0, min(1024, (allowed - 64) // 2))


def _status(capture: _Capture) -> CaptureStatus:
    status = ffi.new("struct dp_capture_status *")
    lib.dp_capture_status(capture.handle, status)
    fault, offset = None, None
    if status.error:
        fault = (
            ffi.string(status.detail).decode(errors="replace") or ffi.string(lib.dp_error_text(status.error)).decode()
        )
        offset = status.offset
    reading = capture.reading
    # Bytes that break off look like a truncated capture: what broke them off says more.
    if reading and reading.fault and status.error in (0, lib.DP_E_TRUNCATED):
        fault, offset = reading.fault, reading.given
    if fault and reading and reading.compression:
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
        strange_links=[
            StrangeLink(link.link_type, _LINK_NAMES.get(link.link_type), link.packets)
            for link in status.strange[0 : status.n_strange]
        ],
    )
