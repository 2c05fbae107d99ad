"""Two policies over captures that are cut by instance (`dataplane.replay.parts`): parts compared, and joined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.insight.diff import Comparison, Difference, disconnected
from dataplane.plane import Plane
from dataplane.replay import Captures, Replay
from dataplane.replay.changing_plane import ChangingPlane
from dataplane.replay.joining import inexact
from dataplane.replay.packed import COMPARED, PackedArrays, copied, numbers_of, unpacked

if TYPE_CHECKING:
    from dataplane.policy.model import Policy
    from dataplane.policy.schedule import TimedChange
    from dataplane.replay.captures import CaptureStatus
    from dataplane.replay.window import Part


@dataclass(frozen=True, slots=True)
class ComparedPart:
    """What one part came to: packets with the same verdict under both policies, and all about the others, packed.

    `counters` and `most_entries` are of the plane of either policy, as the C side keeps them.
    """

    same: int
    changed: bytes
    disconnected: dict[str, int]
    faults: Sequence[CaptureStatus]
    counters: Sequence[bytes]
    most_entries: Sequence[int]
    waited: int
    first_ns: int
    latest_ns: int


def compare_part(
    old: Policy,
    new: Policy,
    paths: Sequence[str],
    changes: Sequence[TimedChange],
    part: Part,
    part_of: Sequence[int],
    mine: int,
) -> ComparedPart:
    """Compares two policies over the packets of part `mine`. Raises as `Captures` and `Replay`."""
    planes = [Plane(old), Plane(new)]
    with Captures(paths, part=part) as captures:
        first_ns = captures.first_time()
        changed = _Changed(captures.handle)
        replay = Replay(planes[0], captures, beside=planes[1:], changes=changes, compare=changed.add)
        cut = ffi.new("uint32_t[]", part_of)
        check(lib.dp_replay_judge_part(captures.handle, cut, len(part_of), mine), "cutting a replay by instance")
        summary = replay.run(top=0)
        counters = [bytes(ffi.buffer(plane.counters())) for plane in planes]
        return ComparedPart(
            same=changed.same,
            changed=changed.packed.close(),
            disconnected=disconnected(planes[0], planes[1].policy),
            faults=summary.faults,
            counters=counters,
            most_entries=[lib.dp_plane_most_entries(plane.plane) for plane in planes],
            waited=lib.dp_replay_waited(captures.handle),
            first_ns=first_ns or 0,
            latest_ns=lib.dp_replay_latest(captures.handle),
        )


class _Changed:
    """The packets of a replay cut by instance that get another verdict; `same` is how many do not."""

    def __init__(self, replay: Any) -> None:
        self.packed = PackedArrays(COMPARED)
        self.same = 0
        self._replay = replay

    def add(self, records: Sequence[Any], flows: Any, n: int) -> None:
        """Takes a batch."""
        numbers = numbers_of(self._replay, n)
        arrays = [copied(array, n, kind) for array, kind in zip((*records, flows), COMPARED.values(), strict=True)]
        other = arrays[0]["verdict"] != arrays[1]["verdict"]
        changed = int(other.sum())
        self.same += n - changed
        if changed:
            self.packed.add(numbers[other], *(array[other] for array in arrays))


def inexact_difference(parts: Sequence[ComparedPart]) -> str | None:
    """What of parts would not have been the same as a whole, in words; None where all is."""
    for which in (0, 1):
        reason = inexact(
            [part.counters[which] for part in parts],
            [part.most_entries[which] for part in parts],
            [part.waited for part in parts],
        )
        if reason:
            return reason
    return None


def joined_difference(
    old: Policy, new: Policy, changes: Sequence[TimedChange], parts: Sequence[ComparedPart]
) -> Difference:
    """What the whole comes to."""
    comparison = Comparison()
    for numbers, *arrays in unpacked([part.changed for part in parts], COMPARED):
        before, after, flows = (
            ffi.from_buffer(f"struct dp_{name}[]", array)
            for name, array in zip(("record", "record", "flow"), arrays, strict=True)
        )
        comparison.add((before, after), flows, len(numbers), ffi.from_buffer("uint64_t[]", numbers))
    _, changed, not_kept = comparison.count()
    cut = Counter[str]()
    for part in parts:
        cut.update(part.disconnected)
    # The rules that changes of the schedule bring have their numbers behind those of the policy.
    planes = [_after(policy, changes, parts[0]) for policy in (old, new)]
    return Difference(
        sum(part.same for part in parts),
        changed,
        not_kept,
        flows=comparison.flows(planes[0].names, planes[1].names),
        disconnected=dict(sorted(cut.items())),
        faults=parts[0].faults,
    )


def _after(policy: Policy, changes: Sequence[TimedChange], part: ComparedPart) -> Plane:
    """A plane in which the changes have been made that a replay of the captures makes."""
    plane = Plane(policy)
    changing = ChangingPlane(plane, changes)
    with plane.numbers_kept():
        changing.begin(part.first_ns)
        changing.make_due(part.latest_ns)
    return plane
