"""One comparison of two policies, as `dataplane diff` was asked for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataplane.cli.repeatable import passes_once
from dataplane.insight.diff import Difference, diff
from dataplane.insight.replayed_packet import Replayed

if TYPE_CHECKING:
    from dataplane.policy.model import Policy
    from dataplane.policy.schedule import TimedChange
    from dataplane.replay.window import Part


@dataclass(frozen=True, slots=True)
class AskedDifference:
    """What was asked for. `named` are the policies' files.

    `explained_by` explains a packet of the captures under the new one, with its number behind; empty where no command
    does, None where no page is wanted.
    """

    old: Policy
    new: Policy
    named: tuple[str, str]
    paths: Sequence[str]
    changes: Sequence[TimedChange]
    at: str | None
    part: Part
    explained_by: str | None


def compared(asked: AskedDifference) -> tuple[Difference, bytes | None]:
    """The differences, and the page about them where it is wanted. Raises as `diff`."""
    made = None
    if asked.explained_by is not None:
        from dataplane.report.compared import DiffReport

        made = DiffReport()
    found = diff(
        asked.old,
        asked.new,
        asked.paths,
        asked.changes,
        at=asked.at,
        part=asked.part,
        compare=made.compare if made else None,
    )
    if made is None:
        return found, None
    command: str | None = None
    both: list[Replayed] = []
    if not any(map(passes_once, asked.paths)):
        command = asked.explained_by or None
        both = [Replayed(policy, asked.paths, asked.changes, asked.at, asked.part) for policy in (asked.old, asked.new)]
    return found, made.page(asked.named, found, asked.changes, both, asked.paths, command).html()
