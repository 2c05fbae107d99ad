"""Interfaces in other namespaces than the firewall's, also in those that it may not enter."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from dataplane.live.interfaces.ports import PortError, Ports
from dataplane.policy import Policy

from .network import Host, Network, needs_root_and
from .port_scene import exists, frame, instance, policy, settings

pytestmark = needs_root_and("ip", "ethtool")


def test_a_tap_in_another_namespace(hosts: Network, here: Host) -> None:
    """With a queue for each worker, and an owner; a persistent one is there again the next time."""
    guest = hosts.host("guest")
    document = policy(instance("eth0", 1, f"tap: {{namespace: {guest.name}, persistent: true, owner: '1234'}}"))
    for made in (True, False):
        ports = Ports(2)
        (port,) = ports.open(document)
        assert (port.kind, port.made, len(set(port.fds))) == ("tap", made, 2)
        assert port.is_attached
        assert not exists(here, "eth0")
        shown = guest.ip("-d", "link", "show", "eth0")
        for word in ("persist on", "multi_queue", "numqueues 2", "user 1234", ",UP"):
            assert word in shown
        os.write(port.fds[1], frame(7))
        ports.close()
        assert "numqueues 0" in guest.ip("-d", "link", "show", "eth0")


def test_a_tap_in_a_namespace_that_may_not_be_entered(hosts: Network, here: Host) -> None:
    """Once it runs, the firewall has given that up: a TAP is made and moved then; one that exists is not taken."""
    guest = hosts.host("guest")
    program = (
        "import sys; from dataplane.live.interfaces.ports import *; from dataplane.live.process import privileges\n"
        "from dataplane.policy import Policy\n"
        "privileges.keep_only(); ports = Ports(2); opened = ports.open(Policy.parse(sys.argv[1]))\n"
        "print(opened[0].made, opened[0].is_attached, ports.refresh(), flush=True); sys.stdin.read()"
    )
    text = (
        "instances: [{id: a, addresses: [10.0.0.1], mac: '02:00:00:00:00:09', interface: lo0,"
        f" tap: {{namespace: {guest.name}, mtu: 1400}}}}]"
    )
    here.ip("link", "add", "lo0", "type", "bridge")
    command = (sys.executable, "-c", program, text)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "True True Changes(added=(), removed=(), changed=(), warnings=())\n"
        shown = guest.ip("-d", "link", "show", "lo0")
        for word in ("mtu 1400", "02:00:00:00:00:09", "numqueues 2", ",UP"):
            assert word in shown
        taken = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert "PortError: setting up interface lo0 failed: File exists" in taken.stderr
        process.communicate("")
    assert not exists(guest, "lo0")
    assert [line.split()[1] for line in here.ip("-o", "link").splitlines()] == ["lo:", "lo0:"]


WITHOUT_ENTRY = """
import sys
from dataplane.live.interfaces.ports import *
from dataplane.live.process import privileges, seccomp
from dataplane.policy import Policy
ports = Ports(1)
ports.open(Policy.parse(sys.argv[1]))
privileges.keep_only()
seccomp.install()
for text in sys.argv[2:]:
    foreseen = ports.rehearse(Policy.parse(text))
    assert ports.update(Policy.parse(text)).warnings == foreseen
    print(*foreseen, sep="\\n", flush=True)
    sys.stdin.readline()
ports.close()
"""


def test_an_interface_in_another_namespace_gets_its_settings_back(hosts: Network, here: Host) -> None:
    """Also when that may not be entered any more."""
    guest = hosts.host("guest")
    hosts.wire(guest, "v0", hosts.host("outside"), "v1")
    guest.ip("address", "add", "fd00::9/64", "dev", "v0", "nodad")
    guest.ip("address", "add", "10.0.0.9/24", "dev", "v0")
    before = settings(guest, "v0")
    text = f"instances: [{{id: a, addresses: [10.0.0.9], interface: v0, tap: {{namespace: {guest.name}}}}}]"
    command = (sys.executable, "-c", WITHOUT_ENTRY, text, text)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "\n"
        assert "NOARP" in guest.ip("link", "show", "v0")
        assert settings(guest, "v0") != before
        process.communicate("\n", timeout=60)
    assert process.returncode == 0
    assert settings(guest, "v0") == before


def test_a_tap_in_another_namespace_follows_the_policy(hosts: Network, here: Host) -> None:
    """One that was made at the start in all, one that was made later in what needs no entry, and the rest is told."""
    guest = hosts.host("guest")

    def text(first: str, second: str = "", mac: int = 1) -> str:
        one = f"{{id: a, addresses: [10.0.0.1], mac: '02:00:00:00:00:0{mac}', interface: t1, tap: {{{first}}}}}"
        two = f", {{id: b, addresses: [10.0.0.2], interface: t2, tap: {{{second}}}}}" if second else ""
        return f"instances: [{one}{two}]"

    namespace = f"namespace: {guest.name}"
    texts = (
        text(namespace),
        text(f"{namespace}, mtu: 1400, owner: '7007'", f"{namespace}, owner: '6006'", mac=8),
        text(namespace, f"{namespace}, mtu: 1300, owner: '5005'"),
    )
    command = (sys.executable, "-c", WITHOUT_ENTRY, *texts)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "\n"
        shown = guest.ip("-d", "link", "show", "t1")
        assert all(word in shown for word in ("mtu 1400", "user 7007", "02:00:00:00:00:08")), shown
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == (
            "TAP t1 keeps its owner: the kernel lets it have another one, but not none; restart dataplane\n"
        )
        assert process.stdout.readline() == (
            "TAP t2 keeps its mtu and MAC: dataplane may not enter the network namespace"
            f" {guest.name} any more; set them there (ip -n {guest.name} link set t2 mtu 1300), or restart dataplane\n"
        )
        for name, user in (("t1", 7007), ("t2", 5005)):
            shown = guest.ip("-d", "link", "show", name)
            assert f"user {user}" in shown
            assert "mtu 1500" in shown
        # One that was made from here is claimed as well.
        with pytest.raises(PortError, match="interface t2 is another firewall's"):
            Ports(1).open(Policy.parse(text(namespace, namespace).replace("t1", "t3")))
        process.communicate("\n", timeout=60)
    assert process.returncode == 0


def test_a_namespace_made_anew_gets_its_tap_back(hosts: Network, here: Host, caplog: pytest.LogCaptureFixture) -> None:
    """What holds the old one, such as the firewall's own sockets or a guest's process, keeps it and its TAP alive."""
    caplog.set_level(logging.INFO)
    guest = hosts.host("guest")
    process = guest.start("sleep", "100")
    ports = Ports(1)
    (port,) = ports.open(policy(instance("eth0", 1, f"tap: {{namespace: {guest.name}}}")))
    assert not ports.refresh()
    subprocess.run(["ip", "netns", "delete", guest.name], check=True)
    changes = ports.refresh()
    assert (changes.removed, changes.added, ports.missing) == ((port,), (), ("eth0",))
    assert "interface eth0 is gone" in caplog.text
    assert f"there is no network namespace {guest.name}" in caplog.text
    ports.release(port)
    subprocess.run(["ip", "netns", "add", guest.name], check=True)
    (back,) = ports.refresh().added
    assert (back.name, back.made, ports.missing) == ("eth0", True, ())
    assert "interface eth0 is back" in caplog.text
    assert ",UP" in guest.ip("link", "show", "eth0")
    assert not ports.refresh()
    # Both at once, between two looks.
    subprocess.run(["ip", "netns", "delete", guest.name], check=True)
    subprocess.run(["ip", "netns", "add", guest.name], check=True)
    changes = ports.refresh()
    assert changes.removed == (back,)
    assert [p.name for p in changes.added] == ["eth0"]
    assert ",UP" in guest.ip("link", "show", "eth0")
    ports.close()
    guest.stop(process)
