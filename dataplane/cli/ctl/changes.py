"""Commands of `dataplane ctl` that change the policy in force, in memory: the policy file stays as it is (SPEC 5).

They are made from the kinds of change: what each is called, what it takes by its place, and what as FIELD=VALUE.
"""

from __future__ import annotations

import inspect
import textwrap
from functools import partial
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from dataplane.cli.completion import ids, presets
from dataplane.cli.completion import values as offered_fields
from dataplane.cli.ctl import policy_lists, services
from dataplane.cli.ctl.request import (
    EXIT_USAGE,
    Commands,
    ConfirmOption,
    DryRun,
    Expected,
    Output,
    OutputOption,
    confirm_seconds,
    connected,
    show,
)
from dataplane.cli.output import say
from dataplane.policy.base import fields_of
from dataplane.policy.changes import KINDS, Change, CreateGroup, FastAddRules
from dataplane.policy.changes.kind import Update
from dataplane.policy.mistakes import PolicyError
from dataplane.policy.reading.findings import is_list, model_at
from dataplane.policy.reading.source import read

_HELP = {
    "rule": "List rules, and change them in memory: the policy file stays as it is.",
    "group": "List security groups, and change them and who is in them, in memory.",
    "address-group": "List address groups, and change them in memory.",
    "instance": "List instances, and change them in memory.",
    "balancer": "List load balancers, and change them in memory.",
    "clone": None,
}
#: What a field that is given by its place is called where that is not its name.
_METAVARS = {"security_group": "GROUP"}
#: Numbers in the document, besides those whose type says so.
_NUMBERS = ("protocol", "icmp_type", "icmp_code")

#: Columns of an example in a help, and behind them the sign that the next line goes on.
_EXAMPLE_WIDTH = 72
#: The commands by name.
apps = {
    noun: Commands(help=text, no_args_is_help=text is not None, add_completion=False, rich_markup_mode=None)
    for noun, text in _HELP.items()
}
apps["rule"].command("list")(policy_lists.rules)
apps["group"].command("list")(policy_lists.groups)
apps["instance"].command("list")(policy_lists.instances)
apps["address-group"].command("list")(policy_lists.address_groups)
apps["balancer"].command("list")(policy_lists.balancers)


def _change(
    context: typer.Context,
    change: dict[str, Any],
    dry_run: bool,
    output: Output,
    expected: int | None,
    confirm: str | None,
) -> None:
    from dataplane.cli.ctl.text import print_change

    seconds = confirm_seconds(confirm)
    with connected(context) as client:
        answer = client.call("change", change=change, dry_run=dry_run, expected_generation=expected, confirm=seconds)
        show(answer, output, partial(print_change, command=context.obj.command))


# ---- FIELD=VALUE ----


def _values(kind: type[Change], words: list[str]) -> dict[str, Any]:
    """FIELD=VALUE words as values of the document; ends the program where they are none."""
    fields = _fields(kind)
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            _refuse(f"{word}: write FIELD=VALUE, as in {next(iter(fields))}=...")
        if name in values:
            _refuse(f"{word}: {name} is given twice: give each field once")
        if name == "id" and issubclass(kind, Update):
            article = "an" if kind.thing[0] in "aeiou" else "a"
            _refuse(f"id: {article} {kind.thing} keeps its id: delete it and add another one")
        if kind.within is None and name in kind.placed:
            _refuse(f"{word}: {name} is given already: leave it out")
        values[name] = _value(name, value, fields.get(name)) if value else None
    return values


def _fields(kind: type[Change]) -> dict[str, Any]:
    """The fields that are given as FIELD=VALUE."""
    part = model_at(kind, (kind.within,)) if kind.within else kind
    assert part
    return {name: field for name, field in fields_of(part).items() if kind.within or name not in kind.placed}


def _value(name: str, text: str, field: Any) -> object:
    """A value as the document has it: lists with commas or as in YAML, mappings as in YAML, numbers, true and false."""
    types = _types(field.annotation) if field else set()
    if text[0] in "[{" and str not in types:
        try:
            return read(text, name).value
        except PolicyError as error:
            _refuse(str(error))
    if field and is_list(field):
        return [part.strip() for part in text.split(",")]
    if text.isdecimal() and (name in _NUMBERS or int in types):
        return int(text)
    if text in ("true", "false") and bool in types:
        return text == "true"
    return text


def _types(annotation: Any) -> set[type]:
    """The types of single values that an annotation allows."""
    if get_origin(annotation) is Annotated:
        return _types(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return {found for part in get_args(annotation) for found in _types(part)}
    if get_origin(annotation) is Literal:
        return set(map(type, get_args(annotation)))
    return {annotation} if isinstance(annotation, type) else set()


def _refuse(sentence: str) -> Any:
    say(sentence, err=True)
    raise typer.Exit(EXIT_USAGE)


# ---- the commands ----


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)


def _command(kind: type[Change]) -> Any:
    """The function of a kind's command, with the signature that typer reads."""
    fields = _fields(kind)
    required = kind.within is not None or issubclass(kind, Update)

    def command(**given: Any) -> None:
        values = _values(kind, given["fields"] or []) if fields else {}
        placed = {name: given[name] for name in kind.placed}
        change = {**placed, kind.within: values} if kind.within else {**values, **placed}
        _change(
            given["context"],
            {kind.kind: change},
            given["dry_run"],
            given["output"],
            given["expected"],
            given["confirm"],
        )

    parameters = [_parameter("context", typer.Context)]
    for name in kind.placed:
        described = fields_of(kind)[name].description
        metavar = _METAVARS.get(name, name.upper())
        lookup = next((reference.lookup for reference in kind.references if reference.field == name), None)
        offered = ids(lookup) if lookup else None
        parameters.append(
            _parameter(name, Annotated[str, typer.Argument(metavar=metavar, help=described, autocompletion=offered)])
        )
    if fields:
        told = f"As in the policy document: {', '.join(fields)}. FIELD= alone takes an optional field away."
        words = typer.Argument(metavar="FIELD=VALUE...", help=told, autocompletion=offered_fields([*fields]))
        parameters.append(
            _parameter("fields", Annotated[list[str], words])
            if required
            else _parameter("fields", Annotated[list[str] | None, words], None)
        )
    parameters += [_parameter("dry_run", DryRun, False), _parameter("expected", Expected, None)]
    parameters += [_parameter("confirm", ConfirmOption, None), _parameter("output", OutputOption, Output.text)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = inspect.getdoc(kind)
    return command


def _examples(kind: type[Change], other: str) -> str:
    """What the help of a kind's command shows."""
    lines = [f"dataplane ctl {' '.join(kind.command)} {example}" for example in (kind.example, other)]
    return "\b\nExamples:\n" + "".join(f"  {part}\n" for line in lines for part in _continued(line))


def _continued(line: str) -> list[str]:
    """A command in as many lines as it takes, as a shell reads it."""
    parts = textwrap.wrap(
        line, _EXAMPLE_WIDTH, break_long_words=False, break_on_hyphens=False, subsequent_indent="    "
    )
    return [f"{part} \\" for part in parts[:-1]] + parts[-1:]


#: Kinds whose commands take more than fields.
_OWN = (FastAddRules, CreateGroup)
for _kind in KINDS.values():
    if _kind.command and _kind not in _OWN:
        _shown = _examples(_kind, f"{_kind.example} --dry-run")
        apps[_kind.command[0]].command(_kind.command[-1], epilog=_shown)(_command(_kind))


@apps["address-group"].command("set")
def address_group_set(
    context: typer.Context,
    group: Annotated[
        str,
        typer.Argument(metavar="ID", help="Id of the address group.", autocompletion=ids("address_groups_by_id")),
    ],
    entries: Annotated[
        list[str] | None, typer.Argument(help="Addresses, CIDR blocks and ranges first-last: all of the set.")
    ] = None,
    empty: Annotated[bool, typer.Option("--empty", help="Leave no address in it.")] = False,
    dry_run: DryRun = False,
    expected: Expected = None,
    confirm: ConfirmOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Give an address group another set of addresses.

    \b
    Examples:
      dataplane ctl address-group set offices 172.16.0.0/24 10.0.0.1-10.0.0.9
      dataplane ctl address-group set offices 172.16.0.0/25 --dry-run
    """
    if empty and entries:
        _refuse(f"{entries[0]}: --empty leaves no address in the group: give entries or --empty")
    if not empty and not entries:
        _refuse(f"{group}: no entry is given: name all addresses of the set, or --empty to leave none in it")
    _change(
        context, {"update_address_group": {"id": group, "ip_set": entries or []}}, dry_run, output, expected, confirm
    )


@apps["rule"].command(
    "fast-add", epilog=_examples(FastAddRules, "sg-db mysql,tcp/33060 --from-group sg-web --priority 5")
)
def rule_fast_add(
    context: typer.Context,
    group: Annotated[
        str,
        typer.Argument(metavar="GROUP", help="Id of the security group.", autocompletion=ids("groups_by_id")),
    ],
    named: Annotated[
        str,
        typer.Argument(
            metavar="SERVICE,...", help="Services by name, or protocols with ports: ssh,https,tcp/8000-8010."
        ),
    ],
    from_: services.From = None,
    from_group: services.FromGroup = None,
    from_address_group: services.FromAddressGroup = None,
    to: services.To = None,
    to_group: services.ToGroup = None,
    to_address_group: services.ToAddressGroup = None,
    action: Annotated[str | None, typer.Option(help="allow (the default) or deny.")] = None,
    priority: Annotated[int | None, typer.Option(help="1 (the default) to 100.")] = None,
    ethertype: Annotated[str | None, typer.Option(help="IPv4 or IPv6; as the remote has it, if left out.")] = None,
    dry_run: DryRun = False,
    expected: Expected = None,
    confirm: ConfirmOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Add rules for several services at once to a security group: all of them or none."""
    given = services.Remote(from_, from_group, from_address_group, to, to_group, to_address_group)
    change = services.fast_add(group, named, given, ethertype=ethertype, action=action, priority=priority)
    _change(context, change, dry_run, output, expected, confirm)


@apps["group"].command("create", epilog=_examples(CreateGroup, "sg-login --preset ssh --from 172.16.0.0/24"))
def group_create(
    context: typer.Context,
    group: Annotated[str, typer.Argument(metavar="ID", help="Unique; what rules and instances refer to.")],
    fields: Annotated[
        list[str] | None,
        typer.Argument(metavar="FIELD=VALUE...", help="As in the policy document: name, region, security_group_rules."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Begin with the rules of a preset: web, ssh, database, ...",
            autocompletion=presets,
        ),
    ] = None,
    from_: services.From = None,
    from_group: services.FromGroup = None,
    dry_run: DryRun = False,
    expected: Expected = None,
    confirm: ConfirmOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Create a security group, with the rules that it begins with; no instance is in it."""
    values = _values(CreateGroup, fields or [])
    given = services.Remote(from_, from_group)
    if preset is not None:
        values = services.with_preset(values, group, preset, given)
    elif given.fields:
        _refuse("--from and --from-group are for the services of a preset: add --preset")
    _change(context, {CreateGroup.kind: {**values, "id": group}}, dry_run, output, expected, confirm)
