"""The programs, captures and policies that benchmarks run on, made once and kept in build/bench."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import policy as documents

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"
BUILD = ROOT / "build" / "bench"
WORKLOADS = ("mixed", "zipf", "syn", "imix")
#: Rules in the policy of a workload.
RULES = {"mixed": 100, "zipf": 100, "syn": 1000, "imix": 100}
FLAGS = ("-std=gnu11", "-O3", "-Wall", "-Wextra", f"-I{ROOT / 'csrc'}")


def _made(output: Path, inputs: Sequence[Path], command: Callable[[Path], Sequence[str | Path]]) -> Path:
    """Runs the command, which is told where to write, when the output is older than what it is made from."""
    if not output.exists() or any(path.stat().st_mtime > output.stat().st_mtime for path in inputs):
        BUILD.mkdir(parents=True, exist_ok=True)
        # Whole, or not at all; several may make it at once.
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            new = Path(folder, output.name)
            subprocess.run(command(new), check=True)
            new.replace(output)
    return output


def compiled(name: str, *flags: str) -> Path:
    """The program of `name`.c; `flags` stand last, as libraries have to."""
    source = BENCH / f"{name}.c"
    return _made(
        BUILD / name, [source, *BENCH.glob("*.h")], lambda output: ["cc", *FLAGS, "-o", output, source, *flags]
    )


def library(name: str) -> Path:
    """The shared library of `name`.c, which sees the headers of csrc."""
    source = BENCH / f"{name}.c"
    inputs = [source, *BENCH.glob("*.h"), *(ROOT / "csrc").glob("*.h")]
    return _made(BUILD / f"{name}.so", inputs, lambda output: ["cc", *FLAGS, "-fPIC", "-shared", "-o", output, source])


def capture(workload: str, packets: int | None = None) -> Path:
    """The capture of a workload, of its usual length or of so many packets."""
    generator = compiled("workloads", "-lm")
    options = () if packets is None else ("--packets", str(packets), "--flows", str(max(1, packets // 10)))
    output = BUILD / f"{workload}{'' if packets is None else f'-{packets}'}.pcap"
    return _made(output, [generator], lambda new: [generator, *options, workload, new])


def policy(rules: int) -> Path:
    """The workloads' policy with so many rules, in a file."""
    return written(f"policy-{rules}.json", documents.workload(rules))


def policy_of_groups(rules: int) -> Path:
    """As many rules, 100 in a group."""
    return written(f"policy-{rules}-groups.json", documents.grouped(rules))


def written(name: str, document: dict[str, Any]) -> Path:
    """A document in a file, whose time is that of what it says."""
    path, text = BUILD / name, json.dumps(document)
    BUILD.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return path
