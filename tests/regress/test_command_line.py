"""Faults of the command line that were found: one named case each."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dataplane.cli import app

ROOT = Path(__file__).resolve().parents[2]
CASE, CAPTURE = str(ROOT / "examples/ssh-cut/policy.yaml"), str(ROOT / "pcaps/ssh-cut.pcap")


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (("replay", CASE, CAPTURE, "--verdicts", ""), "--verdicts"),
        (("replay", CASE, CAPTURE, "--coverage="), "--coverage"),
        (("replay", CASE, CAPTURE, ""), "captures"),
        (("replay", CASE, CAPTURE, "--on", ""), "--on"),
        (("learn", CAPTURE, "--instances", CASE, "-o", ""), "--output' / '-o"),
        (("test", CASE, "--junit", ""), "--junit"),
        (("new", ""), "[FILE|DIR]"),
        (("run", CASE, "--state", ""), "--state"),
        (("policy", "export", "--store", ""), "--store"),
    ],
)
def test_an_empty_value_is_refused(
    words: tuple[str, ...], where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--verdicts "$OUT"` with OUT not set wrote nothing and ended with 0; a new policy came into the folder itself."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert f"Invalid value for '{where}': it is empty, as a shell's variable is that is not set" in done.stderr
    assert not list(tmp_path.iterdir())
