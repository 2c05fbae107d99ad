"""The engine alone on generated captures, frames in memory, beside the physical floor and Open vSwitch's conntrack.

    .venv/bin/python bench/engine.py --rounds 7 --workload mixed --cpu 1

A round runs, for each size of batch, a fresh engine over the capture, several times: the first pass makes the
connections, later ones find them (their frames are as much later as the capture is long). Then one that has its memory
before the clock begins, as the floor's table and a live firewall have. Before them the floor: a loop that only parses
the same bytes and keeps a plain table. After them Open vSwitch's conntrack, which looks at no rules.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import open_vswitch
import typer
from cffi import FFI
from rows import Row, Run, show, stop
from workloads import RULES, capture, compiled, library, policy

from dataplane._core import ffi, lib
from dataplane.plane import Plane
from dataplane.policy.model import Policy

BATCHES = (32, 256)
UNIT = "ns/packet"

loop_ffi = FFI()
loop_ffi.cdef(
    """
    struct capture *capture_open(const char *path);
    void capture_free(struct capture *capture);
    uint32_t capture_frames(const struct capture *capture);
    double capture_pass(struct capture *capture, void *judge, void *engine, uint32_t batch, uint64_t *verdicts);
    """
)


class Passes(NamedTuple):
    """Nanoseconds a packet: of the first pass, and of each later one; and what is to be known of the side."""

    first: float
    later: list[float]
    note: str = ""


def judge() -> Any:
    """The engine's function, as loops in C that were loaded by another cffi take it."""
    return loop_ffi.cast("void *", int(ffi.cast("uintptr_t", ffi.addressof(lib, "dp_engine_process"))))


def shard(plane: Plane) -> Any:
    """The engine of a plane, likewise."""
    return loop_ffi.cast("void *", int(ffi.cast("uintptr_t", plane.handle)))


def engine_passes(loop: Any, policy: Policy, file: Path, batch: int, passes: int, *, populated: bool = False) -> Passes:
    """A fresh engine over the capture; one that is `populated` has its memory before the clock begins."""
    frames = loop.capture_open(str(file).encode())
    if frames == loop_ffi.NULL:
        stop(f"{file} cannot be read")
    plane = Plane(policy, seed=1)
    if populated:
        plane.populate()
    verdicts, n = loop_ffi.new("uint64_t[3]"), loop.capture_frames(frames)
    times = [loop.capture_pass(frames, judge(), shard(plane), batch, verdicts) / n * 1e9 for _ in range(passes)]
    loop.capture_free(frames)
    if min(times) < 0:
        stop(f"{file} cannot be judged")
    return Passes(times[0], times[1:], f"{verdicts[lib.DP_ALLOW] / sum(verdicts):.2%} allowed")


def floor_passes(file: Path, work: str = "table") -> Passes:
    """What the plain table takes."""
    output = subprocess.run([compiled("floor"), file, work], check=True, capture_output=True, text=True)
    times = [float(ns) for ns in re.findall(r"([\d.]+) ns/packet", output.stdout)]
    return Passes(times[0], times[1:])


def conntrack_passes(program: Path, file: Path, passes: int) -> Passes:
    """What Open vSwitch's conntrack takes."""
    times, valid = open_vswitch.passes(program, file, passes)
    return Passes(times[0], times[1:], f"{valid:.2%} valid, no rules")


def measure(
    run: Run,
    workloads: list[str] | None = None,
    *,
    passes: int = 3,
    rules: int | None = None,
    packets: int | None = None,
    peers: bool = True,
) -> list[Row]:
    """Rows of the first pass and of later ones of each workload, the floor's first; `peers` are left out if so said."""
    os.sched_setaffinity(0, {run.cpu})
    loop = loop_ffi.dlopen(str(library("engine_loop")))
    program, rows = open_vswitch.conntrack(run) if peers else None, []
    for name in workloads or ["mixed", "zipf", "syn"]:
        file, loaded = capture(name, packets), Policy.load(policy(rules or RULES[name]))
        sides: dict[str, list[Passes]] = {}
        for _ in range(run.rounds):
            sides.setdefault("floor: plain table", []).append(floor_passes(file))
            for batch in BATCHES:
                for populated, how in ((False, ""), (True, ", its memory made before")):
                    found = engine_passes(loop, loaded, file, batch, passes, populated=populated)
                    sides.setdefault(f"dataplane, batches of {batch}{how}", []).append(found)
            if program:
                # Last: who comes right behind it waits for the gigabyte that it gives back.
                found = conntrack_passes(program, file, passes)
                sides.setdefault(f"Open vSwitch conntrack, bursts of {open_vswitch.BURST}", []).append(found)
        for work in ("first pass", "later passes"):
            for side, found in sides.items():
                values = [p.first for p in found] if work == "first pass" else [t for p in found for t in p.later]
                rows.append(Row(f"{name}, {work}", side, UNIT, values, note=found[0].note))
    return rows


def main(
    workload: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(RULES)}.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    passes: Annotated[int, typer.Option(min=2, help="Passes over the capture in a round.")] = 3,
    rules: Annotated[int | None, typer.Option(help="Rules in the policy; by default as the workload has it.")] = None,
    packets: Annotated[int | None, typer.Option(help="Packets of a workload; by default as it has.")] = None,
    cpu: Annotated[int | None, typer.Option(help="The processor to run on; the last by default.")] = None,
) -> None:
    """Prints medians and spread in nanoseconds a packet, and ratios of medians to the floor's."""
    run = Run(rounds=rounds, **({} if cpu is None else {"cpu": cpu}))
    show("Engine alone", measure(run, workload, passes=passes, rules=rules, packets=packets))


if __name__ == "__main__":
    typer.run(main)
