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
from scapy.layers.inet import IP
from scapy.utils import rdpcap

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

    def elsewhere(name: object) -> list[dict[str, Any]]:
        return [record | {"capture": str(name)} for record in plain]

    assert records(tmp_path / "one.zst") == elsewhere(tmp_path / "one.zst")
    assert records(tmp_path / "two.pcap") == elsewhere(tmp_path / "two.pcap")
    assert records("-", stdin=data) == elsewhere("-")
    assert records("-", stdin=gzip.compress(data)) == elsewhere("-")


def test_captures_are_merged_by_time() -> None:
    """SPEC 7: several captures; `packet` counts over the merged ones."""
    plain, twice = records(CAPTURE), records(CAPTURE, CAPTURE)
    assert [r["packet"] for r in twice] == list(range(1, 2 * len(plain) + 1))
    times = [r["time"] for r in twice]
    assert times == sorted(times)


def _rows(expected: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a table has of JSON records: a row for each check, and one for a packet without checks."""
    nothing = dict.fromkeys(["instance", "direction", "verdict", "state", "reason", "rule", "security_group"])
    nothing |= dict.fromkeys(["connection", "cause", "opened_by"])
    rows = []
    for record in expected:
        for check in record["checks"] or [nothing]:
            row = {key: value for key, value in record.items() if key != "checks"}
            row |= {"check_verdict" if key == "verdict" else key: value for key, value in check.items()}
            row["protocol"] = row["protocol"] if row["protocol"] is None else str(row["protocol"])
            rows.append(row)
    return rows


def test_csv_and_parquet_say_what_json_says(tmp_path: Path) -> None:
    """SPEC 7: by the file's ending; flat, a row for each check."""
    import pyarrow.parquet as pq

    captures = (CAPTURE, *sorted((ROOT / "pcaps").glob("*.pcap*"))[:8])
    expected = _rows(records(*captures, "--changes", CHANGES))
    assert any(row["check_verdict"] is None for row in expected)
    assert run(POLICY, *captures, "--changes", CHANGES, "--verdicts", tmp_path / "v.csv").returncode == 0
    with open(tmp_path / "v.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(expected)
    for row, record in zip(rows, expected, strict=True):
        assert row.keys() == record.keys()
        texts = {key: "" if value is None else str(value) for key, value in record.items()}
        texts |= {"vlans": " ".join(map(str, record["vlans"])), "time": row["time"]}
        assert row == texts
        assert float(row["time"]) == record["time"]

    assert run(POLICY, *captures, "--changes", CHANGES, "--verdicts", tmp_path / "v.parquet").returncode == 0
    table = pq.read_table(tmp_path / "v.parquet").drop_columns("time").to_pylist()
    assert table == [{key: value for key, value in row.items() if key != "time"} for row in expected]


def test_records_say_what_the_packet_was_and_where_it_was_seen(tmp_path: Path) -> None:
    """SPEC 7: the fields of before come first, in their order; then addresses, ports, place and length."""
    (tmp_path / "again.pcap").write_bytes(CAPTURE.read_bytes())
    one, two = records(CAPTURE), records(CAPTURE, tmp_path / "again.pcap")
    assert list(one[0])[:4] == ["packet", "time", "verdict", "checks"]
    assert list(one[0]["checks"][0])[-3:] == ["connection", "cause", "opened_by"]
    seen = IP(rdpcap(str(CAPTURE))[0].build()[14:])
    assert {key: one[0][key] for key in ("source", "destination", "source_port", "destination_port", "protocol")} == {
        "source": seen.src,
        "destination": seen.dst,
        "source_port": seen.sport,
        "destination_port": seen.dport,
        "protocol": "tcp",
    }
    assert (one[0]["icmp_type"], one[0]["icmp_code"], one[0]["vlans"], one[0]["interface"]) == (None, None, [], None)
    assert [r["capture_packet"] for r in one] == [r["packet"] for r in one]
    assert {r["capture"] for r in one} == {str(CAPTURE)}
    assert [r["length"] for r in one] == [len(packet) for packet in rdpcap(str(CAPTURE))]
    by_capture: dict[str, list[int]] = {}
    for record in two:
        by_capture.setdefault(record["capture"], []).append(record["capture_packet"])
    assert list(by_capture.values()) == [list(range(1, len(one) + 1))] * 2


def test_records_say_which_packet_opened_the_connection() -> None:
    """SPEC 4.1, 7: all packets of a connection name the one that the rules admitted; others name none."""
    opened: dict[tuple[Any, ...], int] = {}
    found = 0
    for record in records(CAPTURE, "--changes", CHANGES):
        ends = sorted([(record["source"], record["source_port"]), (record["destination"], record["destination_port"])])
        for check in record["checks"]:
            key = (check["instance"], *ends)
            if check["state"] == "new" and check["verdict"] == "allow":
                opened[key] = record["packet"]
            expected = opened.get(key) if check["connection"] else None
            assert check["opened_by"] == expected
            found += expected is not None and expected != record["packet"]
    assert found > 5


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
