"""One replay, as `dataplane replay` was asked for it: captures in, its files written, a summary back."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataplane.cli.repeatable import passes_once
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
    from dataplane.report.replayed import ReplayReport

#: Makes what is called after each batch, of the captures that are read; None where nobody looks.
Progress = Callable[[Captures], Callable[[], None] | None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for; `outputs` are files by the options that name them, ``-`` is standard output.

    `named` is the policy's file; `explained_by` is the command that explains a packet of captures, with its number
    behind; `jobs` is how many threads judge.
    """

    policy: Policy
    changes: Sequence[TimedChange]
    at: str | None
    outputs: Mapping[str, str | None]
    named: str
    explained_by: Callable[[Sequence[str]], str]
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
    """Replays captures through a fresh table and writes what was asked for.

    Raises CaptureError for a capture that cannot be opened, OutputError and OSError for a file that cannot be written,
    ModuleNotFoundError for what it takes to write it, UnknownInstanceError for who the captures were taken at.
    """
    coverage, report = asked.outputs["coverage"], asked.outputs["report"]
    with ExitStack() as stack:
        plane = Plane(asked.policy, shards=asked.jobs)
        opened = stack.enter_context(Captures(captures, follow=asked.follow, part=asked.part))
        made = _report() if report else None
        outputs = Outputs(
            plane,
            opened,
            verdicts=asked.outputs["verdicts"],
            flows=asked.outputs["flows"],
            flow_format=asked.flow_format,
            frames=asked.frames,
            chosen=asked.chosen,
            flow_writer=made.tally if made else None,
        )
        stack.callback(outputs.discard)
        covered = _coverage(asked.policy) if coverage else None
        coverage_output, report_output = _begin(stack, coverage), _begin(stack, report)
        run = Replay(
            plane,
            opened,
            changes=asked.changes,
            at=asked.at,
            write=outputs.write if outputs else None,
            observers=[
                *(observer for observer in (made and made.timeline, expectations, covered) if observer),
                *outputs.observers,
            ],
            progress=progress(opened),
            pause=outputs.flush if outputs else None,
        )
        opened.wake_by(interrupt.ask(opened.stop))
        try:
            summary = run.run(top=asked.top)
            if coverage and covered:
                told = json.dumps(covered.report(plane.policy, summary), indent=2) + "\n"
                _write(told.encode(), coverage, coverage_output)
            outputs.keep()
            if coverage_output:
                coverage_output.keep()
            if report and made:
                # Only now all flows are given out.
                _write(_page(made, asked, captures, summary), report, report_output)
                if report_output:
                    report_output.keep()
        except OSError as error:
            flows, verdicts = asked.outputs["flows"], asked.outputs["verdicts"]
            name = error.filename or verdicts or flows
            what = {coverage: "coverage", flows: "flows", verdicts: "verdicts", report: "report"}.get(name, "frames")
            raise OutputError(f"{name}: {error.strerror}: the {what} could not be written") from None
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


def _report() -> ReplayReport:
    from dataplane.report.replayed import ReplayReport

    return ReplayReport()


def _page(report: ReplayReport, asked: Asked, captures: Sequence[str], summary: Summary) -> bytes:
    """The page about a replay that has ended."""
    from dataplane.insight.replayed_packet import Replayed

    again, command = None, None
    if not asked.follow and not any(map(passes_once, captures)):
        again = Replayed(asked.policy, captures, asked.changes, asked.at, asked.part)
        command = asked.explained_by(captures)
    return report.page(asked.named, asked.policy, summary, again, command).html()


def _write(content: bytes, name: str, output: OutputFile | None) -> None:
    """Writes the file of an option, or to standard output; an OSError has its name."""
    if output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        return
    try:
        with output.open() as file:
            file.write(content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None
