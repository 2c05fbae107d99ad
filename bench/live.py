"""Live traffic between two namespaces: the firewall beside a bare TAP forwarder and the kernel, run in turn.

Needs root, iperf3, nft, iproute2, and `tapfwd.c`, `pktblast.c` and `rr.c` in the folder `live` of --source.
Everything happens in namespaces that a side makes for itself and removes again.

Placement: forwarders and `dataplane` run on processor 0, whoever sends packets on processor 1; the kernel forwards
where the sender runs. iperf3 and the round trips are not pinned.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from workloads import SOURCE, compiled

A, B, ROUTER = "dpbench-a", "dpbench-b", "dpbench-r"
A_IP, B_IP = "10.81.0.1", "10.82.0.2"
A_MAC, B_MAC = "02:00:00:00:81:01", "02:00:00:00:82:02"
SENDERS = "10.100.0.1"  # pktblast counts up from here
SECONDS = 4


def sh(command: str, *, check: bool = True) -> str:
    """Runs a line of shell and returns what it printed."""
    done = subprocess.run(command, shell=True, check=False, capture_output=True, text=True)
    if check and done.returncode:
        sys.exit(f"{command}\n{done.stderr}")
    return done.stdout


def inside(namespace: str, command: str) -> str:
    """The same in a namespace."""
    return sh(f"ip netns exec {namespace} {command}", check=False)


@dataclass(frozen=True)
class Ends:
    """What the two hosts call the wire, and the MAC that a frame from A to B carries."""

    a: str
    b: str
    to_b: str
    to_a: str


def programs(source: Path) -> dict[str, Path]:
    """The peers' programs, compiled once."""
    return {name: compiled(f"live/{name}", source) for name in ("tapfwd", "pktblast", "rr")}


def hosts(ends: Ends) -> None:
    """Addresses in A and B: one subnet on the wire, no ARP, and the senders' network behind A."""
    for namespace, dev, own, mac, other, other_mac in (
        (A, ends.a, A_IP, A_MAC, B_IP, ends.to_b),
        (B, ends.b, B_IP, B_MAC, A_IP, ends.to_a),
    ):
        ip = f"ip -n {namespace}"
        sh(f"{ip} link set {dev} address {mac} && {ip} addr add {own}/8 dev {dev} && {ip} link set lo up")
        sh(f"{ip} link set {dev} up && {ip} neigh replace {other} lladdr {other_mac} dev {dev} nud permanent")
        inside(namespace, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv4.conf.all.rp_filter=0")
    # B answers none of them: what arrives is counted and goes no further.
    inside(B, "ip route add blackhole 10.100.0.0/14")


@contextlib.contextmanager
def namespaces(*names: str) -> Iterator[None]:
    """Namespaces that are gone afterwards."""
    for name in names:
        sh(f"ip netns add {name}")
    try:
        yield
    finally:
        for name in names:
            sh(f"ip netns del {name}", check=False)


def stopped(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that was started here."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def bare(tools: dict[str, Path], rules: int) -> Iterator[Ends]:
    """The bare forwarder between two TAPs, with offloads, no rules at all."""
    with namespaces(A, B):
        process = subprocess.Popen([str(tools["tapfwd"]), "dpba", "dpbb", "1", "poll", "0"])
        try:
            time.sleep(0.3)
            sh(f"ip link set dpba netns {A} && ip link set dpbb netns {B}")
            hosts(Ends("dpba", "dpbb", B_MAC, A_MAC))
            yield Ends("dpba", "dpbb", B_MAC, A_MAC)
        finally:
            stopped(process)


def rule_lines(rules: int) -> list[dict[str, object]]:
    """Rules that never match, and the one that does at their end."""
    filler = [
        {
            "direction": "ingress",
            "protocol": "tcp",
            "multiport": str(20000 + i),
            "remote_ip_prefix": f"{i % 90 + 101}.0.0.0/16",
        }
        for i in range(rules - 1)
    ]
    return [*filler, {"direction": "ingress", "priority": 100}, {"direction": "egress", "priority": 100}]


@contextlib.contextmanager
def ours(tools: dict[str, Path], rules: int) -> Iterator[Ends]:
    """The firewall: B is an instance, A stands on the uplink."""
    policy = {
        "security_groups": [{"id": "sg", "security_group_rules": rule_lines(rules)}],
        "instances": [{"id": "b", "addresses": [B_IP], "mac": B_MAC, "security_groups": ["sg"], "interface": "dpbb"}],
        "uplinks": [{"interface": "dpba"}],
        "conntrack": {"max_entries": 4194304},
    }
    with namespaces(A, B), tempfile.TemporaryDirectory() as folder:
        sh("ip tuntap add dpba mode tap && ip tuntap add dpbb mode tap")
        path = Path(folder, "policy.json")
        path.write_text(json.dumps(policy))
        process = subprocess.Popen(
            [sys.executable, "-m", "dataplane", "run", str(path), "--control", f"{folder}/control"],
            preexec_fn=lambda: os.sched_setaffinity(0, {0}),
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(100):
                if Path(folder, "control").exists():
                    break
                time.sleep(0.1)
            sh(f"ip link set dpba netns {A} && ip link set dpbb netns {B}")
            hosts(Ends("dpba", "dpbb", B_MAC, A_MAC))
            yield Ends("dpba", "dpbb", B_MAC, A_MAC)
        finally:
            stopped(process)
            sh("ip link del dpba", check=False)
            sh("ip link del dpbb", check=False)


@contextlib.contextmanager
def kernel(tools: dict[str, Path], rules: int) -> Iterator[Ends]:
    """The kernel: A and B routed through a third namespace with nftables and conntrack."""
    with namespaces(A, B, ROUTER):
        for namespace, dev, mac in ((A, "dpba", "02:00:00:00:81:fe"), (B, "dpbb", "02:00:00:00:82:fe")):
            sh(f"ip link add {dev} netns {namespace} type veth peer name {dev} netns {ROUTER}")
            sh(f"ip -n {ROUTER} link set {dev} address {mac} && ip -n {ROUTER} link set {dev} up")
        hosts(Ends("dpba", "dpbb", "02:00:00:00:81:fe", "02:00:00:00:82:fe"))
        for command in (
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.netfilter.nf_conntrack_max=4194304",
            f"ip route add {A_IP}/32 dev dpba",
            f"ip route add {B_IP}/32 dev dpbb",
            "ip route add 10.0.0.0/8 dev dpba",
            f"ip neigh replace {A_IP} lladdr {A_MAC} dev dpba nud permanent",
            f"ip neigh replace {B_IP} lladdr {B_MAC} dev dpbb nud permanent",
        ):
            sh(f"ip netns exec {ROUTER} {command}", check=False)
        lines = "\n".join(f"ip saddr {i % 90 + 101}.0.0.0/16 tcp dport {20000 + i} accept" for i in range(rules - 1))
        table = (
            "table ip f { chain c { type filter hook forward priority 0; policy drop;\n"
            f"ct state established,related accept\nct state invalid drop\n{lines}\naccept\n}}\n}}\n"
        )
        subprocess.run(["ip", "netns", "exec", ROUTER, "nft", "-f", "-"], input=table.encode(), check=True)
        yield Ends("dpba", "dpbb", "02:00:00:00:81:fe", "02:00:00:00:82:fe")


SIDES: dict[str, Callable[[dict[str, Path], int], contextlib.AbstractContextManager[Ends]]] = {
    "bare": bare,
    "dataplane": ours,
    "kernel": kernel,
}


def received(namespace: str, dev: str) -> int:
    """Packets that an interface has received."""
    found = json.loads(sh(f"ip -n {namespace} -s -j link show {dev}"))
    return int(found[0]["stats64"]["rx"]["packets"])


def stream(tools: dict[str, Path], ends: Ends) -> float:
    """One TCP stream from A to B, Gbit/s."""
    server = subprocess.Popen(["ip", "netns", "exec", B, "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    out = inside(A, f"iperf3 -c {B_IP} -t {SECONDS} -O 1 -J")
    stopped(server)
    return float(json.loads(out)["end"]["sum_received"]["bits_per_second"]) / 1e9


def blast(tools: dict[str, Path], ends: Ends, flows: int, seconds: int, *, back: bool = False) -> str:
    """60-byte UDP frames of so many flows from A to B, or their answers; 0 seconds: one frame a flow."""
    namespace, dev, mac = (B, ends.b, ends.to_a) if back else (A, ends.a, ends.to_b)
    letter = "U" if back else "u"
    return inside(namespace, f"{tools['pktblast']} {dev} {mac} {SENDERS} {B_IP} {flows} {seconds} 1 {letter}")


def known(flows: int) -> Callable[[dict[str, Path], Ends], float]:
    """Thousand packets a second of connections that have been seen both ways."""

    def measure(tools: dict[str, Path], ends: Ends) -> float:
        for back in (False, True, False):
            # One pass may lose packets to a full queue; three make nearly all flows known.
            blast(tools, ends, flows, 0, back=back)
            blast(tools, ends, flows, 0, back=back)
        before, began = received(B, ends.b), time.monotonic()
        blast(tools, ends, flows, SECONDS)
        return (received(B, ends.b) - before) / (time.monotonic() - began) / 1000

    return measure


def new(tools: dict[str, Path], ends: Ends) -> float:
    """Thousand packets a second, each of a connection of its own."""
    before, began = received(B, ends.b), time.monotonic()
    blast(tools, ends, 50_000_000, SECONDS)
    return (received(B, ends.b) - before) / (time.monotonic() - began) / 1000


def round_trip(tools: dict[str, Path], ends: Ends) -> float:
    """Median of a round trip of one byte by TCP, in microseconds."""
    server = subprocess.Popen(["ip", "netns", "exec", B, str(tools["rr"]), "s", "tcp", "7777"])
    time.sleep(0.3)
    out = inside(A, f"{tools['rr']} c tcp {B_IP} 7777 {SECONDS}")
    stopped(server)
    return float(out.split(" p50 ")[1].split()[0])


WORK: dict[str, Callable[[dict[str, Path], Ends], float]] = {
    "TCP, one stream, Gbit/s": stream,
    "60-byte packets, 1 connection, k/s": known(1),
    "60-byte packets, 1M connections, k/s": known(1_000_000),
    "a new connection a packet, k/s": new,
    "round trip, µs": round_trip,
}


def main(
    runs: Annotated[int, typer.Option(min=1)] = 3,
    rules: Annotated[int, typer.Option(min=1)] = 100,
    side: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(SIDES)}; all if left out.")] = None,
    source: Annotated[Path, typer.Option(help="Folder that has the programs in `live`.")] = SOURCE,
) -> None:
    """Prints medians and, beside each, its ratio to the bare forwarder's."""
    if os.geteuid() or any(shutil.which(p) is None for p in ("iperf3", "nft", "ip")):
        sys.exit("needs root, and iperf3, nft and ip: apt-get install iperf3 nftables iproute2")
    tools = programs(source)
    sides = side or list(SIDES)
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(runs):
        for name in sides:
            for work, measure in WORK.items():
                # A fresh side for each: no table is full of what another measurement left there.
                with SIDES[name](tools, rules) as ends:
                    found.setdefault((name, work), []).append(measure(tools, ends))
    table = Table(title=f"{runs} runs in turn, {rules} rules; medians (least .. most), ratio to {sides[0]}")
    table.add_column("work")
    for name in sides:
        table.add_column(name, justify="right")
    for work in WORK:
        first = statistics.median(found[sides[0], work])
        cells = []
        for name in sides:
            values = found[name, work]
            middle = statistics.median(values)
            cells.append(f"{middle:.1f} ({min(values):.1f} .. {max(values):.1f})  {middle / first:.2f}")
        table.add_row(work, *cells)
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
