"""How long a change takes to many hosts that share a store: from its answer until the last of them has it in force.

Real etcd, three members on the loopback interface, and hosts of which each watches, keeps its part and puts changes in
force in a plane of its own, as a firewall does without ports; processes hold a hundred of them each, and the one who
makes changes is another one. All of it is on this machine, so that hosts wait for each other's processors; on real
ones they do not.

    .venv/bin/python bench/fleet.py --hosts 200 --hosts 1000
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dataplane import DataPlane, Policy
from dataplane.policy.changes import apply, parse_change
from dataplane.store import StoreError
from dataplane.store.etcd.address import parsed
from dataplane.store.etcd.cluster import Cluster
from dataplane.store.etcd.store import EtcdStore

_MEMBERS = 3
#: Pauses between changes, so that each begins when the one before has long been in force.
_PAUSE = 0.5
_START_SECONDS = 300


def main(
    hosts: Annotated[list[int] | None, typer.Option(help="How many hosts; may be repeated.")] = None,
    changes: Annotated[int, typer.Option(min=1, help="How many changes, one after the other.")] = 9,
    rules: Annotated[int, typer.Option(min=1, help="Rules of the group that all instances are in.")] = 10,
    each: Annotated[int, typer.Option(min=1, help="How many hosts one process holds.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON.")] = False,
) -> None:
    """Times changes of a rule that all hosts have."""
    found = [_measured(count, changes, rules, -(-count // each)) for count in hosts or [200, 1000]]
    if as_json:
        print(json.dumps(found))
        return
    table = Table(title=f"A change, until it is in force: {changes} of them; seconds")
    for column in ("hosts", "answered", "first host", "half of them", "last host: median", "least", "most"):
        table.add_column(column, justify="right")
    for row in found:
        last = row["last"]
        figures = [statistics.median(row[name]) for name in ("answered", "first", "half")]
        figures += [statistics.median(last), min(last), max(last)]
        table.add_row(str(row["hosts"]), *(f"{figure:.3f}" for figure in figures))
    Console(width=120).print(table)


def _policy(hosts: int, rules: int) -> Policy:
    """An instance on each host, all in one group, so that a change of its rules concerns every host."""
    group = [{"id": f"r{n}", "direction": "ingress", "protocol": "tcp", "multiport": str(n + 1)} for n in range(rules)]
    instances = [
        {"id": f"i{n}", "addresses": [f"10.{n >> 8}.{n & 255}.1"], "security_groups": ["all"], "host": f"h{n}"}
        for n in range(hosts)
    ]
    document = {
        "security_groups": [{"id": "all", "security_group_rules": group}],
        "instances": instances,
        "conntrack": {"max_entries": 64},
    }
    return Policy.parse(json.dumps(document))


def _measured(hosts: int, changes: int, rules: int, processes: int) -> dict[str, list[float] | int]:
    """Seconds from a change's answer until it is in force on the first, half, and all of the hosts."""
    made: dict[str, list[float]] = {"answered": [], "first": [], "half": [], "last": []}
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(_etcd(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        store = stack.enter_context(contextlib.closing(EtcdStore(parsed(url))))
        policy = _policy(hosts, rules)
        with store.keeping(policy, time.time()):
            pass
        workers = stack.enter_context(_holding(url, hosts, processes))
        for number in range(changes):
            time.sleep(_PAUSE)
            policy = apply(policy, parse_change({"update_rule": {"id": "r0", "multiport": f"{2000 + number}"}}))
            began = time.monotonic()
            with store.keeping(policy, time.time()):
                pass
            answered = time.monotonic()
            times = sorted(moment for worker in workers for moment in _told(worker))
            assert len(times) == hosts, f"{len(times)} of {hosts} hosts have it in force"
            made["answered"].append(answered - began)
            for name, moment in (("first", times[0]), ("half", times[len(times) // 2]), ("last", times[-1])):
                made[name].append(max(0.0, moment - answered))
    return {"hosts": hosts, **made}


# ---- etcd ----


@contextlib.contextmanager
def _etcd(folder: Path) -> Iterator[str]:
    """A cluster that answers; the address of a store in it."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2 * _MEMBERS)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        ports = [found.getsockname()[1] for found in sockets]
    clients, peers = ports[:_MEMBERS], ports[_MEMBERS:]
    everyone = ",".join(f"m{n}=http://127.0.0.1:{port}" for n, port in enumerate(peers))
    url = "etcd://" + ",".join(f"127.0.0.1:{port}" for port in clients) + "/fleet"
    running = []
    try:
        for n, (client, peer) in enumerate(zip(clients, peers, strict=True)):
            at, among = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
            command = [
                *("etcd", "--name", f"m{n}", "--data-dir", str(folder / f"m{n}"), "--logger", "zap"),
                *("--listen-client-urls", at, "--advertise-client-urls", at, "--log-level", "error"),
                *("--listen-peer-urls", among, "--initial-advertise-peer-urls", among, "--initial-cluster", everyone),
            ]
            running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        until = time.monotonic() + _START_SECONDS
        with contextlib.closing(Cluster(parsed(url))) as cluster:
            while True:
                try:
                    cluster.range("anything")
                    break
                except StoreError:
                    assert time.monotonic() < until, "etcd does not start"
                    time.sleep(0.1)
        yield url
    finally:
        for process in running:
            process.kill()
            process.wait(10)


# ---- hosts ----


@contextlib.contextmanager
def _holding(url: str, hosts: int, processes: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that hold the hosts, which all watch."""
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, "--hold", url, str(n * hosts // processes), str((n + 1) * hosts // processes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(processes)
    ]
    try:
        for worker in workers:
            _told(worker)
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def _told(worker: subprocess.Popen[str]) -> list[float]:
    """When the hosts of a process had the next change in force, by the monotonic clock that all processes share."""
    assert worker.stdout
    times: list[float] = json.loads(worker.stdout.readline())
    return times


def _opened(url: str) -> EtcdStore:
    """A store, once etcd has the time: all hosts ask for all of it at the start."""
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            return EtcdStore(parsed(url))
        except StoreError:
            if time.monotonic() > until:
                raise


def _hold(url: str, first: int, behind: int) -> None:
    """Holds hosts; a line for each change that they all have in force, with the moments."""
    # Many threads that each ask for the interpreter every 5 ms would leave little time for their work.
    sys.setswitchinterval(0.02)
    times: list[float] = []
    had = threading.Condition()
    stores = []

    def host(number: int) -> None:
        store = _opened(f"{url}?host=h{number}")
        plane = DataPlane(store.load())
        stores.append(store)

        def put_in_force() -> None:
            if version := store.arrived:
                plane.apply({"apply_policy": version.policy()})
                store.taken(version)
                with had:
                    times.append(time.monotonic())
                    had.notify()

        store.follow(put_in_force)

    # One after the other: what they read at their start is not what is measured.
    for number in range(first, behind):
        host(number)
    # Their watches have begun when they are as far as their reports say.
    time.sleep(3)
    print("[]", flush=True)
    while True:
        with had:
            had.wait_for(lambda: len(times) >= behind - first)
            told, times[:] = list(times), []
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--hold"]:
        _hold(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        typer.run(main)
