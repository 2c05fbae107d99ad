"""The README's examples do what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.property.frames import ethernet, packet, tcp

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def _block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found
    return found[1]


def test_the_library_example_runs() -> None:
    """Run as it stands, from the root of the project."""
    done = subprocess.run(
        [sys.executable, "-c", _block("python")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert re.fullmatch(r"\d+ \d+\n(.*\n)*\d+ connections disconnected\n", done.stdout)


def test_the_first_example_prints_what_it_shows(tmp_path: Path) -> None:
    """The policy and the record of the first screen, word for word."""
    shown = _block("console")
    policy = shown.partition("cat policy.yaml\n")[2].partition("$ ")[0]
    (tmp_path / "policy.yaml").write_text(policy)
    syn = tcp("172.16.0.9", "172.16.1.5", (40000, 22), 2, 1, 0)
    frame = ethernet("02:00:00:00:00:09", "02:00:00:00:00:05", packet("172.16.0.9", "172.16.1.5", 6, syn))
    header = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    size = len(frame).to_bytes(4, "little")
    record = (1_700_000_000).to_bytes(4, "little") + bytes(4) + size + size + frame
    (tmp_path / "capture.pcap").write_bytes(header + record)
    done = subprocess.run(
        [sys.executable, "-m", "dataplane", "replay", "policy.yaml", "capture.pcap", "--verdicts", "-"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == shown.splitlines()[-1] + "\n"
    json.loads(done.stdout)


def test_folders_and_files_that_are_named_exist() -> None:
    """Every relative link leads somewhere."""
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
