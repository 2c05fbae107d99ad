"""`dataplane fleet`: the hosts that share a store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dataplane.cli.ctl.request import Commands, Output, OutputOption, show
from dataplane.cli.output import refuse, say
from dataplane.terminal import counted

if TYPE_CHECKING:
    from dataplane.store.etcd.cluster import Cluster

EXIT_BEHIND = 1

app = Commands(
    help="The hosts that share a store: how far they are, and a policy that goes to some of them first.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

StoreOption = Annotated[
    str, typer.Option(metavar="URL", help="The store that they share: etcd://A,B,C/PREFIX.", show_default=False)
]


@app.command()
def status(store: StoreOption, output: OutputOption = Output.text) -> None:
    """Each host with the change that is in force there, how far it is behind, and what is wrong.

    The exit status is 0 when the newest change is in force on all hosts, 1 when one is behind, gone or has an error, 2
    when the store cannot be asked.

    \b
    Examples:
      dataplane fleet status --store etcd://10.0.0.1,10.0.0.2,10.0.0.3/cloud
      dataplane fleet status --store etcd://10.0.0.1/cloud --json | jq .hosts
    """
    from dataplane.store.etcd.fleet import fleet

    with _asked(store) as (cluster, prefix):
        found = fleet(cluster, prefix)
    now = time.time()
    hosts = [
        {
            "host": host.name,
            "state": _state(host, found.newest.number),
            "change": host.change,
            "behind": max(0, found.newest.number - host.change),
            "lag": round(host.lag(found.newest, now), 3),
            "error": host.error,
            "version": host.version,
        }
        for host in found.hosts
    ]
    newest = found.newest
    answer = {"change": newest.number, "changed_at": newest.at, "changed_by": newest.by, "hosts": hosts}
    show(answer, output, _print_status)
    if any(host["state"] != "up to date" or host["error"] for host in hosts):
        raise typer.Exit(EXIT_BEHIND)


@app.command()
def forget(
    store: StoreOption,
    host: Annotated[str, typer.Argument(help="The name of a host that is gone for good.")],
    output: OutputOption = Output.text,
) -> None:
    """A host that is gone for good is not missed any more.

    \b
    Examples:
      dataplane fleet forget h7 --store etcd://10.0.0.1,10.0.0.2,10.0.0.3/cloud
      dataplane fleet forget h7 --store 'etcd://10.0.0.1/cloud?ca=/etc/ssl/ca.pem'
    """
    from dataplane.store.etcd import fleet

    with _asked(store) as (cluster, prefix):
        fleet.forget(cluster, prefix, host)
    show({"host": host}, output, lambda answer: say(f"Host {answer['host']} is forgotten."))


def _state(host: Any, newest: int) -> str:
    if not host.is_there:
        return "gone"
    return "up to date" if host.change >= newest else "behind"


def _print_status(answer: Any) -> None:
    from dataplane.cli.ctl.text import table

    hosts = answer["hosts"]
    late = sum(host["state"] != "up to date" for host in hosts)
    say(
        f"change {answer['change']} is the newest; {counted(len(hosts), 'host')}"
        + (f", {late} of them not up to date" if late else ", all of them up to date" if hosts else "")
    )
    table(
        "Hosts",
        ("host", "state", "change", "lag", "error"),
        [
            (host["host"], host["state"], str(host["change"]), f"{host['lag']:.3f} s", host["error"] or "")
            for host in hosts
        ],
    )


@contextmanager
def _asked(url: str) -> Iterator[tuple[Cluster, str]]:
    """The cluster of a store, and the prefix of its keys; what goes wrong is a sentence and an exit status."""
    from dataplane.installation import how_to_install
    from dataplane.store import StoreError

    if not url.startswith("etcd://"):
        refuse(f"--store {url}: hosts share a store in etcd alone: etcd://A,B,C/PREFIX is needed")
    try:
        from dataplane.store.etcd.address import parsed
        from dataplane.store.etcd.cluster import Cluster

        address = parsed(url)
        with closing(Cluster(address)) as cluster:
            yield cluster, address.prefix
    except ModuleNotFoundError as error:
        refuse(f"{error.name} is not installed: {how_to_install('etcd')} brings what a store in etcd needs")
    except StoreError as error:
        refuse(str(error))
