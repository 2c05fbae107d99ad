"""`dataplane ctl shadow`: another policy that judges the live packets beside the one in force, and enforces nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dataplane.cli.ctl.request import Output, OutputOption, connected, show
from dataplane.cli.inputs import mistakes_refused
from dataplane.cli.output import say


def shadow(
    context: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="FILE|off|report", help="A policy document, which begins it; or off, or report.")
    ] = "report",
    top: Annotated[int, typer.Option(min=0, max=1_000_000, help="How many flows a report has.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON (as -o json).")] = False,
    output: OutputOption = Output.text,
) -> None:
    """Try another policy on live packets: what it would deny, or let pass, that the policy in force does not.

    A file that is called off or report is written ./off.

    \b
    Examples:
      dataplane ctl shadow new.yaml
      dataplane ctl shadow report --json
    """
    form = Output.json if as_json else output
    if what == "report":
        with connected(context) as client:
            show(client.call("shadow", action="report", top=top), form, print_report)
    elif what == "off":
        with connected(context) as client:
            show(client.call("shadow", action="end"), form, lambda _: say("The shadow has ended."))
    else:
        _begin(context, Path(what), form)


def _begin(context: typer.Context, path: Path, form: Output) -> None:
    from dataplane.policy import Policy
    from dataplane.policy.write import document

    with mistakes_refused():
        policy = Policy.load(path)
    with connected(context) as client:
        begun = client.call("shadow", action="begin", policy=document(policy), name=str(path.absolute()))
    number = begun["taken_over"]
    kept = f"{number:,} live connection{'' if number == 1 else 's'} taken over"
    show(begun, form, lambda _: say(f"{path} judges beside the policy in force, and enforces nothing; {kept}"))


def print_report(report: Mapping[str, Any]) -> None:
    """What a shadow has judged otherwise, as `dataplane diff` tells of two policies."""
    packets = report["packets"]
    total = packets["same"] + packets["changed"]
    say(f"{packets['changed']:,} of {_packets(total)} would get another verdict under {report['policy']}.")
    for flow in report["flows"]:
        say("")
        say(flow["flow"])
        say(f"  {_packets(flow['packets'])}")
        say(f"  now    {_judgement(flow['old'])}")
        say(f"  shadow {_judgement(flow['new'])}")
    left = report["flows_changed"] - len(report["flows"])
    if left or report["packets_not_kept"]:
        say("")
    if left:
        say(f"{left:,} more flows: --top lists more")
    if report["packets_not_kept"]:
        say(f"{_packets(report['packets_not_kept'])} more are of flows beyond those that are kept")


def _packets(number: int) -> str:
    return f"{number:,} packet{'' if number == 1 else 's'}"


def _judgement(judgement: Mapping[str, Any]) -> str:
    return " ".join(word for word in (judgement["verdict"], judgement["reason"], judgement["rule"]) if word)
