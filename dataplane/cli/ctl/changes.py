"""Commands of `dataplane ctl` that change the policy in force, in memory: the policy file stays as it is (SPEC 5)."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dataplane.cli.ctl import listed
from dataplane.cli.ctl.asking import EXIT_USAGE, DryRun, Output, OutputOption, connected, show
from dataplane.cli.output import say

rule_app = typer.Typer(
    help="List rules, and change them in memory: the policy file stays as it is.", no_args_is_help=True
)
group_app = typer.Typer(help="List security groups, and change who is in them, in memory.", no_args_is_help=True)
rule_app.command("list")(listed.rules)
group_app.command("list")(listed.groups)
address_group_app = typer.Typer(help="Change address groups, in memory.", no_args_is_help=True)


def _change(context: typer.Context, change: dict[str, Any], dry_run: bool, output: Output) -> None:
    from dataplane.cli.ctl.text import print_change

    with connected(context) as client:
        show(client.call("change", change=change, dry_run=dry_run), output, print_change)


def clone(
    context: typer.Context,
    group: Annotated[str, typer.Argument(help="Id of the security group.")],
    new: Annotated[str, typer.Argument(help="Id of the copy.")],
    dry_run: DryRun = False,
    output: OutputOption = Output.text,
) -> None:
    """Copy a security group with its rules, in memory; no instance is in the copy."""
    _change(context, {"clone_group": {"security_group": group, "id": new}}, dry_run, output)


Fields = Annotated[
    list[str],
    typer.Argument(
        metavar="FIELD=VALUE...",
        help="Fields as in the policy document: direction=ingress protocol=tcp multiport=22,80-82. FIELD= alone takes"
        " an optional field away.",
    ),
]


def _rule_fields(words: list[str]) -> dict[str, Any]:
    """FIELD=VALUE words as a rule; numbers and booleans where the document has them, text everywhere else."""
    fields: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            say(f"{word}: write FIELD=VALUE, as in protocol=tcp", err=True)
            raise typer.Exit(EXIT_USAGE)
        if name in fields:
            say(f"{word}: {name} is given twice: give each field once", err=True)
            raise typer.Exit(EXIT_USAGE)
        if not value:
            fields[name] = None
        elif name in ("protocol", "icmp_type", "icmp_code", "priority") and value.isdecimal():
            fields[name] = int(value)
        elif name == "enabled" and value in ("true", "false"):
            fields[name] = value == "true"
        else:
            fields[name] = value
    return fields


@rule_app.command("add")
def rule_add(
    context: typer.Context,
    group: Annotated[str, typer.Argument(help="Id of the security group.")],
    fields: Fields,
    dry_run: DryRun = False,
    output: OutputOption = Output.text,
) -> None:
    """Add a rule to a security group, which disconnects its instances' inbound connections."""
    _change(context, {"add_rule": {"security_group": group, "rule": _rule_fields(fields)}}, dry_run, output)


@rule_app.command("update")
def rule_update(
    context: typer.Context,
    rule: Annotated[str, typer.Argument(metavar="ID", help="Id of the rule.")],
    fields: Fields,
    dry_run: DryRun = False,
    output: OutputOption = Output.text,
) -> None:
    """Give some fields of a rule other values."""
    values = _rule_fields(fields)
    if "id" in values:
        say("id: a rule keeps its id: delete it and add another one", err=True)
        raise typer.Exit(EXIT_USAGE)
    _change(context, {"update_rule": {**values, "id": rule}}, dry_run, output)


@rule_app.command("delete")
def rule_delete(
    context: typer.Context,
    rule: Annotated[str, typer.Argument(metavar="ID", help="Id of the rule.")],
    dry_run: DryRun = False,
    output: OutputOption = Output.text,
) -> None:
    """Delete a rule."""
    _change(context, {"delete_rule": {"id": rule}}, dry_run, output)


GroupArgument = Annotated[str, typer.Argument(help="Id of the security group.")]
InstanceArgument = Annotated[str, typer.Argument(help="Id of the instance.")]


@group_app.command("add-instance")
def add_instance(
    context: typer.Context,
    group: GroupArgument,
    instance: InstanceArgument,
    dry_run: DryRun = False,
    output: OutputOption = Output.text,
) -> None:
    """Let an instance join a security group."""
    _change(context, {"add_instance": {"security_group": group, "instance": instance}}, dry_run, output)


@group_app.command("remove-instance")
def remove_instance(
    context: typer.Context,
    group: GroupArgument,
    instance: InstanceArgument,
    dry_run: DryRun = False,
    output: OutputOption = Output.text,
) -> None:
    """Let an instance leave a security group."""
    _change(context, {"remove_instance": {"security_group": group, "instance": instance}}, dry_run, output)


@address_group_app.command("set")
def address_group_set(
    context: typer.Context,
    group: Annotated[str, typer.Argument(metavar="ID", help="Id of the address group.")],
    entries: Annotated[
        list[str] | None, typer.Argument(help="Addresses, CIDR blocks and ranges first-last: all of the set.")
    ] = None,
    dry_run: DryRun = False,
    output: OutputOption = Output.text,
) -> None:
    """Give an address group another set of addresses."""
    _change(context, {"update_address_group": {"id": group, "ip_set": entries or []}}, dry_run, output)
