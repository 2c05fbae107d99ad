"""`dataplane api`: the cloud's API over a policy that filters nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dataplane.cli.api_options import api_explanation, api_options
from dataplane.cli.output import say

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def api(
    policy: Annotated[Path, typer.Argument(help="The policy document (YAML or JSON).")],
    listen: Annotated[
        list[str],
        typer.Option(metavar="HOST:PORT|PATH", help="Where it is served, or a Unix socket; may be repeated."),
    ],
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where changes are kept: sqlite:///tmp/policy.db, or etcd://A,B,C/PREFIX. POLICY fills it.",
        ),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The access keys for HOST:PORT; left out: /etc/dataplane/keys.yaml."),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="A certificate chain for HOST:PORT.")] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its private key; left out: it is in the file of --tls-cert.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="A group whose members may use the Unix socket.")] = None,
    log_format: Annotated[str, typer.Option(metavar="text|json", help="Lines for people, or JSON.")] = "text",
) -> None:
    """Serve the cloud's API (VPC v3) over a policy without live ports, for tests and simulation, until SIGTERM.

    \b
    Examples:
      dataplane api policy.yaml --listen 127.0.0.1:8774 --keys keys.yaml
      dataplane api policy.yaml --listen ./api.sock --store sqlite:///tmp/api.db
    """
    if log_format not in ("text", "json"):
        say(f"--log-format {log_format}: text or json is needed", err=True)
        raise typer.Exit(2)
    # Before what it serves is imported, which needs the same packages.
    options = api_options(listen, keys, tls_cert, tls_key, group, option="--listen")
    from dataplane.live import simulation
    from dataplane.live.process import log

    log.set_up("json" if log_format == "json" else "text")
    try:
        simulation.serve(policy.absolute(), options, api_explanation(), store)
    except simulation.SimulationError as error:
        for line in str(error).splitlines():
            say(line, err=True)
        raise typer.Exit(2 if error.invalid else 1) from None
