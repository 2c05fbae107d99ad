"""Commands of `dataplane ctl` that look at the firewall as a whole, and at what it denies and passes."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO, NoReturn

import typer

from dataplane.cli.ctl.request import (
    EXIT_FAILED,
    EXIT_USAGE,
    ConfirmOption,
    CountOption,
    DryRun,
    Expected,
    ForceOption,
    JsonOption,
    Output,
    OutputOption,
    PortOption,
    confirm_seconds,
    connected,
    ending_on_interrupt,
    show,
    spare,
    stream,
    write_document,
)
from dataplane.cli.inputs import mistakes_refused
from dataplane.cli.output import refuse, say
from dataplane.outputs import CAPTURE, OTHER, POLICY, STATE, OutputFile
from dataplane.terminal import counted


def status(context: typer.Context, output: OutputOption = Output.text) -> None:
    """Print what the firewall is doing, at a glance.

    \b
    Examples:
      dataplane ctl status
      dataplane ctl --socket /run/fw.sock status -o json
    """
    from dataplane.cli.ctl.text import print_status

    with connected(context) as client:
        show(client.call("status"), output, partial(print_status, command=context.obj.command))


def reload(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="With --diff: another policy document than the firewall's own.")
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Only tell which connections it would cut, or judge otherwise.")
    ] = False,
    dry_run: DryRun = False,
    expected: Expected = None,
    confirm: ConfirmOption = None,
    output: OutputOption = Output.text,
    as_json: JsonOption = False,
) -> None:
    """Read the policy file again; print what that disconnects once it is in force. With mistakes nothing changes.

    With --diff nothing changes either: the exit status is 0 when every connection would go on as it does, 1 when one
    would not.

    \b
    Examples:
      dataplane ctl reload --dry-run
      dataplane ctl reload --diff new.yaml --json
    """
    from dataplane.cli.ctl.text import print_change

    output = Output.json if as_json else output
    if diff:
        for option, value in (("--confirm", confirm), ("--expected-generation", expected)):
            if value is not None:
                refuse(f"--diff changes nothing, and {option} is about a change: leave one of them out")
        _difference(context, file, output)
    if file:
        refuse(f"{file}: a reload reads the file that the firewall was started with: another one goes with --diff")
    seconds = confirm_seconds(confirm)
    with connected(context) as client:
        answer = client.call("reload", dry_run=dry_run, expected_generation=expected, confirm=seconds)
        show(answer, output, partial(print_change, command=context.obj.command))


def confirm(
    context: typer.Context,
    revert: Annotated[bool, typer.Option("--revert", help="Take the change back now instead.")] = False,
    expected: Expected = None,
    output: OutputOption = Output.text,
    as_json: JsonOption = False,
) -> None:
    """Keep the change that was made with --confirm; without this, it is taken back when its time is over.

    \b
    Examples:
      dataplane ctl reload --confirm 60 && dataplane ctl confirm
      dataplane ctl confirm --revert
    """
    from dataplane.cli.ctl.text import print_confirmation

    with connected(context) as client:
        answer = client.call("confirm", revert=revert, expected_generation=expected)
        show(answer, Output.json if as_json else output, print_confirmation)


def _difference(context: typer.Context, file: Path | None, output: Output) -> NoReturn:
    from dataplane.cli.ctl.text import print_difference

    document = None
    if file:
        from dataplane.policy.model import Policy
        from dataplane.policy.write import document as document_of

        with mistakes_refused():
            document = document_of(Policy.load(file))
    with connected(context) as client:
        found = client.call("difference", policy=document)
        show(found, output, print_difference)
    raise typer.Exit(EXIT_FAILED if found["connections"]["changed"] or found["disconnected"]["total"] else 0)


def policy(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(help="A new file, or the firewall's policy file, replaced as a whole; - is standard output."),
    ] = "-",
    output: Annotated[Output | None, typer.Option("--output", "-o", help="text is YAML.")] = None,
    force: ForceOption = False,
) -> None:
    """Print the policy in force, with all changes, as a document: written to the policy file, a reload cuts nothing.

    Comments are lost. A file whose name ends in .json is written as JSON.

    \b
    Examples:
      dataplane ctl policy
      dataplane ctl policy /etc/dataplane/policy.yaml
    """
    # What cannot be the firewall's policy file is refused before it is asked.
    spare(file, force=force, kinds=(CAPTURE, STATE))
    with connected(context) as client:
        found = client.call("policy")
        kept_in = client.call("status")["policy"]
    its_own = file != "-" and Path(file).resolve() == Path(kept_in).resolve()
    if not its_own:
        spare(file, force=force, kinds=(CAPTURE, POLICY, STATE, OTHER))
    write_document(found, file, output)
    if file == "-":
        return
    if its_own:
        reload = shlex.join([*context.obj.command, "reload"])
        say(f"{file} is the policy in force: {reload} makes the firewall know it, and cuts nothing")
    else:
        not_it = f"it is not the firewall's policy file ({kept_in}): a reload does not read it"
        say(f"{file} has the policy in force; {not_it}")


def save(context: typer.Context, output: OutputOption = Output.text) -> None:
    """Write the connection table to the state file.

    \b
    Examples:
      dataplane ctl save
      dataplane ctl save -o json
    """
    with connected(context) as client:
        show(
            client.call("save"),
            output,
            lambda saved: say(f"{counted(saved['connections'], 'connection')} saved in {saved['file']}"),
        )


def counters(context: typer.Context, output: OutputOption = Output.text) -> None:
    """Print what was counted: by verdict and reason, port and rule; and the flows denied most.

    \b
    Examples:
      dataplane ctl counters
      dataplane ctl counters -o json
    """
    from dataplane.cli.ctl.text import print_counters

    with connected(context) as client:
        show(client.call("counters"), output, print_counters)


def stations(context: typer.Context, output: OutputOption = Output.text) -> None:
    """Print the MACs that the switch knows, and the port of each.

    \b
    Examples:
      dataplane ctl stations
      dataplane ctl stations -o json
    """
    from dataplane.cli.ctl.text import print_stations

    with connected(context) as client:
        show(client.call("stations"), output, print_stations)


def drops(
    context: typer.Context,
    rate: Annotated[float, typer.Option(min=0.01, help="The most to show a second; others are counted.")] = 100,
    port: PortOption = None,
    count: CountOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Print denied packets as they come, with the reason and the rule, until Ctrl-C.

    \b
    Examples:
      dataplane ctl drops --port tap-web
      dataplane ctl drops --rate 10 --count 100 -o json
    """
    from dataplane.live.conntrack_format import drop_line

    stream(context, output, drop_line, count, command="drops", rate=rate, port=port)


def capture(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="The pcapng file to write; - is standard output.")],
    port: PortOption = None,
    count: CountOption = None,
    force: ForceOption = False,
) -> None:
    """Write frames with their verdicts to a pcapng file until Ctrl-C.

    A frame is there once for each port: where it came in, and where it went out. The file is in its place when the
    capture ends.

    \b
    Examples:
      dataplane ctl capture live.pcapng --port tap-web
      dataplane ctl capture - --count 100 | tshark -r -
    """
    from dataplane.pcapng import PACKET, STATISTICS, dropped_of, kind_of

    # Of frames that came once, nobody has others to replace.
    spare(file, force=force, kinds=(CAPTURE, POLICY, STATE, OTHER))
    packets = lost = 0
    with connected(context) as client:
        # Only a capture that has begun may take the place of a file.
        blocks = client.capture(port=port)
        with _opened(file) as target, ending_on_interrupt(client, signal.SIGTERM, signal.SIGHUP):
            for block in blocks:
                kind = kind_of(block)
                # What was lost comes behind the frames that are on their way when there are enough.
                if packets == count and kind != STATISTICS:
                    continue
                _write(target, block, file)
                if kind == STATISTICS:
                    lost += dropped_of(block)
                elif kind == PACKET:
                    packets += 1
                    if packets == count:
                        client.stop()
    say(f"{counted(packets, 'frame')} captured", err=True)
    if lost:
        say(f"{lost:,} more came faster than they were read, and are lost", err=True)


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """A file to write without a buffer, which would fail once more when it is closed; - is standard output.

    However the capture ends, what came is put in its place; but a file of before stays where this one is not whole.
    """
    if file == "-":
        yield sys.stdout.buffer
        return
    try:
        output = OutputFile(file)
        replaces = Path(file).exists()
        target: BinaryIO = Path(output.path).open("wb", buffering=0)
    except OSError as error:
        raise _unwritable(file, error) from None
    try:
        with target:
            yield target
    except typer.Exit:
        if replaces:
            output.discard()
        raise
    finally:
        # Does nothing where it was discarded.
        output.keep()


def _write(target: BinaryIO, block: bytes, file: str) -> None:
    rest = memoryview(block)
    try:
        while rest:
            rest = rest[target.write(rest) :]
        target.flush()
    except OSError as error:
        raise _unwritable(file, error) from None


def _unwritable(file: str, error: OSError) -> typer.Exit:
    say(f"{file}: {error.strerror}", err=True)
    return typer.Exit(EXIT_USAGE)
