"""What a plain replay loads: how long people wait for it is mostly what is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: What only one option, another command or a server needs, here or in the standard library.
OTHERS = (
    *("asyncio", "html", "http", "shlex", "ssl", "unittest"),
    *("fastapi", "jinja2", "plotly", "prometheus_client", "pyarrow", "pyroute2", "textual", "uvicorn"),
    *("dataplane.control", "dataplane.insight", "dataplane.interchange", "dataplane.live", "dataplane.report"),
    *("dataplane.screen", "dataplane.store", "dataplane.policy.changes", "dataplane.policy.schedule"),
    *(
        "dataplane.replay.expectation",
        "dataplane.replay.expectations",
        "dataplane.replay.flows",
        "dataplane.replay.verdicts",
    ),
    *("dataplane.cli.check", "dataplane.cli.ctl", "dataplane.cli.diff", "dataplane.cli.explain", "dataplane.cli.top"),
)


#: Runs a command and tells on standard error which modules it has loaded.
PROGRAM = """
import os, sys
before, leave = set(sys.modules), os._exit
def told(status):
    print(*(sys.modules.keys() - before), file=sys.stderr, flush=True)
    leave(status)
os._exit = told
from dataplane.__main__ import main
main()
"""


def test_a_plain_replay_loads_nothing_that_others_need() -> None:
    policy, capture = ROOT / "examples" / "figure-1" / "policy.yaml", ROOT / "pcaps" / "figure-1.pcap"
    command = [sys.executable, "-c", PROGRAM, "replay", policy, capture]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "32 packets" in done.stdout
    loaded = set(done.stderr.split())
    assert {"dataplane.cli.replay", "dataplane.policy.document", "pydantic"} <= loaded
    below = tuple(f"{other}." for other in OTHERS)
    assert sorted(name for name in loaded if name in OTHERS or name.startswith(below)) == []
