"""Interfaces opened, made, watched and left as they were, in namespaces that the test makes."""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import raw

from dataplane.live.interfaces import leftovers, links, locks, tap
from dataplane.live.interfaces.ingress_drop import IngressDrop
from dataplane.live.interfaces.ports import Port, PortError, Ports
from dataplane.policy import Policy

from .network import Host, Network, needs_root_and, network, standing_in, until

pytestmark = needs_root_and("ip", "ethtool")

INSTANCE = "{{id: {0}, addresses: [10.0.0.{1}], mac: '02:00:00:00:00:0{1}', interface: {0}{2}}}"


def policy(*instances: str, uplinks: tuple[str, ...] = (), more: str = "") -> Policy:
    links = ", ".join(f"{{interface: {name}}}" for name in uplinks)
    return Policy.parse(f"instances: [{', '.join(instances)}]\nuplinks: [{links}]\n{more}")


def instance(name: str, number: int = 1, more: str = "") -> str:
    return INSTANCE.format(name, number, more and f", {more}")


@pytest.fixture
def hosts() -> Iterator[Network]:
    with network() as made, standing_in(made.host("here")):
        yield made


@pytest.fixture
def here(hosts: Network) -> Host:
    return hosts.host("here")


def exists(host: Host, name: str) -> bool:
    return host.run("ip", "link", "show", name).returncode == 0


def frame(source: int, destination: int = 0xFF, payload: bytes = b"hello") -> bytes:
    """A frame of a made-up protocol behind an empty virtio-net header."""
    mac = bytes([destination] * 6), bytes([2, 0, 0, 0, 0, source])
    return bytes(tap.HEADER_BYTES) + mac[0] + mac[1] + b"\x88\xb5" + payload.ljust(46, b"\0")


def received(fds: tuple[int, ...]) -> list[bytes]:
    """All frames of the made-up protocol that come within half a second after the last."""
    found = []
    while ready := select.select(fds, [], [], 0.5)[0]:
        for fd in ready:
            data = os.read(fd, 70000)
            if data[22:24] == b"\x88\xb5":
                found.append(data)
    return found


def test_a_tap_is_made_and_goes_with_us(here: Host) -> None:
    ports = Ports(1)
    (port,) = ports.open(policy(instance("tap-a", 1, "tap: {mtu: 9000}")))
    assert (port.name, port.kind, port.made, len(port.fds)) == ("tap-a", "tap", True, 1)
    assert port.instance is not None
    assert port.instance.id == "tap-a"
    shown = here.ip("-d", "link", "show", "tap-a")
    for word in ("mtu 9000", "02:00:00:00:00:01", "persist off", "vnet_hdr on", ",UP"):
        assert word in shown
    features = here.run("ethtool", "-k", "tap-a").stdout
    assert "tx-tcp-segmentation: on" in features
    assert "tx-tcp6-segmentation: on" in features
    assert not os.get_blocking(port.fds[0])
    ports.close()
    assert not exists(here, "tap-a")


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
        taken = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        assert "PortError: setting up interface lo0 failed: File exists" in taken.stderr
        process.communicate("")
    assert not exists(guest, "lo0")
    assert [line.split()[1] for line in here.ip("-o", "link").splitlines()] == ["lo:", "lo0:"]


def test_a_tap_that_nobody_holds_is_taken_as_it_is(here: Host) -> None:
    """With one queue for all workers where it has no more, and it stays when we go."""
    here.ip("tuntap", "add", "dev", "one", "mode", "tap")
    here.ip("tuntap", "add", "dev", "many", "mode", "tap", "multi_queue")
    here.ip("link", "set", "one", "mtu", "1400", "address", "02:00:00:00:00:99")
    ports = Ports(2)
    one, many = ports.open(policy(instance("one", 1), instance("many", 2)))
    assert (one.kind, one.made, len(one.fds)) == ("tap", False, 2)
    assert (many.kind, many.made, len(many.fds)) == ("tap", False, 2)
    shown = here.ip("link", "show", "one")
    assert "mtu 1400" in shown
    assert "02:00:00:00:00:99" in shown
    ports.close()
    assert exists(here, "one")
    assert exists(here, "many")


@pytest.mark.parametrize("multi_queue", [False, True])
def test_a_tap_that_another_program_holds(here: Host, multi_queue: bool) -> None:
    """As QEMU does: what it writes is what we receive, and never do we take a queue of its TAP."""
    guest = tap.make("tap-q", 2 if multi_queue else 1)
    here.ip("link", "set", "tap-q", "up")
    ports = Ports(1)
    (port,) = ports.open(policy(instance("tap-q")))
    assert (port.kind, port.made) == ("packet", False)
    received(tuple(guest))
    os.write(guest[0], frame(1))
    os.write(port.fds[0], frame(2))
    assert [data[10:22][6:] for data in received(port.fds)] == [bytes([2, 0, 0, 0, 0, 1])]
    assert [data[10:22][6:] for data in received(tuple(guest))] == [bytes([2, 0, 0, 0, 0, 2])]
    ports.close()
    tap.close(guest)


def test_own_frames_and_those_of_the_host_are_not_read_back(hosts: Network, here: Host) -> None:
    """Also with several workers, where each frame comes to one of them."""
    hosts.wire(here, "v0", hosts.host("outside"), "v1")
    for workers in (1, 2):
        ports = Ports(workers)
        (port,) = ports.open(policy(uplinks=("v0",)))
        assert (port.kind, port.made, len(set(port.fds))) == ("packet", False, workers)
        assert (port.instance, port.balancer) == (None, None)
        received(port.fds)
        os.write(port.fds[0], frame(1))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as host:
            host.bind(("v0", 0))
            host.send(frame(2)[tap.HEADER_BYTES :])
        with standing_in(hosts.host("outside")), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as outside:
            outside.bind(("v1", 0))
            outside.send(frame(3)[tap.HEADER_BYTES :])
        assert [data[16:22] for data in received(port.fds)] == [bytes([2, 0, 0, 0, 0, 3])]
        ports.close()


def test_super_packets_cross_a_packet_socket_whole(hosts: Network, here: Host) -> None:
    """A TCP segment of 10,000 bytes to be cut into 1,448, written on one veth pair and read on another."""
    hosts.wire(here, "a0", here, "a1")
    hosts.wire(here, "b0", here, "b1")
    ports = Ports(1)
    a, b = ports.open(policy(uplinks=("a1", "b1")))
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40 + 10000, 1, 0, 64, 6, 0, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]))
    tcp = struct.pack("!HHIIBBHHH", 1, 2, 1, 1, 0x50, 0x10, 1000, 0, 0)
    header = struct.pack("=BBHHHH", 1, 1, 54, 1448, 34, 16)
    sent = header + b"\xff" * 6 + bytes([2, 0, 0, 0, 0, 1]) + b"\x08\x00" + ip + tcp + bytes(10000)
    for fd in (a.fds[0], b.fds[0]):
        received((fd,))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as far:
        far.setsockopt(263, 15, 1)
        far.bind(("b0", 0))
        far.send(sent)
    data = os.read(b.fds[0], 70000)
    while data[22:24] != b"\x08\x00":
        data = os.read(b.fds[0], 70000)
    assert len(data) == len(sent)
    assert struct.unpack("=BBHHHH", data[:10])[:4] == (1, 1, 54, 1448)
    ports.close()


def test_the_hosts_own_stack_is_silent_meanwhile(hosts: Network, here: Host, caplog: pytest.LogCaptureFixture) -> None:
    """ARP and IPv6 are off, which is told where it matters; at the end everything is as before."""
    outside = hosts.host("outside")
    hosts.wire(here, "v0", outside, "v1")
    here.ip("link", "add", "br0", "type", "bridge")
    here.ip("address", "add", "10.0.0.9/24", "dev", "v0")
    here.ip("address", "add", "fd00::9/64", "dev", "v0", "nodad")
    outside.ip("address", "add", "10.0.0.8/24", "dev", "v1")
    outside.ip("address", "add", "fd00::8/64", "dev", "v1", "nodad")
    before = here.ip("-o", "address", "show", "dev", "v0")
    ports = Ports(1)
    with caplog.at_level(logging.WARNING):
        ports.open(policy(uplinks=("v0",)))
    assert [r.message for r in caplog.records] == [
        "interface v0 has the address 10.0.0.9 and fd00::9: while dataplane runs, the host does not answer there",
        "interface v0 has an IPv4 address: what its subnet sends to the host itself, the host takes past every rule;"
        " take the address away (ip -4 address flush dev v0)",
    ]
    assert outside.run("ping", "-c", "1", "-W", "1", "10.0.0.9").returncode
    assert outside.run("ping", "-c", "1", "-W", "1", "fd00::9").returncode
    ports.close()
    outside.ip("neighbour", "flush", "dev", "v1")
    assert outside.run("ping", "-c", "1", "-W", "3", "10.0.0.9").returncode == 0
    assert outside.run("ping", "-c", "1", "-W", "3", "fd00::9").returncode == 0
    without_times = [line.split("valid_lft")[0] for line in before.splitlines() if "fe80" not in line]
    after = here.ip("-o", "address", "show", "dev", "v0")
    assert [line.split("valid_lft")[0].replace(" nodad", "") for line in after.splitlines() if "fe80" not in line] == [
        line.replace(" nodad", "") for line in without_times
    ]
    caplog.clear()
    here.ip("link", "set", "v0", "master", "br0")
    here.ip("address", "flush", "dev", "v0")
    with caplog.at_level(logging.WARNING):
        ports.open(policy(uplinks=("v0",)))
    assert [r.message for r in caplog.records] == [
        "interface v0 is a port of br0, which forwards its packets too and past every rule: take it out (ip link set v0"
        " nomaster)"
    ]
    ports.close()


SENDS = """
import socket, sys
from scapy.all import IP, UDP, Ether, raw
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sender.bind(("v1", 0))
for mac in sys.argv[1:]:
    sender.send(raw(Ether(dst=mac) / IP(src="10.0.0.8", dst="192.0.2.1") / UDP(sport=9, dport=53) / mac.encode()))
"""


def test_the_hosts_ipv4_takes_nothing_meanwhile(hosts: Network, here: Host) -> None:
    """Of what is sent to an address that the host has elsewhere, to whatever MAC: no rule has judged it. Forwarding is
    off too; in the end all is as it was."""
    outside = hosts.host("outside")
    hosts.wire(here, "v0", outside, "v1")
    here.ip("address", "add", "192.0.2.1/32", "dev", "lo")
    here.ip("route", "add", "default", "dev", "lo")
    own = {"all.rp_filter": 0, "v0.rp_filter": 0, "v0.forwarding": 1, "v0.accept_local": 1}
    for key, value in own.items():
        here.sysctl(f"net.ipv4.conf.{key}", value)
    port_mac = json.loads(here.ip("-json", "link", "show", "v0"))[0]["address"]
    macs = ["ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01", port_mac]

    def set_now() -> list[int]:
        keys = [f"net.ipv4.conf.{key}" for key in own]
        return [int(value) for value in here.run("sysctl", "-n", *keys, check=True).stdout.split()]

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("192.0.2.1", 53))
        server.settimeout(0.3)

        def taken() -> list[str]:
            outside.run(sys.executable, "-c", SENDS, *macs, check=True)
            found: list[str] = []
            try:
                while True:
                    found.append(server.recv(100).decode())
            except TimeoutError:
                return found

        assert taken() == macs
        ports = Ports(1)
        ports.open(policy(uplinks=("v0",)))
        assert taken() == []
        assert set_now() == [0, 1, 0, 0]
        ports.close()
        assert set_now() == [*own.values()]
        assert taken() == macs


def test_the_host_takes_nothing_from_an_instance(hosts: Network, here: Host) -> None:
    """Neither what asks everybody from 0.0.0.0, nor what is for its own address; the port has it. What another policy
    makes of the interface counts; a firewall that is killed leaves nothing."""
    outside = hosts.host("outside")
    hosts.wire(here, "v0", outside, "v1")
    here.ip("address", "add", "10.0.0.9/24", "dev", "v0")
    mac = json.loads(here.ip("-json", "link", "show", "v0"))[0]["address"]
    with standing_in(outside):
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sender.bind(("v1", 0))
    try:
        IngressDrop("v0").close()
    except OSError:
        pytest.skip("tables of this kernel's nftables have no owner")
    frames = {
        name: raw(Ether(dst=to, type=0x0800) / IP(src=source, dst=destination) / UDP(sport=68, dport=67) / name)
        for name, to, source, destination in (
            ("discover", "ff:ff:ff:ff:ff:ff", "0.0.0.0", "255.255.255.255"),
            ("address", mac, "10.0.0.8", "10.0.0.9"),
        )
    }
    instance_here = "instances: [{id: a, addresses: [10.0.0.8], interface: v0}]"
    program = (
        "import sys, time; from dataplane.live.interfaces.ports import *; from dataplane.policy import Policy\n"
        "ports = Ports(1); ports.open(Policy.parse(sys.argv[1])); print(flush=True); time.sleep(60)"
    )
    with sender, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("", 67))

        def taken(wait: float = 5) -> list[str]:
            """What the host takes, of all that is sent; it is waited for that long each."""
            found: list[str] = []
            server.settimeout(wait)
            for each in frames.values():
                sender.send(each)
                with suppress(TimeoutError):
                    found.append(server.recv(100).decode())
            return found

        assert taken() == [*frames]
        ports = Ports(1)
        (port,) = ports.open(Policy.parse(instance_here))
        assert taken(0.2) == []
        assert [os.read(port.fds[0], 70000)[tap.HEADER_BYTES :] for _ in frames] == [*frames.values()]
        ports.update(policy(uplinks=("v0",)))
        assert taken() == [*frames]
        ports.update(Policy.parse(instance_here))
        assert taken(0.2) == []
        ports.close()
        assert taken() == [*frames]
        with subprocess.Popen((sys.executable, "-c", program, instance_here), stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            assert taken(0.2) == []
            process.kill()
        assert taken() == [*frames]
        leftovers.put_back()
        # Made anew under its name, and served before what had been set on the one of before is given up.
        ports.open(Policy.parse(instance_here))
        here.ip("link", "delete", "v0")
        hosts.wire(here, "v0", outside, "v1", "address", mac)
        (gone,) = ports.refresh().removed
        ports.release(gone)
        here.ip("address", "add", "10.0.0.9/24", "dev", "v0")
        with standing_in(outside):
            sender.bind(("v1", 0))
        assert taken(0.2) == []
        ports.close()
        assert taken() == [*frames]


def test_an_interface_that_is_down_is_set_up_meanwhile(hosts: Network, here: Host) -> None:
    hosts.wire(here, "v0", hosts.host("outside"), "v1")
    here.ip("link", "set", "v0", "down")
    ports = Ports(1)
    ports.open(policy(uplinks=("v0",)))
    assert ",UP" in here.ip("link", "show", "v0")
    ports.close()
    assert ",UP" not in here.ip("link", "show", "v0")


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


def deleted(host: Host, port: Port, ports: Ports) -> None:
    host.ip("link", "delete", port.name)
    assert select.select([ports.watch_fd], [], [], 5)[0]


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


@pytest.mark.parametrize(
    ("document", "uplinks", "message"),
    [
        (
            policy("{id: a, addresses: [10.0.0.1]}"),
            (),
            "instance a in the policy has no interface: live traffic needs one for each instance, as in interface:"
            " tap-a",
        ),
        (
            policy(*(f"{{id: i{n}, addresses: [10.0.0.{n}]}}" for n in range(1, 6))),
            (),
            "instances i1, i2, i3 and 2 more in the policy have no interface: live traffic needs one for each instance,"
            " as in interface: tap-a",
        ),
        (
            policy(),
            ("eth77",),
            "interface eth77 of an uplink does not exist: make it first, or name another one (ip link shows all)",
        ),
        (
            policy(more="load_balancers: [{id: lb, interface: lb0}]"),
            (),
            "interface lb0 of load balancer lb does not exist: make it first, or name another one (ip link shows all)",
        ),
        (
            policy(instance("a")),
            ("a",),
            "interface a is an uplink by --uplink, and of a in the policy: name another interface for one of them",
        ),
        (
            policy(instance("a", 1, "tap: {namespace: dp-none}")),
            (),
            "there is no network namespace dp-none: make it (ip netns add dp-none), or take it out of the policy",
        ),
        (
            policy(instance("a", 1, "tap: {owner: nobody-here}")),
            (),
            "there is no user nobody-here, whom the policy names as the owner of a TAP",
        ),
        (
            policy(instance("a", 1, "tap: {owner: '4294967295'}")),
            (),
            "there is no user 4294967295, whom the policy names as the owner of a TAP",
        ),
    ],
)
def test_mistakes_are_told_in_a_sentence(here: Host, document: Policy, uplinks: tuple[str, ...], message: str) -> None:
    ports = Ports(1)
    with pytest.raises(PortError) as caught:
        ports.open(document, uplinks)
    assert str(caught.value) == message
    assert ports.ports == ()
    assert not exists(here, "a")


def test_the_owner_may_have_any_number(here: Host) -> None:
    ports = Ports(1)
    try:
        ports.open(policy(instance("a", 1, "tap: {owner: '4294967294'}")))
        assert here.run("cat", "/sys/class/net/a/owner").stdout.strip() in ("4294967294", "-2")
    finally:
        ports.close()


# ---- one firewall for an interface ----


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


def settings(host: Host, name: str) -> tuple[list[str], str, list[str]]:
    """What a firewall changes of an interface: flags, whether IPv6 is off, addresses but for link-local ones."""
    (shown,) = json.loads(host.ip("-json", "address", "show", "dev", name))
    off = host.run("cat", f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").stdout
    return (
        sorted(shown["flags"]),
        off,
        sorted(f"{a['local']}/{a['prefixlen']}" for a in shown["addr_info"] if a["scope"] != "link"),
    )


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
        process.communicate("\n", timeout=20)
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
        process.communicate("\n", timeout=20)
    assert process.returncode == 0


def test_without_the_device(here: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tap, "_DEVICE", str(tmp_path / "tun"))
    with pytest.raises(PortError, match=r"needs .*/tun, which is missing: load the module \(modprobe tun\)"):
        Ports(1).open(policy(instance("a")))


def test_without_the_right(here: Host) -> None:
    """The missing capability is named."""
    program = (
        "from dataplane.live.interfaces.ports import *; from dataplane.policy import Policy\n"
        "import sys; document = Policy.parse(sys.argv[1])\n"
        "try: Ports(1).open(document)\n"
        "except PortError as error: print(error)"
    )
    here.ip("link", "add", "d0", "type", "veth", "peer", "name", "d1")
    for text, message in (
        ("instances: [{id: a, addresses: [10.0.0.1], interface: a}]", "making TAP a is not permitted: run dataplane"),
        ("uplinks: [{interface: d0}]", "setting up interface d0 is not permitted: run dataplane as root, or with"),
    ):
        done = here.run("setpriv", "--bounding-set=-net_admin", sys.executable, "-c", program, text)
        assert message in done.stdout, done.stderr
        assert "CAP_NET_ADMIN" in done.stdout


def test_a_hundred_instances(here: Host) -> None:
    ports = Ports(2)
    many = [f"{{id: i{n}, addresses: [10.0.{n}.1], interface: t{n}, tap: {{mtu: 1400}}}}" for n in range(100)]
    opened = ports.open(policy(*many))
    assert len({fd for port in opened for fd in port.fds}) == 200
    ports.close()
    assert "t99" not in here.ip("link", "show")


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
