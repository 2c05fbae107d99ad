"""A machine moves from one firewall to another, and its connections go on: real kernels at both ends of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.network import needs_root_and, network, until
from tests.system.running import INSIDE, OUTSIDE, POLICY, ROOT, Conversation, Running

pytestmark = needs_root_and("ip", "bash")

#: The other host has heard of the machine at its uplink: its MAC must be known to come from it.
MAC = "fa:16:3e:00:00:01"
WITH_A = POLICY.replace("{id: a,", f"{{id: a, mac: '{MAC}',")
#: Before anybody has moved there.
WITHOUT_A = POLICY[: POLICY.index("instances:")] + POLICY[POLICY.index("uplinks:") :]
CREATE = ("instance", "create", "a", f"mac={MAC}", f"addresses={INSIDE}", "interface=to-a", "security_groups=sg")


class Other(Running):
    """Another firewall at the same network, without the machine."""

    def __init__(self, first: Running, folder: Path) -> None:
        self.net, self.folder, self.process = first.net, folder, None
        self.fw, self.a, self.out = first.net.host("fw2"), first.a, first.out
        self.policy, self.control, self.state = folder / "policy.yaml", folder / "control", folder / "state"
        self.policy.write_text(WITHOUT_A)
        self.net.wire(self.fw, "to-out", self.out, "eth1")


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Running, Other]]:
    """Two firewalls, the machine `a` behind the first, and `out` that has both as ports of a bridge."""
    with network() as net:
        folders = tmp_path / "one", tmp_path / "two"
        for folder in folders:
            folder.mkdir()
        first = Running(net, folders[0])
        second = Other(first, folders[1])
        first.out.ip("link", "add", "br0", "type", "bridge")
        first.out.ip("address", "flush", "dev", "eth0")
        first.out.ip("address", "add", f"{OUTSIDE}/24", "dev", "br0")
        for port in ("eth0", "eth1", "br0"):
            if port != "br0":
                first.out.ip("link", "set", port, "master", "br0")
            first.out.ip("link", "set", port, "up")
        first.a.ip("link", "set", "eth0", "address", MAC)
        first.policy.write_text(WITH_A)
        first.start()
        second.start()
        yield first, second


def piped(first: Running, second: Running, *words: str) -> subprocess.CompletedProcess[str]:
    """Connections go from one firewall to the other, as through ssh."""
    ctl = f"{sys.executable} -m dataplane ctl --socket"
    line = f"{ctl} {first.control} conntrack export {' '.join(words)} | {ctl} {second.control} conntrack import"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True
    )


def test_connections_follow_a_machine(both: tuple[Running, Running]) -> None:
    """In both directions, with data before and after; without the import they would be nobody's (SPEC 4.4)."""
    first, second = both
    talks = [Conversation(first.out, first.a, INSIDE, 8080), Conversation(first.a, first.out, OUTSIDE, 9000)]
    assert all(talk.goes_on() for talk in talks)
    # The machine moves: its wire ends in the other host, which learns of it.
    first.fw.ip("link", "set", "to-a", "netns", second.fw.name)
    second.fw.ip("link", "set", "to-a", "up")
    second.ctl(*CREATE)
    until(lambda: second.ping(second.a, OUTSIDE), "the machine is heard of at its new place")
    talks[0].server.sendall(b"too early")
    until(lambda: "invalid" in second.ctl("counters").stdout, "nobody knows the connection")
    done = piped(first, second, "--instance", "a", "-p", "tcp")
    assert done.stdout == "2 of 2 connections have been taken.\n"
    # It is sent again, after pauses that became longer.
    talks[0].client.settimeout(60)
    assert talks[0].client.recv(100) == b"too early"
    assert all(talk.goes_on() for talk in talks)
    listed = second.ctl("conntrack", "list", "-p", "tcp").stdout
    assert all(f"origin={origin}" in listed for origin in ("inbound", "outbound"))
    assert listed.count("ESTABLISHED") == 2
    assert "connections imported" in second.log
    for talk in talks:
        talk.close()
    assert (first.stop(), second.stop()) == (0, 0)
