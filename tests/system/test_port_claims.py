"""An interface is one firewall's: who has it, until when, and what one that was killed has left."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dataplane.live.interfaces import links, locks
from dataplane.live.interfaces.ports import PortError, Ports

from .network import Host, Network, needs_root_and
from .port_scene import deleted, exists, instance, policy, settings

pytestmark = needs_root_and("ip", "ethtool")


def test_an_interface_is_one_firewalls(hosts: Network, here: Host) -> None:
    """Whatever it is; the other one is told before anything is touched, and by a dry run, too."""
    guest = hosts.host("guest")
    hosts.wire(here, "v0", hosts.host("outside"), "v1")
    hosts.wire(here, "w0", hosts.host("outside"), "w1")
    here.ip("tuntap", "add", "dev", "free", "mode", "tap")
    mine, other = Ports(1), Ports(1)
    moved = instance("eth0", 3, f"tap: {{namespace: {guest.name}}}")
    mine.open(policy(instance("tap-a", 1), instance("free", 2), moved, uplinks=("v0",)))
    message = f"interface {{}} is another firewall's, process {os.getpid()}: stop that one, or name another interface"
    events = links.watch()
    for name, document in (
        ("tap-a", policy(instance("new", 1), instance("tap-a", 2), uplinks=("w0",))),
        ("free", policy(instance("new", 1), instance("free", 2), uplinks=("w0",))),
        ("eth0", policy(instance("new", 1), moved, uplinks=("w0",))),
        ("v0", policy(instance("new", 1), uplinks=("w0", "v0"))),
    ):
        with pytest.raises(PortError, match=message.format(name)):
            other.open(document)
    assert not select.select([events], [], [], 0.2)[0]
    events.close()
    other.open(policy(instance("own"), uplinks=("w0",)))
    for change in (other.update, other.rehearse):
        with pytest.raises(PortError, match=message.format("tap-a")):
            change(policy(instance("own"), instance("new", 2), instance("tap-a", 3), uplinks=("w0",)))
    assert not exists(here, "new")
    mine.close()
    assert [p.name for p in other.update(policy(instance("own"), uplinks=("w0", "v0"))).added] == ["v0"]
    other.close()


def test_a_claim_goes_with_its_port(hosts: Network, here: Host) -> None:
    """With one that a policy takes out, and with an interface that goes, also when it is back under its number."""
    hosts.wire(here, "v0", hosts.host("outside"), "v1")
    mine, other = Ports(1), Ports(1)
    _, uplink = mine.open(policy(instance("tap-a"), uplinks=("v0",)))
    index = json.loads(here.ip("-json", "link", "show", "v0"))[0]["ifindex"]
    for port in mine.update(policy(instance("tap-a"))).removed:
        mine.release(port)
    other.open(policy(uplinks=("v0",)))
    deleted(here, uplink, other)
    hosts.wire(here, "v0", hosts.host("outside"), "v1", "index", str(index))
    changes = other.refresh()
    assert [p.name for p in (*changes.removed, *changes.added)] == ["v0", "v0"]
    with pytest.raises(PortError, match="interface v0 is another firewall's"):
        mine.update(policy(instance("tap-a"), uplinks=("v0",)))
    other.close()
    mine.close()


def test_a_claim_ends_with_its_process(hosts: Network, here: Host) -> None:
    """However that ends; and what it had switched off comes back at the end of the next one."""
    outside = hosts.host("outside")
    hosts.wire(here, "v0", outside, "v1")
    here.ip("address", "add", "fd00::9/64", "dev", "v0", "nodad")
    before = settings(here, "v0")
    program = (
        "import sys; from dataplane.live.interfaces.ports import *; from dataplane.policy import Policy\n"
        "Ports(1).open(Policy.parse('uplinks: [{interface: v0}]')); print('open', flush=True); sys.stdin.read()"
    )
    for _ in range(2):
        with subprocess.Popen(
            (sys.executable, "-c", program), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout
            assert process.stdout.readline() == b"open\n"
            process.kill()
        assert "NOARP" in here.ip("link", "show", "v0")
    ports = Ports(1)
    ports.open(policy(uplinks=("v0",)))
    ports.close()
    assert settings(here, "v0") == before


def test_what_a_killed_firewall_left_is_no_mans_if_set_up_anew(hosts: Network, here: Host) -> None:
    """An interface that somebody has set up since, or another one under the same number, keeps what it has."""
    outside = hosts.host("outside")
    hosts.wire(here, "v0", outside, "v1")
    index = socket.if_nametoindex("v0")
    killed = locks.claim("v0", index)
    shown = json.loads(here.ip("-json", "link", "show", "v0"))[0]
    note = {"mac": shown["address"], "flags": 0x80, "lro": False, "ipv6": True, "addresses": [["fd00::7", 64]]}
    for left in (note, {**note, "mac": "02:00:00:00:00:77"}, {**note, "addresses": [7]}, ["else"], None):
        killed.note(left)
        os.close(killed._fd)
        ports = Ports(1)
        ports.open(policy(uplinks=("v0",)))
        ports.close()
        assert ",UP" in here.ip("link", "show", "v0")
        assert "NOARP" not in here.ip("link", "show", "v0")
        assert "fd00::7" not in here.ip("address", "show", "v0")
        killed = locks.claim("v0", index)
    killed.release()


def test_an_interface_by_another_name(hosts: Network, here: Host) -> None:
    """One that is found by an alternative name is silenced like any other, and gets its settings back when renamed."""
    hosts.wire(here, "v0", hosts.host("outside"), "v1")
    here.ip("link", "property", "add", "dev", "v0", "altname", "outer")
    here.ip("address", "add", "fd00::7/64", "dev", "v0", "nodad")
    before = settings(here, "v0")
    ports = Ports(1)
    ports.open(policy(uplinks=("outer",)))
    flags, off, _ = settings(here, "v0")
    assert "NOARP" in flags
    assert off.strip() == "1"
    here.ip("link", "set", "v0", "down")
    here.ip("link", "set", "v0", "name", "v7")
    ports.close()
    assert settings(here, "v7") == before


def test_where_claims_cannot_be_noted(here: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(locks, "FOLDER", tmp_path / "file" / "interfaces")
    with pytest.raises(PortError, match="interfaces that are in use cannot be noted there: Not a directory: give the"):
        Ports(1).open(policy(instance("tap-a")))
    assert not exists(here, "tap-a")
