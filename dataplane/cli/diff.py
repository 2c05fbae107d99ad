"""`dataplane diff`: what another policy does to the traffic of captures (SPEC 8.4)."""

from __future__ import annotations

import gc
import json
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

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
from dataplane.cli.output import leave, reader_may_leave, say, say_aside
from dataplane.terminal import counted, most_of

if TYPE_CHECKING:
    from dataplane.differences import Judgement
    from dataplane.insight.diff import Difference
    from dataplane.policy import Policy
    from dataplane.policy.schedule import TimedChange

EXIT_CHANGED = 1


def diff(
    old: Annotated[Path, typer.Argument(help="The policy document to compare with.")],
    new: Annotated[
        Path,
        typer.Argument(help="The policy document that may take its place, or a YAML list of changes that make it."),
    ],
    captures: CapturesArgument,
    changes: Annotated[
        Path | None, typer.Option(help="A YAML list of changes, made in both policies at their time.")
    ] = None,
    at: AtOption = None,
    time: TimeOption = None,
    mapped: MapOption = None,
    report: Annotated[
        str | None,
        typer.Option(help="Write a page of HTML for people: denied under either policy over time, flows with stories."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write the page over a file even if it is a capture or a policy.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the differences as JSON, all flows.")] = False,
    top: Annotated[int, typer.Option(min=0, max=100000, help="How many flows to list as text.")] = 20,
    on: OnOption = None,
    cut: CutOption = CUT_ABOVE,
) -> None:
    """Compare two policies over captures: which flows get another verdict, and which connections the change would cut.

    The exit status is 0 when every packet gets the same verdict, and 1 when one does not.

    \b
    Examples:
      dataplane diff policy.yaml new.yaml capture.pcap
      dataplane diff policy.yaml close-ssh.yaml captures/    # changes
      dataplane diff policy.yaml new.yaml captures/ --changes changes.yaml --json
      dataplane diff policy.yaml new.yaml captures/ --report diff.html
    """
    gc.disable()
    from dataplane.cli.compared import AskedDifference, compared
    from dataplane.cli.report_file import ReportFile, explain_command
    from dataplane.outputs import OutputError
    from dataplane.replay.folder import captures_of

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    refuse_standard_input_twice([old, new, *captures, changes])
    part = part_of(time, mapped)
    with ExitStack() as stack:
        with mistakes_refused(OutputError):
            output = None
            paths = captures_of(captures, say_aside)
            before, after, made = _loaded(old, new)
            schedule = []
            read: list[str | Path] = [old, new, *paths]
            if changes or made:
                from dataplane.policy.schedule import load_changes, named_policies

                read += named_policies(made)
            if changes:
                schedule = load_changes(changes, before)
                read += [changes, *named_policies(schedule)]
            if report:
                # Whatever it needs is missed before the captures are read.
                import dataplane.report.compared  # noqa: F401

                output = ReportFile(stack, report, read, force=force)
            explained = None
            if output:
                # No command takes a policy that is made of another by changes.
                explained = "" if made else explain_command(new, paths, changes, at, time, mapped)
            asked = AskedDifference(
                old=before,
                new=after,
                named=(str(old), str(new)),
                paths=paths,
                changes=schedule,
                at=at,
                part=part,
                explained_by=explained,
            )
            if on:
                from dataplane.cli.cluster.differences import compared_there

                found, page = compared_there(stack, on, asked, cut)
            else:
                found, page = compared(asked)
            if output and page:
                output.write(page)
        with reader_may_leave():
            if as_json:
                typer.echo(json.dumps(found.to_dict(), indent=2))
            else:
                _print(found, sys.stdout, top)
        for sentence in found.advice:
            say(sentence, err=True)
        for capture in found.faults:
            say(f"{capture.name}: {capture.words}", err=True)
    leave(EXIT_CAPTURE if found.faults else EXIT_CHANGED if found.changed else 0)


def _loaded(old: Path, new: Path) -> tuple[Policy, Policy, list[TimedChange]]:
    """Both policies, and the changes that make the new one of the old one where there are such.

    Raises one PolicyError with the mistakes of all, and ChangeError for changes that cannot be made.
    """
    from dataplane.policy.mistakes import Mistake, PolicyError
    from dataplane.policy.model import Policy

    policies, mistakes = list[Policy](), list[Mistake]()
    for path in (old, new):
        try:
            policies.append(Policy.load(path))
        except PolicyError as error:
            if path == new and policies and _holds_changes(new):
                from dataplane.policy.schedule import load_changes, scheduled

                changes = load_changes(new, policies[0])
                return policies[0], scheduled(policies[0], changes)[-1][1], changes
            mistakes += error.mistakes
    if mistakes:
        raise PolicyError(mistakes)
    return policies[0], policies[1], []


def _holds_changes(path: Path) -> bool:
    """Whether a file that is no policy holds changes; standard input cannot be read again."""
    from dataplane.policy.reading.file_kinds import changes_told
    from dataplane.policy.reading.source import read, read_file

    if str(path) == "-":
        return False
    value = read(*read_file(path)).value
    return isinstance(value, list) and changes_told(value) is not None


def _print(found: Difference, stream: TextIO, top: int) -> None:
    from rich.text import Text

    from dataplane.terminal import console as terminal

    console = terminal(stream)

    def say_line(line: str | Text) -> None:
        console.print(line, soft_wrap=True)

    def say_sentence(sentence: str | Text) -> None:
        """It is wrapped at a terminal; flows are not, so that they are copied as they are."""
        console.print(sentence)

    total = found.same + found.changed
    style = "bold red" if found.changed else "bold green"
    say_sentence(
        Text(
            f"{found.changed:,} of {_packets(total)} {'get' if found.changed != 1 else 'gets'} another verdict.", style
        )
    )
    for flow in found.flows[:top]:
        say_line("")
        say_line(Text(flow.flow, "bold"))
        say_line(f"  {_packets(flow.packets)}, the first is {flow.first_packet:,}")
        say_line(f"  old {_judgement(flow.old)}")
        say_line(f"  new {_judgement(flow.new)}")
    if found.flows:
        say_line("")
    if len(found.flows) > top:
        say_sentence(f"{counted(len(found.flows) - top, 'more flow')}: --top lists more, --json all")
    if found.not_kept:
        say_sentence(f"{_packets(found.not_kept)} more are of flows beyond those that are kept")
    cut = sum(found.disconnected.values())
    by = ", ".join(f"{instance}: {n:,}" for instance, n in most_of(found.disconnected))
    words = f"{cut:,} inbound connection{'' if cut == 1 else 's'}{f' ({by})' if by else ''}"
    say_sentence(f"To change from the old to the new policy at the end would cut {words}.")


def _packets(n: int) -> str:
    return f"{n:,} packet{'' if n == 1 else 's'}"


def _judgement(judgement: Judgement) -> str:
    return " ".join(word for word in (judgement.verdict, judgement.reason, judgement.rule) if word)
