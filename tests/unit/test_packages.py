"""What packages are made from, and what others take over: wheels, the image, the examples for CI."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_one_wheel_a_platform(machine: str) -> None:
    """cibuildwheel's own reading of its settings: for glibc and musl, on one Python, as the wheel is abi3."""
    command = [BIN / "cibuildwheel", "--platform", "linux", "--archs", machine, "--print-build-identifiers"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"cp311-manylinux_{machine}", f"cp311-musllinux_{machine}"]
    archs = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]["linux"]["archs"]
    assert machine in archs


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", ("examples/ci/github.yml", ".github/workflows/wheels.yml")),
        ("vendor.gitlab-ci", ("examples/ci/gitlab.yml",)),
    ],
)
def test_workflows_are_what_their_hosts_take(schema: str, files: tuple[str, ...]) -> None:
    command = [BIN / "check-jsonschema", "--builtin-schema", schema, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image() -> None:
    """It ends as a user without rights, and runs the command."""
    text = (ROOT / "Containerfile").read_text()
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 65534:65534$", last, re.MULTILINE)
    assert 'ENTRYPOINT ["dataplane"]' in last
    if (BIN / "hadolint").exists():
        done = subprocess.run(
            [BIN / "hadolint", "Containerfile"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


class Repository:
    """A repository with a policy, in which `policy-diff` is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._git("init", "--quiet")
        self.write((ROOT / "examples/figure-1/policy.yaml").read_text())
        self._git("add", ".")
        self._git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "policy")

    def _git(self, *words: str) -> None:
        subprocess.run(["git", "-C", self.folder, *words], check=True)

    def write(self, text: str) -> None:
        (self.folder / "policy.yaml").write_text(text)

    def comment(self) -> tuple[int, str]:
        """The exit status of `policy-diff` and what it printed."""
        done = subprocess.run(
            [ROOT / "examples/ci/policy-diff", "HEAD", "policy.yaml", ROOT / "pcaps/figure-1.pcap"],
            cwd=self.folder,
            env={"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_the_comment_on_a_change_that_does_nothing(repository: Repository) -> None:
    status, text = repository.comment()
    assert status == 0
    assert text.startswith("### What `policy.yaml` does\n\nNo packet of the captures gets another verdict.\n")


def test_the_comment_on_a_change(repository: Repository) -> None:
    """The differences that `dataplane diff` tells, as a block of code."""
    repository.write(
        "security_groups: [{id: sg-b}]\ninstances: [{id: ecs-b, addresses: [172.16.1.5], security_groups: [sg-b]}]\n"
    )
    status, text = repository.comment()
    assert status == 1
    assert re.search(r"Against `HEAD`:\n\n```text\n\d+ of \d+ packets get another verdict\.\n(.*\n)*```\n", text)


def test_the_comment_on_a_policy_with_mistakes(repository: Repository) -> None:
    repository.write("nonsense: 1\n")
    status, text = repository.comment()
    assert status == 2
    assert "The policy has mistakes:\n\n```text\npolicy.yaml:1:1: " in text
