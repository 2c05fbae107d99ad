"""A start that is stopped, or fails, at any step leaves every interface as it was, and nothing behind.

`dataplane run` is started in a child that counts the calls of its own functions; at the one with a given number, the
signal comes, or an interface goes. The command itself knows nothing of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from .network import Host, Network, needs_root_and, network, until

pytestmark = needs_root_and("ip", "sysctl")

ROOT = Path(__file__).parents[2]
POLICY = """
instances:
  - {id: a, addresses: [10.0.0.1], interface: to-a}
  - {id: t, addresses: [10.0.0.2], interface: dp-tap}
uplinks: [{interface: to-out}]
conntrack: {max_entries: 1000}
"""

#: Forks for each number on its standard input, so that everything is imported once; prints the status, and what the
#: system tells of each interface then: flags, whether IPv6 is off, and its addresses (programs for that take long).
CHILD = """
import importlib, json, os, signal, socket, struct, sys, threading
from pathlib import Path
from dataplane.live import daemon, event_loop
from dataplane.live.process import log
importlib.import_module("pyroute2")
folder, action = Path(sys.argv[1]), sys.argv[2]
options = daemon.Options(folder / "policy.yaml", control=folder / "control", state=folder / "state",
                         metrics="127.0.0.1:9477")
WHERE = str(Path(daemon.__file__).parent)

def begin(number):
    seen = 0
    def step(frame, event, argument):
        nonlocal seen
        file = frame.f_code.co_filename
        if not file.startswith(WHERE) or file.endswith(("log.py", "seccomp.py")):
            return None
        seen += 1
        if seen == number:
            # A traced thread of CPython 3.11 turns on the spot, for ever, while a signal waits for the main thread.
            threading.settrace(None); sys.settrace(None)
            if action == "vanish":
                # RTM_DELLINK by hand: once calls are refused, no program can be started.
                index = socket.if_nametoindex("to-out")
                with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
                    netlink.send(struct.pack("IHHIIBxHiII", 32, 17, 5, 1, 0, 0, 0, index, 0, 0))
                    netlink.recv(4096)
            else:
                os.kill(os.getpid(), int(action))
        return None
    def ready(**state):
        os.write(2, b"STEPS %d\\n" % seen)
        os.kill(os.getpid(), signal.SIGTERM)
    event_loop.notify = lambda **state: ready() if "READY" in state else None
    log.set_up("text")
    # From where interfaces are touched: before that a signal simply ends the process.
    begun = daemon._run
    def run(*arguments, **named):
        threading.settrace(step); sys.settrace(step)
        begun(*arguments, **named)
    daemon._run = run
    try:
        daemon.run(options)
    except daemon.StartError as error:
        os.write(2, f"{error}\\n".encode())
        return 1
    return 0

for line in sys.stdin:
    child = os.fork()
    if not child:
        status = 99
        try:
            status = begin(int(line)) if int(line) >= 0 else 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.settrace(None)
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    addresses = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
    found = {}
    for name in os.listdir("/sys/class/net"):
        off = Path("/proc/sys/net/ipv6/conf", name, "disable_ipv6").read_text().strip()
        own = sorted(words[0] for words in addresses if words[5] == name and words[0].startswith("fd00"))
        found[name] = [Path("/sys/class/net", name, "flags").read_text().strip(), off, own]
    print(json.dumps([status, found]), flush=True)
"""


#: In place of a number: nothing is started.
STAYS = -1


class Start:
    """Starts of a firewall in one namespace, each with something at one of its steps."""

    def __init__(self, net: Network, folder: Path, action: str) -> None:
        self.host, self.folder = net.host("fw"), folder
        self.net, self.action = net, action
        self._interfaces: dict[str, list[object]] = {}
        (folder / "policy.yaml").write_text(POLICY)
        self.wires("to-a", "to-out")
        self._log = (folder / "log").open("wb")
        command = ("ip", "netns", "exec", self.host.name, sys.executable, "-c", CHILD, str(folder), action)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, cwd=ROOT, text=True
        )

    def wires(self, *names: str) -> None:
        for name in names:
            self.net.wire(self.host, name, self.net.host("out"), f"far-{name[3:]}")
            self.host.ip("address", "add", f"fd00:{len(name)}::1/64", "dev", name, "nodad")

    def at(self, number: int) -> int:
        """Starts it once; the exit status."""
        assert self._process.stdin
        assert self._process.stdout
        self._log.truncate(0)
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        status, self._interfaces = json.loads(self._process.stdout.readline())
        return int(status)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text().lstrip("\0")

    def facts(self, *names: str) -> list[str]:
        """What a start changes, as the last one left it, in words to compare."""
        return [f"{name} {self._interfaces[name]}" for name in names]

    def left(self) -> list[str]:
        """What must not be there afterwards."""
        claimed = Path("/run/dataplane/interfaces")
        place = os.stat(f"/run/netns/{self.host.name}")
        ours = f"{place.st_dev}-{place.st_ino}-"
        return [
            *[name for name in self._interfaces if name.startswith("dp")],
            *[file.name for file in self.folder.iterdir() if file.name not in ("policy.yaml", "log", "state")],
            *([file.name for file in claimed.iterdir() if file.name.startswith(ours)] if claimed.exists() else []),
        ]

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)
        self._log.close()
        if self._process.stdout:
            self._process.stdout.close()


@contextlib.contextmanager
def starts(folder: Path, action: str) -> Iterator[Start]:
    """A namespace in which a firewall is started again and again."""
    with network() as net:
        made = Start(net, folder, action)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[None]]]:
    """All that is tried at the steps of a start, at the same time, each in its own namespace: the kernel makes most of
    it wait."""
    with ThreadPoolExecutor(4) as pool:
        tried = {
            str(int(number)): pool.submit(stopped_at_any_step, tmp_path_factory.mktemp("signal"), str(int(number)))
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        tried["vanish"] = pool.submit(vanishing_at_any_step, tmp_path_factory.mktemp("vanish"))
        yield tried


def steps(start: Start) -> int:
    """How many steps an undisturbed start has."""
    assert start.at(0) == 0, start.log
    (line,) = [line for line in start.log.splitlines() if line.startswith("STEPS")]
    return int(line.split()[1])


def stopped_at_any_step(folder: Path, action: str) -> None:
    with starts(folder, action) as start:
        start.at(STAYS)
        before = start.facts("to-a", "to-out")
        assert "fd00" in before[0]
        total = steps(start)
        assert total > 60
        assert start.facts("to-a", "to-out") == before
        assert not start.left()
        # The steps of one interface are like those of another: of all some, at other places for each signal.
        for number in range(1 + int(action) % 5, total + 1, 5):
            status = start.at(number)
            assert status == 0, (number, start.log)
            assert start.facts("to-a", "to-out") == before, (number, start.log)
            assert not start.left(), (number, start.log)
            assert "Traceback" not in start.log
            if int(action) == signal.SIGHUP:
                assert "STEPS" in start.log


def vanishing_at_any_step(folder: Path) -> None:
    with starts(folder, "vanish") as start:
        start.at(STAYS)
        before = start.facts("to-a")
        total = steps(start)
        for number in range(1, total + 1, 5):
            status = start.at(number)
            assert status in (0, 1), (number, start.log)
            assert "Traceback" not in start.log, (number, start.log)
            assert start.facts("to-a") == before, (number, start.log)
            assert not start.left(), (number, start.log)
            start.wires("to-out")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_at_any_step_of_the_start_leaves_no_trace(begun: dict[str, Future[None]], number: int) -> None:
    """SIGTERM and SIGINT end it, with status 0; SIGHUP is a reload once it runs."""
    begun[str(int(number))].result()


def test_an_interface_that_goes_at_any_step_takes_no_other_with_it(begun: dict[str, Future[None]]) -> None:
    """The start fails in a sentence, or goes on without it; the others are as they were."""
    begun["vanish"].result()


def test_signals_and_what_a_killed_firewall_leaves(tmp_path: Path) -> None:
    """What asks for nothing does nothing, SIGQUIT is an end in order; what SIGKILL leaves the next start puts back,
    also of a firewall with other interfaces, and by `dataplane restore`, which leave alone what a firewall serves."""
    with network() as net:
        host: Host = net.host("fw")
        for name in ("to-a", "to-out", "to-b"):
            net.wire(host, name, net.host("out"), f"far-{name[3:]}")
            host.ip("address", "add", f"fd00:{len(name)}::1/64", "dev", name, "nodad")
        (tmp_path / "policy.yaml").write_text(POLICY)
        (tmp_path / "other.yaml").write_text("uplinks: [{interface: to-b}]")
        log = tmp_path / "log"

        def switches(name: str) -> tuple[str, str]:
            return f"ipv6.conf.{name}.disable_ipv6", f"ipv4.conf.{name}.rp_filter"

        def facts() -> list[str]:
            return [
                *(line.split("mtu")[0] for line in host.ip("-o", "link").splitlines()),
                *(line.split("scope")[0] for line in host.ip("-o", "-6", "address").splitlines() if "fd00" in line),
                *(
                    host.run("sysctl", "-n", f"net.{key}").stdout
                    for name in ("to-a", "to-out")
                    for key in switches(name)
                ),
            ]

        def begun(policy: str = "policy.yaml") -> subprocess.Popen[bytes]:
            log.write_text("")
            command = (sys.executable, "-m", "dataplane", "run", str(tmp_path / policy))
            process = host.start(*command, "--control", str(tmp_path / policy.removesuffix(".yaml")), output=log)
            until(lambda: "running" in log.read_text(), "it runs")
            return process

        def restore() -> str:
            return host.run(sys.executable, "-m", "dataplane", "restore", check=True).stdout

        before = facts()
        process = begun()
        assert facts() != before
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE, signal.SIGRTMIN):
            process.send_signal(number)
        assert "to-a" not in restore()
        assert process.poll() is None
        host.stop(process, signal.SIGKILL)
        assert facts() != before
        assert {"to-a is as it was", "to-out is as it was"} <= set(restore().splitlines())
        assert facts() == before
        host.stop(begun(), signal.SIGKILL)
        other = begun("other.yaml")
        assert "interface to-a is as it was before a firewall that was killed" in log.read_text()
        assert host.stop(other, signal.SIGQUIT) == 0
        assert facts() == before


def test_a_limit_of_open_files_that_is_too_low_is_told(tmp_path: Path) -> None:
    """In one sentence with the number that is needed, before anything is touched."""
    (tmp_path / "policy.yaml").write_text("uplinks: [{interface: dp-none}]")
    command = ["prlimit", "--nofile=40:40", sys.executable, "-m", "dataplane", "run", str(tmp_path / "policy.yaml")]
    done = subprocess.run(
        [*command, "--control", str(tmp_path / "control")], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("this policy with --workers 1 needs 1")
    assert "and the limit is 40: raise it (ulimit -n 1" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "policy.yaml"]


HANGS = """
import sys, time
from pathlib import Path
from dataplane.live import daemon, event_loop
from dataplane.live.operations import Operations
from dataplane.live.process import log
from dataplane.store.file import PolicyFile
event_loop._STOP_SECONDS = 1
def hang(*_):
    print("here it is", flush=True)
    time.sleep(1000)
if sys.argv[2] == "read":
    PolicyFile.load = hang
else:
    Operations.changed = hang
log.set_up("text")
folder = Path(sys.argv[1])
daemon.run(daemon.Options(folder / "policy.yaml", control=folder / "control", state=folder / "state"))
"""


@pytest.mark.parametrize(("where", "status"), [("read", 0), ("changed", 1)])
def test_what_hangs_does_not_keep_the_firewall_from_stopping(tmp_path: Path, where: str, status: int) -> None:
    """A policy that is never read, as from a server that is gone, is not waited for; what hangs in the control thread
    is given up, with the state. Interfaces are put back all the same."""
    with network() as net:
        host: Host = net.host("fw")
        for name in ("to-a", "to-out"):
            net.wire(host, name, net.host("out"), f"far-{name[3:]}")
        (tmp_path / "policy.yaml").write_text(POLICY)
        log = tmp_path / "log"
        process = host.start(sys.executable, "-c", HANGS, str(tmp_path), where, output=log)
        until(lambda: "running" in log.read_text(), "it runs")
        assert "NOARP" in host.ip("link", "show", "to-a")
        process.send_signal(signal.SIGHUP)
        until(lambda: "here it is" in log.read_text(), "the reload hangs")
        assert host.stop(process) == status
        assert ("what was asked for has not ended within 1 seconds" in log.read_text()) == bool(status)
        assert (tmp_path / "state").exists() != bool(status)
        assert "NOARP" not in host.ip("link", "show", "to-a")
        assert not (tmp_path / "control").exists()
        assert "dp-tap" not in host.ip("-o", "link")
