"""A change of the policy in C's words, and what it cut (SPEC 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import compress
from typing import Any

from dataplane import conntrack
from dataplane._core import ffi
from dataplane.verdict import Names


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


class PolicyUpdate:
    """A `struct dp_policy_update` that says what is cut; zones and rules that have no number have no connections.

    `policy` keeps alive what else is put into it.
    """

    def __init__(self, names: Names, cut: conntrack.Disconnection) -> None:
        self._instances, zones = names.zones_of(cut.instances)
        revoked, arrived = _at_rules(names, cut.revoked), _at_rules(names, cut.arrived)
        self._counts = ffi.new("uint64_t[]", len(self._instances))
        self._kept = (
            ffi.from_buffer("uint32_t[]", zones),
            ffi.new("struct dp_rule_address[]", revoked),
            ffi.new("struct dp_rule_address[]", arrived),
        )
        self.policy: tuple[Any, ...] = ()
        self.c = ffi.new("struct dp_policy_update *")
        self.c.cut, self.c.revocations, self.c.arrivals = self._kept
        self.c.n_cut, self.c.n_revocations, self.c.n_arrivals = len(self._instances), len(revoked), len(arrived)
        self.c.disconnected = self._counts

    def disconnected(self) -> Disconnected:
        """What the C side wrote into it."""
        # Most changes cut nothing of most instances, and many nothing at all.
        if not bytes(ffi.buffer(self._counts)).strip(b"\0"):
            return Disconnected({}, self.c.revoked, len(self._instances))
        counts = ffi.unpack(self._counts, len(self._instances))
        by_instance = dict(sorted(zip(compress(self._instances, counts), filter(None, counts), strict=True)))
        return Disconnected(by_instance, self.c.revoked, len(self._instances))


def _at_rules(names: Names, found: Iterable[tuple[str, str, bytes]]) -> list[dict[str, Any]]:
    """(rule id, group id, packed address) in C's words, for rules that have a number."""
    return [
        {"address": address.ljust(16, b"\0"), "family": 4 if len(address) == 4 else 6, "rule": number}
        for rule, group, address in found
        if (number := names.known_rule(rule, group))
    ]
