"""`dataplane check`: whether a policy document is valid, what is in it, and how much of its quotas is used (SPEC 2)."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dataplane.cli.lint import EXIT_FOUND, Format, kinds, print_findings
from dataplane.cli.output import reader_may_leave, say
from dataplane.terminal import console as terminal
from dataplane.terminal import counted, print_table

if TYPE_CHECKING:
    from dataplane.policy import Policy, PolicyError

EXIT_INVALID = 2


def check(
    policy: Annotated[str, typer.Argument(help="The policy document (YAML or JSON); - is standard input.")],
    live: Annotated[
        bool, typer.Option("--live", help="Also look whether this host has what `dataplane run` needs for the policy.")
    ] = False,
    uplink: Annotated[
        list[str] | None, typer.Option(help="With --live: an uplink besides the policy's; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    lint: Annotated[
        bool, typer.Option("--lint", help="Report rules and groups that do nothing, and what is open to everybody.")
    ] = False,
    how: Annotated[
        Format | None, typer.Option("--format", help="With --lint: text (the default), json, sarif or github.")
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(metavar="KIND,...", help="With --lint: exit status 1 where there is a finding of these kinds."),
    ] = None,
) -> None:
    """Check a policy document: report every mistake in it, or what is in it and how much of its quotas it uses.

    \b
    Examples:
      dataplane check policy.yaml
      dataplane check policy.yaml --lint --fail-on shadowed,open-to-any
    """
    from dataplane.policy import Policy, PolicyError
    from dataplane.policy.reading.load import load_document

    if not lint and (how is not None or fail_on is not None):
        raise typer.BadParameter("--format and --fail-on are for findings: add --lint")
    if as_json and how not in (None, Format.json):
        raise typer.BadParameter(f"--json and --format {how.value} do not go together: give one of them")
    if uplink and not live:
        raise typer.BadParameter("--uplink is for what run needs: add --live")
    failing = kinds(fail_on)
    how = how or (Format.json if as_json else Format.text)
    try:
        loaded, source = load_document(Policy, policy)
    except PolicyError as error:
        _print_mistakes(error, as_json=as_json or how is Format.json)
        raise typer.Exit(EXIT_INVALID) from None
    name = "<stdin>" if policy == "-" else policy
    if lint:
        from dataplane.insight.lint import lint_document

        found = lint_document(loaded, source, time.time_ns())
        with reader_may_leave():
            print_findings(name, found, how)
        status = EXIT_FOUND if any(located.finding.kind in failing for located in found) else 0
        missing, warnings = _look(loaded, uplink or []) if live else ([], [])
        if live:
            # Findings in any other form are a document, which nothing may follow.
            for sentence in warnings:
                say(f"warning: {sentence}", err=True)
            _print_missing(missing, err=how is not Format.text)
        raise typer.Exit(EXIT_INVALID if missing else status)
    report = _report(name, loaded)
    missing, warnings = _look(loaded, uplink or []) if live else ([], [])
    if live:
        report["missing"] = missing
        report["warnings"] += warnings
    with reader_may_leave():
        if as_json:
            typer.echo(json.dumps(report, indent=2))
        else:
            _print_report(report)
    if live and not as_json:
        _print_missing(missing)
    if missing:
        raise typer.Exit(EXIT_INVALID)


_NO_UPLINK = (
    "no uplink is named, so instances reach each other only: write uplinks: [{interface: eth0}] in the policy, or give"
    " --uplink eth0, where an interface leads outside"
)


def _look(policy: Policy, uplinks: list[str]) -> tuple[list[str], list[str]]:
    """What this host lacks for `dataplane run`, and what there is to be warned of."""
    try:
        import pyroute2  # noqa: F401  (what reads interfaces, and reads them only once it is asked to)

        from dataplane.live import readiness
    except ModuleNotFoundError as error:
        from dataplane.installation import how_to_install

        return [f"{error.name} is not installed: {how_to_install('live')} brings what run needs"], []
    found = readiness.look_at_host(policy, uplinks)
    leads_outside = uplinks or policy.uplinks or any(balancer.interface for balancer in policy.load_balancers)
    return found.missing, found.warnings if leads_outside else [*found.warnings, _NO_UPLINK]


def _print_missing(missing: list[str], *, err: bool = False) -> None:
    for sentence in missing:
        say(sentence, err=True)
    if missing:
        say(f"{counted(len(missing), 'thing')} that dataplane run needs {_are(missing)} missing.", err=True)
    else:
        say("This host has what dataplane run needs.", err=err)


def _are(things: list[str]) -> str:
    return "is" if len(things) == 1 else "are"


def _print_mistakes(error: PolicyError, *, as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        with reader_may_leave():
            typer.echo(json.dumps({"valid": False, "mistakes": [asdict(m) for m in error.mistakes]}, indent=2))
        return
    for mistake in error.mistakes:
        say(str(mistake), err=True)
    # What could not be read, or is another kind of file, is said by the sentence itself.
    if any(mistake.line is not None for mistake in error.mistakes):
        say(f"{counted(len(error.mistakes), 'mistake')}: the policy is not valid.", err=True)


def _report(name: str, policy: Policy) -> dict[str, Any]:
    from dataplane.insight.exposure import open_logins
    from dataplane.policy import expiry, limits

    now_ns = time.time_ns()
    in_force = expiry.without_expired(policy, now_ns)
    return {
        "policy": name,
        "valid": True,
        "counts": {
            "security_groups": len(policy.security_groups),
            "rules": len(policy.rules_by_id),
            "address_groups": len(policy.address_groups),
            "instances": len(policy.instances),
            "load_balancers": len(policy.load_balancers),
        },
        "quotas": [
            {
                "security_group": group.id,
                "direction": direction,
                "ethertype": ethertype,
                "used": used,
                "limit": limits.QUOTA,
            }
            for group in policy.security_groups
            for (direction, ethertype), used in sorted(limits.used_quota(group).items())
        ],
        "warnings": [*limits.warnings(in_force), *expiry.warnings(policy, now_ns), *open_logins(in_force)],
    }


_COUNTED = {
    "security_groups": "security group",
    "rules": "rule",
    "address_groups": "address group",
    "instances": "instance",
    "load_balancers": "load balancer",
}


def _print_report(report: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = terminal(sys.stdout)
    counts = ", ".join(counted(report["counts"][key], thing) for key, thing in _COUNTED.items())
    console.print(Text.assemble((report["policy"], "bold"), " is valid: ", counts, "."))
    if report["quotas"]:
        table = Table("security group", "direction", "ethertype", box=box.SIMPLE_HEAD)
        table.add_column("quota used", justify="right")
        for quota in report["quotas"]:
            used = f"{quota['used']}/{quota['limit']}"
            table.add_row(Text(quota["security_group"], overflow="fold"), quota["direction"], quota["ethertype"], used)
        print_table(console, table)
    for warning in report["warnings"]:
        console.print(Text.assemble(("warning: ", "yellow"), warning))
