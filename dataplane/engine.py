"""The engine: a policy in force, the connections under it, and the verdicts on packets."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataplane import conntrack
from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.compiler import Compiler
from dataplane.connections import Connections
from dataplane.verdict import LINK_WORDS, Names, Verdict, verdict_of

if TYPE_CHECKING:
    from dataplane.policy.changes import Change
    from dataplane.policy.model import Policy

_SCAPY_LINKS = {"Ethernet": "ethernet", "802.3": "ethernet", "IP": "raw", "IPv6": "raw", "cooked linux": "sll"}


@dataclass(frozen=True, slots=True)
class Disconnected:
    """What a change cut: inbound connections by instance, and those cut because a remote group shrank (SPEC 5.4)."""

    by_instance: Mapping[str, int]
    revoked: int
    instances: int

    @property
    def total(self) -> int:
        """All connections that the change disconnected."""
        return sum(self.by_instance.values()) + self.revoked


class Engine:
    """A policy in force over a connection table of its own.

    `seed` keys the hash of the connection table; None takes a fresh one (SPEC 4.9). Verdicts do not depend on it.
    Times are nanoseconds on one clock of the caller's choice, such as a capture's; a time that runs backwards counts as
    the latest time before it (SPEC 4.3). `verify_checksums` holds where a policy does not say it (SPEC 2, `conntrack`):
    live traffic sets it, a replay does not. An engine serves one thread at a time.
    """

    def __init__(self, policy: Policy, *, seed: int | None = None, verify_checksums: bool = False) -> None:
        self._verify_checksums = verify_checksums
        self.names = Names()
        self._compiler = Compiler(self.names)
        words = ffi.new("uint64_t[2]", _seed_words(seed))
        out = ffi.new("struct dp_engine **")
        check(lib.dp_engine_new(self._settings(policy), words, out), "making the connection table")
        self.handle = ffi.gc(out[0], lib.dp_engine_free)
        self._resolved: list[tuple[int, Verdict]] = []
        self._policy = policy
        self._put_in_force(policy, conntrack.Disconnection(frozenset(), ()), 0)
        self.connections = Connections(self.handle, self.names)

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy

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
        # Only who makes changes waits for their models to be loaded.
        from dataplane.policy.changes import apply, parse_change

        if isinstance(change, Mapping):
            change = parse_change(change)
        return self.replace(apply(self._policy, change), time_ns=_seconds(time) if time_ns is None else time_ns)

    def replace(self, policy: Policy, *, time_ns: int = 0) -> Disconnected:
        """Puts another policy in force; the difference of the two is what changed."""
        if policy is self._policy:
            return Disconnected({}, 0, 0)
        return self._put_in_force(policy, conntrack.disconnection(self._policy, policy), time_ns)

    def _put_in_force(self, policy: Policy, cut: conntrack.Disconnection, time_ns: int) -> Disconnected:
        zones, endpoints = self._compiler.compile(policy)
        instances = sorted(cut.instances)
        revoked = [
            (address.ljust(16, b"\0"), 4 if len(address) == 4 else 6, self.names.rule_number(rule, group))
            for rule, group, address in cut.revoked
        ]
        config = self._settings(policy)
        counts = ffi.new("uint64_t[]", len(instances))
        arrays = (
            ffi.new("uint32_t[]", [self.names.zone(i) for i in instances]),
            ffi.new("struct dp_revocation[]", revoked),
        )
        update = ffi.new(
            "struct dp_policy_update *",
            {
                "zones": zones,
                "n_zones": len(zones),
                "endpoints": endpoints,
                "config": config,
                "cut": arrays[0],
                "n_cut": len(instances),
                "revocations": arrays[1],
                "n_revocations": len(revoked),
                "time_ns": time_ns,
                "disconnected": counts,
                "count_revoked": 1,
            },
        )
        check(lib.dp_engine_update(self.handle, update), "putting the policy in force")
        self._policy = policy
        by_instance = {i: n for i, n in zip(instances, counts, strict=True) if n}
        return Disconnected(by_instance, update.revoked, len(instances))

    def _settings(self, policy: Policy) -> Any:
        return conntrack.settings(policy.conntrack, verify_checksums=self._verify_checksums)

    # ---- counters ----

    def counters(self) -> Any:
        """A copy of the engine's counters (`struct dp_counters`)."""
        counters = ffi.new("struct dp_counters *")
        lib.dp_engine_counters(self.handle, counters)
        return counters

    def rule_counters(self) -> Any:
        """Counters by rule number (array of `struct dp_rule_counter`)."""
        n = len(self.names.rules)
        counters = ffi.new("struct dp_rule_counter[]", n)
        lib.dp_engine_rule_counters(self.handle, counters, n)
        return counters

    def denied(self, most: int) -> Iterable[Any]:
        """The flows denied most (`struct dp_denied`), at most `most`."""
        found = ffi.new("struct dp_denied[]", most)
        return [found[i] for i in range(lib.dp_engine_denied(self.handle, found, most))]


def _seed_words(seed: int | None) -> list[int]:
    if seed is None:
        return [secrets.randbits(64), secrets.randbits(64)]
    return [seed & 0xFFFFFFFFFFFFFFFF, seed >> 64 & 0xFFFFFFFFFFFFFFFF]


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
