"""Connections that follow a machine from one firewall to another, in the form of the state file.

What is exported is a state with some of the connections and the policy that they lived under. An import takes them as a
restart would, with what passed by the wall clock taken off their timeouts, into a firewall that goes on meanwhile: what
it has already is kept. Who else is on either host, and in which groups, is no change of the policy; what the two
policies say of the machine itself is: where that differs, its inbound connections are cut (SPEC 5.2, 5.5).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

from dataplane import conntrack
from dataplane._core import ffi, lib
from dataplane.live.state import RECORD, ZONE_WORD, numbered
from dataplane.policy.structural_sharing import following
from dataplane.verdict import RESTORED_WORDS

if TYPE_CHECKING:
    from dataplane.control.answers import Imported
    from dataplane.live.firewall import Firewall
    from dataplane.live.state import State
    from dataplane.policy import Policy

#: So many are taken at once; others use the control thread in between.
_AT_ONCE = 4096
_WORDS = RECORD // 4
_RECORD = "struct dp_saved_connection"
_ORIGIN, _DISCONNECTED = ffi.offsetof(_RECORD, "origin"), ffi.offsetof(_RECORD, "disconnected")
_TAKEN, _CUT = RESTORED_WORDS[lib.DP_RESTORED_TAKEN], RESTORED_WORDS[lib.DP_RESTORED_CUT]
#: Why one is not taken.
_REFUSED = RESTORED_WORDS[lib.DP_RESTORED_NO_INSTANCE :]


class Arrival:
    """Connections of a state on their way into a firewall; all of it in the control thread."""

    def __init__(self, firewall: Firewall, state: State) -> None:
        self._firewall, self._state = firewall, state
        self._instances, self._rules = dict(enumerate(state.instances)), dict(enumerate(state.rules))
        self._at = 0
        self._outcomes = ffi.new("uint64_t[]", lib.DP_RESTORED_OUTCOMES)
        #: Whose connections they are.
        self._moved = {state.instances[zone] for zone in set(array("I", state.records)[ZONE_WORD::_WORDS])}
        self._policy: Policy | None = None
        self._cut: frozenset[str] = frozenset()

    def take_some(self) -> bool:
        """Takes in the next of them; whether there are more."""
        firewall, state = self._firewall, self._state
        # The policy in force may be another one by now.
        if self._policy is not firewall.policy:
            self._policy = firewall.policy
            self._cut = _judged_otherwise(state.policy, self._policy, self._moved)
        records = state.records[self._at * RECORD : (self._at + _AT_ONCE) * RECORD]
        self._at += len(records) // RECORD
        known = self._policy.instances_by_id
        kept = of_zones(records, lambda zone: state.instances[zone] in known)
        self._outcomes[lib.DP_RESTORED_NO_INSTANCE] += (len(records) - len(kept)) // RECORD
        _mark(kept, [name in self._cut for name in state.instances])
        numbers = numbered(kept, self._instances, self._rules, firewall.names)
        firewall.restore([numbers], state.passed_ns(), self._outcomes)
        return self._at * RECORD < len(state.records)

    def record(self) -> Imported:
        """What has become of them."""
        counts = dict(zip(RESTORED_WORDS, map(int, self._outcomes), strict=True))
        return {
            "connections": self._at,
            "taken": counts[_TAKEN] + counts[_CUT],
            "disconnected": counts[_CUT],
            "refused": {word: counts[word] for word in _REFUSED},
            "seconds_ago": self._state.passed_ns() / 1e9,
        }


def _judged_otherwise(old: Policy, new: Policy, moved: set[str]) -> frozenset[str]:
    """The instances of `moved` of which the two policies do not say the same."""
    both = [_of_these(policy, lambda name: name in moved and name in new.instances_by_id) for policy in (old, new)]
    return frozenset(conntrack.disconnection(*both).instances)


def _of_these(policy: Policy, is_one: Callable[[str], bool]) -> Policy:
    """A policy as if it had these instances alone."""
    return following(policy, instances=tuple(instance for instance in policy.instances if is_one(instance.id)))


def of_zones(records: bytes, is_one: Callable[[int], bool]) -> bytearray:
    """The records of some zones."""
    zones = array("I", records)[ZONE_WORD::_WORDS]
    chosen = {zone for zone in set(zones) if is_one(zone)}
    if chosen.issuperset(zones):
        return bytearray(records)
    return bytearray().join(records[at * RECORD : (at + 1) * RECORD] for at, zone in enumerate(zones) if zone in chosen)


def _mark(records: bytearray, is_cut: list[bool]) -> None:
    """Has the inbound connections of some zones be cut."""
    for at, zone in enumerate(array("I", bytes(records))[ZONE_WORD::_WORDS]):
        if is_cut[zone] and records[at * RECORD + _ORIGIN] == lib.DP_INBOUND:
            place = at * RECORD + _DISCONNECTED
            records[place] = records[place] or lib.DP_CUT_NOW
