"""The engine alone on generated captures, frames in memory, beside the physical floor; run in turn, in one process.

    .venv/bin/python bench/engine.py --rounds 7 --workload mixed --cpu 1

A round runs, for each size of batch, a fresh engine over the capture, several times: the first pass makes the
connections, later ones find them (their frames are as much later as the capture is long). Then the floor: a loop that
only parses the same bytes and keeps a plain table.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from cffi import FFI
from rich.console import Console
from rich.table import Table
from workloads import BUILD, ROOT, SOURCE, capture, compiled, policy

from dataplane._core import ffi, lib
from dataplane.plane import Plane
from dataplane.policy.model import Policy

#: Rules in the policy, by workload (BENCH.md).
RULES = {"mixed": 100, "zipf": 100, "syn": 1000, "imix": 100}
BATCHES = (32, 256)

loop_ffi = FFI()
loop_ffi.cdef(
    """
    struct capture *capture_open(const char *path);
    uint32_t capture_frames(const struct capture *capture);
    double capture_pass(struct capture *capture, void *judge, void *engine, uint32_t batch, uint64_t *verdicts);
    """
)


def loop() -> Any:
    """engine_loop.c, compiled when it is older than its source."""
    library, code = BUILD / "engine_loop.so", ROOT / "bench" / "engine_loop.c"
    if not library.exists() or library.stat().st_mtime < code.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", f"-I{ROOT / 'csrc'}"]
        subprocess.run(["gcc", *flags, "-o", library, code], check=True)
    return loop_ffi.dlopen(str(library))


class Passes(NamedTuple):
    """Nanoseconds a packet: of the first pass, and of each later one."""

    first: float
    later: list[float]


def engine_passes(
    library: Any, policy_file: Path, file: Path, batch: int, passes: int
) -> tuple[Passes, dict[str, int]]:
    """A fresh engine over the capture, and the verdicts of all passes."""
    frames = library.capture_open(str(file).encode())
    if frames == loop_ffi.NULL:
        sys.exit(f"{file} cannot be read")
    engine = Plane(LOADED.setdefault(policy_file, Policy.load(policy_file)), seed=1)
    judge = loop_ffi.cast("void *", int(ffi.cast("uintptr_t", ffi.addressof(lib, "dp_engine_process"))))
    handle = loop_ffi.cast("void *", int(ffi.cast("uintptr_t", engine.handle)))
    verdicts = loop_ffi.new("uint64_t[3]")
    n = library.capture_frames(frames)
    times = [library.capture_pass(frames, judge, handle, batch, verdicts) / n * 1e9 for _ in range(passes)]
    if min(times) < 0:
        sys.exit(f"{file} cannot be judged")
    return Passes(times[0], times[1:]), dict(zip(("deny", "allow", "bypass"), verdicts, strict=True))


#: Policies by their file.
LOADED: dict[Path, Policy] = {}


def floor_passes(file: Path, source: Path) -> Passes:
    """What the plain table takes."""
    output = subprocess.run([compiled("floor", source), file, "table"], check=True, capture_output=True, text=True)
    times = [float(ns) for ns in re.findall(r"([\d.]+) ns/pkt", output.stdout)]
    return Passes(times[0], times[1:])


def spread(values: Sequence[float]) -> str:
    """Median, and from which to which."""
    return f"{statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f})"


def main(
    workload: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(RULES)}.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    passes: Annotated[int, typer.Option(min=2, help="Passes over the capture in a round.")] = 3,
    rules: Annotated[int | None, typer.Option(help="Rules in the policy; by default as the workload has it.")] = None,
    cpu: Annotated[int, typer.Option(help="The processor to run on.")] = 0,
    source: Annotated[Path, typer.Option(help="Folder of workloads.c, floor.c and policy.py.")] = SOURCE,
) -> None:
    """Prints medians and spread in nanoseconds a packet, and ratios of medians to the floor's later passes."""
    os.sched_setaffinity(0, {cpu})
    library = loop()
    table = Table("workload", "program", "first pass", "later passes", "floor x first", "floor x later", "allow")
    for name in workload or ["mixed", "zipf", "syn"]:
        file, policy_file = capture(name, source), policy(rules or RULES[name], source)
        found: dict[str, list[Passes]] = {}
        allowed = {}
        for _ in range(rounds):
            for batch in BATCHES:
                program = f"engine, batches of {batch}"
                times, verdicts = engine_passes(library, policy_file, file, batch, passes)
                found.setdefault(program, []).append(times)
                allowed[program] = verdicts["allow"] / sum(verdicts.values())
            found.setdefault("floor: plain table", []).append(floor_passes(file, source))
        floor = found["floor: plain table"]
        floor_first = statistics.median(p.first for p in floor)
        floor_later = statistics.median(t for p in floor for t in p.later)
        for program, runs in found.items():
            first, later = [p.first for p in runs], [t for p in runs for t in p.later]
            table.add_row(
                name,
                program,
                spread(first),
                spread(later),
                f"{statistics.median(first) / floor_first:.1f}",
                f"{statistics.median(later) / floor_later:.1f}",
                f"{allowed[program]:.4f}" if program in allowed else "",
            )
        table.add_section()
    console = Console(width=120)
    console.print(
        f"load {os.getloadavg()[0]:.1f}, {rounds} rounds of {passes} passes; ns a packet, median (least-most)"
    )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
