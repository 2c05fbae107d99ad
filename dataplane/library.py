"""The library's front: an engine that can also replay captures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from dataplane.engine import Engine
from dataplane.outputs import OutputFile, check_outputs
from dataplane.replay import CaptureError, Captures, Replay, Summary
from dataplane.replay.folder import captures_of

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
        at: str | None = None,
        verdicts: str | Path | None = None,
        flows: str | Path | None = None,
        top: int = 10,
        raise_faults: bool = False,
    ) -> Summary:
        """Replays captures, merged by time, through this engine as it stands (SPEC 7).

        A directory stands for the captures in it; each other file in it is a UserWarning.
        `changes` is a schedule as `dataplane.policy.schedule.load_changes` reads it; `at` is the instance at whose
        interface the captures were taken, where their interfaces do not say it by the policy's names; `verdicts` names
        a file to write a record a packet to, `flows` one for a record a connection and denied flow (SPEC 8.2;
        connections that were open before are left out), both put in their place when they are whole; `top` is how many
        denied flows the summary lists. A capture that cannot be read to its end is told by `Summary.faults`, or, with
        `raise_faults`, raises CaptureError at the end of the replay. The summary's figures are those of this replay;
        only the connections that are live at its end, by state, are all of the table: those of before that live on too.
        Raises, before the first packet, ChangeError for a schedule that is not valid, ValueError for an instance that
        the policy does not have, CaptureError for a capture that cannot be opened, and OutputError where an output is
        one of the captures, or both are one file.
        """
        from dataplane.replay.flows import FlowLog, open_flow_writer
        from dataplane.replay.verdicts import open_writer

        paths, passed = captures_of(captures)
        for sentence in passed:
            warnings.warn(sentence, stacklevel=2)
        named = {"verdicts": str(verdicts) if verdicts else None, "flows": str(flows) if flows else None}
        check_outputs(named, paths, stdout=False, spare=())
        with ExitStack() as stack:
            opened = stack.enter_context(Captures(paths))
            outputs = {}
            for name, path in named.items():
                if path is not None:
                    outputs[name] = OutputFile(path)
                    stack.callback(outputs[name].discard)
            with ExitStack() as writing:
                writer = flow_log = None
                if "verdicts" in outputs:
                    writer = open_writer(str(verdicts), self.names, opened, outputs["verdicts"])
                    writing.callback(writer.close)
                if "flows" in outputs:
                    flow_log = FlowLog(self, open_flow_writer(str(flows), outputs["flows"]), name=str(flows))
                    writing.callback(flow_log.close)
                observers = [flow_log] if flow_log else []
                write = writer.write if writer else None
                run = Replay(self, opened, changes=changes, at=at, write=write, observers=observers)
                summary = run.run(top=top)
                if flow_log:
                    flow_log.finish()
            for output in outputs.values():
                output.keep()
        if raise_faults and summary.faults:
            raise CaptureError(None, summary.faults[0].words, summary.faults[0].name)
        return summary
