"""`make demo-live` shows what it promises, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .network import needs_root_and

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "live" / "demo"
PACKAGES = "curl iperf3 iproute2 iputils-ping netcat-openbsd"


@needs_root_and("ip", "ping", "curl", "nc", "ss", "iperf3")
def test_the_demonstration() -> None:
    done = subprocess.run([sys.executable, DEMO], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WRONG" not in done.stdout
    assert done.stdout.splitlines()[-1] == "All as it should be; everything is removed."
    for shown in ("the inbound connection is cut", "the outbound connection goes on", "[DISCONNECTED]", "Gbit/s"):
        assert shown in done.stdout
    assert not list(Path("/run/netns").glob("demo-*"))
    assert done.stderr == ""


def test_without_what_it_needs(tmp_path: Path) -> None:
    """One sentence says what is missing, or that it takes root."""
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, DEMO], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    expected = f"apt-get install {PACKAGES}" if os.geteuid() == 0 else "sudo make demo-live"
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("user", [0, 1000])
def test_make_brings_what_is_missing(tmp_path: Path, user: int) -> None:
    """As root by apt-get; else the line to type is told. Here no package is there, and apt-get only says its words."""
    programs = {"dpkg-query": "exit 1", "apt-get": 'echo "apt-get $*" >&2', "id": f"echo {user}"}
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ("make", "--no-print-directory", "-C", str(ROOT), "demo-packages")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    if user == 0:
        assert done.stdout == f"installing {PACKAGES}\n"
        assert done.stderr.splitlines() == [
            "apt-get update -qq",
            f"apt-get install -qq --no-install-recommends {PACKAGES}",
        ]
    else:
        assert done.stderr == f"The demonstration needs more: sudo apt-get install {PACKAGES}\n"
