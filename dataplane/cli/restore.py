"""`dataplane restore`: interfaces as they were before a firewall that was killed."""

from __future__ import annotations

import importlib
import json
from typing import Annotated

import typer

from dataplane.cli.output import say
from dataplane.installation import how_to_install

EXIT_FAILED, EXIT_USAGE = 1, 2

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def restore(
    as_json: Annotated[bool, typer.Option("--json", help="Print the names of the interfaces as JSON.")] = False,
) -> None:
    """Put interfaces back as they were before a firewall that was killed: ARP, IPv6 and its addresses, flags, LRO.

    Those that a running firewall serves stay as they are. A firewall that starts does it by itself.

    \b
    Examples:
      dataplane restore
      dataplane restore --json
    """
    try:
        importlib.import_module("pyroute2")
        from dataplane.live.interfaces import leftovers
        from dataplane.live.interfaces.links import PortError
    except ModuleNotFoundError as error:
        say(f"{error.name} is not installed: {how_to_install('live')} brings what restore needs", err=True)
        raise typer.Exit(EXIT_USAGE) from None
    try:
        done = leftovers.put_back()
    except PortError as error:
        for line in str(error).splitlines():
            say(line, err=True)
        raise typer.Exit(EXIT_FAILED) from None
    if as_json:
        typer.echo(json.dumps({"restored": list(done)}))
        return
    for name in done:
        say(f"{name} is as it was")
    if not done:
        say("no interface was left as a firewall had set it")
