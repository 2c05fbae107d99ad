"""How long people wait: the import, the command's start, and the way to a first verdict."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table
from workloads import ROOT

RUNS = 11
FIGURE = ROOT / "examples" / "figure-1"
COMMANDS = {
    "python, nothing imported": [sys.executable, "-c", "pass"],
    "import dataplane": [sys.executable, "-c", "import dataplane"],
    "from dataplane import Policy, DataPlane": [sys.executable, "-c", "from dataplane import Policy, DataPlane"],
    "dataplane --version": [sys.executable, "-m", "dataplane", "--version"],
    "dataplane replay, first verdict": [
        sys.executable,
        "-m",
        "dataplane",
        "replay",
        str(FIGURE / "policy.yaml"),
        str(ROOT / "pcaps" / "figure-1.pcap"),
        "--json",
    ],
}


def measure(command: list[str]) -> float:
    """Seconds from the start of a command to its first byte of output, or its end."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        process.stdout.read(1)
        return time.perf_counter() - started


table = Table("what", "median ms", "least ms")
for what, command in COMMANDS.items():
    times = [measure(command) for _ in range(RUNS)]
    table.add_row(what, f"{statistics.median(times) * 1e3:.0f}", f"{min(times) * 1e3:.0f}")
Console().print(table)
