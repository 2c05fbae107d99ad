"""A row of `dataplane replay --each`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane.replay import Summary
    from dataplane.replay.expectations import Failure


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one capture: its summary, or None where it could not be judged; its fault; what it failed.

    `told` are sentences about it.
    """

    capture: str
    summary: Summary | None
    fault: str | None
    told: Sequence[str] = ()
    failures: Sequence[Failure] = ()

    @classmethod
    def of(cls, capture: str, summary: Summary, failures: Sequence[Failure]) -> Row:
        """Of a capture that was read."""
        faults = summary.faults
        told = [f"{fault.name}: {fault.words}" for fault in faults]
        return cls(capture, summary, faults[0].words if faults else None, told, failures)

    @property
    def failed(self) -> int:
        """How many expectations it failed."""
        return len(self.failures)

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON values."""
        told = {"capture": self.capture, "fault": self.fault, "failed_expectations": self.failed}
        return told | (self.summary.to_dict() if self.summary else {})
