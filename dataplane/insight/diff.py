"""Two policies over the same captures (SPEC 8.4): which packets are judged differently, and which connections the
change from one to the other would cut.

Each policy is in a plane of its own; both judge the same reading, as `dataplane replay` does, a batch at a time: memory
is bounded whatever the captures hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dataplane._core import ffi, lib
from dataplane._core.errors import check as raise_on_error
from dataplane.differences import FlowDifference, flow_differences
from dataplane.plane import Plane
from dataplane.policy.changes import ApplyPolicy, apply
from dataplane.policy.model import Policy
from dataplane.policy.schedule import TimedChange
from dataplane.replay import Captures, Replay
from dataplane.replay.captures import CaptureStatus
from dataplane.replay.window import WHOLE, Part
from dataplane.verdict import Names


@dataclass(frozen=True, slots=True)
class Difference:
    """All differences; flows with most packets first.

    `not_kept` packets are of flows beyond the bound of what is kept. `disconnected` are the inbound connections, by
    instance, that the change at the end would cut. `faults` are captures that were not read to their end. `advice`
    says, a sentence each, why nothing was checked under either policy, where that is so.
    """

    same: int
    changed: int
    not_kept: int
    flows: Sequence[FlowDifference]
    disconnected: dict[str, int]
    faults: Sequence[CaptureStatus]
    advice: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON values (SPEC 8.4)."""
        return {
            "packets": {"same": self.same, "changed": self.changed},
            "flows": [flow.to_dict() for flow in self.flows],
            "disconnected": {"total": sum(self.disconnected.values()), "by_instance": self.disconnected},
        }


def diff(
    old: Policy,
    new: Policy,
    paths: Sequence[str],
    changes: Sequence[TimedChange] = (),
    *,
    at: str | None = None,
    part: Part = WHOLE,
    compare: Callable[[Sequence[Any], Any, int], None] | None = None,
) -> Difference:
    """Compares two policies over captures, which are read once. Raises as `Replay` does.

    The changes of the schedule are made in both. `at` is the instance at whose interface the captures were taken;
    `part` is what of them is read. `compare` sees each batch too, as that of `Replay`.
    """
    before, after = Plane(old), Plane(new)
    comparison = Comparison()

    def judged(records: Sequence[Any], flows: Any, n: int) -> None:
        comparison.add(records, flows, n)
        if compare:
            compare(records, flows, n)

    with Captures(paths, part=part) as captures:
        replay = Replay(before, captures, beside=[after], changes=changes, at=at, compare=judged)
        summary = replay.run(top=0)
    same, changed, not_kept = comparison.count()
    return Difference(
        same,
        changed,
        not_kept,
        flows=comparison.flows(before.names, after.names),
        disconnected=disconnected(before, after.policy),
        faults=summary.faults,
        # A packet that is checked under the new policy alone gets another verdict.
        advice=() if summary.reasons or changed else summary.advice,
    )


class Comparison:
    """Holds the records of the old policy against those of the new one."""

    def __init__(self) -> None:
        out = ffi.new("struct dp_difference **")
        raise_on_error(lib.dp_difference_new(out), "comparing policies")
        self._handle = ffi.gc(out[0], lib.dp_difference_free)

    def add(self, records: Sequence[Any], flows: Any, n: int, numbers: Any = ffi.NULL) -> None:
        """Compares a batch; `numbers` are those of its packets (``uint64_t[]``), where they are some of all."""
        lib.dp_difference_add(self._handle, numbers, records[0], records[1], flows, n)

    def _counts(self) -> Any:
        count = ffi.new("struct dp_difference_count *")
        lib.dp_difference_count(self._handle, count)
        return count

    def count(self) -> tuple[int, int, int]:
        """Packets with the same verdict, with another one, and those of them whose flows were not kept."""
        count = self._counts()
        return count.packets_same, count.packets_changed, count.packets_not_kept

    def flows(self, old: Names, new: Names) -> list[FlowDifference]:
        """The flows, those with most packets first."""
        n = self._counts().flows
        found = ffi.new("struct dp_flow_difference[]", max(n, 1))
        lib.dp_difference_flows(self._handle, found, n)
        return flow_differences(found, n, old, new)


def disconnected(plane: Plane, new: Policy) -> dict[str, int]:
    """The inbound connections by instance that another policy cuts. It is put in force: nothing comes after."""
    before = _cut(plane)
    plane.replace(apply(plane.policy, ApplyPolicy(policy=new)))
    after = _cut(plane)
    return {instance: n for instance, now in sorted(after.items()) if (n := now - before[instance])}


def _cut(plane: Plane) -> Counter[str]:
    """The connections that a change has cut and that are not gone yet, by instance."""
    return Counter(connection.instance for connection in plane.connections.filter(disconnected=True))
