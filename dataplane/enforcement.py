"""A policy in force over a connection table, whoever brings the packets: a capture, a caller, or live interfaces.

There is one way for a change (SPEC 5): the policy becomes tables, the difference to the policy before says what is
disconnected, and both go to the C side as a whole.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataplane import conntrack
from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.compiler import Compiler
from dataplane.connections import Connections
from dataplane.verdict import Names

if TYPE_CHECKING:
    from dataplane.policy.changes import Change
    from dataplane.policy.model import Policy


#: So many numbers may be of names that no policy has, besides as many as live on; looking for them takes a walk.
_RETIRED_MAX = 256
_SAVED_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Disconnected:
    """What a change cut: inbound connections by instance, and `revoked` because a remote group changed (SPEC 5.4)."""

    by_instance: Mapping[str, int]
    revoked: int
    instances: int

    @property
    def total(self) -> int:
        """All connections that the change disconnected."""
        return sum(self.by_instance.values()) + self.revoked


class Enforcement:
    """A policy in force: what a library's engine and a live firewall are alike in.

    `plane` is the C object; `verify_checksums` holds where a policy does not say it; `replaced` tells whether another
    policy was in force before. One thread at a time.
    """

    def __init__(self, plane: Any, policy: Policy, *, verify_checksums: bool) -> None:
        self._verify_checksums = verify_checksums
        self.plane = plane
        self.names = Names()
        self.connections = Connections(plane, self.names)
        self._compiler = Compiler(self.names)
        self._policy = policy
        self.replaced = False
        self._keepers = 0
        self._retired_max = _RETIRED_MAX
        self._put_in_force(policy, conntrack.Disconnection(), 0)

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy

    # ---- changes ----

    def changed(self, change: Change | Mapping[str, Any]) -> Policy:
        """The policy in force with a change made, which is not in force yet. Raises ChangeError."""
        # Only who makes changes waits for their models to be loaded.
        from dataplane.policy.changes import apply, parse_change

        if isinstance(change, Mapping):
            change = parse_change(change, self._policy)
        return apply(self._policy, change)

    def replace(self, policy: Policy, *, time_ns: int = 0) -> Disconnected:
        """Puts another policy in force; the difference of the two is what changed."""
        if policy is self._policy:
            return Disconnected({}, 0, 0)
        cut = conntrack.disconnection(self._policy, policy)
        self.replaced = True
        return self._put_in_force(policy, cut, time_ns)

    def _put_in_force(self, policy: Policy, cut: conntrack.Disconnection, time_ns: int) -> Disconnected:
        update = self._update(policy, cut, self._compiler)
        ports = self._behind_ports(policy)
        array = ffi.new("struct dp_port_update[]", ports)
        update.c.ports, update.c.n_ports = array, len(ports)
        update.c.time_ns = time_ns
        check(self._swap(update.c), "putting the policy in force")
        self._policy = policy
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
        if cut.arrived:
            update = self._update(policy, cut, self._compiler.copy())
        check(lib.dp_plane_rehearse(self.plane, update.c), "rehearsing the change")
        return update.disconnected()

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
        retired = max(zones - len(self._policy.instances), rules - len(self._policy.rules_by_id))
        if self._keepers or retired < self._retired_max:
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
        left = max(zones - len(self._policy.instances), rules - len(self._policy.rules_by_id))
        self._retired_max = max(_RETIRED_MAX, 2 * left)

    def _told_of_numbers(self) -> bool:
        """Has all that the C side has already told turned into names; whether that is done."""
        return True

    # ---- connections saved and restored ----

    def saved(self) -> Iterator[bytes]:
        """All connections, a batch of `struct dp_saved_connection` at a time."""
        cursor = ffi.new("uint64_t *", 0)
        batch = ffi.new("struct dp_saved_connection[]", _SAVED_AT_ONCE)
        size = ffi.sizeof("struct dp_saved_connection")
        while n := check(lib.dp_plane_save(self.plane, cursor, batch, _SAVED_AT_ONCE), "saving connections"):
            yield bytes(ffi.buffer(batch, n * size))

    def restore(self, batches: Iterable[bytes], passed_ns: int) -> int:
        """Puts saved connections back as they were `passed_ns` ago; returns how many were taken."""
        size = ffi.sizeof("struct dp_saved_connection")
        taken = 0
        for batch in batches:
            array = ffi.from_buffer("struct dp_saved_connection[]", batch)
            code = lib.dp_plane_restore(self.plane, array, len(batch) // size, passed_ns)
            taken += check(code, "restoring connections")
        return taken

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


class PolicyUpdate:
    """A `struct dp_policy_update` that says what is cut; zones and rules that have no number have no connections.

    `policy` keeps alive what else is put into it.
    """

    def __init__(self, names: Names, cut: conntrack.Disconnection) -> None:
        self._instances = [i for i in sorted(cut.instances) if names.known_zone(i) is not None]
        revoked, arrived = _at_rules(names, cut.revoked), _at_rules(names, cut.arrived)
        self._counts = ffi.new("uint64_t[]", len(self._instances))
        self._kept = (
            ffi.new("uint32_t[]", [names.zone(i) for i in self._instances]),
            ffi.new("struct dp_revocation[]", revoked),
            ffi.new("struct dp_arrival[]", arrived),
        )
        self.policy: tuple[Any, ...] = ()
        self.c = ffi.new("struct dp_policy_update *")
        self.c.cut, self.c.revocations, self.c.arrivals = self._kept
        self.c.n_cut, self.c.n_revocations, self.c.n_arrivals = len(self._instances), len(revoked), len(arrived)
        self.c.disconnected = self._counts

    def disconnected(self) -> Disconnected:
        """What the C side wrote into it."""
        by_instance = {i: n for i, n in zip(self._instances, self._counts, strict=True) if n}
        return Disconnected(by_instance, self.c.revoked, len(self._instances))


def _at_rules(names: Names, found: Iterable[tuple[str, str, bytes]]) -> list[dict[str, Any]]:
    """(rule id, group id, packed address) in C's words, for rules that have a number."""
    return [
        {"address": address.ljust(16, b"\0"), "family": 4 if len(address) == 4 else 6, "rule": number}
        for rule, group, address in found
        if (number := names.known_rule(rule, group))
    ]
