"""Whole `dataplane replay` processes on generated captures, beside the physical floor and tcpdump, run in turn."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from workloads import SOURCE, WORKLOADS, capture, compiled, policy


@dataclass(frozen=True)
class Run:
    """One process: wall seconds, user + system seconds, the largest resident size in bytes, and its output."""

    wall: float
    cpu: float
    memory: int
    output: bytes


def run(command: list[str], cpu: int | None) -> Run:
    """Runs a command to its end, on one processor if `cpu` names it."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=None if cpu is None else lambda: os.sched_setaffinity(0, {cpu}),
    )
    assert process.stdout
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output)


def main(
    workload: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(WORKLOADS)}.")] = None,
    rules: Annotated[list[int] | None, typer.Option(help="Rules in the policy; 100 and 10,000 if left out.")] = None,
    runs: Annotated[int, typer.Option(min=1)] = 5,
    cpu: Annotated[int | None, typer.Option(help="Pin all processes to this processor.")] = None,
    source: Annotated[Path, typer.Option(help="Folder of workloads.c, floor.c and policy.py.")] = SOURCE,
) -> None:
    """Prints medians, and ratios to the first row of each workload."""
    console = Console(width=120)
    table = Table(
        "workload", "program", "wall s", "cpu s", "M packets/s", "ns/packet", "ratio", "memory MB", "bytes/conn"
    )
    for name in workload or ["zipf", "mixed"]:
        file = str(capture(name, source))
        commands = {
            f"dataplane, {n} rules": [
                sys.executable,
                "-m",
                "dataplane",
                "replay",
                str(policy(n, source)),
                file,
                "--json",
            ]
            for n in rules or [100, 10000]
        }
        commands["floor: read and parse"] = [str(compiled("floor", source)), file, "parse"]
        commands["floor: plain table"] = [str(compiled("floor", source)), file, "table"]
        if tcpdump := shutil.which("tcpdump"):
            commands["tcpdump 'ip and port 1'"] = [tcpdump, "-r", file, "-w", "/dev/null", "ip and port 1"]
        results: dict[str, list[Run]] = {program: [] for program in commands}
        for _ in range(runs):
            for program, command in commands.items():
                results[program].append(run(command, cpu))
        report(table, name, results)
    console.print(table)


def report(table: Table, workload: str, results: dict[str, list[Run]]) -> None:
    """A row a program."""
    summary = json.loads(next(iter(results.values()))[0].output)
    packets = summary["packets"]
    first = None
    for program, runs in results.items():
        wall = statistics.median(r.wall for r in runs)
        if program.startswith("floor"):
            # The floor makes four passes and says what its first, cold one took.
            wall = statistics.median(float(r.output.split(b" ns/pkt")[0].split()[-1]) * packets / 1e9 for r in runs)
        first = first or wall
        memory = max(r.memory for r in runs)
        each = ""
        if program.startswith("dataplane"):
            connections = json.loads(runs[0].output)["connections"]
            each = f"{connections['table_bytes'] / max(1, connections['live']):.0f}"
        table.add_row(
            workload,
            program,
            f"{wall:.3f}",
            f"{statistics.median(r.cpu for r in runs):.3f}" if program.startswith("dataplane") else "",
            f"{packets / wall / 1e6:.2f}",
            f"{wall / packets * 1e9:.0f}",
            f"{wall / first:.2f}",
            f"{memory / 1e6:.0f}",
            each,
        )
    table.add_section()


if __name__ == "__main__":
    typer.run(main)
