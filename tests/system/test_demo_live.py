"""`make demo-live` shows what it promises, and leaves nothing behind (issue 5, demonstration)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .network import needs_root_and

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "live" / "demo"


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
    expected = "apt-get install curl iperf3 iproute2" if os.geteuid() == 0 else "sudo make demo-live"
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1
