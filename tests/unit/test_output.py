"""What becomes of a command whose output nobody reads, or nobody can write (SPEC 7: exit statuses)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dataplane.outputs import OutputError, check_outputs

ROOT = Path(__file__).parents[2]
CASE = ROOT / "examples" / "ssh-cut"
POLICY, CAPTURE = CASE / "policy.yaml", ROOT / "pcaps" / "ssh-cut.pcap"
COMMANDS: dict[str, tuple[object, ...]] = {
    "version": ("--version",),
    "help": ("--help",),
    "help of a command": ("replay", "--help"),
    "schema": ("schema",),
    "check": ("check", POLICY),
    "check --json": ("check", POLICY, "--json"),
    "replay": ("replay", POLICY, CAPTURE),
    "replay --json": ("replay", POLICY, CAPTURE, "--json"),
    "replay --verdicts": ("replay", POLICY, CAPTURE, "--verdicts", "-"),
}
UNBUFFERED = {"buffered": {}, "unbuffered": {"PYTHONUNBUFFERED": "1"}}


def run(arguments: tuple[object, ...], stdout: int, stderr: int, **variables: str) -> tuple[int, str]:
    """Exit status, and standard error where it is a pipe."""
    command = [sys.executable, "-m", "dataplane", *map(str, arguments)]
    done = subprocess.run(
        command, stdout=stdout, stderr=stderr, cwd=ROOT, check=False, timeout=60, env={**os.environ, **variables}
    )
    return done.returncode, (done.stderr or b"").decode()


@pytest.fixture
def unread() -> int:
    """A pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.fixture
def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("variables", UNBUFFERED.values(), ids=UNBUFFERED)
@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_a_reader_that_goes_away_is_no_error(
    arguments: tuple[object, ...], variables: dict[str, str], unread: int
) -> None:
    """SPEC 7: 0 is done, and 1 is for expectations only."""
    assert run(arguments, unread, subprocess.PIPE, **variables) == (0, "")
    os.close(unread)


@pytest.mark.parametrize("variables", UNBUFFERED.values(), ids=UNBUFFERED)
@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_output_that_cannot_be_written_is_said_in_a_sentence(
    arguments: tuple[object, ...], variables: dict[str, str], full: int
) -> None:
    """SPEC 7: never a traceback, and 1 is for expectations only."""
    expected = (2, "standard output cannot be written: No space left on device\n")
    assert run(arguments, full, subprocess.PIPE, **variables) == expected
    os.close(full)


def test_nor_is_an_unread_standard_error_an_error(unread: int) -> None:
    """SPEC 7; as `2>&1 | true`. What was found out keeps its status."""
    assert run(("replay", POLICY, CAPTURE), unread, unread) == (0, "")
    assert run(("replay", POLICY, "missing.pcap"), unread, unread) == (3, "")
    assert run(("check", "missing.yaml"), unread, unread) == (2, "")
    assert run(("check", "missing.yaml", "--json"), unread, unread) == (2, "")
    assert run(("nothing",), unread, unread) == (2, "")
    os.close(unread)


def test_a_standard_error_that_cannot_be_written_is_no_traceback(full: int) -> None:
    """SPEC 7, exit statuses."""
    assert run(("check", "missing.yaml"), subprocess.DEVNULL, full) == (2, "")
    assert run(("nothing",), subprocess.DEVNULL, full) == (2, "")
    os.close(full)


def test_an_expectation_that_failed_does_so_also_when_the_summary_is_not_read(unread: int, tmp_path: Path) -> None:
    """SPEC 7: 1 an expectation failed; 3 a capture could not be read."""
    (tmp_path / "expect.yaml").write_text("- {packet: 1, verdict: bypass}\n")
    arguments = ("replay", POLICY, CAPTURE, "--expect", tmp_path / "expect.yaml")
    assert run(arguments, unread, subprocess.DEVNULL)[0] == 1
    assert run((*arguments, "--json"), unread, subprocess.DEVNULL)[0] == 1
    assert run(arguments, unread, unread)[0] == 1
    assert run(("replay", POLICY, "missing.pcap"), unread, subprocess.DEVNULL)[0] == 3
    os.close(unread)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("schema",), 0),
        (("replay", POLICY, CAPTURE, "--verdicts", "-"), 0),
        (("check", "-"), 2),
        (("ctl", "--socket", "none", "conntrack", "list"), 1),
        (("ctl", "--socket", "none", "capture", "-"), 1),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else None,
)
def test_a_closed_stream_is_no_traceback(arguments: tuple[object, ...], status: int, closed: str) -> None:
    """As `>&-` of a shell. What is asked for and reaches nobody is not done (SPEC 7), as with other programs."""
    command = f"{sys.executable} -m dataplane {' '.join(map(str, arguments))} {closed}"
    done = subprocess.run(
        command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL
    )
    assert "Traceback" not in done.stderr
    unwritten = ">&-" in closed.split() and status == 0
    assert done.returncode == (2 if unwritten else status)
    if closed == ">&-" and unwritten:
        assert done.stderr.endswith("standard output cannot be written: Bad file descriptor\n")


@pytest.mark.parametrize("command", [(), ("check",), ("run",), ("ctl",), ("ctl", "rule", "add"), ("ctl", "conntrack")])
def test_help_has_a_short_name(command: tuple[str, ...]) -> None:
    said = [
        subprocess.run([sys.executable, "-m", "dataplane", *command, word], capture_output=True, text=True, cwd=ROOT)
        for word in ("-h", "--help")
    ]
    assert said[0].returncode == 0
    assert said[0].stdout == said[1].stdout != ""


@pytest.mark.parametrize(
    "url", ["s3://bucket/a.parquet", "https://example.org/a.jsonl", "file:///tmp/a.jsonl", "gs+x://a/b"]
)
def test_a_url_is_no_file_to_write(url: str) -> None:
    """It is refused before anything is read; the same name as a path is one."""
    with pytest.raises(
        OutputError, match=f"{re.escape(url)}: --verdicts takes a file of this machine, no URL: name one"
    ):
        check_outputs({"--flows": None, "--verdicts": url}, ["a.pcap"])
    check_outputs({"--verdicts": f"./{url}"}, ["a.pcap"])


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.zst", "a.pcapng.xz"])
def test_no_output_bears_the_name_of_a_compressed_file(name: str) -> None:
    """SPEC 7: records go by the file's ending, and what opens such a file would find text in it."""
    with pytest.raises(OutputError, match=f"{name}: --verdicts is written uncompressed: name it without"):
        check_outputs({"--verdicts": name}, ["a.pcap"])
    check_outputs({"--verdicts": name.rpartition(".")[0]}, ["a.pcap.gz"])
