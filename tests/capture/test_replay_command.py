"""`dataplane replay` as a user calls it (SPEC 7): sources of captures, outputs, exit statuses, faults."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard

ROOT = Path(__file__).resolve().parents[2]
CASE = ROOT / "examples" / "ssh-cut"
POLICY, CHANGES = CASE / "policy.yaml", CASE / "changes.yaml"
CAPTURE = ROOT / "pcaps" / "ssh-cut.pcap"


def run(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "dataplane", "replay", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, cwd=ROOT, check=False, timeout=60)


def records(*arguments: object, stdin: bytes = b"") -> list[dict[str, Any]]:
    done = run(POLICY, *arguments, "--verdicts", "-", stdin=stdin)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_compressed_and_standard_input_give_the_same_verdicts(tmp_path: Path) -> None:
    """SPEC 7: plain or gzip/zstd compressed, `-` for standard input; by magic number, never by the file's name."""
    data = CAPTURE.read_bytes()
    (tmp_path / "one.zst").write_bytes(gzip.compress(data))
    (tmp_path / "two.pcap").write_bytes(zstandard.compress(data))
    plain = records(CAPTURE)
    assert len(plain) > 10
    assert records(tmp_path / "one.zst") == plain
    assert records(tmp_path / "two.pcap") == plain
    assert records("-", stdin=data) == plain
    assert records("-", stdin=gzip.compress(data)) == plain


def test_captures_are_merged_by_time() -> None:
    """SPEC 7: several captures; `packet` counts over the merged ones."""
    plain, twice = records(CAPTURE), records(CAPTURE, CAPTURE)
    assert [r["packet"] for r in twice] == list(range(1, 2 * len(plain) + 1))
    times = [r["time"] for r in twice]
    assert times == sorted(times)


def test_csv_and_parquet_say_what_json_says(tmp_path: Path) -> None:
    """SPEC 7: by the file's ending."""
    expected = records(CAPTURE, "--changes", CHANGES)
    fields = ["instance", "direction", "verdict", "state", "reason", "rule", "security_group", "connection"]
    assert run(POLICY, CAPTURE, "--changes", CHANGES, "--verdicts", tmp_path / "v.csv").returncode == 0
    with open(tmp_path / "v.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(expected)
    for row, record in zip(rows, expected, strict=True):
        assert (int(row["packet"]), row["verdict"]) == (record["packet"], record["verdict"])
        for n, check in enumerate(record["checks"], 1):
            assert {f: row[f"{f}_{n}"] or None for f in fields} == check

    import pyarrow.parquet as pq

    assert run(POLICY, CAPTURE, "--changes", CHANGES, "--verdicts", tmp_path / "v.parquet").returncode == 0
    table = pq.read_table(tmp_path / "v.parquet").to_pylist()
    assert [(r["packet"], r["verdict"], r["checks"]) for r in table] == [
        (r["packet"], r["verdict"], r["checks"]) for r in expected
    ]


def test_the_summary_for_machines_counts_what_the_records_say() -> None:
    """SPEC 7, the summary: verdicts, rules, changes."""
    expected = records(CAPTURE, "--changes", CHANGES)
    summary = json.loads(run(POLICY, CAPTURE, "--changes", CHANGES, "--json").stdout)
    assert summary["packets"] == len(expected)
    for verdict in ("allow", "deny", "bypass"):
        assert summary["verdicts"][verdict]["packets"] == sum(r["verdict"] == verdict for r in expected)
    checks = [c for r in expected for c in r["checks"]]
    for rule in summary["rules"]:
        mine = [c for c in checks if c["rule"] == rule["rule"]]
        assert rule["packets"] == len(mine)
        assert rule["hits"] == sum(c["reason"] == "rule" for c in mine)
    assert [change["applied"] for change in summary["changes"]] == [True] * len(summary["changes"])
    assert sum(change["disconnected"] for change in summary["changes"]) >= 1


@pytest.mark.parametrize("name", ["naïve.pcap", os.fsdecode(b"\xff.pcap")])
def test_the_summary_is_ascii_whatever_a_capture_is_called(tmp_path: Path, name: str) -> None:
    """SPEC 7, `--json`: also a name that is no UTF-8, which reads back as the same file."""
    (tmp_path / name).write_bytes(CAPTURE.read_bytes())
    done = run(POLICY, tmp_path / name, "--json")
    assert (done.returncode, done.stderr, done.stdout.isascii()) == (0, b"", True)
    assert [capture["name"] for capture in json.loads(done.stdout)["captures"]] == [str(tmp_path / name)]


def test_a_truncated_capture_is_reported_after_what_was_read(tmp_path: Path) -> None:
    """SPEC 7: exit status 3; the fault is named with its byte offset."""
    data = CAPTURE.read_bytes()
    (tmp_path / "cut.pcap").write_bytes(data[:-5])
    done = run(POLICY, tmp_path / "cut.pcap", "--json")
    assert done.returncode == 3
    summary = json.loads(done.stdout)
    assert summary["packets"] == len(records(CAPTURE)) - 1
    (capture,) = summary["captures"]
    assert capture["offset"] is not None
    assert f"at byte {capture['offset']}" in done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((POLICY, "missing.pcap"), 3, "missing.pcap"),
        ((POLICY, ROOT), 3, "directory"),
        ((POLICY, ROOT / "README.md"), 3, "at byte 0"),
        (("missing.yaml", CAPTURE), 2, "missing.yaml"),
        ((ROOT / "README.md", CAPTURE), 2, "README.md:"),
        ((POLICY, CAPTURE, "--changes", POLICY), 2, "a list of changes is needed"),
        ((POLICY, CAPTURE, "--expect", "missing.yaml"), 2, "missing.yaml"),
        ((POLICY, CAPTURE, "--verdicts", "/missing/verdicts.jsonl"), 2, "/missing/verdicts.jsonl"),
        ((POLICY, CAPTURE, "--verdicts", "/dev/full"), 2, "/dev/full"),
        ((POLICY, "-", "-"), 2, "name it once"),
        ((POLICY,), 2, "captures"),
    ],
)
def test_what_goes_wrong_is_said_in_a_sentence(arguments: tuple[object, ...], status: int, words: str) -> None:
    """SPEC 7, exit statuses; never a traceback."""
    done = run(*arguments)
    text = done.stderr.decode()
    assert done.returncode == status, text
    assert words in text
    assert "Traceback" not in text


def test_a_damaged_gzip_stream_is_a_fault_of_the_capture(tmp_path: Path) -> None:
    """SPEC 7: what was read before the fault is still reported."""
    damaged = gzip.compress(CAPTURE.read_bytes())[:-400]
    (tmp_path / "cut.pcap.gz").write_bytes(damaged)
    done = run(POLICY, tmp_path / "cut.pcap.gz", "--json")
    assert done.returncode == 3
    assert "gzip" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_a_change_that_does_not_fit_is_refused_before_the_first_packet(tmp_path: Path) -> None:
    """SPEC 5.6, 7: exit status 2, with its place."""
    (tmp_path / "changes.yaml").write_text("- {at: 1, delete_rule: {id: nobody}}\n")
    done = run(POLICY, CAPTURE, "--changes", tmp_path / "changes.yaml", "--verdicts", "-")
    assert (done.returncode, done.stdout) == (2, b"")
    assert "changes.yaml:1" in done.stderr.decode()


def test_a_reader_that_goes_away_is_no_error() -> None:
    """As with other filters: `dataplane replay … --verdicts - | head -1`."""
    command = f"{sys.executable} -m dataplane replay {POLICY} {CAPTURE} {CAPTURE} --verdicts - 2>/dev/null | head -n 1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert json.loads(done.stdout)["packet"] == 1
