"""TCP in tunnels beside plain TCP, through the firewall between two veths, run in turn: what a tunnel costs there.

Needs root, iperf3 and iproute2. Two hosts in namespaces of their own, A an instance and B behind an uplink, `dataplane
run` in a third. What a virtio-net header of AF_PACKET cannot tell crosses in pieces, and in VXLAN and Geneve, where the
kernel can (Linux 6.17), whole by a TAP that is made within two seconds: the first run of each direction shows both.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from live_sides import inside, namespaces, sh, stopped
from rich.console import Console
from rich.table import Table

A, B, WALL = "dptun-a", "dptun-b", "dptun-w"
ENDS = {A: ("10.83.0.1", "02:00:00:00:83:01"), B: ("10.83.0.2", "02:00:00:00:83:02")}
INNER = {A: "10.84.0.1", B: "10.84.0.2"}

#: How the other end is reached: the arguments of `ip link add t0`, by local and remote address.
TUNNELS = {
    "plain": None,
    "VXLAN": "type vxlan id 42 local {local} remote {remote} dstport 4789 dev eth0",
    "Geneve": "type geneve id 42 remote {remote}",
    "GRE": "type gre local {local} remote {remote}",
    "IPIP": "type ipip local {local} remote {remote}",
}


@contextlib.contextmanager
def hosts() -> Iterator[None]:
    """The two hosts and the firewall between them."""
    rules = [{"direction": "ingress"}, {"direction": "egress"}]
    policy = {
        "security_groups": [{"id": "sg", "security_group_rules": rules}],
        "instances": [{"id": "a", "addresses": [ENDS[A][0]], "mac": ENDS[A][1], "security_groups": ["sg"]}],
        "uplinks": [{"interface": B}],
    }
    policy["instances"][0]["interface"] = A
    with namespaces(A, B, WALL), tempfile.TemporaryDirectory() as folder:
        for name, (address, mac) in ENDS.items():
            sh(f"ip link add {name} netns {WALL} type veth peer name eth0 address {mac} netns {name}")
            sh(f"ip -n {name} addr add {address}/24 dev eth0 && ip -n {name} link set eth0 up")
        path, control = Path(folder, "policy.json"), Path(folder, "control")
        path.write_text(json.dumps(policy))
        ours = ["ip", "netns", "exec", WALL, sys.executable, "-m", "dataplane"]
        process = subprocess.Popen([*ours, "run", str(path), "--control", str(control)], stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                if control.exists():
                    break
                time.sleep(0.1)
            sh(f"{' '.join(ours)} ctl --socket {control} status")
            yield
        finally:
            stopped(process)


@contextlib.contextmanager
def tunnel(kind: str | None) -> Iterator[str]:
    """A tunnel between the hosts, or none; the address that B has in it."""
    if kind is None:
        yield ENDS[B][0]
        return
    for name, other in ((A, B), (B, A)):
        sh(f"ip -n {name} link add t0 {kind.format(local=ENDS[name][0], remote=ENDS[other][0])}")
        sh(f"ip -n {name} addr add {INNER[name]}/24 dev t0 && ip -n {name} link set t0 up")
    try:
        yield INNER[B]
    finally:
        for name in (A, B):
            sh(f"ip -n {name} link del t0")


def is_known(kind: str | None) -> bool:
    """Whether this kernel has such tunnels."""
    if kind is None:
        return True
    added = inside(A, f"ip link add t0 {kind.format(local=ENDS[A][0], remote=ENDS[B][0])} && echo yes")
    sh(f"ip -n {A} link del t0", check=False)
    return "yes" in added


def stream(to: str, seconds: int, *, back: bool) -> float:
    """One TCP stream from A to B, or back; Mbit/s that arrived."""
    server = subprocess.Popen(["ip", "netns", "exec", B, "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        out = inside(A, f"iperf3 -c {to} -t {seconds} -O 1 -J {'-R' if back else ''}")
    finally:
        stopped(server)
    return float(json.loads(out)["end"]["sum_received"]["bits_per_second"]) / 1e6


def main(runs: Annotated[int, typer.Option(min=1)] = 3, seconds: Annotated[int, typer.Option(min=1)] = 3) -> None:
    """Prints medians and, beside each, its ratio to plain TCP."""
    if os.geteuid() or any(shutil.which(p) is None for p in ("iperf3", "ip")):
        sys.exit("needs root, and iperf3 and ip: apt-get install iperf3 iproute2")
    found: dict[tuple[str, bool], list[float]] = {}
    with hosts():
        tunnels = {name: kind for name, kind in TUNNELS.items() if is_known(kind)}
        for _ in range(runs):
            for name, kind in tunnels.items():
                with tunnel(kind) as to:
                    for back in (False, True):
                        found.setdefault((name, back), []).append(stream(to, seconds, back=back))
    table = Table("TCP in", "out, Mbit/s", "in, Mbit/s", title=f"{runs} runs in turn; median (least .. most), ratio")
    for name in tunnels:
        cells = []
        for back in (False, True):
            values, plain = found[name, back], statistics.median(found["plain", back])
            middle = statistics.median(values)
            cells.append(f"{middle:.0f} ({min(values):.0f} .. {max(values):.0f})  {middle / plain:.2f}")
        table.add_row(name, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
