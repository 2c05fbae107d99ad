"""The generated captures and policies that benchmarks run on, made once and kept in build/bench."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
SOURCE = Path(os.environ.get("BENCH_SOURCE", ROOT.parent / "shared" / "bench"))
WORKLOADS = ("mixed", "zipf", "syn", "imix")


def compiled(name: str, source: Path = SOURCE) -> Path:
    """The program of `name`.c, compiled when it is older than its source."""
    program, code = BUILD / name, source / f"{name}.c"
    if not code.exists():
        sys.exit(f"{code} is missing: say with --source (or BENCH_SOURCE) where workloads.c, floor.c and policy.py are")
    if not program.exists() or program.stat().st_mtime < code.stat().st_mtime:
        program.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["gcc", "-O2", "-msse4.2", "-o", program, code, "-lm"], check=True)
    return program


def capture(workload: str, source: Path = SOURCE) -> Path:
    """The capture of a workload."""
    path = BUILD / f"{workload}.pcap"
    if not path.exists():
        generator = compiled("workloads", source)
        subprocess.run([generator, workload, path], check=True, stderr=subprocess.DEVNULL)
    return path


def policy(rules: int, source: Path = SOURCE) -> Path:
    """The policy with so many rules."""
    path = BUILD / f"policy-{rules}.json"
    if not path.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        text = subprocess.run([sys.executable, source / "policy.py", str(rules)], check=True, capture_output=True)
        path.write_bytes(text.stdout)
    return path
