"""Live traffic between two namespaces: the firewall beside its peers, run in turn.

    .venv/bin/python bench/live.py --rounds 3 --side bare --side dataplane

Needs root, iperf3, nft, iproute2, and Open vSwitch if that is to be a side. Everything happens in namespaces that a
side makes for itself and removes again.

Placement: forwarders and `dataplane` run on processor 0, whoever sends packets on processor 1; the kernel forwards
where the sender runs. iperf3 and the round trips are not pinned.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from live_sides import B_IP, SENDERS, SIDES, A, B, Ends, inside, programs, sh, stopped
from rows import Row, Run, show, stop

#: What a side needs, beside what all of them need.
NEEDED = {"openvswitch": ("ovs-vswitchd", "ovs-vsctl", "ovsdb-tool")}
PACKAGES = {"openvswitch": "openvswitch-switch"}


@dataclass(frozen=True)
class Traffic:
    """What makes traffic between the ends of a side, and for how long."""

    tools: dict[str, Path]
    ends: Ends
    seconds: int

    def stream(self) -> float:
        """One TCP stream from A to B, Gbit/s."""
        server = subprocess.Popen(["ip", "netns", "exec", B, "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
        time.sleep(0.5)
        out = inside(A, f"iperf3 -c {B_IP} -t {self.seconds} -O 1 -J")
        stopped(server)
        return float(json.loads(out)["end"]["sum_received"]["bits_per_second"]) / 1e9

    def blast(self, flows: int, seconds: int, *, back: bool = False) -> None:
        """60-byte UDP frames of so many flows from A to B, or their answers; 0 seconds: one frame a flow."""
        namespace, dev, mac = (B, self.ends.b, self.ends.to_a) if back else (A, self.ends.a, self.ends.to_b)
        answers = "answers" if back else ""
        inside(namespace, f"{self.tools['packet_blast']} {dev} {mac} {SENDERS} {B_IP} {flows} {seconds} 1 {answers}")

    def arrived(self, flows: int) -> float:
        """Thousand packets of so many flows that arrive in a second."""
        before, began = received(B, self.ends.b), time.monotonic()
        self.blast(flows, self.seconds)
        return (received(B, self.ends.b) - before) / (time.monotonic() - began) / 1000

    def known(self, flows: int) -> float:
        """The same, of connections that have been seen both ways."""
        for back in (False, True, False):
            # One pass may lose packets to a full queue; three make nearly all flows known.
            self.blast(flows, 0, back=back)
            self.blast(flows, 0, back=back)
        return self.arrived(flows)

    def round_trip(self) -> float:
        """Median of a round trip of one byte by TCP, in microseconds."""
        program = self.tools["round_trip"]
        server = subprocess.Popen(["ip", "netns", "exec", B, str(program), "serve", "7777"])
        time.sleep(0.3)
        out = inside(A, f"{program} ask {B_IP} 7777 {self.seconds}")
        stopped(server)
        return float(out.split("median ")[1].split()[0])


def works(many: int) -> dict[str, tuple[str, Callable[[Traffic], float]]]:
    """What is measured, and in which unit; `many` connections are to fill caches."""
    return {
        "TCP, one stream": ("Gbit/s", Traffic.stream),
        "60-byte packets, 1 connection": ("k/s", lambda t: t.known(1)),
        f"60-byte packets, {many:,} connections": ("k/s", lambda t: t.known(many)),
        "a new connection a packet": ("k/s", lambda t: t.arrived(50_000_000)),
        "round trip": ("µs", Traffic.round_trip),
    }


def received(namespace: str, dev: str) -> int:
    """Packets that an interface has received."""
    found = json.loads(sh(f"ip -n {namespace} -s -j link show {dev}"))
    return int(found[0]["stats64"]["rx"]["packets"])


def available(run: Run, sides: list[str]) -> list[str]:
    """The sides whose programs are there; the others are skipped aloud."""
    if os.geteuid() or any(shutil.which(p) is None for p in ("iperf3", "nft", "ip")):
        run.skip("live traffic", "it needs root, and iperf3, nft and ip; apt-get install iperf3 nftables iproute2")
        return []
    there = []
    for side in sides:
        if missing := [p for p in NEEDED.get(side, ()) if shutil.which(p) is None]:
            run.skip(f"live, {side}", f"{missing[0]} is not installed; apt-get install {PACKAGES[side]}")
        else:
            there.append(side)
    return there


def measure(run: Run, sides: list[str] | None = None, *, rules: int = 100, seconds: int = 4) -> list[Row]:
    """Rows of each work, in the order of the sides."""
    chosen = available(run, sides or list(SIDES))
    tools, work_of = programs() if chosen else {}, works(100_000 if run.quick else 1_000_000)
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(run.rounds):
        for name in chosen:
            for work, (_, value) in work_of.items():
                # A fresh side for each: no table is full of what another measurement left there.
                with SIDES[name](tools, rules) as ends:
                    found.setdefault((work, name), []).append(value(Traffic(tools, ends, seconds)))
    return [Row(work, name, unit, found[work, name]) for work, (unit, _) in work_of.items() for name in chosen]


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    rules: Annotated[int, typer.Option(min=1)] = 100,
    seconds: Annotated[int, typer.Option(min=1, help="How long each measurement takes.")] = 4,
    side: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(SIDES)}; all if left out.")] = None,
) -> None:
    """Prints medians and spread, and ratios to the first side."""
    if any(name not in SIDES for name in side or ()):
        stop(f"A side is one of {', '.join(SIDES)}.")
    show(f"Live, {rules} rules", measure(Run(rounds=rounds), side, rules=rules, seconds=seconds))


if __name__ == "__main__":
    typer.run(main)
