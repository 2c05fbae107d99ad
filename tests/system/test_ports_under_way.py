"""Interfaces that change, go and come back while they are served."""

from __future__ import annotations

import logging
import select
import subprocess

import pytest

from dataplane.live.interfaces import tap
from dataplane.live.interfaces.ports import PortError, Ports

from .network import Host, Network, needs_root_and, until
from .port_scene import deleted, exists, instance, policy

pytestmark = needs_root_and("ip", "ethtool")


def test_a_policy_change(hosts: Network, here: Host) -> None:
    """What came, went and stands for something else; a removed port is open until it is released."""
    hosts.wire(here, "v0", hosts.host("outside"), "v1")
    ports = Ports(1)
    a, b, uplink = ports.open(policy(instance("tap-a", 1), instance("tap-b", 2)), uplinks=["v0"])
    same = ports.update(policy(instance("tap-a", 1, "name: text"), instance("tap-b", 2)))
    assert not same
    changes = ports.update(policy(instance("tap-c", 3), instance("tap-a", 1, "port_security_enabled: false")))
    assert [p.name for p in changes.added] == ["tap-c"]
    assert changes.removed == (b,)
    (changed,) = changes.changed
    assert (changed.name, changed.fds) == ("tap-a", a.fds)
    assert changed.instance is not None
    assert not changed.instance.port_security_enabled
    assert [p.name for p in ports.ports] == ["tap-c", "tap-a", "v0"]
    assert ports.ports[2] == uplink
    assert exists(here, "tap-b")
    ports.release(b)
    assert not exists(here, "tap-b")
    ports.update(policy(instance("tap-a", 1, "tap: {mtu: 1400, persistent: true}")))
    assert "mtu 1400" in here.ip("link", "show", "tap-a")
    ports.close()
    assert exists(here, "tap-a")
    assert not exists(here, "tap-c")


def test_a_change_that_fails_changes_nothing(here: Host) -> None:
    ports = Ports(1)
    opened = ports.open(policy(instance("tap-a", 1)))
    with pytest.raises(PortError, match="interface none of an uplink does not exist"):
        ports.update(policy(instance("tap-b", 2), uplinks=("none",)))
    assert ports.ports == opened
    assert opened[0].is_attached
    assert not exists(here, "tap-b")
    ports.close()


def test_an_interface_deleted_under_way(hosts: Network, here: Host, caplog: pytest.LogCaptureFixture) -> None:
    """A TAP of ours is made anew; anything else is attached to when it is back."""
    outside = hosts.host("outside")
    hosts.wire(here, "v0", outside, "v1")
    ports = Ports(1)
    mine, uplink = ports.open(policy(instance("tap-a"), uplinks=("v0",)))
    ports.refresh()
    assert not select.select([ports.watch_fd], [], [], 0)[0]

    deleted(here, mine, ports)
    changes = ports.refresh()
    assert changes.removed == (mine,)
    assert [(p.name, p.made) for p in changes.added] == [("tap-a", True)]
    ports.release(mine)
    assert exists(here, "tap-a")

    deleted(here, uplink, ports)
    changes = ports.refresh()
    assert changes == type(changes)(removed=(uplink,))
    assert ports.missing == ("v0",)
    ports.release(uplink)
    assert not ports.refresh()
    # A change of the policy goes on without it.
    assert not ports.update(policy(instance("tap-a"), uplinks=("v0",), more="region: r"))
    hosts.wire(here, "v0", outside, "v1")
    changes = ports.refresh()
    assert [(p.name, p.kind) for p in changes.added] == [("v0", "packet")]
    assert ports.missing == ()
    assert [r.message for r in caplog.records if r.levelno == logging.WARNING] == [
        "interface tap-a is gone: its port is closed until it is back",
        "interface v0 is gone: its port is closed until it is back",
    ]
    ports.close()


def test_a_tap_that_was_moved_is_not_gone(hosts: Network, here: Host) -> None:
    ports = Ports(1)
    (port,) = ports.open(policy(instance("tap-a")))
    here.ip("link", "set", "tap-a", "netns", hosts.host("guest").name)
    assert not ports.refresh()
    assert port.is_attached
    hosts.host("guest").ip("link", "delete", "tap-a")
    assert ports.refresh().removed == (port,)
    ports.close()


def test_a_veth_whose_peers_namespace_went(hosts: Network, here: Host) -> None:
    guest = hosts.host("guest")
    hosts.wire(here, "a0", guest, "eth0")
    ports = Ports(1)
    (port,) = ports.open(policy(instance("a0")))
    subprocess.run(["ip", "netns", "delete", guest.name], check=True)
    until(lambda: not exists(here, "a0"), "the veth is gone")
    assert ports.refresh().removed == (port,)
    assert ports.missing == ("a0",) or [p.made for p in ports.ports] == [True]
    ports.release(port)
    subprocess.run(["ip", "netns", "add", guest.name], check=True)
    hosts.wire(here, "a0", guest, "eth0")
    assert [p.kind for p in ports.refresh().added] == ["packet"]
    ports.close()


def test_a_tap_whose_holder_ended(here: Host) -> None:
    """As QEMU holds its TAP: it goes with it, and is served again when it starts anew."""
    ports = Ports(1)
    held = with_holder("qemu0")
    here.ip("link", "set", "qemu0", "up")
    (port,) = ports.open(policy(instance("qemu0")))
    assert port.kind == "packet"
    tap.close(held)
    assert (ports.refresh().removed, ports.missing) == ((port,), ("qemu0",))
    ports.release(port)
    held = with_holder("qemu0")
    assert [p.kind for p in ports.refresh().added] == ["packet"]
    ports.close()
    tap.close(held)


def with_holder(name: str) -> list[int]:
    """A TAP that a program holds."""
    return tap.make(name, 1)
