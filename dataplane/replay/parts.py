"""A replay cut by instance: what of it can be judged by several, and what each of them says (`csrc/io/part.h`).

Instances whose packets meet stand in one part. What parts would share if they were judged together is counted before,
and its bounds are looked at behind: where one might have mattered, the answer is that it has to be judged as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.plane import Plane
from dataplane.replay.captures import Captures, CaptureStatus
from dataplane.replay.packed import PackedRecords
from dataplane.replay.run import Replay
from dataplane.replay.summary import AppliedChange

if TYPE_CHECKING:
    from dataplane.policy.model import Policy
    from dataplane.policy.schedule import TimedChange
    from dataplane.replay.window import Part

_STARVED = 2
#: Fragments up to which the bound on datagrams, which is that of all, cannot matter.
FRAGMENTS_MAX = 4096
#: Segments outside their windows up to which the places that they are remembered in, which are found by a keyed hash,
#: are enough for all.
OUTSIDE_MAX = 256


@dataclass(frozen=True, slots=True)
class Census:
    """What captures say of being cut: `groups` are the zones that meet, with how many packets they have, and `reason`
    why they have to be judged as a whole, in words; None where they need not.
    """

    groups: Sequence[tuple[Sequence[int], int]]
    zones: int
    reason: str | None

    def parts(self, n: int) -> list[int] | None:
        """The part of each zone, of at most `n` that have about as many packets; None where there is but one."""
        if self.reason or len(self.groups) < 2 or n < 2:
            return None
        part_of, sums = [0] * self.zones, [0] * min(n, len(self.groups))
        for zones, packets in sorted(self.groups, key=lambda group: -group[1]):
            part = sums.index(min(sums))
            sums[part] += packets
            for zone in zones:
                part_of[zone] = part
        return part_of


def reason_of_policies(policies: Sequence[Policy], *, at: str | None) -> str | None:
    """Why captures have to be judged as a whole under policies that come into force one after the other."""
    if at is not None:
        return "they were taken at one instance's interface"
    held = [address for instance in policies[0].instances for address in instance.packed_addresses]
    if len(held) != len(set(held)) or any(instance.allowed_address_pairs for instance in policies[0].instances):
        return "several instances may hold one address"
    where = [{i.id: (i.addresses, i.allowed_address_pairs, i.mac) for i in policy.instances} for policy in policies]
    if any(others != where[0] for others in where):
        return "other instances, or other addresses of them, come into force"
    return None


def census(policy: Policy, paths: Sequence[str], part: Part) -> Census:
    """Reads captures for who meets whom. Raises CaptureError."""
    plane = Plane(policy)
    zones = len(plane.names.instances)
    leader, packets = ffi.new("uint32_t[]", list(range(zones))), ffi.new("uint64_t[]", zones)
    found = ffi.new("struct dp_census *")
    with Captures(paths, part=part) as captures:
        captures.first_time()
        while more := check(
            lib.dp_replay_census(captures.handle, plane.plane, leader, packets, zones, found), "reading captures"
        ):
            if more == _STARVED:
                captures.supply()
    groups: dict[int, list[int]] = {}
    for zone in range(zones):
        first = zone
        while leader[first] != first:
            first = leader[first]
        if packets[zone]:
            groups.setdefault(first, []).append(zone)
    reason = None
    if part.mappings:
        reason = "addresses are mapped"
    elif found.backwards:
        reason = "their time runs backwards"
    elif found.shared:
        reason = "several instances may hold one address"
    elif found.questions:
        reason = "a client asks for DHCP before it has an address, and the answer may be anybody's"
    elif found.fragments > FRAGMENTS_MAX:
        reason = "there are so many fragments that the bound on datagrams may matter"
    elif found.named:
        reason = "they tell the interfaces that packets came by"
    return Census([(zones, sum(packets[zone] for zone in zones)) for zones in groups.values()], zones, reason)


@dataclass(frozen=True, slots=True)
class JudgedPart:
    """What one part came to: figures as the C side keeps them, and its records, packed.

    `most_entries` were in the connection table at once; `waited` fragments came before their datagram's first.
    """

    captures: Sequence[CaptureStatus]
    changes: Sequence[AppliedChange]
    counters: bytes
    rule_counters: bytes
    state_counts: Sequence[int]
    most_entries: int
    waited: int
    first_ns: int
    latest_ns: int
    interfaces: Sequence[str | int]
    records: bytes


def judge_part(
    policy: Policy,
    paths: Sequence[str],
    changes: Sequence[TimedChange],
    part: Part,
    part_of: Sequence[int],
    mine: int,
    *,
    whole: bool,
) -> JudgedPart:
    """Judges the packets of part `mine`. With `whole`, all their records are kept, else those of denied packets.

    Raises as `Captures` and `Replay`.
    """
    plane = Plane(policy)
    with Captures(paths, part=part) as captures:
        first_ns = captures.first_time()
        packed = PackedRecords(captures.handle, whole=whole)
        replay = Replay(
            plane,
            captures,
            changes=changes,
            write=packed.write if whole else None,
            compare=None if whole else lambda records, flows, n: packed.write(records[0], flows, ffi.NULL, n),
        )
        cut = ffi.new("uint32_t[]", part_of)
        check(lib.dp_replay_judge_part(captures.handle, cut, len(part_of), mine), "cutting a replay by instance")
        summary = replay.run(top=0)
        return JudgedPart(
            captures=summary.captures,
            changes=summary.changes,
            counters=bytes(ffi.buffer(plane.counters())),
            rule_counters=bytes(ffi.buffer(plane.rule_counters())),
            state_counts=plane.connections.state_counts(),
            most_entries=lib.dp_plane_most_entries(plane.plane),
            waited=lib.dp_replay_waited(captures.handle),
            first_ns=first_ns or 0,
            latest_ns=lib.dp_replay_latest(captures.handle),
            interfaces=captures.interfaces(0),
            records=packed.close(),
        )
