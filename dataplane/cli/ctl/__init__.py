"""`dataplane ctl`: what a running firewall is asked and told, through its control socket."""

from __future__ import annotations

from typing import Annotated

import typer

from dataplane.cli.ctl import changes, conntrack, whole
from dataplane.cli.ctl.asking import Target
from dataplane.live import CONTROL_SOCKET

app = typer.Typer(
    help="Ask a running firewall, and change it.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


@app.callback()
def ctl(
    context: typer.Context,
    socket: Annotated[str, typer.Option(help="The control socket of the firewall.")] = CONTROL_SOCKET,
) -> None:
    """Ask a running firewall, and change it."""
    context.obj = Target(socket)


app.command()(whole.status)
app.command()(whole.reload)
app.command()(whole.policy)
app.command()(whole.save)
app.add_typer(changes.rule_app, name="rule")
app.add_typer(changes.group_app, name="group")
app.add_typer(changes.address_group_app, name="address-group")
app.command()(changes.clone)
app.add_typer(conntrack.app, name="conntrack")
app.command()(whole.counters)
app.command()(whole.stations)
app.command()(whole.drops)
app.command()(whole.capture)
