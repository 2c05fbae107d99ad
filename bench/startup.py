"""How long people wait: the import, the command's start, and the way to a first verdict."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from rows import Row, Run, in_turn, show
from workloads import ROOT, capture, policy

FIGURE = ROOT / "examples" / "figure-1"
OURS = [sys.executable, "-m", "dataplane"]


def seconds(command: list[str], run: Run) -> float:
    """From the start of a command to its first byte of output, or its end."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=run.pin()) as process:
        assert process.stdout
        process.stdout.read(1)
        return time.perf_counter() - started


def measure(run: Run) -> list[Row]:
    """A row a command."""
    replay = [*OURS, "replay"]
    commands = {
        "python, nothing imported": [sys.executable, "-c", "pass"],
        "import dataplane": [sys.executable, "-c", "import dataplane"],
        "from dataplane import Policy, DataPlane": [sys.executable, "-c", "from dataplane import Policy, DataPlane"],
        "dataplane --version": [*OURS, "--version"],
        "first verdict, a small policy": [
            *replay,
            str(FIGURE / "policy.yaml"),
            str(ROOT / "pcaps" / "figure-1.pcap"),
            "--json",
        ],
        "first verdict, 4,096 instances, 100 rules": [*replay, str(policy(100)), str(capture("mixed", 100)), "--json"],
    }

    def side(command: list[str]) -> Callable[[], float]:
        return lambda: seconds(command, run) * 1e3

    # Compiled, as an installed package is.
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(ROOT / "dataplane")], check=True)
    found = in_turn(2 * run.rounds + 1, {what: side(command) for what, command in commands.items()})
    return [
        Row(what, "python" if what.startswith("python") else "dataplane", "ms", values)
        for what, values in found.items()
    ]


if __name__ == "__main__":
    show("Start", measure(Run()))
