"""A policy in force over shards: the one way for a packet and for a change, whoever brings them.

Packets come from a caller or a capture, which one thread judges, or by live interfaces, whose workers judge them. A
change is made in one way (SPEC 5): the policy becomes tables, the difference to the policy before says what is
disconnected, and both go to the C side as a whole (`csrc/plane.h`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dataplane import conntrack
from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.compiler import Compiler
from dataplane.connection_table import RECONSIDERED_AT_ONCE, Connections, Reconsidered
from dataplane.frames import TWO_TIMES, frame_data, frame_time, in_range, nanoseconds
from dataplane.update import Disconnected, PolicyUpdate
from dataplane.verdict import Names, Verdict, verdict_of

if TYPE_CHECKING:
    from dataplane.policy.changes import Change
    from dataplane.policy.model import Policy


#: So many numbers may be of names that no policy has, besides as many as live on; looking for them takes a walk.
_RETIRED_MAX = 256


class Plane:
    """A policy in force over a connection table.

    `seed` keys the hash of the connection table; None takes a fresh one (SPEC 4.9). Verdicts do not depend on it.
    Times are nanoseconds on one clock of the caller's choice, such as a capture's; a time that runs backwards counts as
    the latest time before it (SPEC 4.3). `verify_checksums` holds where a policy does not say it (SPEC 2, `conntrack`):
    live traffic sets it, a replay does not. `driven` is the C object of shards whose packets others bring, as a
    firewall's workers do: `process`, `resolved` and `advance` are not for it. `names` are another plane's, which keeps
    all numbers meanwhile (`numbers_kept`). A replay is judged on `shards` by as many threads, with the same verdicts;
    what a caller brings is for a plane of one. One thread at a time.

    `plane` is the C object, `handle` its first shard, which judges what the caller brings; `replaced` tells whether
    another policy was in force before.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        seed: int | None = None,
        shards: int = 1,
        verify_checksums: bool = False,
        driven: Any = None,
        names: Names | None = None,
    ) -> None:
        self._verify_checksums = verify_checksums
        if driven is None:
            self.plane = _new(policy, seed, shards, verify_checksums=verify_checksums)
            self.handle: Any = lib.dp_plane_shard(self.plane, 0)
        else:
            self.plane = driven
        #: How many judge a replay.
        self.shards = shards
        self.names = names or Names()
        self._gives_out_numbers = names is None
        self.connections = Connections(self.plane, self.names)
        self._compiler = Compiler(self.names)
        self._policy = policy
        self.replaced = False
        self._keepers = 0
        self._retired_max = _RETIRED_MAX
        self._resolved: list[tuple[int, Verdict]] = []
        self._put_in_force(policy, conntrack.Disconnection(), 0)

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
        ``loop``, ``sll`` or ``sll2``; a scapy packet's first layer says it too. Raises TypeError or ValueError for
        arguments that cannot be meant.
        """
        if time_ns is None:
            time_ns = frame_time(frame) if time is None else nanoseconds(time)
        elif time is not None:
            raise ValueError(TWO_TIMES)
        return self.process_batch([frame], times_ns=[time_ns], link=link)[0]

    def process_batch(
        self, frames: Sequence[Any], times_ns: Sequence[int] | None = None, *, link: str | None = None
    ) -> list[Verdict]:
        """Judges frames in order; `times_ns` has as many times, or is left out for scapy packets."""
        if times_ns is None:
            times_ns = [frame_time(frame) for frame in frames]
        if len(times_ns) != len(frames):
            raise ValueError(f"{len(frames)} frames but {len(times_ns)} times: one time a frame is needed")
        array = ffi.new("struct dp_frame[]", len(frames))
        kept = []
        for c, frame, at in zip(array, frames, times_ns, strict=True):
            data, c.link = frame_data(frame, link)
            at = in_range(at)
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

        Each comes with the number of its packet, from 0 over the plane's life.
        """
        self._told_of_numbers()
        taken, self._resolved = self._resolved, []
        return taken

    def _take_resolved(self) -> Iterator[tuple[int, Any]]:
        resolution = ffi.new("struct dp_resolution *")
        while lib.dp_engine_resolved(self.handle, resolution, 1):
            yield resolution.number, resolution.record

    def populate(self, connections: int | None = None) -> None:
        """Takes the memory for so many connections now, as a live firewall does: no packet waits for it later.

        `connections` are as many as the policy's ``max_entries`` if left out, and never more. Raises OutOfMemoryError.
        """
        most = self._policy.conntrack.max_entries
        wanted = most if connections is None else min(connections, most)
        check(lib.dp_plane_populate(self.plane, wanted), "taking the connection table's memory")

    def advance(self, time_ns: int) -> None:
        """Lets time pass without a packet."""
        lib.dp_plane_advance(self.plane, in_range(time_ns))

    # ---- changes ----

    def apply(
        self, change: Change | Mapping[str, Any], time: float | None = None, *, time_ns: int | None = None
    ) -> Disconnected:
        """Makes one change at a time (default: that of the latest packet), at once and as a whole (SPEC 5).

        `change` is as in SPEC 7, without `at`: ``{"add_rule": {"security_group": "sg-a", "rule": {...}}}``. Raises
        ChangeError when it is not valid; nothing has happened then.
        """
        if time is not None and time_ns is not None:
            raise ValueError(TWO_TIMES)
        time_ns = nanoseconds(time or 0) if time_ns is None else in_range(time_ns)
        return self.replace(self.changed(change), time_ns=time_ns)

    def changed(self, *changes: Change | Mapping[str, Any]) -> Policy:
        """The policy in force with changes made in their order, which is not in force yet. Raises ChangeError."""
        # Only who makes changes waits for their models to be loaded.
        from dataplane.policy.changes import apply, parse_change

        policy = self._policy
        for change in changes:
            policy = apply(policy, parse_change(change, policy) if isinstance(change, Mapping) else change)
        return policy

    def prepare(self) -> None:
        """Makes what the next change goes on from, so that it need not: nothing else changes."""
        from dataplane.policy.changes import prepare

        policy = self._policy
        prepare(policy)
        # Whom a change of the largest group cuts off.
        self.names.zones_of(max(policy.member_ids_by_group.values(), key=len, default=frozenset()))

    def replace(self, policy: Policy, *, time_ns: int = 0) -> Disconnected:
        """Puts another policy in force; the difference of the two is what changed."""
        if policy is self._policy:
            return Disconnected({}, 0, 0)
        cut = conntrack.disconnection(self._policy, policy)
        self.replaced = True
        return self._put_in_force(policy, cut, time_ns)

    def _put_in_force(self, policy: Policy, cut: conntrack.Disconnection, time_ns: int) -> Disconnected:
        try:
            update = self._update(policy, cut, self._compiler)
            ports = self._behind_ports(policy)
            array = ffi.new("struct dp_port_update[]", ports)
            update.c.ports, update.c.n_ports = array, len(ports)
            update.c.time_ns = time_ns
            check(self._swap(update.c), "putting the policy in force")
        except BaseException:
            # What was compiled, or a part of it, is not in force: the next change must not go on from it.
            self._compiler = Compiler(self.names)
            raise
        self._policy = policy
        if self._gives_out_numbers and not self._keepers:
            self.names.keep_balancers(balancer.id for balancer in policy.load_balancers)
        disconnected = update.disconnected()
        self._take_back_numbers()
        return disconnected

    def _behind_ports(self, policy: Policy) -> list[dict[str, Any]]:
        """What stands behind ports under a policy that is put in force, as `struct dp_port_update`."""
        return []

    def _swap(self, update: Any) -> int:
        return lib.dp_plane_update(self.plane, update)

    def _update(self, policy: Policy, cut: conntrack.Disconnection, compiler: Compiler) -> PolicyUpdate:
        zones, endpoints = compiler.compile(policy)
        update = PolicyUpdate(compiler.names, cut)
        config = conntrack.settings(policy.conntrack, verify_checksums=self._verify_checksums)
        update.c.zones, update.c.n_zones = zones, len(zones)
        update.c.endpoints, update.c.config = endpoints, config
        # The compiler owns the tables that the zones point to.
        update.policy = compiler, zones, endpoints, config
        return update

    def rehearse(self, policy: Policy) -> Disconnected:
        """What putting a policy in force would disconnect; nothing changes, names and tables neither."""
        cut = conntrack.disconnection(self._policy, policy)
        update = PolicyUpdate(self.names, cut)
        # What comes to a deny rule is asked of the rules of then.
        if cut.revoked or cut.arrived:
            update = self._update(policy, cut, self._compiler.copy())
        check(lib.dp_plane_rehearse(self.plane, update.c), "rehearsing the change")
        return update.disconnected()

    def reconsider(self, policy: Policy) -> Iterator[Reconsidered]:
        """Connections that putting a policy in force would not leave as they are, some at a time; nothing changes."""
        cut = conntrack.disconnection(self._policy, policy)
        compiler = self._compiler.copy()
        update = self._update(policy, cut, compiler)
        cursor, found = ffi.new("uint64_t *", 0), ffi.new("struct dp_reconsidered[]", RECONSIDERED_AT_ONCE)
        walk = lib.dp_plane_reconsider
        while n := check(walk(self.plane, update.c, cursor, found, RECONSIDERED_AT_ONCE), "reconsidering connections"):
            yield Reconsidered(bytes(ffi.buffer(found, n * ffi.sizeof(found[0]))), compiler.names)

    # ---- numbers ----

    @contextmanager
    def numbers_kept(self) -> Iterator[None]:
        """No number is given out again meanwhile, so that what is counted by it stays whose it is."""
        self._keepers += 1
        try:
            yield
        finally:
            self._keepers -= 1

    def _take_back_numbers(self) -> None:
        """Takes back the numbers of instances and rules that the policy has no more, once there are many."""
        zones, rules = self.names.count()
        in_policy = self._policy.n_rules
        retired = max(zones - len(self._policy.instances), rules - in_policy)
        if self._keepers or not self._gives_out_numbers or retired < self._retired_max:
            return
        in_force = {
            (rule.id, group.id) for group in self._policy.security_groups for rule in group.security_group_rules
        }
        unused_zones, unused_rules = self.names.retired(self._policy.instances_by_id, in_force)
        c = ffi.new("struct dp_retired *", {"n_zones": len(unused_zones), "n_rules": len(unused_rules)})
        c.zones, c.rules = ffi.from_buffer("uint8_t[]", unused_zones), ffi.from_buffer("uint8_t[]", unused_rules)
        lib.dp_plane_retire(self.plane, c)
        if self._told_of_numbers():
            self.names.take_back(unused_zones, unused_rules)
        # Rules under which connections live on are looked for again when there are twice as many.
        zones, rules = self.names.count()
        left = max(zones - len(self._policy.instances), rules - in_policy)
        self._retired_max = max(_RETIRED_MAX, 2 * left)

    def _told_of_numbers(self) -> bool:
        """Has all that the C side has already told turned into names; whether that is done."""
        self._resolved += [(number, verdict_of(record, self.names)) for number, record in self._take_resolved()]
        return True

    # ---- connections saved and restored ----

    def restore(
        self,
        batches: Iterable[bytes],
        passed_ns: int,
        outcomes: Any = ffi.NULL,
        *,
        newer: bool = False,
        unless_cut: bool = False,
    ) -> int:
        """Puts saved connections back as they were `passed_ns` ago; returns how many were taken, or updated.

        What is in already stays, or with `newer` is updated where this is not older; with `unless_cut` what a change of
        this policy has cut stays so. `outcomes`
        (``uint64_t[DP_RESTORED_OUTCOMES]``) counts what became of them.
        """
        update = lib.DP_RESTORE_NEWER_UNLESS_CUT if unless_cut else lib.DP_RESTORE_NEWER
        how = update if newer else lib.DP_RESTORE_MISSING
        taken = 0
        for batch in batches:
            array = ffi.from_buffer("struct dp_saved_connection[]", batch)
            code = lib.dp_plane_restore(self.plane, array, len(array), passed_ns, how, outcomes)
            taken += check(code, "restoring connections")
        return taken

    def forget(self, batch: bytes) -> int:
        """Takes connections with the keys of saved ones out of the table; returns how many were in."""
        array = ffi.from_buffer("struct dp_saved_connection[]", batch)
        return check(lib.dp_plane_forget(self.plane, array, len(array)), "deleting connections")

    # ---- the bound of the table ----

    def balance(self) -> None:
        """Shares out anew what shards do not use of the connection table; to be called every now and then."""
        lib.dp_plane_balance(self.plane)

    # ---- counters ----

    def counters(self) -> Any:
        """A copy of the counters (`struct dp_counters`)."""
        counters = ffi.new("struct dp_counters *")
        lib.dp_plane_counters(self.plane, counters)
        return counters

    def rule_counters(self) -> Any:
        """Counters by rule number (array of `struct dp_rule_counter`)."""
        n = len(self.names.rules)
        counters = ffi.new("struct dp_rule_counter[]", n)
        lib.dp_plane_rule_counters(self.plane, counters, n)
        return counters

    def denied(self, most: int) -> Iterable[Any]:
        """The flows denied most (`struct dp_denied *`), at most `most`."""
        found = ffi.new("struct dp_denied[]", most)
        # Copies: an item of an array does not keep the array alive.
        return [ffi.new("struct dp_denied *", found[i]) for i in range(lib.dp_plane_denied(self.plane, found, most))]


def seed_words(seed: int | None) -> list[int]:
    """The two words that key a connection table's hash; fresh ones for None (SPEC 4.9)."""
    if seed is None:
        return [secrets.randbits(64), secrets.randbits(64)]
    return [seed & 0xFFFFFFFFFFFFFFFF, seed >> 64 & 0xFFFFFFFFFFFFFFFF]


def _new(policy: Policy, seed: int | None, shards: int, *, verify_checksums: bool) -> Any:
    words = ffi.new("uint64_t[2]", seed_words(seed))
    out = ffi.new("struct dp_plane **")
    config = conntrack.settings(policy.conntrack, verify_checksums=verify_checksums)
    check(lib.dp_plane_new(config, words, shards, out), "making the connection table")
    return ffi.gc(out[0], lib.dp_plane_free)
