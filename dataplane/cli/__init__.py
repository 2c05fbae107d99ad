"""The command line: one module per command, which imports what it works with when it is called: starting is fast."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dataplane.cli import (
    check,
    completion,
    diff,
    explain,
    interchange,
    learn,
    output,
    replay,
    schema,
    start,
    suite,
    top,
)
from dataplane.terminal import Color, set_color


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except typer.BadParameter as error:
        from dataplane.cli.usage import reworded

        error.message = reworded(error) or error.message
        raise


class _Commands(TyperGroup):
    """The commands, of which some are put together only when they are called, or shown by --help."""

    late = ("run", "api", "restore", "ctl", "policy")

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *self.late]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self.late:
            return typer.main.get_command(import_module(f"dataplane.cli.{cmd_name}").app)
        return super().get_command(ctx, cmd_name)

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        with _in_our_words():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _in_our_words():
            return super().invoke(ctx)


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


app.command()(check.check)
app.command()(schema.schema)
app.command()(start.new)
app.command()(start.clone)
app.command()(replay.replay)
app.command()(explain.explain)
app.command()(diff.diff)
app.command("import")(interchange.import_)
app.command()(interchange.export)
app.command()(learn.learn)
app.command("test")(suite.run_cases)
app.command()(top.top)


def _color_first(words: list[str]) -> list[str]:
    """The words of the command line with --color, which belongs to no command, before the command."""
    end = words.index("--") if "--" in words else len(words)
    for at, word in enumerate(words[:end]):
        if word == "--color" and at + 1 == len(words):
            return [word]
        if word == "--color" or word.startswith("--color="):
            taken = slice(at, at + (2 if word == "--color" else 1))
            return [*words[taken], *words[: taken.start], *words[taken.stop :]]
    return words


def main() -> None:
    """Runs the command line; ends the process with its exit status."""
    if completion.is_wanted():
        # What a shell reads has tabs in it, and nothing that must be escaped.
        app(prog_name="dataplane")
    output.guard()
    try:
        try:
            app(_color_first(sys.argv[1:]), prog_name="dataplane")
        finally:
            output.flush()
    except output.LostError as lost:
        sys.exit(lost.status())
