"""`dataplane replay --each`: every capture by itself; and the options that say what is read and written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CAPTURES = ROOT / "pcaps"
POLICY = ROOT / "examples/icmp-30s/policy.yaml"
PING = CAPTURES / "icmp-30s.pcap"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dataplane", "replay", POLICY, *words]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two whole captures and one that is cut short."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("a.pcap", "b.pcap"):
        (folder / name).write_bytes(PING.read_bytes())
    (folder / "c.pcap").write_bytes(PING.read_bytes()[:-3])
    return folder


def test_each_capture_is_judged_in_a_fresh_table(corpus: Path, tmp_path: Path) -> None:
    """The records of each are those of a replay of it alone; a fault ends its own capture only (SPEC 7, status 3)."""
    (tmp_path / "out").mkdir()
    done = run(corpus, "--each", "--verdicts", tmp_path / "out/{}.jsonl", "--flows", tmp_path / "out/{}.csv", "--json")
    assert done.returncode == 3
    assert done.stderr.startswith(f"{corpus}/c.pcap: at byte ")
    told = json.loads(done.stdout)
    rows = {Path(row["capture"]).name: row for row in told["captures"]}
    assert list(rows) == ["a.pcap", "b.pcap", "c.pcap"]
    assert rows["a.pcap"]["connections"] == rows["b.pcap"]["connections"]
    assert rows["a.pcap"]["fault"] is None
    assert rows["c.pcap"]["fault"].startswith("at byte ")
    assert told["total"]["packets"] == sum(row["packets"] for row in rows.values())
    assert (told["total"]["captures"], told["total"]["faults"]) == (3, 1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"{name}.{form}" for name in rows for form in ("csv", "jsonl")
    )
    alone = tmp_path / "alone.jsonl"
    assert run(corpus / "b.pcap", "--verdicts", alone).returncode == 0
    assert (tmp_path / "out/b.pcap.jsonl").read_text() == alone.read_text()
    again = run(corpus, "--each", "--verdicts", "-")
    assert again.stdout == "".join((tmp_path / f"out/{name}.jsonl").read_text() for name in rows)


def test_a_row_for_each_capture_and_their_total(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "expect.yaml").write_text("- {packet: 1, verdict: bypass}\n")
    done = run(corpus / "a.pcap", corpus / "b.pcap", "--each", "--expect", tmp_path / "expect.yaml")
    assert done.returncode == 1
    lines = [line.split() for line in done.stdout.splitlines()]
    (first,) = [line for line in lines if line[:1] == [f"{corpus}/a.pcap"]]
    (total,) = [line for line in lines if line[:1] == ["total"]]
    assert first[-3:] == ["1", "expectation", "failed"]
    assert [int(n) for n in total[3:8]] == [2 * int(n) for n in first[1:6]]
    assert done.stderr.count("1 of 1 expectations failed.") == 2
    (tmp_path / "expect.yaml").write_text("- {packet: 1, verdict: allow}\n")
    assert run(corpus / "a.pcap", corpus / "b.pcap", "--each", "--expect", tmp_path / "expect.yaml").returncode == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--verdicts", "v.jsonl"), "v.jsonl: --verdicts is a file for each capture with --each: write {} where its"),
        (("--follow",), "--each and --follow do not go together: a capture that grows comes to no end\n"),
        (("--filter", "verdict: deny"), "--filter says which records and frames are written: add --verdicts, "),
        (("--verdicts", "-", "--filter", "verdict: dney"), "--filter verdict: dney: verdict "),
        (("--time", "5"), "--time 5: write FROM..TO, "),
        (("--map", "10.0.0.1"), "--map 10.0.0.1: write OLD=NEW, "),
    ],
)
def test_what_does_not_go_together_is_one_sentence(words: tuple[str, ...], told: str) -> None:
    done = run(PING, "--each", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 1


def test_two_captures_of_one_name_do_not_write_one_file(corpus: Path, tmp_path: Path) -> None:
    done = run(PING, corpus.rename(tmp_path / "more") / "a.pcap", tmp_path / "more/../more/a.pcap", "--each")
    assert done.returncode == 0
    twice = run(tmp_path / "more/a.pcap", tmp_path / "more/../more/a.pcap", "--each", "--flows", tmp_path / "{}.csv")
    assert twice.returncode == 2
    assert "would write the same file: name two" in twice.stderr


def test_the_options_of_reading_and_writing_work_together(tmp_path: Path) -> None:
    """What is asked for on the command line reaches the replay."""
    whole = run(PING, "--verdicts", "-").stdout.splitlines()
    address = json.loads(whole[0])["destination"]
    words = ("--time", "0..5", "--map", f"{address}=198.18.7.7", "--filter", "address: 198.18.7.7")
    found = [json.loads(line) for line in run(PING, "--verdicts", "-", *words).stdout.splitlines()]
    start = json.loads(whole[0])["time"]
    inside = [
        record
        for record in map(json.loads, whole)
        if record["time"] < start + 5 and address in (record["source"], record["destination"])
    ]
    assert 0 < len(inside) < len(whole)
    assert [record["time"] for record in found] == [record["time"] for record in inside]
    assert all("198.18.7.7" in (record["source"], record["destination"]) for record in found)
    assert all(address not in (record["source"], record["destination"]) for record in found)
