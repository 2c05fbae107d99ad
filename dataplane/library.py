"""The library's front: a policy in force that can also replay captures."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from dataplane.outputs import check_outputs
from dataplane.plane import Plane
from dataplane.replay import CaptureError, Captures, Replay, Summary
from dataplane.replay.chosen import Chosen
from dataplane.replay.folder import captures_of
from dataplane.replay.outputs import Outputs
from dataplane.replay.window import Part, Window, read_mappings

if TYPE_CHECKING:
    from dataplane.policy.schedule import TimedChange


class DataPlane(Plane):
    """A policy in force, with its own connection table: judge packets, replay captures, change the policy.

    See `Plane` for `process`, `process_batch`, `apply`, `connections` and `policy`.
    """

    @overload
    def replay(self, *captures: str | Path, verdicts: Literal["arrow"], **options: Any) -> Any: ...

    @overload
    def replay(self, *captures: str | Path, verdicts: str | Path | None = None, **options: Any) -> Summary: ...

    # The overloads leave the options to this one.
    def replay(  # type: ignore[misc]
        self,
        *captures: str | Path,
        changes: Sequence[TimedChange] = (),
        at: str | None = None,
        verdicts: str | Path | None = None,
        flows: str | Path | None = None,
        annotate: str | Path | None = None,
        allowed: str | Path | None = None,
        denied: str | Path | None = None,
        time: str | None = None,
        mapped: Mapping[str, str] | None = None,
        filters: Sequence[str] = (),
        top: int = 10,
        raise_faults: bool = False,
    ) -> Any:
        """Replays captures, merged by time, through this plane as it stands (SPEC 7).

        A directory stands for the captures in it; each other file in it is a UserWarning.
        `changes` is a schedule as `dataplane.policy.schedule.load_changes` reads it; `at` is the instance at whose
        interface the captures were taken, where their interfaces do not say it by the policy's names; `verdicts` names
        a file to write a record a packet to, `flows` one for a record a connection and denied flow (SPEC 8.2;
        connections that were open before are left out), `annotate` a pcapng file of all frames with what each met as a
        comment, `allowed` and `denied` such files of those that were; each is put in its place when all are whole.
        With ``verdicts="arrow"`` the records are the result, as a `pyarrow.Table` with a row for each check (the extra
        ``parquet`` brings pyarrow); the summary as JSON is then in the metadata of its schema, as ``summary``.
        `time` is what packets are read, ``FROM..TO`` in seconds since the first or as RFC 3339; `mapped` has addresses
        or prefixes and those that they are judged as; `filters` are the words of expectations, ``verdict: deny``, for
        packets whose records and frames are written.
        `top` is how many denied flows the summary lists. A capture that cannot be read to its end is told by
        `Summary.faults`, or, with `raise_faults`, raises CaptureError at the end of the replay. The summary's figures
        are those of this replay; only the connections that are live at its end, by state, are all of the table: those
        of before that live on too.
        Raises, before the first packet, ValueError for a `time`, `mapped` or `filters` that cannot be read and for an
        instance that the policy does not have, ChangeError for a schedule that is not valid, CaptureError for a capture
        that cannot be opened, and OutputError where an output is one of the captures, or both are one file.
        """
        paths = captures_of(captures, lambda sentence: warnings.warn(sentence, stacklevel=4))
        given = {"annotate": annotate, "allowed": allowed, "denied": denied}
        frames = {key: str(path) if path is not None else None for key, path in given.items()}
        arrow = verdicts == "arrow"
        records = str(verdicts) if verdicts and not arrow else None
        flow_records = str(flows) if flows else None
        check_outputs({"verdicts": records, "flows": flow_records} | frames, paths, stdout=False, spare=())
        window = None if time is None else Window.read(time)
        mappings = read_mappings(f"{before}={after}" for before, after in (mapped or {}).items())
        chosen = Chosen(filters) if filters else None
        with Captures(paths, part=Part(window, mappings)) as opened:
            outputs = Outputs(
                self, opened, verdicts=records, flows=flow_records, frames=frames, chosen=chosen, arrow=arrow
            )
            try:
                write = outputs.write if outputs else None
                run = Replay(self, opened, changes=changes, at=at, write=write, observers=outputs.observers)
                summary = run.run(top=top)
                outputs.keep()
            finally:
                outputs.discard()
        if raise_faults and summary.faults:
            raise CaptureError(None, summary.faults[0].words, summary.faults[0].name)
        return outputs.table.replace_schema_metadata({"summary": json.dumps(summary.to_dict())}) if arrow else summary
