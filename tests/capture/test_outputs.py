"""No output of a command destroys what it reads or what is hard to have again (SPEC 7, `--verdicts`, exit statuses)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dataplane import DataPlane, Policy
from dataplane.outputs import OutputError
from dataplane.policy.schedule import load_changes
from dataplane.replay import CaptureError

ROOT = Path(__file__).resolve().parents[2]
CASE = ROOT / "examples" / "ssh-cut"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copies of a policy, a capture and changes, which tests may endanger."""
    shutil.copy(CASE / "policy.yaml", tmp_path / "p.yaml")
    shutil.copy(CASE / "policy.yaml", tmp_path / "other")
    shutil.copy(CASE / "changes.yaml", tmp_path / "c.yaml")
    (tmp_path / "apply.yaml").write_text("- {at: 1, apply_policy: other}\n")
    shutil.copy(ROOT / "pcaps" / "ssh-cut.pcap", tmp_path / "x.pcap")
    shutil.copy(ROOT / "pcaps" / "ssh-cut.pcap", tmp_path / "y.pcap")
    return tmp_path


def run(folder: Path, *arguments: str, policy: str = "p.yaml", **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dataplane", "replay", policy, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60, **options
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x.pcap", "--verdicts", "x.pcap"], "would overwrite x.pcap, which is read"),
        (["x.pcap", "--verdicts", "x.pcap", "--force"], "would overwrite x.pcap, which is read"),
        (["x.pcap", "--verdicts", "p.yaml", "--force"], "would overwrite p.yaml, which is read"),
        (["x.pcap", "--changes", "c.yaml", "--verdicts", "c.yaml", "--force"], "would overwrite c.yaml"),
        (["x.pcap", "--changes", "apply.yaml", "--verdicts", "other", "--force"], "would overwrite other, which"),
        (["x.pcap", "--verdicts", "symbolic"], "would overwrite x.pcap, which is read"),
        (["x.pcap", "--verdicts", "hard"], "would overwrite x.pcap, which is read"),
        (["--verdicts", "y.pcap", "x.pcap"], "would overwrite a capture"),
        (["x.pcap", "--verdicts", "other"], "would overwrite a policy"),
        (["x.pcap", "--verdicts", "packed"], "would overwrite a capture"),
        (["x.pcap", "--annotate", "x.pcap", "--force"], "would overwrite x.pcap, which is read"),
        (["x.pcap", "--denied", "y.pcap"], "would overwrite a capture"),
        (
            ["x.pcap", "--allowed", "n.pcapng", "--denied", "n.pcapng"],
            "--denied and --allowed would write the same file",
        ),
        (["x.pcap", "--annotate", "/dev/full"], "/dev/full: No space left on device: the frames could not be written"),
        (["x.pcap", "--at", "nobody", "--annotate", "n.pcapng"], "--at: the policy has no instance nobody: it has "),
    ],
)
def test_an_output_that_would_destroy_something_is_refused(folder: Path, arguments: list[str], words: str) -> None:
    """Exit status 2, a sentence, and nothing is touched; by device and inode, whatever the name."""
    (folder / "symbolic").symlink_to("x.pcap")
    (folder / "hard").hardlink_to(folder / "x.pcap")
    (folder / "packed").write_bytes(b"\x1f\x8b\x08\x00and so on")
    before = contents(folder)
    done = run(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert words in done.stderr
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("command", "file", "words"),
    [
        ("capture", "x.pcap", "would overwrite a capture"),
        ("capture", "p.yaml", "would overwrite a policy"),
        ("capture", "state", "would overwrite a state file"),
        ("policy", "x.pcap", "would overwrite a capture"),
        ("policy", "state", "would overwrite a state file"),
    ],
)
def test_what_ctl_writes_destroys_nothing_either(folder: Path, command: str, file: str, words: str) -> None:
    """Refused before a firewall is asked; and with --force too, one that does not answer leaves all as it was."""
    (folder / "state").write_bytes(b"dpstate\n" + bytes(100))
    before = contents(folder)
    words_to = [sys.executable, "-m", "dataplane", "ctl", "--socket", "none", command, file]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for more, status, said in (([], 2, words), (["--force"], 1, "none")):
        done = subprocess.run(
            [*words_to, *more], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, said in done.stderr) == (status, True), done.stderr
        assert contents(folder) == before


def test_standard_input_and_output_are_files_too(folder: Path) -> None:
    """A capture by `<` is an input, the summary by `>>` an output."""
    before = contents(folder)
    with open(folder / "x.pcap", "rb") as stdin:
        assert run(folder, "-", "--verdicts", "x.pcap", "--force", stdin=stdin).returncode == 2
    with open(folder / "p.yaml", "rb") as stdin:
        done = run(folder, "x.pcap", "--verdicts", "p.yaml", "--force", policy="-", stdin=stdin)
        assert (done.returncode, "would overwrite the file of standard input, which is" in done.stderr) == (2, True), (
            done.stderr
        )
    with open(folder / "x.pcap", "ab") as stdout:
        command = [sys.executable, "-m", "dataplane", "replay", "p.yaml", "x.pcap"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        assert subprocess.run(command, cwd=folder, env=environment, stdout=stdout, check=False).returncode == 2
    assert contents(folder) == before


def test_force_overwrites_and_keeps_mode_and_link(folder: Path) -> None:
    """What a link leads to is replaced, with its mode, and nothing is left beside it."""
    (folder / "y.pcap").chmod(0o640)
    (folder / "link").symlink_to("y.pcap")
    before = set(contents(folder))
    assert run(folder, "x.pcap", "--verdicts", "link", "--force").returncode == 0
    assert (folder / "link").is_symlink()
    assert json.loads((folder / "y.pcap").read_text().splitlines()[0])["packet"] == 1
    assert (folder / "y.pcap").stat().st_mode & 0o777 == 0o640
    assert set(contents(folder)) == before


@pytest.mark.parametrize(("arguments", "status"), [(["missing.pcap"], 3), (["x.pcap", "--changes", "nothing"], 2)])
def test_a_run_that_does_not_begin_leaves_the_old_output(folder: Path, arguments: list[str], status: int) -> None:
    """A missing capture is one sentence, exit status 3, and no table."""
    (folder / "v.jsonl").write_text("old\n")
    before = contents(folder)
    done = run(folder, *arguments, "--verdicts", "v.jsonl")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1)
    assert contents(folder) == before


def test_what_was_read_before_a_fault_is_written(folder: Path) -> None:
    """SPEC 7, status 3: what was read before the fault is still reported, in the file too."""
    (folder / "cut.pcap").write_bytes((folder / "x.pcap").read_bytes()[:-5])
    done = run(folder, "cut.pcap", "--verdicts", "v.jsonl")
    assert done.returncode == 3
    assert len((folder / "v.jsonl").read_text().splitlines()) > 3


def test_a_fifo_is_written_straight(folder: Path) -> None:
    """As are devices: nothing takes their place."""
    os.mkfifo(folder / "fifo")
    with subprocess.Popen(["cat", folder / "fifo"], stdout=subprocess.PIPE) as reader:
        assert run(folder, "x.pcap", "--verdicts", "fifo").returncode == 0
        assert reader.stdout is not None
        assert json.loads(reader.stdout.readline())["packet"] == 1
    assert (folder / "fifo").is_fifo()


def test_frames_go_to_standard_output(folder: Path) -> None:
    """SPEC 8.1: of what is denied, as another replay reads it; the summary is on standard error."""
    command = [sys.executable, "-m", "dataplane", "replay", "p.yaml", "x.pcap", "--changes", "c.yaml", "--denied", "-"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True, timeout=60)
    (folder / "denied.pcapng").write_bytes(done.stdout)
    assert b"verdict" in done.stderr
    policy, (change,) = Policy.load(folder / "p.yaml"), [folder / "c.yaml"]
    whole = DataPlane(policy).replay(folder / "x.pcap", changes=load_changes(change, policy))
    assert DataPlane(policy).replay(folder / "denied.pcapng").packets == whole.verdicts["deny"].packets > 0


def test_nothing_expected_is_refused(folder: Path) -> None:
    """`--expect`: a file in which nothing stands cannot hold."""
    (folder / "e.yaml").write_text("[]\n")
    done = run(folder, "x.pcap", "--expect", "e.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing is expected" in done.stderr


def test_the_library_raises_for_what_cannot_be_opened_and_on_demand_for_faults(folder: Path) -> None:
    """Faults on the way stay in Summary.faults unless they are asked to be raised."""
    firewall = DataPlane(Policy.load(folder / "p.yaml"))
    with pytest.raises(CaptureError, match=r"missing\.pcap: No such file"):
        firewall.replay(folder / "missing.pcap")
    with pytest.raises(OutputError, match="which is read"):
        firewall.replay(folder / "x.pcap", verdicts=folder / "x.pcap")
    (folder / "cut.pcap").write_bytes((folder / "x.pcap").read_bytes()[:-5])
    assert len(firewall.replay(folder / "cut.pcap").faults) == 1
    with pytest.raises(CaptureError, match=r"cut\.pcap: at byte \d+: the packet record is cut short"):
        firewall.replay(folder / "cut.pcap", raise_faults=True)
