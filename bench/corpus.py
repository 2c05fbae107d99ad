"""A corpus of captures, judged by one process and by the workers of a Dask cluster of this machine.

    .venv/bin/python bench/corpus.py --captures 16 --rounds 3

Whole commands are timed, `replay --each` with a summary, and their start apart from the rest: that of a corpus with as
many captures of a hundred packets. All files are in memory. Needs the extra `dask`; no part of `make bench`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rows import Row, in_turn, show
from workloads import BUILD, capture, policy

SIDES = {"one process": (), "--on dask": ("--on", "dask")}


def corpus(name: str, captures: int, packets: int) -> Path:
    """A folder with so many captures of so many packets; they are one file under many names."""
    folder = BUILD / f"corpus-{name}-{captures}-{packets}"
    folder.mkdir(parents=True, exist_ok=True)
    made = capture(name, packets)
    for number in range(captures):
        link = folder / f"{number:04}.pcap"
        link.unlink(missing_ok=True)
        link.hardlink_to(made)
    return folder


def seconds(folder: Path, options: tuple[str, ...]) -> float:
    """Wall time of a replay of all captures in a folder."""
    command = [sys.executable, "-m", "dataplane", "replay", str(policy(100)), str(folder), "--each", "--json", *options]
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main(
    captures: Annotated[int, typer.Option(min=1)] = 16,
    packets: Annotated[int, typer.Option(min=1, help="In each capture.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    workload: Annotated[str, typer.Option()] = "mixed",
) -> None:
    """Prints seconds of the start and of all, and how many packets a second are judged without the start."""
    large, small = corpus(workload, captures, packets), corpus(workload, captures, 100)
    for path in large.iterdir():
        path.read_bytes()
    work = {"start": small, "all": large}
    found = {
        what: in_turn(rounds, {side: partial(seconds, folder, options) for side, options in SIDES.items()})
        for what, folder in work.items()
    }
    title = f"{captures} captures of {packets:,} packets, {workload}, {len(os.sched_getaffinity(0))} processors"
    rows = [Row(what, side, "s", values) for what, sides in found.items() for side, values in sides.items()]
    for side in SIDES:
        pairs = zip(found["all"][side], found["start"][side], strict=True)
        rates = [captures * packets / (whole - start) / 1e6 for whole, start in pairs]
        rows.append(Row("without the start", side, "million packets a second", rates))
    show(title, rows)


if __name__ == "__main__":
    typer.run(main)
