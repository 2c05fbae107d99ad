"""`dataplane ctl` as a program: what it prints and how it ends, whatever becomes of its output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .served import Served

ROOT = Path(__file__).parents[3]


def ctl(served: Served, *words: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "dataplane", "ctl", "--socket", str(served.socket), *words]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, cwd=ROOT, check=False, timeout=60)


def test_a_capture_whose_reader_goes_away_is_no_error(served: Served) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = ctl(served, "capture", "-", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("file", ["/dev/full", "/nowhere/capture"])
def test_a_capture_that_cannot_be_written_is_told_in_a_sentence(served: Served, file: str) -> None:
    done = ctl(served, "capture", file)
    assert done.returncode == 2
    assert done.stderr.decode().startswith(f"{file}: No ")
    assert done.stderr.count(b"\n") == 1


def test_a_capture_that_is_refused_leaves_the_file_as_it_was(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "capture.pcapng"
    file.write_bytes(b"of yesterday")
    done = ctl(served, "capture", str(file), "--port", "none")
    assert done.returncode == 2
    assert b"there is no port none" in done.stderr
    assert file.read_bytes() == b"of yesterday"


def test_a_field_that_is_given_twice(served: Served) -> None:
    """Neither of the two is taken: the last one might open more than the first."""
    prefixes = ("remote_ip_prefix=10.0.0.0/8", "remote_ip_prefix=0.0.0.0/0")
    done = ctl(served, "rule", "add", "sg", "direction=ingress", *prefixes)
    assert done.returncode == 2
    assert done.stderr == b"remote_ip_prefix=0.0.0.0/0: remote_ip_prefix is given twice: give each field once\n"
    assert served.call("status")["generation"] == 1


def test_a_rule_keeps_its_id(served: Served) -> None:
    done = ctl(served, "rule", "update", "web", "id=http", "priority=2")
    assert (done.returncode, done.stderr) == (2, b"id: a rule keeps its id: delete it and add another one\n")
    assert "web" in served.firewall.policy.rules_by_id
