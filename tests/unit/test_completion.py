"""What shells offer: commands, options, and ids of the policy that the line names."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dataplane.cli import app, completion
from dataplane.terminal import printable

ROOT = Path(__file__).parents[2]
POLICY = """
security_groups:
  - id: sg-web
    security_group_rules: [{id: ssh-in, direction: ingress}, {id: all-out, direction: egress}]
  - {id: sg-db}
  - {id: "two words"}
instances:
  - {id: ecs-a, addresses: [10.0.0.5], security_groups: [sg-web]}
  - {id: ecs-b, addresses: [10.0.0.6], security_groups: [sg-nowhere]}
"""


def offered(*words: str, shell: str = "bash") -> list[str]:
    """What is offered for the last word, in this process."""
    environ = {completion.VARIABLE: f"complete_{shell}"}
    environ |= {"COMP_WORDS": "\n".join(("dataplane", *words)), "COMP_CWORD": str(len(words))}
    environ |= {"_TYPER_COMPLETE_ARGS": " ".join(("dataplane", *words)), "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    output = CliRunner().invoke(app, [], prog_name="dataplane", env=environ).output
    return [line for line in output.splitlines() if line]


@pytest.fixture
def policy(tmp_path: Path) -> str:
    (tmp_path / "policy.yaml").write_text(POLICY)
    return str(tmp_path / "policy.yaml")


def test_commands_and_options() -> None:
    assert {"check", "replay", "run", "ctl"} <= set(offered(""))
    assert offered("rep") == ["replay"]
    assert offered("ctl", "conn") == ["conntrack"]
    assert "--verdicts" in offered("replay", "policy.yaml", "--ver")


def test_instances_of_the_policy_that_is_named(policy: str) -> None:
    """Although the policy has a mistake: ecs-b is in a group that is not there."""
    assert offered("replay", policy, "capture.pcap", "--at", "") == ["ecs-a", "ecs-b"]
    assert offered("explain", policy, "--at", "ecs-b") == ["ecs-b"]
    assert offered("diff", policy, policy, "--at", "ecs-a") == ["ecs-a"]


def test_groups_of_the_policy_that_is_named(policy: str) -> None:
    """A word that the shell would take apart is not offered."""
    assert offered("clone", policy, "") == ["sg-web", "sg-db"]


@pytest.mark.parametrize(
    "name", ["a b", "a;b", "$(x)", "a*", "a?", "[ab]", "{a,b}", "~root", "#a", "a!b", "-rf", "a'b"]
)
def test_what_a_shell_reads_otherwise_is_not_offered(tmp_path: Path, name: str) -> None:
    """It would be taken apart, be names of files, a comment or an option."""
    group = {"id": name, "security_group_rules": []}
    (tmp_path / "policy.yaml").write_text(json.dumps({"security_groups": [group, {"id": "ünï:1/2.3@x,y%+="}]}))
    assert offered("clone", str(tmp_path / "policy.yaml"), "") == ["ünï:1/2.3@x,y%+="]


@pytest.mark.parametrize("text", ["", "[1, 2", "security_groups: 5", "instances: [5, {id: 5}, {}]"])
def test_a_policy_that_cannot_be_read_offers_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    assert offered("clone", str(tmp_path / "policy.yaml"), "") == []
    assert offered("replay", str(tmp_path / "policy.yaml"), "--at", "") == []
    assert offered("clone", str(tmp_path / "none.yaml"), "") == []


def test_presets() -> None:
    assert "web" in offered("new", "--preset", "")


def test_without_a_firewall_nothing_is_offered(tmp_path: Path) -> None:
    assert offered("ctl", "--socket", str(tmp_path / "none"), "rule", "delete", "") == []


def test_a_firewall_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.listen()
        assert offered("ctl", "--socket", str(tmp_path / "socket"), "rule", "delete", "") == []


def test_fields_that_are_not_given_yet() -> None:
    fields = offered("ctl", "rule", "update", "ssh-in", "")
    assert {"protocol=", "multiport="} <= set(fields)
    assert "protocol=" not in offered("ctl", "rule", "update", "ssh-in", "protocol=tcp", "")


SHELLS = {
    "bash": 'source /dev/stdin <<<"$SCRIPT"; COMP_WORDS=(dataplane clone "$POLICY" sg-); COMP_CWORD=3;'
    ' _dataplane_completion dataplane; printf "%s\\n" "${COMPREPLY[@]}"',
    "zsh": 'compdef() { :; }; _arguments() { print -r -- "$@"; }; eval "$SCRIPT";'
    ' words=(dataplane clone "$POLICY" sg-); CURRENT=4; _dataplane_completion',
    "fish": 'echo "$SCRIPT" | source; complete --do-complete "dataplane clone $POLICY sg-"',
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_itself(shell: str, policy: str) -> None:
    """The script that the command prints for each shell, in that shell."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    programs = Path(sys.executable).parent
    environ = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "POLICY": policy,
        "HOME": str(Path(policy).parent),
    }
    script = subprocess.run(
        [programs / "dataplane"],
        env=environ | {completion.VARIABLE: f"source_{shell}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [shell, *options, "-c", SHELLS[shell]],
        env=environ | {"SCRIPT": script},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "sg-web" in done.stdout, done.stderr
    assert "sg-db" in done.stdout
    assert "two words" not in done.stdout


def test_what_is_offered_prints() -> None:
    """A help text or id with a control character in it would be one for the terminal."""
    for shell in ("bash", "zsh", "fish"):
        for line in offered("ctl", "", shell=shell):
            assert printable(line.replace("\t", "")) == line.replace("\t", "")
