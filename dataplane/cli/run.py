"""`dataplane run`: the firewall between live interfaces."""

from __future__ import annotations

import importlib
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dataplane.cli.api_options import api_explanation, api_options
from dataplane.cli.output import say
from dataplane.installation import how_to_install
from dataplane.live import BUSY_POLL, BUSY_POLL_MAX, CONTROL_SOCKET, FLOW_INTERVAL, FLOW_LOG_KEEP, FLOW_LOG_SIZE

EXIT_FAILED, EXIT_USAGE = 1, 2

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class LogFormat(StrEnum):
    """Forms of the log."""

    text = "text"
    json = "json"


class FlowFormat(StrEnum):
    """Forms of the flow log."""

    json = "json"
    aws = "aws"
    huawei = "huawei"


#: What the letters behind a size stand for.
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _size(text: str) -> int:
    """A size in bytes, as 500k or 100M."""
    found = re.fullmatch(r"(\d{1,12})([kmg]?)", text.strip().lower())
    if not found:
        raise typer.BadParameter(f"{text} is no size: write bytes, or 500k, 100M, 2G; 0 is no bound")
    return int(found[1]) * _UNITS[found[2]]


@app.command()
def run(
    policy: Annotated[Path, typer.Argument(help="The policy document (YAML or JSON).")],
    uplink: Annotated[
        list[str] | None,
        typer.Option(help="An interface that leads outside, besides the policy's uplinks; may be repeated."),
    ] = None,
    workers: Annotated[int, typer.Option(help="How many threads share the traffic.")] = 1,
    io_uring: Annotated[
        bool, typer.Option(help="Read and write TAPs through io_uring, where the kernel gives it.")
    ] = True,
    busy_poll: Annotated[
        int,
        typer.Option(
            metavar="MICROSECONDS",
            min=0,
            max=BUSY_POLL_MAX,
            help="How long a worker with little to do looks for frames before it sleeps; 0: not at all.",
        ),
    ] = BUSY_POLL,
    control: Annotated[Path, typer.Option(help="Where the control socket is made.")] = Path(CONTROL_SOCKET),
    group: Annotated[
        str | None, typer.Option(help="A group whose members may use the control socket, besides root.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Where connections are kept over a restart; under systemd the service's StateDirectory."),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where Prometheus may fetch metrics: 127.0.0.1:9477.")
    ] = None,
    shadow: Annotated[
        Path | None,
        typer.Option(metavar="POLICY", help="Another policy: it judges the same packets, and enforces nothing."),
    ] = None,
    flow_log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a record for each flow that ends or was denied; SIGHUP reopens it."),
    ] = None,
    flow_format: Annotated[
        FlowFormat, typer.Option(help="Lines of JSON, or of a VPC flow log (AWS version 2, Huawei version 1).")
    ] = FlowFormat.json,
    flow_log_size: Annotated[
        str, typer.Option(metavar="SIZE", help="How long the flow log may become before it is rotated; 0: it is not.")
    ] = f"{FLOW_LOG_SIZE >> 20}M",
    flow_log_keep: Annotated[
        int, typer.Option(min=0, max=1000, help="How many flow logs of before are kept: FILE.1, FILE.2...")
    ] = FLOW_LOG_KEEP,
    flow_interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, max=86400, help="How long a denied flow is gathered.")
    ] = FLOW_INTERVAL,
    flows: Annotated[bool, typer.Option("--flows", help="Gather flows for ctl flows, without a flow log.")] = False,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where changes are kept: sqlite:///var/lib/dataplane/policy.db, or etcd://A,B,C/PREFIX; POLICY fills"
            " it first.",
        ),
    ] = None,
    api: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT|PATH", help="Serve the cloud's API (VPC v3) there, or at a Unix socket; may be repeated."
        ),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The access keys of --api HOST:PORT; left out: /etc/dataplane/keys.yaml."),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A certificate chain for --api HOST:PORT.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its private key; left out: it is in the file of --tls-cert.")
    ] = None,
    replicate_to: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A standby that is told of all connections, so that it can take over."),
    ] = None,
    standby_listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where this one listens, as the standby of another firewall."),
    ] = None,
    replication_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="This host's certificate for replication, which is TLS.")
    ] = None,
    replication_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its private key; left out: it is in --replication-cert.")
    ] = None,
    replication_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The other host's certificate, or the authority that signs both and no others."
        ),
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(help="Lines for people, or JSON.")] = LogFormat.text,
) -> None:
    """Filter live traffic between the interfaces that a policy names, until SIGTERM; SIGHUP reloads the policy.

    \b
    Examples:
      dataplane run policy.yaml --uplink eth0
      dataplane run policy.yaml --flow-log flows.jsonl --flow-log-size 500M
      dataplane run policy.yaml --api 127.0.0.1:8774 --keys keys.yaml
    """
    try:
        # Loaded once interfaces are opened, which is too late to find it missing.
        importlib.import_module("pyroute2")
        from dataplane.live import daemon
        from dataplane.live.process import log
    except ModuleNotFoundError as error:
        say(f"{error.name} is not installed: {how_to_install('live')} brings what run needs", err=True)
        raise typer.Exit(EXIT_USAGE) from None

    if not api and (keys or tls_cert or tls_key):
        say("--keys, --tls-cert and --tls-key are for --api: name where it is to be served", err=True)
        raise typer.Exit(EXIT_USAGE)
    replication = None
    if replicate_to or standby_listen:
        if replicate_to and standby_listen:
            say("--replicate-to and --standby-listen: a firewall is one or the other, leave one out", err=True)
            raise typer.Exit(EXIT_USAGE)
        if not replication_cert or not replication_ca:
            say("replication is TLS on both sides: it needs --replication-cert and --replication-ca", err=True)
            raise typer.Exit(EXIT_USAGE)
        from dataplane.live.replication import ReplicationOptions

        replication = ReplicationOptions(
            replicate_to, standby_listen, replication_cert, replication_key, replication_ca
        )
    elif replication_cert or replication_key or replication_ca:
        say("--replication-cert, -key and -ca are for --replicate-to, or --standby-listen", err=True)
        raise typer.Exit(EXIT_USAGE)
    log.set_up(log_format.value)
    options = daemon.Options(
        policy=policy.absolute(),
        uplinks=tuple(uplink or ()),
        workers=workers,
        io_uring=io_uring,
        busy_poll=busy_poll,
        control=control,
        group=group,
        state=state or _service_state(),
        metrics=metrics,
        shadow=shadow.absolute() if shadow else None,
        flows=flows,
        flow_log=flow_log.absolute() if flow_log else None,
        flow_format=flow_format.value,
        flow_log_size=_size(flow_log_size),
        flow_log_keep=flow_log_keep,
        flow_interval=flow_interval,
        api=api_options(api, keys, tls_cert, tls_key, group) if api else None,
        explanation=api_explanation() if api else None,
        store=store,
        replication=replication,
    )
    try:
        daemon.run(options)
    except daemon.StartError as error:
        for line in str(error).splitlines():
            say(line, err=True)
        raise typer.Exit(EXIT_USAGE if error.invalid else EXIT_FAILED) from None


def _service_state() -> Path | None:
    """The state file of a systemd service with a StateDirectory."""
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(folder) / "state" if folder else None
