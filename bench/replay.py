"""Whole processes on generated captures: `dataplane replay` beside programs that only read them, run in turn.

.venv/bin/python bench/replay.py --rounds 5 --workload zipf --rules 100 --rules 10000
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from engine import floor_passes
from rows import Row, Run, show, stop
from workloads import BENCH, WORKLOADS, capture, compiled, policy


@dataclass(frozen=True)
class Process:
    """One process: wall seconds, the largest resident size in bytes, and its output."""

    wall: float
    memory: int
    output: bytes


def process(command: list[str], run: Run) -> Process:
    """Runs a command to its end."""
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=run.pin())
    assert child.stdout
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if child.returncode:
        stop(f"{' '.join(command)} ended with status {child.returncode}")
    return Process(wall, usage.ru_maxrss * 1024, output)


def replay_command(rules: int, file: Path) -> list[str]:
    """Our side."""
    return [sys.executable, "-m", "dataplane", "replay", str(policy(rules)), str(file), "--json"]


def libpcap(run: Run) -> Path | None:
    """The program that reads by libpcap."""
    try:
        return compiled("read_pcap", "-lpcap")
    except subprocess.CalledProcessError:
        run.skip("libpcap", "its headers are missing; apt-get install libpcap-dev")
        return None


def readers(run: Run, name: str, file: Path, reader: Path | None) -> dict[str, list[str]]:
    """The peers that can be run on a workload."""
    found = {"libpcap: read": [str(reader), str(file)]} if reader else {}
    if tcpdump := shutil.which("tcpdump"):
        # It gives up root's rights else, and cannot read what another owns.
        found["tcpdump, a filter"] = [tcpdump, "-Z", "root", "-r", str(file), "-w", "/dev/null", "ip and port 1"]
    else:
        run.skip("tcpdump", "it is not installed; apt-get install tcpdump")
    if name in ("zipf", "syn"):
        run.skip(f"NFStream on {name}", "a million connections take it minutes")
    elif importlib.util.find_spec("nfstream"):
        found["NFStream, flows"] = [sys.executable, str(BENCH / "nfstream_side.py"), str(file)]
    else:
        run.skip("NFStream", "it is not installed; .venv/bin/pip install nfstream")
    return found


def measure(
    run: Run, workloads: list[str] | None = None, rules: list[int] | None = None, packets: int | None = None
) -> list[Row]:
    """Rows of wall time, of packets read in it, and of memory."""
    rows, reader = [], libpcap(run)
    for name in workloads or (["zipf", "mixed"] if run.quick else ["zipf", "mixed", "imix"]):
        file = capture(name, packets)
        commands = {f"dataplane replay, {n} rules": replay_command(n, file) for n in rules or [100, 10000]}
        commands |= readers(run, name, file, reader)
        found: dict[str, list[Process]] = {}
        floors = []
        for _ in range(run.rounds):
            for program, command in commands.items():
                found.setdefault(program, []).append(process(command, run))
            floors.append(floor_passes(file).first)
        rows += rows_of(name, found, floors)
    return rows


def rows_of(name: str, found: dict[str, list[Process]], floors: list[float]) -> list[Row]:
    """A workload's rows; those of the floor are of its first pass, without its start."""
    summary = json.loads(next(iter(found.values()))[0].output)
    packets, connections = summary["packets"], summary["connections"]

    def rows(work: str, unit: str, value: Callable[[Process], float]) -> list[Row]:
        return [Row(f"{name}, {work}", p, unit, [value(one) for one in each]) for p, each in found.items()]

    each = rows("whole process", "ns/packet", lambda p: p.wall / packets * 1e9)
    each.append(Row(f"{name}, whole process", "floor: plain table", "ns/packet", floors, note="its start left out"))
    return [
        *each,
        *rows("wall time", "s", lambda p: p.wall),
        *rows("memory", "MB", lambda p: p.memory / 1e6),
        Row(
            f"{name}, table",
            "dataplane replay",
            "bytes/connection",
            [connections["table_bytes"] / max(1, connections["live"])],
        ),
    ]


def main(
    workload: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(WORKLOADS)}.")] = None,
    rules: Annotated[list[int] | None, typer.Option(help="Rules in the policy; 100 and 10,000 if left out.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    packets: Annotated[int | None, typer.Option(help="Packets of a workload; by default as it has.")] = None,
    cpu: Annotated[int | None, typer.Option(help="The processor to run on; the last by default.")] = None,
) -> None:
    """Prints medians and spread, and ratios to the first program of each workload."""
    run = Run(rounds=rounds, **({} if cpu is None else {"cpu": cpu}))
    show("Whole processes", measure(run, workload, rules, packets))


if __name__ == "__main__":
    typer.run(main)
