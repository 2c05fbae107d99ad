"""`dataplane policy`: the policy as a whole, of a running firewall or in a store, given out or made equal to a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dataplane.cli.ctl.request import (
    EXIT_USAGE,
    Commands,
    ConfirmOption,
    Expected,
    Output,
    OutputOption,
    Target,
    confirm_seconds,
    connected,
    show,
    write_document,
)
from dataplane.cli.output import refuse, say
from dataplane.live import CONTROL_SOCKET
from dataplane.terminal import counted

if TYPE_CHECKING:
    from dataplane.policy import Policy
    from dataplane.store import KeepingStore

app = Commands(
    help="The policy as a whole, of a running firewall or in a store: as a document, and made equal to one.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

SocketOption = Annotated[str, typer.Option(metavar="PATH", help="The control socket of the firewall.")]
StoreOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="A store in place of a running firewall: sqlite:///var/lib/dataplane/policy.db."),
]
#: Differences that are printed one by one.
_SHOWN = 1000


@app.command()
def export(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(help="The document to write, replaced as a whole; - is standard output.", show_default=True)
    ] = "-",
    socket: SocketOption = CONTROL_SOCKET,
    store: StoreOption = None,
    output: Annotated[Output | None, typer.Option("--output", "-o", help="text is YAML.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE even if it is another policy.")] = False,
) -> None:
    """Give out the policy as a document, which dataplane policy apply makes the policy again: the same, to the rule.

    \b
    Examples:
      dataplane policy export > policy.yaml
      dataplane policy export --store sqlite:///srv/policy.db policy.json
    """
    from dataplane.outputs import CAPTURE, OTHER, POLICY, STATE, OutputError, check_outputs
    from dataplane.policy.write import document

    try:
        spare = (CAPTURE, POLICY, STATE, OTHER)
        check_outputs({"FILE": None if file == "-" else file}, (), force=force, spare=spare)
    except OutputError as error:
        refuse(str(error))
    if store is None:
        with _asked(context, socket) as client:
            found = client.call("policy")
    else:
        with _opened(store, make=False) as kept:
            found = document(kept.load())
    write_document(found, file, output)


@app.command()
def apply(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="The policy document (YAML or JSON); - is standard input.")],
    socket: SocketOption = CONTROL_SOCKET,
    store: StoreOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell the difference, and what would be disconnected.")
    ] = False,
    expected: Expected = None,
    confirm: ConfirmOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Make the policy equal to a document; the difference, and what it would disconnect, is told first.

    It is one change: as a whole, or refused and nothing has happened. It is refused too where the policy was changed
    since its difference was told.

    \b
    Examples:
      dataplane policy apply policy.yaml
      dataplane policy apply policy.yaml --store sqlite:///srv/policy.db --dry-run
    """
    from dataplane.policy import Policy, PolicyError
    from dataplane.policy.reading.source import read_file

    seconds = confirm_seconds(confirm)
    if store is not None and (expected is not None or confirm is not None):
        refuse("--expected-generation and --confirm are about a running firewall: leave them out with --store")
    asks = not (yes or dry_run)
    if asks and (file == "-" or not sys.stdin.isatty()):
        refuse(f"{file}: nobody can be asked here: add --yes to apply it, or --dry-run to see what it would do")
    try:
        data, name = read_file(file)
    except PolicyError as error:
        refuse(str(error))
    if store is not None:
        try:
            wanted = Policy.parse(data, name)
        except PolicyError as error:
            refuse(str(error))
        with _opened(store, make=not dry_run) as kept:
            _to_store(kept, wanted, name, asks=asks, dry_run=dry_run, output=output)
        return
    given: dict[str, Any] = {"name": name, "confirm": seconds}
    with _asked(context, socket) as client:
        told = client.upload("apply", data, dry_run=True, expected_generation=expected, **given)
    if dry_run:
        show(told, output, print_rehearsed)
        return
    if output is Output.text or asks:
        print_rehearsed(told)
    if asks:
        ask(told)
    with _asked(context, socket) as client:
        # Where somebody has changed the policy meanwhile, this is refused, and nothing is lost.
        done = client.upload("apply", data, expected_generation=told["generation"], **given)
    show(done, output, lambda answer: _print_done(answer, context.obj.command))


@contextmanager
def _asked(context: typer.Context, socket: str) -> Iterator[Any]:
    context.obj = Target(socket)
    with connected(context) as client:
        yield client


@contextmanager
def _opened(url: str, *, make: bool) -> Iterator[KeepingStore]:
    """A store, which must be there unless it is to be made; what goes wrong is a sentence and an exit status."""
    from dataplane.policy.mistakes import PolicyError
    from dataplane.store import StoreError
    from dataplane.store.place import store_at

    try:
        with closing(store_at(url, make=make)) as store:
            yield store
    except (StoreError, PolicyError) as error:
        refuse(str(error))


# ---- a store ----


def _to_store(store: KeepingStore, given: Policy, name: str, *, asks: bool, dry_run: bool, output: Output) -> None:
    """Raises StoreError, PolicyError."""
    from dataplane.policy import Policy

    now = time.time()
    before = Policy() if store.is_empty else store.load()
    after, answer = rehearsed(before, given, name, store.name, now, dry_run=dry_run)
    if output is Output.text or asks:
        print_rehearsed(answer)
    if not dry_run:
        if asks:
            ask(answer)
        with store.keeping(after, now):
            pass
    if output is Output.json:
        show(answer, output, lambda _: None)
    elif not dry_run:
        say(f"It is kept in {store.name}; a firewall that runs on it has it in force within some seconds.")


def rehearsed(
    before: Policy, given: Policy, name: str, store: str, now: float, *, dry_run: bool = False
) -> tuple[Policy, dict[str, Any]]:
    """The policy that a store is to keep, and what `print_rehearsed` tells. `now` is in seconds since 1970."""
    from dataplane.control.differences import some_differences
    from dataplane.policy import expiry
    from dataplane.policy.changes import ApplyPolicy, apply

    now_ns = round(now * 1e9)
    after = apply(before, ApplyPolicy(policy=expiry.without_expired(given, now_ns), name=name))
    differences, total = some_differences(before, after, _SHOWN)
    return after, {
        "changed": after is not before,
        "dry_run": dry_run,
        "instances_cut": _cut(before, after),
        "warnings": [*expiry.warnings(given, now_ns), *_of_others(before, given, name)],
        "differences": differences,
        "differences_total": total,
        "store": store,
    }


def _of_others(before: Policy, given: Policy, name: str) -> Iterator[str]:
    """A warning where nobody who is kept is in the document: it may be meant for another place."""
    if before.instances and given.instances and not before.instances_by_id.keys() & given.instances_by_id.keys():
        kept = counted(len(before.instances), "instance")
        yield f"none of the {kept} that are kept there is in {name}: is it the policy of another fleet, or store?"


def _cut(before: Policy, after: Policy) -> list[str]:
    """Instances whose inbound connections a firewall disconnects from one policy to the other (SPEC 5.2)."""
    from dataplane import conntrack

    return sorted(conntrack.disconnection(before, after).instances)


# ---- what is printed ----


def ask(told: Mapping[str, Any]) -> None:
    """Ends the command unless what was told is wanted."""
    if told["changed"] and not typer.confirm("Apply it?"):
        say("Nothing changed.")
        raise typer.Exit(EXIT_USAGE)


def print_rehearsed(answer: Mapping[str, Any]) -> None:
    """The difference, and what it would disconnect."""
    for warning in answer["warnings"]:
        say(f"warning: {warning}", err=True)
    if not answer["changed"]:
        say("Nothing changes: the policy is equal to the document.")
        return
    _print_differences(answer["differences"], answer["differences_total"])
    if "disconnected" in answer:
        from dataplane.cli.ctl.text import print_cut

        print_cut(answer["disconnected"], "would be disconnected", answer.get("on_change"))
    elif cut := answer["instances_cut"]:
        shown = ", ".join(cut[:20]) + (f" and {len(cut) - 20:,} more" if len(cut) > 20 else "")
        say(f"A firewall that runs on it would disconnect all inbound connections of {shown}")
    else:
        say("A firewall that runs on it would disconnect no instance's inbound connections as a whole")


def _print_differences(told: Sequence[str], total: int) -> None:
    say(f"{counted(total, 'difference')}:")
    for words in told:
        say(f"  {words}")
    if total > len(told):
        say(f"  and {total - len(told):,} more")


def _print_done(answer: Mapping[str, Any], command: Sequence[str]) -> None:
    """What came of it, behind what was told before; `command` is before each command to the same firewall."""
    from dataplane.cli.ctl.text import print_change

    if answer["changed"]:
        # Warnings, and what becomes of connections, are told already.
        print_change({**answer, "warnings": [], "on_change": None}, command=command)
