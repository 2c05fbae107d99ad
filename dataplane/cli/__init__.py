"""The command line: one module per command, which imports what it works with when it is called: starting is fast."""

from __future__ import annotations

from typing import Annotated

import typer

from dataplane.cli import check, ctl, replay, run, schema

app = typer.Typer(
    help="A stateful packet filter with cloud security groups, which also replays captures against a policy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
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
) -> None:
    """A stateful packet filter with cloud security groups, which also replays captures against a policy."""


app.command()(check.check)
app.command()(schema.schema)
app.command()(replay.replay)
app.command()(run.run)
app.add_typer(ctl.app, name="ctl")


def main() -> None:
    """Runs the command line."""
    app(prog_name="dataplane")
