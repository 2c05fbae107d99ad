"""`dataplane ctl explain`: why the running firewall would pass or deny a packet now (SPEC 8.3)."""

from __future__ import annotations

import base64
import json
import sys
from contextlib import ExitStack
from typing import Annotated

import typer

from dataplane.cli.completion import ids
from dataplane.cli.ctl.request import EXIT_FAILED, JsonOption, Output, OutputOption, connected
from dataplane.cli.inputs import mistakes_refused
from dataplane.cli.output import refuse, say


def explain(
    context: typer.Context,
    packet: Annotated[
        list[str],
        typer.Argument(
            metavar="PACKET", help="A packet in quotes, PROTOCOL SRC[:PORT] > DST[:PORT] [FLAGS|TYPE[/CODE]]."
        ),
    ],
    at: Annotated[
        str | None,
        typer.Option(
            metavar="INSTANCE",
            help="It is seen at this instance's interface; without it, addresses say whose it is.",
            autocompletion=ids("instances_by_id"),
        ),
    ] = None,
    output: OutputOption = Output.text,
    as_json: JsonOption = False,
) -> None:
    """Explain what the running firewall would do with a packet now, its connections included. It changes nothing.

    A TCP segment of a connection is taken to be its next one.

    \b
    Examples:
      dataplane ctl explain "tcp 10.0.0.5:4000 > 192.168.0.10:22 S"
      dataplane ctl explain "udp 10.0.0.1:53 > 10.0.0.5:4000" --at ecs-a --json
    """
    from dataplane.cli.explanation import print_explanation
    from dataplane.insight.packet_text import PacketTextError, parse_packet
    from dataplane.insight.running_firewall import explained, question
    from dataplane.live import state

    with mistakes_refused(PacketTextError):
        written = parse_packet(" ".join(packet))
    with connected(context) as client:
        answer = client.call("flow", **question(written))
        table = client.call("status")
    try:
        known = state.decoded(base64.b64decode(answer["state"]), "the policy in force")
    except state.StateError as error:
        refuse(f"{context.obj.socket}: what the firewall tells cannot be read: {error}", EXIT_FAILED)
    with ExitStack() as stack:
        with mistakes_refused():
            found = stack.enter_context(explained(written, at, known))
        if as_json or output is Output.json:
            typer.echo(json.dumps(found.to_dict(), indent=2))
        else:
            print_explanation(found, str(written), sys.stdout, running=context.obj.command)
        entries, limit = table["connections"], table["connections_limit"]
        opens = any(check.check.state == "new" and check.check.verdict == "allow" for check in found.checks)
        if opens and entries >= limit:
            say(
                f"The connection table is full ({entries:,} of {limit:,}): the packet opens a connection only if an"
                " older one gives way to it; else it is denied, table-full.",
                err=True,
            )
