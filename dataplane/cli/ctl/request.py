"""What all commands of `dataplane ctl` have in common: the connection to the firewall, and how answers are printed."""

from __future__ import annotations

import inspect
import json
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from dataplane.atomic import remedy
from dataplane.cli.command_list import ListedCommands
from dataplane.cli.output import refuse, say
from dataplane.terminal import printable

if TYPE_CHECKING:
    from dataplane.live.client import ControlClient

EXIT_FAILED, EXIT_USAGE = 1, 2

F = TypeVar("F", bound=Callable[..., Any])


class Commands(typer.Typer):
    """Commands, of which each that takes --output json takes --json for it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"cls": ListedCommands} | settings)

    def command(self, *names: Any, **settings: Any) -> Callable[[F], F]:
        register = super().command(*names, **settings)

        def registered(function: F) -> F:
            register(_with_json(function))
            return function

        return registered


class Output(StrEnum):
    """Forms of what is printed."""

    text = "text"
    json = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="text, or json for machines.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As --output json.")]


def _with_json(function: Any) -> Any:
    """A command with --json too, where it has --output alone."""
    signature = inspect.signature(function, eval_str=True)
    given = list(signature.parameters.values())
    if "output" not in signature.parameters or "as_json" in signature.parameters:
        return function

    @wraps(function)
    def command(*, as_json: bool = False, **arguments: Any) -> Any:
        return function(**arguments | ({"output": Output.json} if as_json else {}))

    option = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption)
    command.__signature__ = signature.replace(parameters=[*given, option])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*given, option)}
    return command


DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be disconnected.")]
Expected = Annotated[
    int | None,
    typer.Option(
        "--expected-generation", min=1, help="Refuse it when the policy in force is of another generation (ctl status)."
    ),
]
ConfirmOption = Annotated[
    str | None,
    typer.Option(
        "--confirm",
        metavar="TIME",
        help="Take it back after this time, as 60 or 5m, unless dataplane ctl confirm comes before.",
    ),
]
CountOption = Annotated[int | None, typer.Option("--count", min=1, help="End after so many.")]
PortOption = Annotated[str | None, typer.Option("--port", help="Only this port, by its interface's name.")]


ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite a file that would be spared.")]


def spare(file: str, *, force: bool, kinds: Sequence[str]) -> None:
    """Ends the command where it would overwrite a file of one of these kinds unasked (`dataplane.outputs`)."""
    from dataplane.outputs import OutputError, check_outputs

    try:
        check_outputs({"FILE": file}, (), force=force, spare=kinds)
    except OutputError as error:
        refuse(str(error))


@dataclass(frozen=True, slots=True)
class Target:
    """Which firewall is asked."""

    socket: str

    @property
    def command(self) -> list[str]:
        """The words before a command to the same firewall."""
        from dataplane.live import ctl_words

        return ctl_words(self.socket)


def confirm_seconds(text: str | None) -> float | None:
    """The time of --confirm in seconds. Raises typer.BadParameter."""
    from dataplane.cli.durations import seconds
    from dataplane.control.confirmation import CONFIRM_SECONDS_MAX

    if text is None:
        return None
    value = seconds(text)
    if not 1 <= value <= CONFIRM_SECONDS_MAX:
        days = CONFIRM_SECONDS_MAX // 86400
        raise typer.BadParameter(f"--confirm {text} is not allowed: give a time from 1 second to {days} days, as 5m")
    return value


@contextmanager
def connected(context: typer.Context) -> Iterator[ControlClient]:
    """A connection to the firewall; what goes wrong with it is one sentence and an exit status."""
    from dataplane.live.client import ControlClient, RefusedError, UnreachableError

    try:
        with ControlClient(context.obj.socket) as client:
            yield client
    except UnreachableError as error:
        say(str(error), err=True)
        raise typer.Exit(EXIT_FAILED) from None
    except RefusedError as error:
        for mistake in error.mistakes:
            say(mistake, err=True)
        say(str(error), err=True)
        raise typer.Exit(EXIT_USAGE if error.invalid else EXIT_FAILED) from None


def show(value: Any, output: Output, text: Callable[[Any], None]) -> None:
    """Prints an answer in the chosen form; one that is not as this version has it ends the command."""
    if output is Output.json:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
        return
    from dataplane.live.client import NOT_UNDERSTOOD, another_version

    try:
        text(value)
    except NOT_UNDERSTOOD as error:
        say(another_version(error), err=True)
        raise typer.Exit(EXIT_FAILED) from None


@contextmanager
def ending_on_interrupt(client: ControlClient, *others: signal.Signals) -> Iterator[None]:
    """The first Ctrl-C asks the firewall to end a stream, which then comes to its proper end; the second breaks it.

    `others` are signals that do the same.
    """

    def end(number: int, frame: object) -> None:
        handler = before[signal.Signals(number)]
        # What was written is still put in its place, which a process that ends here and now would not do.
        at_once = number == signal.SIGINT and handler is signal.SIG_DFL
        signal.signal(number, signal.default_int_handler if at_once else handler)
        client.stop()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, *others)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_json(item: Any) -> str:
    from pydantic_core import to_json

    return to_json(item, ensure_ascii=True).decode()


def _as_lines(told: str | list[str]) -> str:
    return printable(told) if isinstance(told, str) else "\n".join(map(printable, told))


def stream(
    context: typer.Context,
    output: Output,
    line: Callable[[Any], str | list[str]],
    count: int | None,
    *,
    head: str | None = None,
    **request: Any,
) -> int:
    """Prints items until the firewall, the count or Ctrl-C ends it; returns how many.

    `line` makes a line of an item, or several. `head` is printed above them once the firewall has taken the request.
    """
    printed = 0
    form = _as_json if output is Output.json else lambda item: _as_lines(line(item))
    # Lists are long and printed some at a time, all else is watched as it comes.
    at_once = 512 if request.get("action") == "list" else 1
    with connected(context) as client, ending_on_interrupt(client):
        items = client.stream(**request)
        if head is not None:
            say(head)
            sys.stdout.flush()
        wanted = islice(items, count)
        while lines := [form(item) for item in islice(wanted, at_once)]:
            sys.stdout.write("\n".join(lines) + "\n")
            printed += len(lines)
            if at_once == 1:
                sys.stdout.flush()
        sys.stdout.flush()
        if printed == count and at_once == 1:
            # What was lost is told at the end.
            client.stop()
            deque(items, maxlen=0)
        if client.lost:
            say(f"{client.lost:,} more came faster than they were read, and are lost", err=True)
    return printed


def write_document(document: Any, file: str, output: Output | None) -> None:
    """Writes a policy document to a file, as a whole, or for ``-`` to standard output; ends the command on failure.

    It is JSON where that is asked for, or where nothing is and the file's name says so; else YAML.
    """
    from dataplane.policy.write import as_yaml, put

    is_json = output is Output.json or (output is None and file.endswith(".json"))
    text = json.dumps(document, indent=2) + "\n" if is_json else as_yaml(document)
    if file == "-":
        sys.stdout.write(text)
        return
    try:
        put(Path(file), text)
    except OSError as error:
        refuse(f"{file}: {error.strerror}: nothing is written: {remedy(error)}")
