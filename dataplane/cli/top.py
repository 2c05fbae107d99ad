"""`dataplane top`: a screen for a running firewall."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dataplane.cli.output import refuse
from dataplane.live import CONTROL_SOCKET


def top(
    socket: Annotated[str, typer.Option(help="The control socket of the firewall.")] = CONTROL_SOCKET,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.2, max=60, help="How often the firewall is read.")
    ] = 1.0,
    read_only: Annotated[bool, typer.Option("--read-only", help="Change nothing: no key deletes connections.")] = False,
) -> None:
    """Look at a running firewall: rates, connections, denied packets, rules by hits, what changes cut.

    Keys are shown at the foot of the screen. It waits for a firewall that is gone.

    \b
    Examples:
      dataplane top
      dataplane top --socket /run/fw.sock --read-only
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        refuse("top needs a terminal: dataplane ctl counters and dataplane ctl status print the figures once")
    try:
        from dataplane.screen.app import Top
    except ModuleNotFoundError as error:
        from dataplane.installation import how_to_install

        refuse(f"top needs {error.name}: {how_to_install('top')} brings it")
    screen = Top(socket, interval=interval, read_only=read_only)
    screen.run()
    if screen.return_code:
        raise typer.Exit(screen.return_code)
