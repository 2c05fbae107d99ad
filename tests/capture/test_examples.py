"""The cases of `examples/`, which show what the source says in its figures and tables, on the command line.

Every case runs as its README says, through `python -m dataplane replay`, and its `expect.yaml` says of every packet of
the capture what the verdict is and by which rule.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from scapy.utils import RawPcapReader

from dataplane.replay.expectations import Expectations

ROOT = Path(__file__).parent.parent.parent
CASES = sorted(path.name for path in (ROOT / "examples").iterdir() if (path / "policy.yaml").exists())
CHANGED_CASES = [case for case in CASES if (ROOT / "examples" / case / "changes.yaml").exists()]
WRITTEN_CASES = [case for case in CASES if (ROOT / "pcaps/make" / f"{case}.py").exists()]

# Rules that a case has to show that they do not decide.
NEVER_DECIDE = {("figure-2", "A02")}


def example(case: str, name: str) -> Path:
    return ROOT / "examples" / case / name


def capture(case: str) -> Path:
    (path,) = (ROOT / "pcaps").glob(f"{case}.pcap*")
    return path


def packet_count(case: str) -> int:
    with RawPcapReader(str(capture(case))) as reader:
        return sum(1 for _ in reader)


def dataplane(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dataplane", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def replay(
    case: str, *more: str | Path, policy: Path | None = None, expect: Path | None = None, changed: bool = True
) -> subprocess.CompletedProcess[str]:
    """The case as it stands, but for what is given."""
    changes: list[str | Path] = (
        ["--changes", example(case, "changes.yaml")] if changed and case in CHANGED_CASES else []
    )
    expected: list[str | Path] = ["--expect", expect or example(case, "expect.yaml")]
    return dataplane("replay", policy or example(case, "policy.yaml"), capture(case), *changes, *expected, *more)


def expectations_failed(run: subprocess.CompletedProcess[str]) -> bool:
    """Exit status 1 for that reason, not for a traceback."""
    return run.returncode == 1 and run.stderr.endswith(" expectations failed.\n")


def rules(case: str) -> list[str]:
    document = yaml.safe_load(example(case, "policy.yaml").read_text())
    return [rule["id"] for group in document.get("security_groups", []) for rule in group["security_group_rules"]]


def test_all_cases_are_there() -> None:
    """The figures and tables of the source that show traffic, and its paragraphs on changes."""
    assert {"figure-1", "figure-2", "figure-3", "figure-4", "figure-5", "table-1", "table-3"} <= set(CASES)
    assert {"icmp-30s", "ssh-cut"} <= set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_the_command_of_the_readme_succeeds(case: str) -> None:
    """SPEC 7: exit status 0, all expectations hold, one verdict record for each packet on standard output."""
    lines = example(case, "README.md").read_text().replace("\\\n", " ").splitlines()
    (command,) = [shlex.split(line) for line in lines if line.startswith("    dataplane ")]
    run = dataplane(*command[1:])
    assert run.returncode == 0, run.stderr
    assert command[command.index("--expect") + 1] == f"examples/{case}/expect.yaml"
    assert ("--changes" in command) == (case in CHANGED_CASES)
    records = [json.loads(line) for line in run.stdout.splitlines()]
    assert [record["packet"] for record in records] == list(range(1, packet_count(case) + 1))


@pytest.mark.parametrize("case", CASES)
def test_expectations_cover_every_packet(case: str) -> None:
    """Each packet is named by its number with verdict, reason and rule, so no verdict can change unnoticed."""
    covered: set[int] = set()
    for _, item in Expectations.load(example(case, "expect.yaml")).items:
        if {"verdict", "reason", "rule"} <= item.expected.keys():
            for first, last in item.packet:
                covered.update(range(first, last + 1))
    assert covered == set(range(1, packet_count(case) + 1))


@pytest.mark.parametrize("case", CHANGED_CASES)
def test_the_changes_matter(case: str) -> None:
    """Without the changes of the case its expectations fail."""
    assert expectations_failed(replay(case, changed=False))


@pytest.mark.parametrize(
    ("case", "rule"), [(case, rule) for case in CASES for rule in rules(case) if (case, rule) not in NEVER_DECIDE]
)
def test_every_rule_matters(case: str, rule: str, tmp_path: Path) -> None:
    """With any one rule disabled the expectations of the case fail."""
    document = yaml.safe_load(example(case, "policy.yaml").read_text())
    for group in document["security_groups"]:
        for one in group["security_group_rules"]:
            if one["id"] == rule:
                one["enabled"] = False
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(document))
    assert expectations_failed(replay(case, policy=policy))


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_expectation_exits_1_with_the_difference(case: str, tmp_path: Path) -> None:
    """SPEC 7: exit status 1; which expectation, which packet, expected and found."""
    items = yaml.safe_load(example(case, "expect.yaml").read_text())
    found = items[0]["verdict"]
    items[0]["verdict"] = {"allow": "deny", "deny": "allow"}[found]
    expect = tmp_path / "expect.yaml"
    expect.write_text(yaml.safe_dump(items))
    run = replay(case, expect=expect)
    assert run.returncode == 1
    assert f"{expect}:1:" in run.stderr
    assert "packet 1, " in run.stderr
    assert f"verdict: expected {items[0]['verdict']}, found {found}" in run.stderr
    assert f"1 of {len(items)} expectations failed." in run.stderr


def test_mistakes_in_the_expectations_exit_2_before_any_verdict(tmp_path: Path) -> None:
    """SPEC 7: bad usage; all mistakes at once with file, line and column, and nothing is replayed."""
    expect = tmp_path / "expect.yaml"
    expect.write_text("- {packet: 1, verdict: alow}\n- {packet: 1, colour: red, verdict: allow}\n")
    run = replay("figure-1", "--verdicts", "-", expect=expect)
    assert run.returncode == 2
    assert f"{expect}:1:24: " in run.stderr
    assert f"{expect}:2:15: " in run.stderr
    assert run.stdout == ""


@pytest.mark.parametrize("case", WRITTEN_CASES)
def test_written_captures_come_out_the_same(case: str, tmp_path: Path) -> None:
    """The script beside a written capture makes it again, to the byte."""
    again = tmp_path / capture(case).name
    subprocess.run([sys.executable, ROOT / "pcaps/make" / f"{case}.py", again], check=True, timeout=60)
    assert again.read_bytes() == capture(case).read_bytes()


def test_every_capture_has_its_script_and_all_are_small() -> None:
    """`pcaps/` holds the captures of the cases and nothing else, in less than 100 kB."""
    captures = sorted((ROOT / "pcaps").glob("*.pcap*"))
    assert [path.stem for path in captures] == CASES
    assert sum(path.stat().st_size for path in captures) < 100_000
    for case in CASES:
        assert (ROOT / "pcaps/make" / f"{case}.py").exists() or (ROOT / "pcaps/make" / f"{case}.sh").exists()
