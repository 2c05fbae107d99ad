"""`dataplane ctl flows`: the flows of a running firewall as records of SPEC 8.2, listed or followed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from dataplane.cli.ctl.request import CountOption, Output, OutputOption, stream
from dataplane.cli.ctl.selection import Chosen, choosing
from dataplane.cli.output import json_text, say
from dataplane.terminal import host_port

_END, _WIDTH, _RULE = 12, 36, 9


class Verdict(StrEnum):
    """What became of a flow."""

    allow = "allow"
    deny = "deny"


@choosing
def flows(
    context: typer.Context,
    chosen: Chosen,
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
    line: Callable[[Any], str | list[str]]
    if as_csv:
        from dataplane.flow import FIELDS

        line, head = _csv_line, ",".join(FIELDS)
    elif as_json or output is Output.json:
        line, head = _json_line, None
    else:
        line, head = flow_lines, HEAD
    shown = stream(
        context,
        Output.text,
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


def _row(end: str, flow: str, packets_in: str, packets_out: str, denied: str, rule: str) -> list[str]:
    """Columns of 80 characters: where the flow or the rule is longer, numbers have a line, and the rule before them."""
    numbers = f"{packets_in:>6} {packets_out:>6} {denied:>6}"
    if len(flow) <= _WIDTH and len(rule) <= _RULE:
        return [f"{end:<{_END}} {flow:<{_WIDTH}} {numbers} {rule}".rstrip()]
    first = f"{end:<{_END}} {flow}"
    if len(rule) <= _RULE:
        return [first, f"{'':<{_END}} {'':<{_WIDTH}} {numbers} {rule}".rstrip()]
    if len(rule) <= _WIDTH:
        return [first, f"{'':<{_END}} {rule:<{_WIDTH}} {numbers}"]
    return [first, f"{'':<{_END}} {rule}", f"{'':<{_END}} {'':<{_WIDTH}} {numbers}"]


(HEAD,) = _row("end", "flow", "in", "out", "denied", "rule")


def flow_lines(flow: Mapping[str, Any]) -> list[str]:
    """A flow: how it ended, who with whom, the side that began first, packets, and the rule."""
    here = flow["instance"] + (f":{flow['local_port']}" if flow["local_port"] is not None else "")
    there = host_port(flow["remote"] or "?", flow["remote_port"])
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


def _exact(flow: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A record, and its times as the flow log writes them: of a double the nanoseconds would be lost."""
    told = dict(flow)
    times = {name: _seconds(told.pop(f"{name}_ns")) for name in ("first", "last") if f"{name}_ns" in told}
    return told, times


def _seconds(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, 10**9)
    return f"{seconds}.{rest:09}" if rest % 1000 else f"{seconds}.{rest // 1000:06}"


def _json_line(flow: Mapping[str, Any]) -> str:
    told, times = _exact(flow)
    text = json_text(told | dict.fromkeys(times, 0))
    # Of a name with such quotes in it they are escaped.
    for name, seconds in times.items():
        text = text.replace(f'"{name}":0,', f'"{name}":{seconds},', 1)
    return text


def _csv_line(flow: Mapping[str, Any]) -> str:
    told, times = _exact(flow)
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow("" if value is None else value for value in (told | times).values())
    return text.getvalue()
