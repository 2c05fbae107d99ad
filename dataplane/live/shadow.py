"""A shadow: another policy that judges the same live packets beside the one in force, and enforces nothing.

It is a plane of its own, whose shards the workers run behind their own (`csrc/io/shadow.h`). Instances, rules and load
balancers have the firewall's numbers, none of which is given out again while it is there. It takes over the connections
that live when it begins, so that what differs is what the rules say of those that begin then. Its rules end at their
time as the firewall's do.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from dataplane import conntrack
from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.differences import flow_differences
from dataplane.plane import Plane, seed_words
from dataplane.policy import expiry

if TYPE_CHECKING:
    from dataplane.live.firewall import Firewall
    from dataplane.policy import Policy


class Shadow:
    """Judges what a firewall judges, under `policy`, until `end`, or until the next one takes its place.

    `name` is where the policy was read. Raises DataPlaneError without memory for it; nothing has changed then.
    """

    def __init__(self, firewall: Firewall, policy: Policy, name: str) -> None:
        self.name, self.began = name, time.time()
        self._firewall = firewall
        self._kept = ExitStack()
        self._kept.enter_context(firewall.numbers_kept())
        out = ffi.new("struct dp_plane **")
        try:
            config = conntrack.settings(policy.conntrack, verify_checksums=True)
            words = ffi.new("uint64_t[2]", seed_words(None))
            check(lib.dp_plane_new(config, words, firewall.workers, out), "making the shadow's connection table")
            in_force = expiry.without_expired(policy, time.time_ns())
            self._plane = Plane(in_force, verify_checksums=True, driven=out[0], names=firewall.names)
            self._ends = expiry.next_expiry(in_force)
            for shard in range(firewall.workers):
                lib.dp_engine_advance(lib.dp_plane_shard(out[0], shard), firewall.now())
            taken = ffi.new("uint64_t *")
            check(lib.dp_firewall_begin_shadow(firewall.handle, out[0], taken), "beginning the shadow")
            #: Connections that it has from the firewall.
            self.taken_over = int(taken[0])
        except BaseException:
            lib.dp_plane_free(out[0])
            self._kept.close()
            raise

    def keep_up(self) -> None:
        """Shares out its table anew, and ends its rules whose time is over; to be called every now and then."""
        self._plane.balance()
        if self._ends and self._ends.ns <= (now_ns := time.time_ns()):
            self._plane.replace(expiry.without_expired(self._plane.policy, now_ns))
            self._ends = expiry.next_expiry(self._plane.policy)

    def end(self) -> None:
        """Frees all of it."""
        lib.dp_firewall_end_shadow(self._firewall.handle)
        self.replaced()

    def replaced(self) -> None:
        """Another one has taken its place."""
        self._kept.close()

    def report(self, most: int) -> dict[str, Any]:
        """What it has judged otherwise since it began, as JSON values; `most` flows, those with most packets first."""
        count, table = ffi.new("struct dp_difference_count *"), ffi.new("struct dp_counters *")
        check(lib.dp_firewall_shadow(self._firewall.handle, count, table), "asking the shadow")
        array = ffi.new("struct dp_flow_difference[]", max(count.flows, 1))
        n = check(lib.dp_firewall_shadow_flows(self._firewall.handle, array, count.flows), "asking the shadow")
        names = self._firewall.names
        return {
            "policy": self.name,
            "began": self.began,
            "taken_over": self.taken_over,
            "packets": {"same": count.packets_same, "changed": count.packets_changed},
            "packets_not_kept": count.packets_not_kept,
            "flows_changed": n,
            "flows": [flow.to_dict() for flow in flow_differences(array, min(n, most), names, names)],
            "connections": table.entries,
            "connections_limit": table.max_entries,
            "table_bytes": table.table_bytes,
            "table_full": table.table_full,
        }
