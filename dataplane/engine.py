"""The engine: a policy in force, the connections under it, and the verdicts on packets that a caller brings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dataplane import conntrack
from dataplane._core import ffi, lib
from dataplane._core.calls import ENGINE
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
    the latest time before it (SPEC 4.3). An engine serves one thread at a time.
    """

    def __init__(self, policy: Policy, *, seed: int | None = None) -> None:
        words = ffi.new("uint64_t[2]", seed_words(seed))
        out = ffi.new("struct dp_engine **")
        check(lib.dp_engine_new(conntrack.settings(policy.conntrack), words, out), "making the connection table")
        super().__init__(ffi.gc(out[0], lib.dp_engine_free), ENGINE, policy)
        self._resolved: list[tuple[int, Verdict]] = []

    # ---- packets ----

    def process(
        self, frame: Any, time: float | None = None, *, time_ns: int | None = None, link: str | None = None
    ) -> Verdict:
        """Judges one frame.

        `frame` is bytes, or a scapy packet; `time` is in seconds, `time_ns` exact in nanoseconds (one of the two; a
        scapy packet brings its own). `link` says how the frame begins: ``ethernet`` (default), ``raw`` (IP), ``null``,
        ``loop``, ``sll`` or ``sll2``; a scapy packet's first layer says it too.
        """
        if time_ns is None:
            time_ns = _nanoseconds(frame, time)
        return self.process_batch([frame], times_ns=[time_ns], link=link)[0]

    def process_batch(
        self, frames: Sequence[Any], times_ns: Sequence[int] | None = None, *, link: str | None = None
    ) -> list[Verdict]:
        """Judges frames in order; `times_ns` has as many times, or is left out for scapy packets."""
        if times_ns is None:
            times_ns = [_nanoseconds(frame, None) for frame in frames]
        if len(times_ns) != len(frames):
            raise ValueError(f"{len(frames)} frames but {len(times_ns)} times: one time a frame is needed")
        array = ffi.new("struct dp_frame[]", len(frames))
        kept = []
        for c, frame, at in zip(array, frames, times_ns, strict=True):
            data, c.link = _frame(frame, link)
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
        self._resolved += [(number, verdict_of(record, self.names)) for number, record in self._take_resolved()]
        taken, self._resolved = self._resolved, []
        return taken

    def _take_resolved(self) -> Iterator[tuple[int, Any]]:
        resolution = ffi.new("struct dp_resolution *")
        while lib.dp_engine_resolved(self.handle, resolution, 1):
            yield resolution.number, resolution.record

    def advance(self, time_ns: int) -> None:
        """Lets time pass without a packet."""
        lib.dp_engine_advance(self.handle, time_ns)

    # ---- changes ----

    def apply(
        self, change: Change | Mapping[str, Any], time: float | None = None, *, time_ns: int | None = None
    ) -> Disconnected:
        """Makes one change at a time (default: that of the latest packet), at once and as a whole (SPEC 5).

        `change` is as in SPEC 7, without `at`: ``{"add_rule": {"security_group": "sg-a", "rule": {...}}}``. Raises
        ChangeError when it is not valid; nothing has happened then.
        """
        return self.replace(self.changed(change), time_ns=_seconds(time) if time_ns is None else time_ns)


def _seconds(time: float | None) -> int:
    return 0 if time is None else round(time * conntrack.NANOSECONDS)


def _nanoseconds(frame: Any, time: float | None) -> int:
    if time is None:
        time = getattr(frame, "time", None)
        if time is None:
            raise ValueError("a packet needs a time: give time= in seconds or time_ns= in nanoseconds")
    return round(time * conntrack.NANOSECONDS)


def _frame(frame: Any, link: str | None) -> tuple[bytes, int]:
    if link is None:
        link = "ethernet" if isinstance(frame, (bytes, bytearray, memoryview)) else _SCAPY_LINKS.get(frame.name)
    if link not in LINK_WORDS:
        raise ValueError(f"link type {link!r} is not known: one of {', '.join(LINK_WORDS)} is")
    return bytes(frame), LINK_WORDS.index(link)
