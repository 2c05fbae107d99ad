"""One replay, as `dataplane replay` was asked for it: captures in, its files written, a summary back."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataplane.cli.inputs import mistakes_refused
from dataplane.cli.output import refuse
from dataplane.outputs import OutputError, OutputFile
from dataplane.plane import Plane
from dataplane.replay import Captures, Replay, Summary
from dataplane.replay.outputs import Outputs

if TYPE_CHECKING:
    from dataplane.cli.interrupt import Interrupt
    from dataplane.policy.model import Policy
    from dataplane.policy.schedule import TimedChange
    from dataplane.replay.chosen import Chosen
    from dataplane.replay.coverage import Coverage
    from dataplane.replay.expectations import Expectations
    from dataplane.replay.window import Part

#: Makes what is called after each batch, of the captures that are read; None where nobody looks.
Progress = Callable[[Captures], Callable[[], None] | None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for; `outputs` are files by the options that name them, ``-`` is standard output.

    `jobs` is how many threads judge.
    """

    policy: Policy
    changes: Sequence[TimedChange]
    at: str | None
    outputs: Mapping[str, str | None]
    flow_format: str | None
    chosen: Chosen | None
    part: Part
    jobs: int
    follow: bool
    top: int

    @property
    def frames(self) -> dict[str, str | None]:
        """The captures to write."""
        return {option: self.outputs[option] for option in ("annotate", "allowed", "denied")}


def replayed(
    asked: Asked,
    captures: Sequence[str],
    expectations: Expectations | None,
    interrupt: Interrupt,
    progress: Progress,
) -> Summary:
    """Replays captures through a fresh table and writes what was asked for; ends the program where that fails.

    Raises CaptureError for a capture that cannot be opened.
    """
    coverage = asked.outputs["coverage"]
    with ExitStack() as stack:
        plane = Plane(asked.policy, shards=asked.jobs)
        opened = stack.enter_context(Captures(captures, follow=asked.follow, part=asked.part))
        with mistakes_refused(OutputError):
            outputs = Outputs(
                plane,
                opened,
                verdicts=asked.outputs["verdicts"],
                flows=asked.outputs["flows"],
                flow_format=asked.flow_format,
                frames=asked.frames,
                chosen=asked.chosen,
            )
            stack.callback(outputs.discard)
            covered = _coverage(asked.policy) if coverage else None
            coverage_output = _begin(stack, coverage)
            run = Replay(
                plane,
                opened,
                changes=asked.changes,
                at=asked.at,
                write=outputs.write if outputs else None,
                observers=[*(observer for observer in (expectations, covered) if observer), *outputs.observers],
                progress=progress(opened),
                pause=outputs.flush if outputs else None,
            )
            opened.wake_by(interrupt.ask(opened.stop))
        try:
            summary = run.run(top=asked.top)
            if coverage and covered:
                _write_json(covered.report(plane.policy, summary), coverage, coverage_output)
            outputs.keep()
            if coverage_output:
                coverage_output.keep()
        except OSError as error:
            flows, verdicts = asked.outputs["flows"], asked.outputs["verdicts"]
            name = error.filename or verdicts or flows
            what = {coverage: "coverage", flows: "flows", verdicts: "verdicts"}.get(name, "frames")
            refuse(f"{name}: {error.strerror}: the {what} could not be written")
    return summary


def _begin(stack: ExitStack, name: str | None) -> OutputFile | None:
    """The file to write for an option, undone unless it is kept; None for no file and for standard output."""
    if name is None or name == "-":
        return None
    output = OutputFile(name)
    stack.callback(output.discard)
    return output


def _coverage(policy: Policy) -> Coverage:
    # Only who asks for it waits until it is loaded.
    from dataplane.replay.coverage import Coverage

    return Coverage(policy)


def _write_json(values: dict[str, Any], name: str, output: OutputFile | None) -> None:
    """Writes values to the file of an option, or to standard output; an OSError has its name."""
    text = json.dumps(values, indent=2) + "\n"
    if output is None:
        sys.stdout.write(text)
        return
    try:
        with output.open() as file:
            file.write(text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None
