"""The engine: a policy in force, the connections under it, and the verdicts on packets that a caller brings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import index
from typing import TYPE_CHECKING, Any

from dataplane import conntrack
from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.enforcement import Disconnected, Enforcement, seed_words
from dataplane.verdict import LINK_WORDS, Verdict, verdict_of

if TYPE_CHECKING:
    from dataplane.policy.changes import Change
    from dataplane.policy.model import Policy

_SCAPY_LINKS = {"Ethernet": "ethernet", "802.3": "ethernet", "IP": "raw", "IPv6": "raw", "cooked linux": "sll"}


class Engine(Enforcement):
    """A policy in force over a connection table of its own.

    `seed` keys the hash of the connection table; None takes a fresh one (SPEC 4.9). Verdicts do not depend on it.
    Times are nanoseconds on one clock of the caller's choice, such as a capture's; a time that runs backwards counts as
    the latest time before it (SPEC 4.3). `verify_checksums` holds where a policy does not say it (SPEC 2, `conntrack`):
    live traffic sets it, a replay does not. An engine serves one thread at a time.
    """

    def __init__(self, policy: Policy, *, seed: int | None = None, verify_checksums: bool = False) -> None:
        words = ffi.new("uint64_t[2]", seed_words(seed))
        out = ffi.new("struct dp_plane **")
        config = conntrack.settings(policy.conntrack, verify_checksums=verify_checksums)
        check(lib.dp_plane_new(config, words, 1, out), "making the connection table")
        plane = ffi.gc(out[0], lib.dp_plane_free)
        #: What judges packets: the one shard.
        self.handle = lib.dp_plane_shard(plane, 0)
        self._resolved: list[tuple[int, Verdict]] = []
        super().__init__(plane, policy, verify_checksums=verify_checksums)

    # ---- packets ----

    def process(
        self, frame: Any, time: float | None = None, *, time_ns: int | None = None, link: str | None = None
    ) -> Verdict:
        """Judges one frame.

        `frame` is bytes, or a scapy packet; `time` is in seconds, `time_ns` exact in nanoseconds (one of the two; a
        scapy packet brings its own). `link` says how the frame begins: ``ethernet`` (default), ``raw`` (IP), ``null``,
        ``loop``, ``sll`` or ``sll2``; a scapy packet's first layer says it too. Raises TypeError or ValueError for
        arguments that cannot be meant.
        """
        if time_ns is None:
            time_ns = _frame_time(frame) if time is None else _nanoseconds(time)
        elif time is not None:
            raise ValueError(_TWO_TIMES)
        return self.process_batch([frame], times_ns=[time_ns], link=link)[0]

    def process_batch(
        self, frames: Sequence[Any], times_ns: Sequence[int] | None = None, *, link: str | None = None
    ) -> list[Verdict]:
        """Judges frames in order; `times_ns` has as many times, or is left out for scapy packets."""
        if times_ns is None:
            times_ns = [_frame_time(frame) for frame in frames]
        if len(times_ns) != len(frames):
            raise ValueError(f"{len(frames)} frames but {len(times_ns)} times: one time a frame is needed")
        array = ffi.new("struct dp_frame[]", len(frames))
        kept = []
        for c, frame, at in zip(array, frames, times_ns, strict=True):
            data, c.link = _frame(frame, link)
            at = _in_range(at)
            buffer = ffi.from_buffer("uint8_t[]", data)
            kept.append(buffer)
            c.time_ns, c.data, c.captured, c.length = at, buffer, len(data), len(data)
        records = ffi.new("struct dp_record[]", len(frames))
        first = lib.dp_engine_frames(self.handle)
        check(lib.dp_engine_process(self.handle, array, len(frames), records, ffi.NULL), "judging packets")
        for number, record in self._take_resolved():
            if number >= first:
                records[number - first] = record
            else:
                self._resolved.append((number, verdict_of(record, self.names)))
        return [verdict_of(record, self.names) for record in records]

    def resolved(self) -> list[tuple[int, Verdict]]:
        """Verdicts of fragments that were ``waiting`` and are decided since the last call.

        Each comes with the number of its packet, from 0 over the engine's life.
        """
        self._told_of_numbers()
        taken, self._resolved = self._resolved, []
        return taken

    def _told_of_numbers(self) -> bool:
        self._resolved += [(number, verdict_of(record, self.names)) for number, record in self._take_resolved()]
        return True

    def _take_resolved(self) -> Iterator[tuple[int, Any]]:
        resolution = ffi.new("struct dp_resolution *")
        while lib.dp_engine_resolved(self.handle, resolution, 1):
            yield resolution.number, resolution.record

    def advance(self, time_ns: int) -> None:
        """Lets time pass without a packet."""
        lib.dp_engine_advance(self.handle, _in_range(time_ns))

    # ---- changes ----

    def apply(
        self, change: Change | Mapping[str, Any], time: float | None = None, *, time_ns: int | None = None
    ) -> Disconnected:
        """Makes one change at a time (default: that of the latest packet), at once and as a whole (SPEC 5).

        `change` is as in SPEC 7, without `at`: ``{"add_rule": {"security_group": "sg-a", "rule": {...}}}``. Raises
        ChangeError when it is not valid; nothing has happened then.
        """
        if time is not None and time_ns is not None:
            raise ValueError(_TWO_TIMES)
        time_ns = _nanoseconds(time or 0) if time_ns is None else _in_range(time_ns)
        return self.replace(self.changed(change), time_ns=time_ns)


#: The range that signed nanoseconds have, so that adding a timeout to a time never overflows.
_TIME_MAX = (1 << 63) - 1
_TWO_TIMES = "give time= in seconds or time_ns= in nanoseconds, not both"


def _nanoseconds(time: float) -> int:
    if not hasattr(time, "__round__"):
        raise TypeError(f"a time in seconds is a number, not {type(time).__name__}")
    try:
        time_ns = round(time * conntrack.NANOSECONDS)
    except (ValueError, OverflowError):
        raise ValueError(_out_of_range(time, "seconds")) from None
    if not 0 <= time_ns <= _TIME_MAX:
        raise ValueError(_out_of_range(time, "seconds"))
    return time_ns


def _in_range(time_ns: int) -> int:
    try:
        time_ns = index(time_ns)
    except TypeError:
        raise TypeError(f"a time in nanoseconds is an int, not {type(time_ns).__name__}") from None
    if not 0 <= time_ns <= _TIME_MAX:
        raise ValueError(_out_of_range(time_ns, "nanoseconds"))
    return time_ns


def _out_of_range(time: object, unit: str) -> str:
    seconds, nanoseconds = divmod(_TIME_MAX, conntrack.NANOSECONDS)
    return f"the time {time} {unit} is out of range: 0 to {seconds}.{nanoseconds:09} seconds are allowed"


def _frame_time(frame: Any) -> int:
    """The time that a scapy packet brings."""
    time = getattr(_known_frame(frame), "time", None)
    if time is None:
        raise ValueError("a packet needs a time: give time= in seconds or time_ns= in nanoseconds")
    return _nanoseconds(time)


def _known_frame(frame: Any) -> Any:
    # What else bytes() takes would become something else: 5 five zeros, a list its items.
    if not isinstance(frame, bytes | bytearray | memoryview) and not hasattr(frame, "__bytes__"):
        raise TypeError(f"a frame is bytes or a scapy packet, not {type(frame).__name__}")
    return frame


def _frame(frame: Any, link: str | None) -> tuple[bytes, int]:
    data = bytes(_known_frame(frame))
    if link is None:
        name = getattr(frame, "name", "")
        link = "ethernet" if isinstance(frame, bytes | bytearray | memoryview) else _SCAPY_LINKS.get(name)
        if link is None:
            words = ", ".join(LINK_WORDS)
            raise ValueError(f"a {name} packet does not say its link type: give link=, one of {words}")
    if link not in LINK_WORDS:
        raise ValueError(f"link type {link!r} is not known: one of {', '.join(LINK_WORDS)} is")
    return data, LINK_WORDS.index(link)
