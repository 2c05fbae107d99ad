"""What a service manager is told, and the rights that are given up."""

from __future__ import annotations

import configparser
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dataplane.installation import how_to_install
from dataplane.live import daemon, state
from dataplane.live.interfaces import locks
from dataplane.live.process.notify import notify

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["{path}", "@dataplane-test-{pid}"])
def test_the_manager_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """Through a path, and through a name that is in no file system."""
    where = name.format(path=tmp_path / "notify", pid=os.getpid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(where.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", where)
        assert notify(READY=1, STATUS="2 ports\nup")
        assert manager.recv(1000) == b"READY=1\nSTATUS=2 ports up"


def test_without_a_manager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify(READY=1)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    assert not notify(READY=1)


GIVE_UP = """
import threading
from dataplane.live.process import privileges
privileges.keep_only()
def status():
    with open("/proc/thread-self/status") as lines:
        print({line.split()[0]: line.split()[1] for line in lines if line.startswith(("Cap", "NoNew"))})
status()
thread = threading.Thread(target=status)
thread.start()
thread.join()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_all_capabilities_but_two_are_given_up() -> None:
    """In the thread, and in those that it starts: CAP_NET_ADMIN is bit 12, CAP_NET_RAW bit 13."""
    done = subprocess.run([sys.executable, "-c", GIVE_UP], capture_output=True, text=True, check=True, cwd=ROOT)
    two, none = f"{3 << 12:016x}", f"{0:016x}"
    expected = {
        "CapInh:": none,
        "CapPrm:": two,
        "CapEff:": two,
        "CapBnd:": two,
        "CapAmb:": none,
        "NoNewPrivs:": "1",
    }
    assert done.stdout.splitlines() == [str(expected)] * 2


def test_giving_up_gains_nothing() -> None:
    """A process without capabilities has none afterwards either."""
    program = "from dataplane.live.process import privileges\n"
    program += "privileges.keep_only(())\nprivileges.keep_only()\n"
    program += "print(*[line for line in open('/proc/self/status') if line.startswith(('CapPrm', 'CapEff'))])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["CapPrm:", "0" * 16, "CapEff:", "0" * 16]


REFUSED = """
import ctypes, errno, os, threading
from dataplane.live.process import seccomp
libc = ctypes.CDLL(None, use_errno=True)
def asks():
    ready.wait()
    for call in (lambda: os.execv("/bin/true", ["true"]), lambda: os.open("/dev/null", os.O_RDONLY)):
        try:
            call()
            print("done")
        except OSError as error:
            print(error.strerror)
    print(libc.unshare(0x10000000), libc.ptrace(0, 0, 0, 0), errno.errorcode[ctypes.get_errno()])
ready = threading.Event()
thread = threading.Thread(target=asks)
thread.start()
print(seccomp.install() > 50)
ready.set()
thread.join()
"""


def test_some_system_calls_are_refused_to_all_threads() -> None:
    """To those that were there before, too; all else goes on."""
    pytest.importorskip("pyseccomp")
    done = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["True", "Operation not permitted", "done", "-1 -1 EPERM"]


@pytest.mark.parametrize(
    ("program", "reason"), [(None, "pyseccomp is not"), ("raise RuntimeError", "libseccomp is not")]
)
def test_a_filter_that_cannot_be_had(tmp_path: Path, program: str | None, reason: str) -> None:
    if program:
        (tmp_path / "pyseccomp.py").write_text(program)
    hidden = "" if program else "import sys; sys.modules['pyseccomp'] = None\n"
    install = "try: seccomp.install()\nexcept seccomp.FilterError as e: print(e)"
    script = f"{hidden}from dataplane.live.process import seccomp\n{install}"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    assert done.stdout.startswith(f"{reason} installed: ")


@pytest.mark.parametrize("missing", ["pyroute2", "prometheus_client"])
def test_a_part_that_is_not_installed_is_named(tmp_path: Path, missing: str) -> None:
    (tmp_path / "policy.yaml").write_text("uplinks: [{interface: none-such}]")
    command = ["dataplane", "run", str(tmp_path / "policy.yaml"), "--control", str(tmp_path / "control")]
    script = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = {command}; from dataplane.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stderr == f"{missing} is not installed: {how_to_install('live')} brings what run needs\n"
    assert done.returncode == 2


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_a_state_file_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    """A FIFO would be waited for, and what is written at the end would take the place of a device."""
    (tmp_path / "policy.yaml").write_text("instances: []")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    where = Path("/dev/null") if kind == "device" else tmp_path / kind
    with pytest.raises(daemon.StartError, match=f"--state {where}: it is no regular file: name another place") as told:
        daemon.run(daemon.Options(tmp_path / "policy.yaml", state=where))
    assert told.value.invalid


@pytest.mark.parametrize("content", [b"instances: []", b"\xd4\xc3\xb2\xa1" + bytes(20), b"dpstat3\n", b"note"])
def test_a_state_file_that_is_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    """It would be overwritten at the end; the policy itself is one of them."""
    (tmp_path / "policy.yaml").write_bytes(b"instances: []")
    where = tmp_path / ("policy.yaml" if content == b"instances: []" else "state")
    where.write_bytes(content)
    with pytest.raises(daemon.StartError, match=f"--state {where}: it is no state file and would be over") as told:
        daemon.run(daemon.Options(tmp_path / "policy.yaml", state=where))
    assert told.value.invalid
    assert where.read_bytes() == content


def test_a_state_file_that_cannot_be_read_as_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(daemon.StartError, match=r"--state /proc/self/mem: it is no state file and would be over"):
        daemon.run(daemon.Options(tmp_path / "policy.yaml", state=Path("/proc/self/mem")))


@pytest.fixture
def without_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not refused before ends there: nothing is served."""
    monkeypatch.setattr(daemon.readiness, "rights", lambda: ["no rights"])


@pytest.mark.usefixtures("without_rights")
@pytest.mark.parametrize("option", ["state", "control"])
@pytest.mark.parametrize("place", ["none/deeper/file", "policy.yaml/file", "link"])
def test_a_folder_that_is_not_there_is_told_at_the_start(tmp_path: Path, option: str, place: str) -> None:
    """Not at the end, when the state would be lost; and no folder is made that nobody asked for."""
    (tmp_path / "policy.yaml").write_text("instances: []")
    (tmp_path / "link").symlink_to(tmp_path / "none")
    where = tmp_path / place / "file" if option == "control" else tmp_path / place
    if place == "link" and option == "state":
        where.unlink()
        where.symlink_to(tmp_path / "none" / "file")
    with pytest.raises(daemon.StartError, match=f"--{option} {where}: there is no folder .*: make it") as told:
        daemon.run(daemon.Options(tmp_path / "policy.yaml", **{option: where}))  # type: ignore[arg-type]
    assert told.value.invalid
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "policy.yaml"]


@pytest.mark.usefixtures("without_rights")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(("owner", "mode"), [(65534, 0o755), (0, 0o555)])
def test_a_folder_that_cannot_be_written_without_capabilities_is_told_at_the_start(
    tmp_path: Path, owner: int, mode: int
) -> None:
    """Root gives them up before it writes the state, and then is a user as any other."""
    (tmp_path / "policy.yaml").write_text("instances: []")
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    os.chown(folder, owner, owner)
    with pytest.raises(daemon.StartError, match=f"--state {folder}/state: folder {folder} cannot be written: ") as told:
        daemon.run(daemon.Options(tmp_path / "policy.yaml", state=folder / "state"))
    assert told.value.invalid


@pytest.mark.parametrize("content", [b"", b"dpst", b"dpstate\nand damaged"])
def test_a_damaged_state_file_is_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").write_bytes(content)
    assert not state.is_something_else(tmp_path / "state")
    assert not state.is_something_else(tmp_path / "new")


def test_the_unit_starts_what_there_is() -> None:
    """Every setting once, but Type, and the commands are those that the command line has."""
    unit = configparser.ConfigParser(delimiters="=", comment_prefixes="#", interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    text = (ROOT / "systemd" / "dataplane.service").read_text()
    # systemd 252 does not know the second, and keeps the first; where it is known, the last one holds.
    assert "Type=notify\nType=notify-reload\n" in text
    unit.read_string(text.replace("Type=notify\n", ""))
    service = unit["Service"]
    assert service["Type"] == "notify-reload"
    # SIGHUP would be a second reload besides that of ExecReload.
    assert service["ReloadSignal"] == "SIGCONT"
    assert int(service["WatchdogSec"]) > 30
    assert service["ExecStart"].split()[1] == "run"
    assert locks.FOLDER.is_relative_to(Path("/run", service["RuntimeDirectory"]))
    assert service["RuntimeDirectoryPreserve"] == "yes"
    assert service["ExecReload"].split()[1:] == ["ctl", "reload"]
    assert service["ExecStopPost"].split()[1:] == ["restore"]
    bounding = service["CapabilityBoundingSet"].split()
    assert {"CAP_NET_ADMIN", "CAP_NET_RAW"} < set(bounding)
