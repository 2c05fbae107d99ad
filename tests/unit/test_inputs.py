"""What a command reads and is told: files of any kind, values of any kind, each answered in a sentence (SPEC 7)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dataplane.cli import app
from dataplane.outputs import POLICY, kind_of

ROOT = Path(__file__).resolve().parents[2]
CASE, CAPTURE = "examples/ssh-cut/policy.yaml", "pcaps/ssh-cut.pcap"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def run(*words: object) -> tuple[int, str]:
    """Exit status, and standard error."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("check", "/dev/zero"),
        ("replay", CASE, CAPTURE, "--expect", "/dev/zero"),
        ("import", "aws", "/dev/zero"),
    ],
)
def test_a_file_without_an_end_is_given_up(words: tuple[str, ...]) -> None:
    """Policies, changes, expectations, cases and documents of others are read by one function."""
    status, said = run(*words)
    assert (status, said.count("\n")) == (2, 1)
    assert "it is longer than 268,435,456 bytes, which no document is: is it the file that was meant?" in said


def test_a_folder_and_a_socket_are_no_documents(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "socket"))
        assert run("check", tmp_path) == (
            2,
            f"{tmp_path}: the file cannot be read: it is a directory: name a file in it\n",
        )
        told = f"{tmp_path}/socket: the file cannot be read: it is a socket: name a file\n"
        assert run("check", tmp_path / "socket") == (2, told)


def test_a_pipe_is_read_as_a_file(tmp_path: Path) -> None:
    """As `check <(...)` in a shell."""
    read, write = os.pipe()
    os.write(write, (ROOT / CASE).read_bytes())
    os.close(write)
    command = (sys.executable, "-m", "dataplane", "check", f"/dev/fd/{read}")
    done = subprocess.run(command, pass_fds=(read,), capture_output=True, text=True, check=False, timeout=60)
    os.close(read)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("long", ["# a comment\n" * 20_000, "#" * 200_000 + "\n", "\n" * 200_000])
def test_a_policy_behind_long_comments_is_known_as_one(tmp_path: Path, long: str) -> None:
    """SPEC 7, outputs: whatever its name; text that only mentions the word is none."""
    file = tmp_path / "policy"
    file.write_text(f"{long}region: eu-1\n{long}instances: []\n")
    assert kind_of(file) == POLICY
    assert run("replay", CASE, CAPTURE, "--verdicts", file)[0] == 2
    file.write_text(f"{long}\n# instances: none\nnothing\n")
    assert kind_of(file) is None


def replay(*words: object) -> tuple[int, str]:
    """As `run`, in a process of its own, which a replay ends."""
    command = [sys.executable, "-m", "dataplane", "replay", CASE, CAPTURE, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize("option", ["--verdicts", "--flows", "--coverage"])
@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_an_output_of_a_run_before_is_replaced(tmp_path: Path, option: str, ending: str) -> None:
    """SPEC 7, outputs: a report has words of a policy, and is none, whatever its name."""
    file = tmp_path / f"output.{ending}"
    assert replay(option, file)[0] == 0
    before = file.read_bytes()
    assert before
    assert replay(option, file) == (0, "")
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "text", ['{"version":4,"resources":[]}', "[]", '\ufeff\n{"SecurityGroups": []}', '{"packets": 1}']
)
def test_a_document_in_json_is_spared_as_one_in_yaml_is(tmp_path: Path, text: str) -> None:
    """SPEC 7, outputs: what `import` reads, changes and expectations may be JSON."""
    file = tmp_path / "terraform.tfstate"
    file.write_text(text)
    status, said = replay("--verdicts", file)
    assert (status, "would overwrite a policy or another document" in said) == (2, True)
    assert file.read_text() == text
    assert replay("--verdicts", file, "--force") == (0, "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("check", CASE, "--lint", "--format", "jsn"),
            '"jsn" is not known: write text, json, sarif or github; did you',
        ),
        (("import", "gcp", "x"), '"gcp" is not known: write huawei, aws, openstack or terraform'),
        (("export", "iptables", CASE), '"iptables" is not known: write nftables'),
        (("schema", "foo"), '"foo" is not known: write policy, changes, expect or suite'),
        (("replay", CASE, CAPTURE, "--top", "x"), "'--top': \"x\" is no whole number"),
        (("replay", CASE, CAPTURE, "--top", "1001"), "'--top': \"1001\" is out of range: at most 1000 is allowed"),
        (("ctl", "drops", "--rate", "0"), "'--rate': \"0\" is out of range: at least 0.01 is allowed"),
        (("ctl", "conntrack", "list", "--origin", "in"), '"in" is not known: write inbound or outbound'),
    ],
)
def test_a_value_that_is_refused_is_told_in_our_words(words: tuple[str, ...], told: str) -> None:
    status, said = run(*words)
    assert status == 2
    assert told in said
    assert "Value error" not in said
    assert "Input should" not in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("replay", CASE, CAPTURE, "--flow-format", "aws"), "--flow-format says how flow records are written: add"),
        (("ctl", "reload", "--diff", CASE, "--confirm", "5"), "--confirm is about a change: leave one of them out"),
        (("ctl", "reload", "--diff", "--expected-generation", "5"), "--expected-generation is about a change"),
    ],
)
def test_an_option_that_would_do_nothing_is_a_mistake(words: tuple[str, ...], told: str) -> None:
    """SPEC 7: exit status 2, before a firewall is asked."""
    # A replay that is not refused ends the process.
    status, said = replay(*words[3:]) if words[0] == "replay" else run(*words)
    assert (status, told in said) == (2, True), said


def test_a_hint_to_force_names_an_option_that_there_is(tmp_path: Path) -> None:
    case = tmp_path / "a.test.yaml"
    case.write_text(f"policy: {ROOT / CASE}\npackets: []\n")
    report = tmp_path / "p.yaml"
    report.write_text("security_groups: []\n")
    status, said = run("test", case, "--junit", report)
    assert (status, "--force overwrites it" in said) == (2, True)
    assert report.read_text() == "security_groups: []\n"
    run("test", case, "--junit", report, "--force")
    assert "<testsuite" in report.read_text()


def test_what_cannot_be_read_is_no_policy_with_mistakes(tmp_path: Path) -> None:
    assert run("check", tmp_path / "none.yaml") == (
        2,
        f"{tmp_path}/none.yaml: the file cannot be read: No such file or directory\n",
    )
