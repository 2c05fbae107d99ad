"""`dataplane ctl`: what a running firewall is asked and told, through its control socket."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dataplane.cli.command_list import ListedCommands
from dataplane.cli.ctl import conntrack, flows, policy_lists, shadow, status
from dataplane.cli.ctl.explain import explain
from dataplane.cli.ctl.request import Commands, Target
from dataplane.cli.option_order import option_first
from dataplane.live import CONTROL_SOCKET


class _Commands(ListedCommands):
    """The commands, of which those that make changes load the models of a policy: only when one is called, or shown."""

    changes = ("rule", "group", "address-group", "instance", "balancer", "clone")

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        # Which firewall is asked is mostly thought of last.
        return super().parse_args(ctx, option_first("--socket", args))

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *self.changes]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self.changes:
            from dataplane.cli.ctl.changes import apps

            found = typer.main.get_command(apps[cmd_name])
            found.name = cmd_name
            return found
        return super().get_command(ctx, cmd_name)


app = Commands(
    cls=_Commands,
    help="Ask a running firewall, and change it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.callback()
def ctl(
    context: typer.Context,
    socket: Annotated[
        str, typer.Option(help="The control socket of the firewall; anywhere on the line.")
    ] = CONTROL_SOCKET,
) -> None:
    """Ask a running firewall, and change it."""
    context.obj = Target(socket)


app.command()(status.status)
app.command()(status.reload)
app.command()(status.confirm)
app.command()(status.policy)
app.command()(status.save)
app.add_typer(conntrack.app, name="conntrack")
app.command()(flows.flows)
app.command()(shadow.shadow)
app.command()(explain)
app.command("rules")(policy_lists.uses)
app.command()(status.counters)
app.command()(status.stations)
app.command()(status.drops)
app.command()(status.capture)
