"""`dataplane replay`: captures through a policy, a verdict for every packet and a summary (SPEC 7)."""

from __future__ import annotations

import gc
import json
import signal
import sys
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dataplane.cli.inputs import EXIT_CAPTURE, AtOption, CapturesArgument, mistakes_refused, refuse_standard_input_twice
from dataplane.cli.interrupt import Interrupt
from dataplane.cli.output import leave, reader_may_leave, refuse, say, say_aside
from dataplane.terminal import console

if TYPE_CHECKING:
    from collections.abc import Callable

    from dataplane.outputs import OutputFile
    from dataplane.policy import Policy
    from dataplane.policy.schedule import TimedChange
    from dataplane.replay import Captures, Summary
    from dataplane.replay.coverage import Coverage
    from dataplane.replay.expectations import Expectations

_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
EXIT_EXPECTATION = 1


class FlowFormat(StrEnum):
    """Forms of flow records as text."""

    json = "json"
    csv = "csv"
    aws = "aws"
    huawei = "huawei"


def replay(
    policy: Annotated[Path, typer.Argument(help="The policy document (YAML or JSON).")],
    captures: CapturesArgument,
    changes: Annotated[
        Path | None, typer.Option(help="A YAML list of changes of the policy, each with its time `at`.")
    ] = None,
    at: AtOption = None,
    verdicts: Annotated[
        str | None,
        typer.Option(help="Write a record for each packet: .csv, .parquet, else JSON lines; - is standard output."),
    ] = None,
    flows: Annotated[
        str | None,
        typer.Option(
            help="Write a record for each connection and denied flow: .csv, .parquet, else JSON lines; - is standard "
            "output."
        ),
    ] = None,
    flow_format: Annotated[
        FlowFormat | None,
        typer.Option(help="The form of --flows in place of that of its ending: VPC flow logs of AWS and Huawei too."),
    ] = None,
    annotate: Annotated[
        str | None, typer.Option(help="Write a pcapng file of all frames, each with a comment that says what it met.")
    ] = None,
    allowed: Annotated[str | None, typer.Option(help="Write such a file of the frames that were allowed.")] = None,
    denied: Annotated[str | None, typer.Option(help="Write such a file of the frames that were denied.")] = None,
    coverage: Annotated[
        str | None,
        typer.Option(
            help="Write which rules, groups and instances the captures never hit, as JSON; - is standard output."
        ),
    ] = None,
    expect: Annotated[
        Path | None, typer.Option(help="A YAML list of expectations; exit status 1 if one fails.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a file even if it is a capture or a policy.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Read captures on as they grow, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    top: Annotated[int, typer.Option(min=0, max=1000, help="How many denied flows and rules to list.")] = 10,
) -> None:
    """Replay captures through a policy: which packets pass, by which rule, and what a change cuts off."""
    # The policy and its tables live as long as the process: looking for garbage among them only takes time.
    gc.disable()
    from dataplane.outputs import OutputError, check_outputs
    from dataplane.plane import Plane
    from dataplane.policy.model import Policy
    from dataplane.replay import Captures, Replay
    from dataplane.replay.folder import captures_of
    from dataplane.replay.outputs import Outputs

    verdicts, flows, coverage = map(_standard, (verdicts, flows, coverage))
    frames = {"annotate": _standard(annotate), "allowed": _standard(allowed), "denied": _standard(denied)}
    named = {"--verdicts": verdicts, "--flows": flows, "--coverage": coverage}
    named |= {f"--{key}": path for key, path in frames.items()}
    printed = [option for option, name in named.items() if name == "-"]
    if len(printed) > 1:
        refuse(f"-: {printed[0]} and {printed[1]} would both write to standard output: name a file for one of them")
    refuse_standard_input_twice([policy, *captures, changes, expect])
    # Until something is written, Ctrl-C ends the process here and now.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    interrupt = Interrupt()
    with ExitStack() as stack:
        with mistakes_refused(OutputError):
            plane = Plane(Policy.load(policy))
            schedule = _load_changes(changes, plane.policy) if changes else []
            expectations = _load_expectations(expect, plane.policy, schedule) if expect else None
            captures = captures_of(captures, say_aside)
            read: list[str | Path] = [policy, *captures, *(path for path in (changes, expect) if path)]
            read += _named_policies(schedule) if schedule else []
            check_outputs(named, read, force=force)
            opened = stack.enter_context(Captures(captures, follow=follow))
            form = flow_format.value if flow_format else None
            outputs = Outputs(plane, opened, verdicts=verdicts, flows=flows, flow_format=form, frames=frames)
            stack.callback(outputs.discard)
            covered = _coverage(plane.policy) if coverage else None
            coverage_output = _begin(stack, coverage)
            run = Replay(
                plane,
                opened,
                changes=schedule,
                at=at,
                write=outputs.write if outputs else None,
                observers=[*(observer for observer in (expectations, covered) if observer), *outputs.observers],
                progress=_progress(stack, opened),
                pause=outputs.flush if outputs else None,
            )
            opened.wake_by(interrupt.ask(opened.stop))
        try:
            summary = run.run(top=top)
            if coverage and covered:
                _write_json(covered.report(plane.policy, summary), coverage, coverage_output)
            outputs.keep()
            if coverage_output:
                coverage_output.keep()
        except OSError as error:
            name = error.filename or verdicts or flows
            what = {coverage: "coverage", flows: "flows", verdicts: "verdicts"}.get(name, "frames")
            refuse(f"{name}: {error.strerror}: the {what} could not be written")
    with reader_may_leave():
        _print_summary(summary, as_json=as_json, to_stderr=bool(printed), top=top)
    status = _conclude(summary, expectations)
    leave(interrupt.status or status)


def _standard(path: str | None) -> str | None:
    return "-" if path in _STDOUT else path


def _begin(stack: ExitStack, name: str | None) -> OutputFile | None:
    """The file to write for an option, undone unless it is kept; None for no file and for standard output."""
    from dataplane.outputs import OutputFile

    if name is None or name == "-":
        return None
    output = OutputFile(name)
    stack.callback(output.discard)
    return output


# Their models take a while to load: only who gives such a file waits for it.


def _coverage(policy: Policy) -> Coverage:
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


def _load_changes(path: Path, policy: Policy) -> list[TimedChange]:
    from dataplane.policy.schedule import load_changes

    return load_changes(path, policy)


def _named_policies(schedule: list[TimedChange]) -> list[str]:
    """The policy documents that a schedule puts in force."""
    from dataplane.policy.changes import ApplyPolicy

    changes = (timed.change for timed in schedule)
    return [change.name for change in changes if isinstance(change, ApplyPolicy) and change.name]


def _load_expectations(path: Path, policy: Policy, schedule: list[TimedChange]) -> Expectations:
    from dataplane.policy.schedule import scheduled
    from dataplane.replay.expectations import Expectations

    return Expectations.load(path, [policy, *(later for _, later in scheduled(policy, schedule))])


def _progress(stack: ExitStack, captures: Captures) -> Callable[[], None] | None:
    """A bar on standard error when that is a terminal; moved once a batch."""
    if not sys.stderr.isatty():
        return None
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    bar = stack.enter_context(
        Progress(
            "replaying",
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console(sys.stderr),
            transient=True,
        )
    )
    sizes = [status.size for status in captures.status()]
    task = bar.add_task("", total=sum(sizes) if all(sizes) else None)

    def move() -> None:
        bar.update(task, completed=sum(status.position for status in captures.status()))

    return move


def _print_summary(summary: Summary, *, as_json: bool, to_stderr: bool, top: int) -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    if as_json:
        stream.write(_json(summary.to_dict()) + "\n")
        return
    from dataplane.cli.summary import print_summary

    print_summary(summary, stream, top=top)


def _json(values: dict[str, Any]) -> str:
    """Values as JSON in ASCII."""
    from pydantic_core import to_json

    try:
        return to_json(values, ensure_ascii=True).decode()
    except ValueError:
        # It takes no halves of surrogate pairs, which stand for the bytes of a file's name that are no UTF-8.
        return json.dumps(values)


def _conclude(summary: Summary, expectations: Expectations | None) -> int:
    """Says on standard error what failed; the exit status (SPEC 7)."""
    failed = 0
    if expectations:
        failures = expectations.finish()
        if failures:
            expectations.print_failures(failures)
            failed = EXIT_EXPECTATION
        else:
            total = expectations.total
            say("1 expectation holds." if total == 1 else f"All {total:,} expectations hold.", err=True)
    for capture in summary.faults:
        say(f"{capture.name}: {capture.words}", err=True)
        failed = EXIT_CAPTURE
    return failed
