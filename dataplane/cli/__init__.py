"""The command line: one module per command, which imports what it works with when it is called: starting is fast."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Annotated, Any

import typer

from dataplane.cli import completion, output
from dataplane.cli.command_list import ListedCommands
from dataplane.cli.option_order import option_first
from dataplane.terminal import Color, set_color


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except typer.BadParameter as error:
        from dataplane.cli.usage import reworded

        error.message = reworded(error) or error.message
        raise


#: Where each command stands, below `dataplane.cli`, in the order of --help.
_COMMANDS = {
    "check": "check.check",
    "schema": "schema.schema",
    "new": "start.new",
    "clone": "start.clone",
    "replay": "replay.replay",
    "explain": "explain.explain",
    "diff": "diff.diff",
    "import": "interchange.import_",
    "export": "interchange.export",
    "learn": "learn.learn",
    "test": "suite.run_cases",
    "top": "top.top",
    "run": "run.app",
    "api": "api.app",
    "restore": "restore.app",
    "ctl": "ctl.app",
    "policy": "policy.app",
    "fleet": "fleet.app",
}


class _Commands(ListedCommands):
    """The commands, each of which is put together only when it is called, or shown by --help: that takes a while."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Typer looks here for what somebody may have meant.
        self.commands: dict[str, Any] = dict.fromkeys(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in _COMMANDS and self.commands[cmd_name] is None:
            module, name = _COMMANDS[cmd_name].split(".")
            self.commands[cmd_name] = _command(cmd_name, getattr(import_module(f"dataplane.cli.{module}"), name))
        return self.commands.get(cmd_name)

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        with _in_our_words():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _in_our_words():
            return super().invoke(ctx)


def _command(name: str, found: Any) -> Any:
    """A command as typer has it, of a function or of a module's commands."""
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(add_completion=False, rich_markup_mode=None)
        found.command(name)(function)
    command: Any = typer.main.get_command(found)
    for one in getattr(command, "commands", {name: command}).values():
        one.parse_args = partial(_parse_args, one)
    return command


def _parse_args(command: Any, ctx: Any, args: list[str]) -> Any:
    if not ctx.resilient_parsing and any(not word or word.endswith("=") for word in args):
        _refuse_empty(command, ctx, args)
    return type(command).parse_args(command, ctx, args)


def _refuse_empty(command: Any, ctx: Any, args: list[str]) -> None:
    """An empty value means nothing anywhere; to take it as left out would be to write no file, say, and tell nobody."""
    values, _, _ = command.make_parser(ctx).parse_args(args=list(args))
    for parameter in command.get_params(ctx):
        value = values.get(parameter.name)
        if value == "" or (isinstance(value, list | tuple) and "" in value):
            raise typer.BadParameter("it is empty, as a shell's variable is that is not set", ctx=ctx, param=parameter)


app = typer.Typer(
    cls=_Commands,
    help="A stateful packet filter with cloud security groups, which also replays captures against a policy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    # All commands below take them over.
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 200},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from dataplane import __version__

        typer.echo(f"dataplane {__version__}")
        raise typer.Exit


@app.callback()
def dataplane(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    color: Annotated[
        Color, typer.Option(help="Colours: at a terminal (auto), always or never; anywhere on the line.")
    ] = Color.auto,
) -> None:
    """A stateful packet filter with cloud security groups, which also replays captures against a policy."""
    set_color(color)


def main() -> None:
    """Runs the command line; ends the process with its exit status."""
    if completion.is_wanted():
        # What a shell reads has tabs in it, and nothing that must be escaped.
        app(prog_name="dataplane")
    output.guard()
    try:
        try:
            app(option_first("--color", sys.argv[1:]), prog_name="dataplane")
        finally:
            output.flush()
    except output.LostError as lost:
        sys.exit(lost.status())
