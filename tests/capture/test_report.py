"""`--report` of `replay`, `diff` and `test` as a user calls it (docs/report.md)."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dataplane.installation import how_to_install
from tests.property.frames import ethernet, packet, tcp
from tests.unit.report.test_page import Parsed

ROOT = Path(__file__).resolve().parents[2]
CASE = ROOT / "examples" / "ssh-cut"
EIGHT_MB = 8_000_000


def run(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dataplane", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy, changes and a capture, and reports of them."""
    folder = tmp_path_factory.mktemp("report")
    for name in ("policy.yaml", "changes.yaml"):
        shutil.copy(CASE / name, folder)
    shutil.copy(ROOT / "pcaps" / "ssh-cut.pcap", folder / "x.pcap")
    done = run(
        folder,
        *("replay", "policy.yaml", "x.pcap", "--changes", "changes.yaml", "--report", "r.html", "--flows", "f.jsonl"),
        *("--verdicts", "v.jsonl", "--json"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "summary.json").write_text(done.stdout)
    return folder


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _rows(page: Parsed) -> tuple[list[dict[str, Any]], list[list[str]], dict[str, Any]]:
    """The rows of the table that is searched, by column, their stories, and the rest of the data."""
    data = next(island for island in page.islands() if "texts" in island)
    texts, columns = data["texts"], data["columns"]
    rows = [
        {c["name"]: texts[v] if c["kind"] in ("text", "word") else v for c, v in zip(columns, row, strict=True)}
        for row in data["rows"]
    ]
    return rows, [[texts[number] for number in story] for story in data["stories"]], data


def test_the_table_has_all_flows_with_their_stories(folder: Path) -> None:
    """Each row is a record of `--flows`, and its story says what the first packet met, as its verdict record does."""
    flows, verdicts = _json_lines(folder / "f.jsonl"), _json_lines(folder / "v.jsonl")
    rows, stories, data = _rows(Parsed((folder / "r.html").read_bytes()))
    assert len(rows) == len(flows) == len(stories)
    for flow, row, story, number in zip(flows, rows, stories, data["numbers"], strict=True):
        ends = [f"{flow['local']}:{flow['local_port']}", f"{flow['remote']}:{flow['remote_port']}"]
        ends = ends[::-1] if flow["origin"] == "inbound" else ends
        assert row["flow"] == f"tcp {' > '.join(ends)}"
        assert [row[name] for name in ("verdict", "reason", "instance", "denied")] == [
            *(flow["verdict"], flow["reason"], flow["instance"]),
            flow["packets_denied"],
        ]
        assert (row["passed"], row["end"]) == (flow["packets_in"] + flow["packets_out"], flow["end"] or "")
        assert number == flow["first_packet"]
        check = verdicts[number - 1]["checks"][0]
        assert story[0].startswith(f"first packet: {check['verdict']}, {check['direction']} at {check['instance']}: ")
        assert any(flow["community_id"] in sentence for sentence in story)
    assert data["command"] == "dataplane explain policy.yaml x.pcap --changes changes.yaml --packet"


def test_a_story_tells_what_explain_tells(folder: Path) -> None:
    """Why it was denied, the rules that nearly matched, and of one that a change cut, by which."""
    rows, stories, data = _rows(Parsed((folder / "r.html").read_bytes()))
    told = 0
    for row, story, number in zip(rows, stories, data["numbers"], strict=True):
        if row["reason"] == "no-rule-matched":
            done = run(folder, *data["command"].split()[1:], str(number))
            near = re.findall(r"^  near misses +(.*)$", done.stdout, re.MULTILINE)
            assert near
            assert [f"near miss: {sentence}" for sentence in near] == [s for s in story if s.startswith("near miss: ")]
            told += 1
        elif row["end"] == "disconnected":
            told += 1
            cut = next(sentence for sentence in story if "cut it" in sentence)
            # One that was there at 5 s may have been cut by either change.
            able = "change 2" if row["first"] > 5 else "change 1 or change 2"
            assert cut.startswith(f"{able} cut it")
        elif row["reason"] == "invalid":
            told += 1
            assert "it belongs to no connection, and only a SYN opens one" in story[0]
    assert told >= 4


def test_the_figures_are_those_of_the_summary(folder: Path) -> None:
    """Cards, what each change cut, rules, and the charts' sums."""
    summary = json.loads((folder / "summary.json").read_text())
    page = Parsed((folder / "r.html").read_bytes())
    figures = {island["data"][0]["name"]: island for island in page.islands() if "layout" in island}
    traffic = next(i for i in page.islands() if "layout" in i and i["data"][0]["name"] == "allowed")
    assert {row["name"]: sum(row["y"]) for row in traffic["data"]} == {
        "allowed": summary["verdicts"]["allow"]["packets"],
        "denied": summary["verdicts"]["deny"]["packets"],
    }
    assert [note["text"] for note in traffic["layout"]["annotations"]] == ["1", "2"]
    assert figures["hits"]["data"][0]["x"] == [rule["hits"] for rule in summary["rules"]]
    assert sum(figures["cut"]["data"][0]["x"]) == sum(change["disconnected"] for change in summary["changes"])
    text = " ".join(page.text.split())
    for change in summary["changes"]:
        assert f"{change['change']} {change['disconnected']} {change['disconnected']} connection" in text
    for rule in summary["rules_never_hit"]:
        assert f"{rule['rule']} {rule['security_group']}" in text


def test_two_runs_give_the_same_page(folder: Path) -> None:
    """To the byte; and on standard output, where the summary gives way."""
    again = run(folder, "replay", "policy.yaml", "x.pcap", "--changes", "changes.yaml", "--report", "-")
    assert again.stdout == (folder / "r.html").read_text()
    assert "Rules" in again.stderr


def test_captures_that_are_read_once(folder: Path) -> None:
    """From standard input there is no second reading: the page says what it does not tell."""
    with open(folder / "x.pcap", "rb") as capture:
        done = run(folder, "replay", "policy.yaml", "-", "--report", "once.html", stdin=capture)
    assert done.returncode == 0, done.stderr
    page = Parsed((folder / "once.html").read_bytes())
    rows, stories, data = _rows(page)
    assert rows
    assert data["command"] is None
    assert not any(sentence.startswith("first packet: ") for story in stories for sentence in story)
    assert "The captures could be read once only" in page.text


def test_a_part_of_the_time_with_other_addresses(folder: Path) -> None:
    """The stories are of the packets that `--time` and `--map` leave, with their addresses."""
    done = run(
        folder,
        *(
            "replay",
            "policy.yaml",
            "x.pcap",
            "--time",
            "1..",
            "--map",
            "203.0.113.10=203.0.113.99",
            "--report",
            "w.html",
        ),
    )
    assert done.returncode == 0, done.stderr
    rows, stories, _ = _rows(Parsed((folder / "w.html").read_bytes()))
    assert any("203.0.113.99" in row["flow"] for row in rows)
    assert all(story[0].startswith("first packet: ") for story in stories)


def test_a_page_for_each_capture(folder: Path) -> None:
    (folder / "corpus").mkdir()
    for name in ("a.pcap", "b.pcap"):
        shutil.copy(folder / "x.pcap", folder / "corpus" / name)
    done = run(folder, "replay", "policy.yaml", "corpus", "--each", "--report", "{}.html")
    assert done.returncode == 0, done.stderr
    for name in ("a.pcap", "b.pcap"):
        assert f"corpus/{name}" in Parsed((folder / f"{name}.html").read_bytes()).text


def test_what_another_policy_would_do(folder: Path) -> None:
    """The flows and sums of `diff --json`, and what either policy says of the first packet that differs."""
    policy = (folder / "policy.yaml").read_text()
    (folder / "new.yaml").write_text(policy.replace("A01", "B01").replace('"22"', '"23"'))
    assert (folder / "new.yaml").read_text() != policy
    done = run(folder, "diff", "policy.yaml", "new.yaml", "x.pcap", "--json", "--report", "d.html")
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    page = Parsed((folder / "d.html").read_bytes())
    rows, stories, data = _rows(page)
    assert [(row["flow"], row["packets"]) for row in rows] == [(f["flow"], f["packets"]) for f in told["flows"]]
    assert data["numbers"] == [flow["first_packet"] for flow in told["flows"]]
    for row, story, flow in zip(rows, stories, told["flows"], strict=True):
        assert [row["old"], row["new"]] == [flow["old"]["verdict"], flow["new"]["verdict"]]
        assert any(sentence.startswith(f"old policy: {flow['old']['verdict']}, ") for sentence in story)
        assert any(sentence.startswith(f"new policy: {flow['new']['verdict']}, ") for sentence in story)
    denied = next(i for i in page.islands() if "layout" in i and i["data"][0]["name"] == "old policy")
    old, new = (sum(row["y"]) for row in denied["data"])
    assert new - old == told["packets"]["changed"]
    assert f"would cut {told['disconnected']['total']} inbound connection" in page.text


def test_cases_that_pass_and_fail(folder: Path) -> None:
    """Those that fail stand first, with what came instead and why."""
    (folder / "two.test.yaml").write_text(
        "policy: policy.yaml\ncases:\n"
        "  - {name: good, packets: [tcp 203.0.113.10:1 > 172.16.0.5:22 S => allow]}\n"
        "  - {name: bad </script>, packets: [tcp 203.0.113.10:1 > 172.16.0.5:23 S => allow]}\n"
    )
    done = run(folder, "test", "two.test.yaml", "--report", "t.html")
    assert done.returncode == 1, done.stderr
    rows, stories, _ = _rows(Parsed((folder / "t.html").read_bytes()))
    assert [(row["case"], row["outcome"]) for row in rows] == [("bad </script>", "failed"), ("good", "passed")]
    assert any("near miss" in sentence for sentence in stories[0])
    assert stories[1] == ["all that was expected came"]


def test_a_page_stays_small(tmp_path: Path) -> None:
    """Below 8 MB with more flows than it has rows, and names as long as may be; and it says what it leaves out."""
    names = [f"{number}-{'x' * 240}" for number in range(40)]
    groups = [
        {"id": f"g-{name}"[:255], "security_group_rules": [{"id": f"r-{name}", "direction": "ingress"}]}
        for name in names
    ]
    instances = [
        {"id": name, "addresses": [f"10.0.0.{number + 1}"], "security_groups": [groups[number]["id"]]}
        for number, name in enumerate(names)
    ]
    (tmp_path / "p.json").write_text(json.dumps({"security_groups": groups, "instances": instances}))
    frames = [
        ethernet(
            "02:00:00:00:00:09",
            "02:00:00:00:00:05",
            packet("192.0.2.1", f"10.0.0.{to}", 6, tcp("192.0.2.1", f"10.0.0.{to}", (port, 80), 2, 1, 0)),
        )
        for to in range(1, 41)
        for port in range(1000, 1300)
    ]
    with (tmp_path / "x.pcap").open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number, frame in enumerate(frames):
            file.write(struct.pack("<IIII", 1_700_000_000, number, len(frame), len(frame)) + frame)
    done = run(tmp_path, "replay", "p.json", "x.pcap", "--report", "r.html")
    assert done.returncode == 0, done.stderr
    content = (tmp_path / "r.html").read_bytes()
    assert len(content) < EIGHT_MB
    page = Parsed(content)
    rows, _, _ = _rows(page)
    assert f"Of 12,000 flows these are the {len(rows):,} with most packets" in page.text
    assert 500 < len(rows) <= 5000


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("plotly", "replay policy.yaml x.pcap"),
        ("jinja2", "diff policy.yaml policy.yaml x.pcap"),
        ("numpy", "test ."),
    ],
)
def test_what_it_needs_is_named(folder: Path, missing: str, command: str) -> None:
    """One sentence, and nothing is written."""
    words = ["dataplane", *command.split(), "--report", "never.html"]
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            f"import sys; sys.modules[{missing!r}] = None; sys.argv = {words}; from dataplane.cli import main; main()",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"--report needs {missing}: {how_to_install('report')} brings it\n"
    assert not (folder / "never.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("replay policy.yaml x.pcap --report x.pcap", "x.pcap: --report would overwrite x.pcap, which is read"),
        ("replay policy.yaml x.pcap --report /dev/full", "/dev/full: No space left on device: the report could not be"),
        ("replay policy.yaml x.pcap --report - --flows -", "--flows and --report would both write to standard output"),
        ("diff policy.yaml policy.yaml x.pcap --report x.pcap", "--report would overwrite x.pcap, which is read"),
        ("diff policy.yaml policy.yaml x.pcap --report -", "-: --report takes the name of a file"),
        ("test . --report changes.yaml", "changes.yaml: --report would overwrite a policy or another document"),
    ],
)
def test_a_page_that_cannot_be_written_is_refused(folder: Path, arguments: str, words: str) -> None:
    """By a sentence, and what was there is as it was."""
    before = (folder / "changes.yaml").read_bytes(), (folder / "x.pcap").read_bytes()
    done = run(folder, *arguments.split())
    assert done.returncode == 2
    assert words in done.stderr
    assert ((folder / "changes.yaml").read_bytes(), (folder / "x.pcap").read_bytes()) == before
    assert not list(folder.glob(".*html*"))
