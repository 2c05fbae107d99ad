"""Live traffic between two namespaces: the firewall beside its peers, run in turn.

Needs root, iperf3, nft, iproute2, Open vSwitch if that is to be a side, and `tapfwd.c`, `pktblast.c` and `rr.c` in the
folder `live` of --source. Everything happens in namespaces that a side makes for itself and removes again.

Placement: forwarders and `dataplane` run on processor 0, whoever sends packets on processor 1; the kernel forwards
where the sender runs. iperf3 and the round trips are not pinned.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from live_sides import B_IP, SENDERS, SIDES, A, B, Ends, inside, programs, sh, stopped
from rich.console import Console
from rich.table import Table
from workloads import SOURCE

SECONDS = 4


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
