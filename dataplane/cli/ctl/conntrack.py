"""`dataplane ctl conntrack`: the connection table, with the filters and the lines of conntrack-tools."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from dataplane.atomic import remedy, replacing
from dataplane.cli.ctl.request import (
    Commands,
    CountOption,
    ForceOption,
    Output,
    OutputOption,
    connected,
    show,
    spare,
    stream,
)
from dataplane.cli.ctl.selection import Chosen, choosing
from dataplane.cli.output import refuse, say
from dataplane.outputs import CAPTURE, OTHER, POLICY, STATE, STATE_MAGIC
from dataplane.terminal import counted

#: Why a connection is not taken, by the word of the answer.
_REFUSED = {
    "no-instance": "their instance is not in the policy here",
    "not-valid": "there are no such connections",
    "expired": "their time was over",
    "there-already": "they are here already",
    "table-full": "the connection table is full",
}

app = Commands(help="The connection table, as conntrack-tools show the kernel's.", no_args_is_help=True)


@app.command("list")
@choosing
def list_(
    context: typer.Context,
    chosen: Chosen,
    output: OutputOption = Output.text,
) -> None:
    """List connections, one a line.

    \b
    Examples:
      dataplane ctl conntrack list -p tcp --dport 22
      dataplane ctl conntrack list --instance web-1 --origin inbound -o json
    """
    from dataplane.live.conntrack_format import connection_line

    shown = stream(context, output, connection_line, None, command="conntrack", action="list", selection=chosen)
    say(f"{counted(shown, 'connection')} {_have(shown)} been shown.", err=True)


@app.command()
@choosing
def count(
    context: typer.Context,
    chosen: Chosen,
    output: OutputOption = Output.text,
) -> None:
    """Count connections.

    \b
    Examples:
      dataplane ctl conntrack count
      dataplane ctl conntrack count -p udp -o json
    """
    with connected(context) as client:
        answer = client.call("conntrack", action="count", selection=chosen)
    show(answer, output, lambda counted: say(str(counted["count"])))


@app.command()
@choosing
def delete(
    context: typer.Context,
    chosen: Chosen,
    output: OutputOption = Output.text,
) -> None:
    """Take the chosen connections out of the table: their next packets are new, and judged by the rules.

    \b
    Examples:
      dataplane ctl conntrack delete -s 192.0.2.9
      dataplane ctl conntrack delete --instance web-1 -p tcp --dport 22
    """
    with connected(context) as client:
        answer = client.call("conntrack", action="delete", selection=chosen)
    show(answer, output, _print_deleted)


@app.command()
def flush(context: typer.Context, output: OutputOption = Output.text) -> None:
    """Take all connections out of the table.

    \b
    Examples:
      dataplane ctl conntrack flush
      dataplane ctl conntrack flush -o json
    """
    with connected(context) as client:
        answer = client.call("conntrack", action="flush")
    show(answer, output, _print_deleted)


@app.command("export")
@choosing
def export(
    context: typer.Context,
    chosen: Chosen,
    file: Annotated[str, typer.Argument(help="The file to write; - is standard output, for a pipe.")] = "-",
    force: ForceOption = False,
) -> None:
    """Give out connections with all that tracking knows of them, for the import of another firewall.

    They stay here too. An instance that moves is stopped, or paused, before: what passes later is not in it.

    \b
    Examples:
      dataplane ctl conntrack export --instance web-1 \\
          | ssh other-host dataplane ctl conntrack import
      dataplane ctl conntrack export web-1.state --instance web-1
    """
    if file == "-" and sys.stdout.isatty():
        refuse("connections are no text: name a file, or pipe them into dataplane ctl conntrack import")
    spare(file, force=force, kinds=(CAPTURE, POLICY, STATE, OTHER))
    with connected(context) as client:
        data = client.download("conntrack", action="export", selection=chosen)
    try:
        if file == "-":
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            # For its owner alone, as a state file is.
            with replacing(Path(file)) as target:
                target.write(data)
    except OSError as error:
        refuse(f"{file}: {error.strerror}: nothing is written: {remedy(error)}")


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="What was exported; - is standard input.")] = "-",
    output: OutputOption = Output.text,
) -> None:
    """Take in connections that another firewall has exported, so that they go on here; what is there already is kept.

    The exit status is 0 however many are taken; 2 where it is damaged, and then none is.

    \b
    Examples:
      ssh other-host dataplane ctl conntrack export --instance web-1 \\
          | dataplane ctl conntrack import
      dataplane ctl conntrack import web-1.state --json
    """
    from dataplane.live.state import most_bytes

    # Who exports may take his time, which a firewall does not wait for.
    with connected(context) as client:
        most = most_bytes(client.call("status")["connections_limit"])
    try:
        with nullcontext(sys.stdin.buffer) if file == "-" else open(file, "rb") as source:
            data = source.read(len(STATE_MAGIC))
            if data == STATE_MAGIC:
                data += source.read(most)
    except OSError as error:
        refuse(f"{file}: {error.strerror}: name what was exported (ctl conntrack export)")
    if not data.startswith(STATE_MAGIC):
        refuse("the connections cannot be imported, and none is taken: it is no state file of dataplane")
    if len(data) > most:
        refuse(f"the connections cannot be imported, and none is taken: there are more than {most:,} bytes of them")
    with connected(context) as client:
        show(client.upload("import", data), output, _print_imported)


def _print_imported(answer: dict[str, Any]) -> None:
    say(f"{answer['taken']:,} of {counted(answer['connections'], 'connection')} {_have(answer['taken'])} been taken.")
    if cut := answer["disconnected"]:
        say(f"  {cut:,} of them disconnected: the policy here says something else of their instance")
    for reason, number in answer["refused"].items():
        if number:
            say(f"  {number:,} not taken: {_REFUSED[reason]}")


@app.command()
def events(context: typer.Context, count: CountOption = None, output: OutputOption = Output.text) -> None:
    """Print connections as they come, change their state and go, until Ctrl-C.

    \b
    Examples:
      dataplane ctl conntrack events
      dataplane ctl conntrack events --count 10 -o json
    """
    from dataplane.live.conntrack_format import event_line

    stream(context, output, event_line, count, command="events")


def _print_deleted(answer: dict[str, Any]) -> None:
    say(f"{counted(answer['deleted'], 'connection')} {_have(answer['deleted'])} been deleted.")


def _have(number: int) -> str:
    return "has" if number == 1 else "have"
