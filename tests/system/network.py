"""Network namespaces with hosts in them, made by one test and gone after it, with everything that runs in them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

_numbers = count()


def needs_root_and(*programs: str) -> pytest.MarkDecorator:
    """The mark of tests that need root and programs."""
    return pytest.mark.skipif(
        os.geteuid() != 0 or any(shutil.which(p) is None for p in programs),
        reason=f"needs root and the programs {', '.join(programs)}",
    )


def run(*command: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Waits for something to come true, and fails the test when it does not."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"after {seconds} s still not: {what}"
        time.sleep(0.02)


class Host:
    """A network namespace. `name` is its full one, as `ip netns` shows it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._running: list[subprocess.Popen[bytes]] = []
        run("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str, check: bool = True) -> str:
        """`ip` in the namespace."""
        return run("ip", "-n", self.name, *arguments, check=check).stdout

    def run(self, *command: str, check: bool = False, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end."""
        return run("ip", "netns", "exec", self.name, *command, check=check, timeout=timeout)

    def start(self, *command: str, output: Path | None = None) -> subprocess.Popen[bytes]:
        """Starts a program, which ends with the test at the latest; `output` takes what it prints."""
        with contextlib.ExitStack() as stack:
            sink = stack.enter_context(output.open("wb")) if output else subprocess.DEVNULL
            process = subprocess.Popen(
                ("ip", "netns", "exec", self.name, *command),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes], how: int = signal.SIGTERM, seconds: float = 60) -> int:
        """Ends a program that `start` started; its exit status."""
        self._running.remove(process)
        return _ended(process, how, seconds)

    def serve(self, port: int, *command: str) -> subprocess.Popen[bytes]:
        """Starts a server, and waits until it listens on a TCP or UDP port."""
        process = self.start(*command)
        until(lambda: f":{port} " in self.run("ss", "-Hlntu").stdout, f"{command[0]} listens on port {port}")
        return process

    def sysctl(self, key: str, value: object) -> None:
        """Sets a kernel parameter of the namespace."""
        self.run("sysctl", "-qw", f"{key}={value}", check=True)

    def close(self) -> None:
        """Ends what runs here, and removes the namespace."""
        for process in self._running:
            _ended(process, signal.SIGTERM, 3)
        # What they began may have outlived them, such as the session of an ssh that is gone.
        for pid in run("ip", "netns", "pids", self.name, check=False).stdout.split():
            if int(pid) != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        run("ip", "netns", "delete", self.name, check=False)


def _ended(process: subprocess.Popen[bytes], how: int, seconds: float) -> int:
    if process.poll() is None:
        process.send_signal(how)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(60)


class Network:
    """Hosts by short names."""

    def __init__(self) -> None:
        self._prefix = f"dp{os.getpid()}-{next(_numbers)}"
        self._hosts: dict[str, Host] = {}

    def host(self, name: str) -> Host:
        """The host with this name, made when it is first asked for."""
        if name not in self._hosts:
            self._hosts[name] = Host(f"{self._prefix}-{name}")
        return self._hosts[name]

    def wire(self, a: Host, name_a: str, b: Host, name_b: str, *options: str) -> None:
        """A veth between two hosts, up at both ends; `options` are for `ip link add` on the first end."""
        run(
            *("ip", "link", "add", name_a, *options, "netns", a.name, "type", "veth"),
            *("peer", "name", name_b, "netns", b.name),
        )
        a.ip("link", "set", name_a, "up")
        b.ip("link", "set", name_b, "up")

    def close(self) -> None:
        """Removes all hosts."""
        for host in self._hosts.values():
            host.close()


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network that is gone at the end."""
    made = Network()
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def standing_in(host: Host) -> Iterator[None]:
    """This thread, and what it starts, is in a host's namespace."""
    from pyroute2 import netns

    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        netns.setns(host.name)
        yield
    finally:
        netns.setns(home)
        os.close(home)
