"""`dataplane fleet`: the hosts that share a store."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dataplane.cli.ctl.request import Commands, Output, OutputOption, show
from dataplane.cli.output import refuse, say
from dataplane.terminal import counted

if TYPE_CHECKING:
    from dataplane.policy import Policy
    from dataplane.store.etcd.cluster import Cluster
    from dataplane.store.etcd.rollout import Progress
    from dataplane.store.etcd.store import EtcdStore

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
    """Each host with the change that is in force there, how far it is behind, where it is, and what is wrong.

    The exit status is 0 when the newest change is in force on all hosts, 1 when one is behind, ahead, gone or has an
    error, or etcd takes nothing that hosts say, and 2 when the store cannot be asked.

    \b
    Examples:
      dataplane fleet status --store etcd://10.0.0.1,10.0.0.2,10.0.0.3/cloud
      dataplane fleet status --store etcd://10.0.0.1/cloud --json | jq .hosts
    """
    with _asked(store) as (cluster, prefix):
        from dataplane.store.etcd.fleet import fleet

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
            "address": host.session and host.session.address,
            "process": host.session and host.session.pid,
            "since": host.session and host.session.since,
        }
        for host in found.hosts
    ]
    newest = found.newest
    answer = {
        "change": newest.number,
        "changed_at": newest.at,
        "changed_by": newest.by,
        "error": found.error,
        "hosts": hosts,
    }
    show(answer, output, _print_status)
    if found.error or any(host["state"] != "up to date" or host["error"] for host in hosts):
        raise typer.Exit(EXIT_BEHIND)


@app.command()
def apply(
    store: StoreOption,
    file: Annotated[str, typer.Argument(help="The policy document (YAML or JSON).")],
    canary: Annotated[
        str, typer.Option(metavar="SHARE", help="How many of the hosts judge by it first, at least one: 5%.")
    ],
    watch: Annotated[str, typer.Option(metavar="TIME", help="How long they judge, such as 90s or 10m.")] = "60s",
    bound: Annotated[
        str, typer.Option(metavar="SHARE", help="Which share of a host's packets may be judged otherwise.")
    ] = "1%",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
    output: OutputOption = Output.text,
) -> None:
    """Make the policy of all hosts equal to a document, after some of them have judged by it beside the one in force.

    They enforce nothing of it: each has a shadow, and says what it judged otherwise. Where that is more than the bound,
    or one of them is lost, or no packet came, the policy stays as it is, and the exit status is 1.

    \b
    Examples:
      dataplane fleet apply new.yaml --store etcd://10.0.0.1/cloud --canary 5%
      dataplane fleet apply new.yaml --store etcd://a,b,c --canary 1% --watch 9m
    """
    from dataplane.cli import durations
    from dataplane.cli.policy import ask, print_rehearsed, rehearsed
    from dataplane.policy import Policy, PolicyError
    from dataplane.policy.reading.source import read_file

    share, most, seconds = _share(canary, "--canary"), _share(bound, "--bound"), durations.seconds(watch)
    if not share:
        refuse(f"--canary {canary}: some hosts must judge by it: write 5%, or dataplane policy apply for all at once")
    if not yes and not sys.stdin.isatty():
        refuse(f"{file}: nobody can be asked here: add --yes to apply it")
    try:
        given = Policy.parse(*read_file(file))
    except PolicyError as error:
        refuse(str(error))
    progress: Progress | None = None
    with _opened(store) as kept:
        now = time.time()
        after, answer = rehearsed(kept.load(), given, file, kept.name, now)
        if output is Output.text or not yes:
            print_rehearsed(answer)
        if answer["changed"]:
            if not yes:
                ask(answer)
            progress = _rolled_out(kept, after, share, most, seconds, now, output)
    if progress:
        answer |= {"hosts": progress.hosts, "same": progress.judged.same, "otherwise": progress.judged.changed}
    show(answer, output, lambda _: say(f"It is kept in {answer['store']}.") if progress else None)


def _rolled_out(
    store: EtcdStore, policy: Policy, share: float, bound: float, seconds: float, now: float, output: Output
) -> Progress | None:
    """What the hosts said last; ends the command where the policy stays as it was."""
    from dataplane.store.etcd.rollout import StoppedError, rollout

    progress = None
    try:
        for progress in rollout(store, policy, share=share, bound=bound, seconds=seconds, now=now):
            if output is Output.text:
                _print_progress(progress)
    except StoppedError as error:
        refuse(f"The policy stays as it is: {error}", EXIT_BEHIND)
    return progress


def _share(text: str, option: str) -> float:
    """A share, written as 5% or 0.05."""
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        refuse(f"{option} {text}: it is no share: write 5%, or 0.05")
    return found


def _print_progress(progress: Progress) -> None:
    told, hosts = progress.judged, counted(len(progress.hosts), "host")
    if progress.seconds_left is None:
        say(f"{told.judging} of {hosts} judge by it")
        return
    say(
        f"{hosts} ({', '.join(progress.hosts[:5])}{', ...' if len(progress.hosts) > 5 else ''}):"
        f" {counted(told.same + told.changed, 'packet')} judged, {told.changed:,} of them otherwise;"
        f" {progress.seconds_left:.0f} s left"
    )


@contextmanager
def _opened(url: str) -> Iterator[EtcdStore]:
    """A store; what goes wrong with it is a sentence and an exit status."""
    from dataplane.policy import PolicyError

    with _asked(url):
        from dataplane.store.etcd.address import parsed
        from dataplane.store.etcd.store import EtcdStore

        try:
            with closing(EtcdStore(parsed(url))) as store:
                yield store
        except PolicyError as error:
            refuse(str(error))


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
    with _asked(store) as (cluster, prefix):
        from dataplane.store.etcd import fleet

        fleet.forget(cluster, prefix, host)
    show({"host": host}, output, lambda answer: say(f"Host {answer['host']} is forgotten."))


def _state(host: Any, newest: int) -> str:
    if not host.is_there:
        return "gone"
    if host.change > newest:
        # etcd was set back to a copy of before, and the host has not seen that yet, or cannot put it in force.
        return "ahead"
    return "up to date" if host.change == newest else "behind"


def _print_status(answer: Any) -> None:
    from dataplane.cli.ctl.text import table

    hosts = answer["hosts"]
    late = sum(host["state"] != "up to date" for host in hosts)
    say(
        f"change {answer['change']} is the newest; {counted(len(hosts), 'host')}"
        + (f", {late} of them not up to date" if late else ", all of them up to date" if hosts else "")
    )
    if answer["error"]:
        say(answer["error"])
    table(
        "Hosts",
        ("host", "address", "state", "change", "lag", "error"),
        [
            (
                *(host["host"], host["address"] or "", host["state"], str(host["change"]), f"{host['lag']:.3f} s"),
                host["error"] or "",
            )
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
