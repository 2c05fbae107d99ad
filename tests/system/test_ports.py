"""Interfaces opened, made and left as they were, in namespaces that the test makes."""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import raw

from dataplane.live.interfaces import leftovers, tap
from dataplane.live.interfaces.ingress_drop import IngressDrop
from dataplane.live.interfaces.ports import PortError, Ports
from dataplane.policy import Policy

from .network import Host, Network, needs_root_and, standing_in
from .port_scene import exists, frame, instance, policy, received

pytestmark = needs_root_and("ip", "ethtool")


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
