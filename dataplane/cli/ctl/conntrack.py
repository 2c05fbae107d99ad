"""`dataplane ctl conntrack`: the connection table, with the filters and the lines of conntrack-tools."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from dataplane.cli.completion import ids
from dataplane.cli.ctl.request import Commands, CountOption, Output, OutputOption, connected, show, stream
from dataplane.cli.output import say
from dataplane.terminal import counted

app = Commands(help="The connection table, as conntrack-tools show the kernel's.", no_args_is_help=True)


class Origin(StrEnum):
    """Who opened a connection."""

    inbound = "inbound"
    outbound = "outbound"


Protocol = Annotated[str | None, typer.Option("-p", "--proto", help="Protocol, by name or number.")]
Source = Annotated[str | None, typer.Option("-s", "--src", help="Source of the first packet: an address or CIDR.")]
Destination = Annotated[
    str | None, typer.Option("-d", "--dst", help="Destination of the first packet: an address or CIDR.")
]
SourcePort = Annotated[
    int | None, typer.Option("--sport", min=1, max=65535, help="Source port of the first packet; needs -p.")
]
DestinationPort = Annotated[
    int | None, typer.Option("--dport", min=1, max=65535, help="Destination port of the first packet; needs -p.")
]
State = Annotated[str | None, typer.Option("--state", help="State: ESTABLISHED, SYN_SENT, UNREPLIED...")]
InstanceOption = Annotated[
    str | None,
    typer.Option("--instance", help="The connections of this instance.", autocompletion=ids("instances_by_id")),
]
OriginOption = Annotated[Origin | None, typer.Option("--origin", help="inbound or outbound, seen from the instance.")]


def selection(
    protocol: str | None,
    source: str | None,
    destination: str | None,
    source_port: int | None,
    destination_port: int | None,
    state: str | None,
    instance: str | None,
    origin: Origin | None,
) -> dict[str, Any]:
    """The filters that are given, as a request has them."""
    given = {
        "protocol": protocol,
        "source": source,
        "destination": destination,
        "source_port": source_port,
        "destination_port": destination_port,
        "state": state,
        "instance": instance,
        "origin": origin.value if origin else None,
    }
    return {name: value for name, value in given.items() if value is not None}


@app.command("list")
def list_(
    context: typer.Context,
    protocol: Protocol = None,
    source: Source = None,
    destination: Destination = None,
    source_port: SourcePort = None,
    destination_port: DestinationPort = None,
    state: State = None,
    instance: InstanceOption = None,
    origin: OriginOption = None,
    output: OutputOption = Output.text,
) -> None:
    """List connections, one a line.

    \b
    Examples:
      dataplane ctl conntrack list -p tcp --dport 22
      dataplane ctl conntrack list --instance web-1 --origin inbound -o json
    """
    from dataplane.live.conntrack_format import connection_line

    chosen = selection(protocol, source, destination, source_port, destination_port, state, instance, origin)
    shown = stream(context, output, connection_line, None, command="conntrack", action="list", selection=chosen)
    say(f"{counted(shown, 'connection')} {_have(shown)} been shown.", err=True)


@app.command()
def count(
    context: typer.Context,
    protocol: Protocol = None,
    source: Source = None,
    destination: Destination = None,
    source_port: SourcePort = None,
    destination_port: DestinationPort = None,
    state: State = None,
    instance: InstanceOption = None,
    origin: OriginOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Count connections.

    \b
    Examples:
      dataplane ctl conntrack count
      dataplane ctl conntrack count -p udp -o json
    """
    chosen = selection(protocol, source, destination, source_port, destination_port, state, instance, origin)
    with connected(context) as client:
        answer = client.call("conntrack", action="count", selection=chosen)
    show(answer, output, lambda counted: say(str(counted["count"])))


@app.command()
def delete(
    context: typer.Context,
    protocol: Protocol = None,
    source: Source = None,
    destination: Destination = None,
    source_port: SourcePort = None,
    destination_port: DestinationPort = None,
    state: State = None,
    instance: InstanceOption = None,
    origin: OriginOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Take the chosen connections out of the table: their next packets are new, and judged by the rules.

    \b
    Examples:
      dataplane ctl conntrack delete -s 192.0.2.9
      dataplane ctl conntrack delete --instance web-1 -p tcp --dport 22
    """
    chosen = selection(protocol, source, destination, source_port, destination_port, state, instance, origin)
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
