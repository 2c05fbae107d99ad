"""The library's front: an engine that can also replay captures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dataplane.engine import Engine
from dataplane.replay import Captures, Replay, Summary

if TYPE_CHECKING:
    from dataplane.policy.schedule import TimedChange


class DataPlane(Engine):
    """A policy in force, with its own connection table: judge packets, replay captures, change the policy.

    See `Engine` for `process`, `process_batch`, `apply`, `connections` and `policy`.
    """

    def replay(
        self,
        *captures: str | Path,
        changes: Sequence[TimedChange] = (),
        verdicts: str | Path | None = None,
        top: int = 10,
    ) -> Summary:
        """Replays captures, merged by time, through this engine as it stands (SPEC 7).

        `changes` is a schedule as `dataplane.policy.schedule.load_changes` reads it; `verdicts` names a file to write a
        record a packet to; `top` is how many denied flows the summary lists. A capture that cannot be read to its end
        is told by `Summary.faults`. The summary's figures are those of this replay; only the connections that are live
        at its end, by state, are all of the table, with those of before that live on. Raises ChangeError, before the
        first packet, for a schedule that is not valid.
        """
        from dataplane.replay.verdicts import open_writer

        with Captures(captures) as opened:
            writer = open_writer(str(verdicts), self.names) if verdicts is not None else None
            try:
                run = Replay(self, opened, changes=changes, write=writer.write if writer else None)
                return run.run(top=top)
            finally:
                if writer:
                    writer.close()
