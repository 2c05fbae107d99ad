"""`dataplane replay`: captures through a policy, a verdict for every packet and a summary (SPEC 7)."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dataplane.cli.inputs import (
    CUT_ABOVE,
    EXIT_CAPTURE,
    AtOption,
    CapturesArgument,
    CutOption,
    MapOption,
    OnOption,
    TimeOption,
    mistakes_refused,
    part_of,
    refuse_standard_input_twice,
)
from dataplane.cli.interrupt import Interrupt
from dataplane.cli.output import json_text, leave, reader_may_leave, refuse, say, say_aside

if TYPE_CHECKING:
    from dataplane.cli.cluster.workers import Workers
    from dataplane.policy import Policy
    from dataplane.policy.schedule import TimedChange
    from dataplane.replay import Summary
    from dataplane.replay.chosen import Chosen
    from dataplane.replay.expectations import Expectations, Failure

_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
EXIT_EXPECTATION = 1
#: Outputs of the whole replay, which come at its end wherever they go.
_WHOLE = ("flows", "coverage", "report")


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
    report: Annotated[
        str | None,
        typer.Option(
            help="Write a page of HTML for people: traffic over time, what changes cut, flows with their stories; - is "
            "standard output."
        ),
    ] = None,
    expect: Annotated[
        Path | None, typer.Option(help="A YAML list of expectations; exit status 1 if one fails.")
    ] = None,
    each: Annotated[
        bool,
        typer.Option("--each", help="Each capture by itself, in a fresh table; {} in an output's name is the capture."),
    ] = False,
    time: TimeOption = None,
    mapped: MapOption = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="'verdict: deny, port: 22'",
            help="Write records and frames of these packets only, in an expectation's words; may be repeated.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a file even if it is a capture or a policy.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=16,
            help="Judge on so many threads, with the same result.",
        ),
    ] = None,
    on: OnOption = None,
    cut: CutOption = CUT_ABOVE,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Read captures on as they grow, until Ctrl-C. Files are in their places at the end: - is written as "
            "packets come.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    top: Annotated[int, typer.Option(min=0, max=1000, help="How many denied flows and rules to list.")] = 10,
) -> None:
    """Replay captures through a policy: which packets pass, by which rule, and what a change cuts off.

    \b
    Examples:
      dataplane replay policy.yaml a.pcap --verdicts - --filter 'verdict: deny'
      dataplane replay policy.yaml a.pcap --changes changes.yaml --report a.html
      dataplane replay policy.yaml captures/ --each --flows 'flows/{}.csv'
      dataplane replay policy.yaml captures/ --each --on dask
    """
    # The policy and its tables live as long as the process: looking for garbage among them only takes time.
    gc.disable()
    from dataplane.cli.progress import CorpusProgress
    from dataplane.cli.replayed import Asked, replayed
    from dataplane.cli.report_file import explain_command
    from dataplane.outputs import OutputError, check_outputs
    from dataplane.policy.model import Policy
    from dataplane.replay.folder import captures_of
    from dataplane.replay.jobs import jobs_for

    outputs = {"verdicts": verdicts, "flows": flows, "coverage": coverage, "report": report}
    outputs |= {"annotate": annotate, "allowed": allowed, "denied": denied}
    outputs = {option: "-" if name in _STDOUT else name for option, name in outputs.items()}
    printed = [f"--{option}" for option, name in outputs.items() if name == "-"]
    if len(printed) > 1:
        refuse(f"-: {printed[0]} and {printed[1]} would both write to standard output: name a file for one of them")
    refuse_standard_input_twice([policy, *captures, changes, expect])
    if filters and not any(name for option, name in outputs.items() if option not in _WHOLE):
        refuse("--filter says which records and frames are written: add --verdicts, --annotate, --allowed or --denied")
    if flow_format and not flows:
        refuse("--flow-format says how flow records are written: add --flows")
    if each and follow:
        refuse("--each and --follow do not go together: a capture that grows comes to no end")
    if on and follow:
        refuse("--on and --follow do not go together: a capture that grows comes to no end")
    # Until something is written, Ctrl-C ends the process here and now.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    interrupt = Interrupt()
    # The bar is gone before a mistake is told.
    with mistakes_refused(OutputError), ExitStack() as stack:
        loaded = Policy.load(policy)
        schedule = _load_changes(changes, loaded) if changes else []
        policies = [loaded, *_later(loaded, schedule)] if expect or jobs else [loaded]
        expectations = _load_expectations(expect, policies) if expect else None
        captures = captures_of(captures, say_aside)
        read: list[str | Path] = [policy, *captures, *(path for path in (changes, expect) if path)]
        if schedule:
            from dataplane.policy.schedule import named_policies

            read += named_policies(schedule)
        asked = Asked(
            policy=loaded,
            changes=schedule,
            at=at,
            outputs=outputs,
            named=str(policy),
            explained_by=lambda captures: explain_command(policy, captures, changes, at, time, mapped),
            flow_format=flow_format.value if flow_format else None,
            jobs=jobs_for(jobs, policies, at=at, flows=flows is not None or report is not None),
            follow=follow,
            top=top,
            chosen=_chosen(filters or ()),
            part=part_of(time, mapped),
        )
        if not each:
            check_outputs({f"--{option}": name for option, name in outputs.items()}, read, force=force)
        if follow:
            _tell_what_comes_at_the_end(outputs)
        bar = CorpusProgress(stack, captures)
        # Only who asks for a cluster, or for each capture by itself, waits until it is loaded.
        workers = _workers(stack, on, captures, interrupt) if on else None
        if workers and not each:
            from dataplane.cli.cluster.merged import replayed_there

            summary, failures = replayed_there(workers, asked, captures, expectations, interrupt, cut)
        elif not each:
            summary = replayed(asked, captures, expectations, interrupt, bar.of)
            failures = expectations.finish() if expectations else []
        if each:
            from dataplane.cli.corpus import replay_each

            arguments = (asked, captures, expectations, interrupt, bar, read)
            status = replay_each(*arguments, as_json=as_json, force=force, workers=workers, cut_above=cut)
    if each:
        leave(status)
    with reader_may_leave():
        _print_summary(summary, as_json=as_json, to_stderr=bool(printed), top=top)
    status = _conclude(summary, expectations, failures)
    leave(interrupt.status or status)


def _workers(stack: ExitStack, on: str, captures: Sequence[str], interrupt: Interrupt) -> Workers:
    from dataplane.cli.cluster.workers import Workers, refuse_what_passes_once

    refuse_what_passes_once(captures)
    return Workers(stack, on, interrupt)


def _tell_what_comes_at_the_end(outputs: Mapping[str, str | None]) -> None:
    """Says of records and frames for a regular file that nobody sees them until then."""
    from dataplane.outputs import is_descriptor

    for option, name in outputs.items():
        if name in (None, "-") or option in _WHOLE or is_descriptor(name):
            continue
        if not Path(name).exists() or Path(name).is_file():
            say(f"{name}: it is in its place when the reading ends: --{option} - writes as packets come", err=True)


def _chosen(filters: Sequence[str]) -> Chosen | None:
    """Which records and frames are written; ends the program where that cannot be told."""
    if not filters:
        return None
    from dataplane.replay.chosen import Chosen, FilterError

    try:
        return Chosen(filters)
    except FilterError as error:
        refuse(f"--filter {error}")


# Their models take a while to load: only who gives such a file waits for it.


def _load_changes(path: Path, policy: Policy) -> list[TimedChange]:
    from dataplane.policy.schedule import load_changes

    return load_changes(path, policy)


def _later(policy: Policy, schedule: list[TimedChange]) -> list[Policy]:
    """The policies that a schedule puts in force."""
    if not schedule:
        return []
    from dataplane.policy.schedule import scheduled

    return [later for _, later in scheduled(policy, schedule)]


def _load_expectations(path: Path, policies: Sequence[Policy]) -> Expectations:
    from dataplane.replay.expectations import Expectations

    return Expectations.load(path, policies)


def _print_summary(summary: Summary, *, as_json: bool, to_stderr: bool, top: int) -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    if as_json:
        stream.write(json_text(summary.to_dict()) + "\n")
        return
    from dataplane.cli.summary import print_summary

    print_summary(summary, stream, top=top)


def _conclude(summary: Summary, expectations: Expectations | None, failures: Sequence[Failure]) -> int:
    """Says on standard error what failed; the exit status (SPEC 7)."""
    failed = 0
    if expectations:
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
