"""`dataplane ctl flows`: the flows of a running firewall as records of SPEC 8.2, listed or followed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from dataplane.cli.ctl import conntrack
from dataplane.cli.ctl.request import CountOption, Output, OutputOption, stream
from dataplane.cli.output import say

_WIDTH = 36


class Verdict(StrEnum):
    """What became of a flow."""

    allow = "allow"
    deny = "deny"


def flows(
    context: typer.Context,
    protocol: conntrack.Protocol = None,
    source: conntrack.Source = None,
    destination: conntrack.Destination = None,
    source_port: conntrack.SourcePort = None,
    destination_port: conntrack.DestinationPort = None,
    state: conntrack.State = None,
    instance: conntrack.InstanceOption = None,
    origin: conntrack.OriginOption = None,
    verdict: Annotated[
        Verdict | None, typer.Option("--verdict", help="allow: connections; deny: flows that never became one.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print flows as they end or were denied, until Ctrl-C.")
    ] = False,
    count: CountOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each flow (as -o json).")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A row of CSV for each flow, behind a header.")] = False,
    output: OutputOption = Output.text,
) -> None:
    """List flows: live connections, and what has ended or was denied lately.

    The firewall must gather them: run it with --flows, or --flow-log FILE.

    \b
    Examples:
      dataplane ctl flows -p tcp --dport 443 --instance web-1
      dataplane ctl flows --verdict deny --follow --json
    """
    if as_json and as_csv:
        say("--json and --csv are two forms: give one of them", err=True)
        raise typer.Exit(2)
    chosen = conntrack.selection(protocol, source, destination, source_port, destination_port, state, instance, origin)
    form = Output.json if as_json else output
    line: Callable[[Any], str] = _csv_line if as_csv else flow_line
    head = HEAD if form is Output.text else None
    if as_csv:
        from dataplane.flow import FIELDS

        form, head = Output.text, ",".join(FIELDS)
    shown = stream(
        context,
        form,
        line,
        count,
        head=head,
        command="flows",
        action="follow" if follow else "list",
        selection=chosen,
        verdict=verdict.value if verdict else None,
    )
    if not follow:
        say(f"{shown:,} flow{' has' if shown == 1 else 's have'} been shown.", err=True)


def _row(end: str, flow: str, packets_in: str, packets_out: str, denied: str, rule: str) -> str:
    """Columns of 80 characters; a flow that is longer has the numbers on a line of their own."""
    if len(flow) > _WIDTH:
        first, flow, second = f"{end:<12} {flow}\n", "", ""
    else:
        first, second = "", end
    return (first + f"{second:<12} {flow:<{_WIDTH}} {packets_in:>6} {packets_out:>6} {denied:>6} {rule}").rstrip()


HEAD = _row("end", "flow", "in", "out", "denied", "rule")


def flow_line(flow: Mapping[str, Any]) -> str:
    """A flow: how it ended, who with whom, the side that began first, packets, and the rule."""
    here = flow["instance"] + (f":{flow['local_port']}" if flow["local_port"] is not None else "")
    address, port = flow["remote"] or "?", flow["remote_port"]
    there = address if port is None else f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    first, second = (there, here) if flow["origin"] == "inbound" else (here, there)
    return _row(
        flow["end"] or "denied",
        f"{flow['protocol'] or 'not-ip'} {first} > {second}",
        _short(flow["packets_in"]),
        _short(flow["packets_out"]),
        _short(flow["packets_denied"]),
        flow["rule"] or flow["reason"],
    )


def _short(number: int) -> str:
    """A number in at most six characters."""
    if number < 100_000:
        return str(number)
    for unit in "kMGTP":
        number_of = number / 1000
        if number_of < 1000:
            return f"{number_of:.1f}{unit}"
        number = round(number_of)
    return f"{number}E"


def _csv_line(flow: Mapping[str, Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow("" if value is None else value for value in flow.values())
    return text.getvalue()
