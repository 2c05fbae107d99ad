"""What is below the rules: who may send as whom, neighbours, routers, DHCP, balancers, and frames that are none
(SPEC 3.5, 4.8)."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from scapy.compat import raw
from scapy.layers.dhcp6 import DHCP6_Solicit
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_RA,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from .guarded import PROGRAMS, WORLD, Guarded, fetches, four, guarded, mac, pings, six, tapped, token
from .network import Host, needs_root_and, standing_in, until

pytestmark = needs_root_and(*PROGRAMS, "dnsmasq", "udhcpc")

VIRTUAL_MAC = "00:00:5e:00:01:07"
SOL_PACKET, PACKET_VNET_HDR = 263, 15

RULES = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: ping, direction: ingress, protocol: icmp}
      - {id: ping6, direction: ingress, ethertype: IPv6, protocol: icmpv6}
      - {id: udp, direction: ingress, protocol: udp, multiport: "99"}
      - {id: out, direction: egress}
      - {id: out6, direction: egress, ethertype: IPv6}
  - id: closed
    security_group_rules:
      - {id: never, direction: ingress, action: deny}
"""

BALANCER_NUMBER = 77
BALANCER = f"""
load_balancers:
  - {{id: lb, interface: lb0, addresses: [{four(BALANCER_NUMBER)}], mac: "{mac(BALANCER_NUMBER)}", backends: [c],
     transfer_client_ip: true}}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Guests a and b share a virtual IP; c, behind a balancer, lets nobody in; d may send as it likes."""
    with guarded(tmp_path_factory.mktemp("site")) as made:
        made.net.wire(made.fw, "lb0", made.net.host("lb"), "eth0")
        virtual = ", ".join(f'{{ip: "{address}", mac: "{VIRTUAL_MAC}"}}' for address in (four(23), six(23)))
        shared = f'allowed_address_pairs: [{four(21)}, "{six(21)}", {virtual}]'
        made.write(
            RULES
            + BALANCER
            + "instances:\n"
            + made.instance("a", 1, more=shared)
            + made.instance("b", 2, more=shared)
            + made.instance("c", 3, "closed")
            + made.instance("d", 4, more="port_security_enabled: false")
        )
        made.start()
        for number, name in enumerate("abcd", 1):
            made.address(name, number)
        yield made


def frames_as(number: int, claimed: int, said: bytes) -> list[bytes]:
    """What a guest sends that claims to be another one (or itself), by its address and in each way that counts."""
    to, all4, all6 = "02:00:00:00:99:01", "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"
    own = mac(number)
    # A nonce: what follows an advertisement must be options that are known.
    option = bytes([14, 2]) + said + bytes(2)
    advertised = ICMPv6ND_NA(tgt=six(claimed), R=0, S=0) / ICMPv6NDOptDstLLAddr(lladdr=own) / Raw(option)
    return [
        raw(frame)
        for frame in (
            Ether(src=own, dst=to) / IP(src=four(claimed), dst=four(WORLD)) / UDP(dport=99) / said,
            Ether(src=own, dst=to) / IPv6(src=six(claimed), dst=six(WORLD)) / UDP(dport=99) / said,
            Ether(src=own, dst=all4) / ARP(op=1, hwsrc=own, psrc=four(claimed), pdst=four(WORLD)) / said,
            Ether(src=own, dst=all4) / ARP(op=2, hwsrc=mac(claimed), psrc=four(claimed), pdst=four(WORLD)) / said,
            Ether(src=own, dst=all6) / IPv6(src=six(claimed), dst="ff02::1", hlim=255) / advertised,
            Ether(src=mac(claimed), dst=to) / IP(src=four(number), dst=four(WORLD)) / UDP(dport=99) / said,
        )
    ]


def test_a_guest_sends_as_itself_only(site: Guarded) -> None:
    """Each form passes for the rightful sender, not for another one, and for who may send as it likes."""
    with tapped(site.world, "eth0") as world:
        for name, number, claimed, passes in (("b", 2, 2, True), ("b", 2, 7, False), ("d", 4, 7, True)):
            with tapped(site.guest(name), f"eth-{name}") as guest:
                for kind in range(6):
                    said = token()
                    guest.send(frames_as(number, claimed, said)[kind])
                    seen = world.seen(said, 0.5 if passes else 0.15)
                    assert seen is passes, f"frame {kind} of {name} as {claimed}"


def test_who_has_no_address_yet_may_only_ask_by_arp(site: Guarded) -> None:
    """Whether its own address is free (RFC 5227): a reply, or any other operation, in the name of 0.0.0.0 is no such
    question, and one about another's address denies it to its holder."""
    with tapped(site.world, "eth0") as world, tapped(site.guest("b"), "eth-b") as guest:
        for operation, about, passes in ((1, 2, True), (2, 2, False), (0, 2, False), (3, 2, False), (1, WORLD, False)):
            said = token()
            arp = ARP(op=operation, hwsrc=mac(2), psrc="0.0.0.0", pdst=four(about))
            guest.send(raw(Ether(src=mac(2), dst="ff:ff:ff:ff:ff:ff") / arp / said))
            assert world.seen(said, 0.5 if passes else 0.15) is passes, f"operation {operation} about {about}"


def test_a_forged_sender_does_not_move_a_station(site: Guarded) -> None:
    """What b sends with a's MAC neither passes nor turns a's traffic towards b."""
    a, b = site.guest("a"), site.guest("b")
    with tapped(b, "eth-b") as forger:
        forger.send(raw(Ether(src=mac(1), dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=mac(1), psrc=four(1), pdst=four(1))))
    assert {s["mac"]: s["port"] for s in site.ask("stations")}[mac(1)] == "eth-a"
    assert pings(site.world, four(1))
    assert pings(a, four(2))


def test_a_virtual_address_moves(site: Guarded) -> None:
    """Both hold it in allowed_address_pairs: who announces it has it."""
    said = {}
    for name, number in (("a", 1), ("b", 2)):
        host, interface = site.guest(name), f"eth-{name}"
        host.ip("address", "add", f"{four(21)}/32", "dev", interface)
        with tapped(host, interface) as guest:
            guest.send(
                raw(
                    Ether(src=mac(number), dst="ff:ff:ff:ff:ff:ff")
                    / ARP(op=2, hwsrc=mac(number), psrc=four(21), hwdst="ff:ff:ff:ff:ff:ff", pdst=four(21))
                )
            )
            until(lambda: pings(site.world, four(21), count=1), f"{name} answers for the virtual address")
            said[name] = site.world.ip("neighbour", "show", four(21))
            assert guest.seen(bytes([10, 9, 0, 21]))
        host.ip("address", "delete", f"{four(21)}/32", "dev", interface)
        site.world.ip("neighbour", "delete", four(21), "dev", "eth0", check=False)
    assert mac(1) in said["a"]
    assert mac(2) in said["b"]


def test_a_virtual_mac_moves_and_goes_with_its_address_only(site: Guarded) -> None:
    """SPEC 2: a pair with a MAC. Who sends by it last gets what is sent to it; VRRP tells of it from an own address."""
    to, everybody = "02:00:00:00:99:01", "ff:ff:ff:ff:ff:ff"

    def passes(name: str, frame: Ether, wanted: bool, after: bytes = b"") -> None:
        said = token() + after
        with tapped(site.world, "eth0") as world, tapped(site.guest(name), f"eth-{name}") as guest:
            guest.send(raw(frame / said))
            assert world.seen(said, 0.5 if wanted else 0.15) is wanted, f"{name}: {frame.summary()}"

    for name, number in (("a", 1), ("b", 2)):
        own = {"src": mac(number), "dst": everybody}
        virtual = {"src": VIRTUAL_MAC, "dst": everybody}
        passes(name, Ether(**virtual) / ARP(op=2, hwsrc=VIRTUAL_MAC, psrc=four(23), pdst=four(23)), True)
        passes(name, Ether(**own) / ARP(op=2, hwsrc=VIRTUAL_MAC, psrc=four(23), pdst=four(23)), True)
        passes(name, Ether(**own) / ARP(op=2, hwsrc=VIRTUAL_MAC, psrc=four(21), pdst=four(21)), False)
        passes(name, Ether(**virtual) / ARP(op=2, hwsrc=VIRTUAL_MAC, psrc=four(number), pdst=four(23)), False)
        for target, hardware, wanted in ((23, VIRTUAL_MAC, True), (21, VIRTUAL_MAC, False), (23, mac(7), False)):
            head = IPv6(src=six(number), dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=six(target), R=0, S=0)
            option = ICMPv6NDOptDstLLAddr(lladdr=hardware)
            passes(name, Ether(**own) / head / option / Raw(bytes([14, 2])), wanted, after=bytes(2))
        virtual["dst"] = to
        passes(name, Ether(**virtual) / IP(src=four(23), dst=four(WORLD)) / UDP(dport=99), True)
        passes(name, Ether(**virtual) / IP(src=four(number), dst=four(WORLD)) / UDP(dport=99), False)
        passes(name, Ether(**virtual) / IP(src=four(number), dst="224.0.0.18", ttl=255, proto=112), True)
        assert {s["mac"]: s["port"] for s in site.ask("stations")}[VIRTUAL_MAC] == f"eth-{name}"
    passes("c", Ether(src=VIRTUAL_MAC, dst=to) / IP(src=four(3), dst=four(WORLD)) / UDP(dport=99), False)


def test_a_balancer_behind_its_port(site: Guarded) -> None:
    """SPEC 3.5: what comes from it passes whatever the rules, with the client's address; all else is denied."""
    lb, c = site.net.host("lb"), site.guest("c")
    lb.ip("link", "set", "eth0", "address", mac(BALANCER_NUMBER))
    lb.ip("address", "add", f"{four(BALANCER_NUMBER)}/24", "dev", "eth0")
    assert pings(lb, four(3))
    c.serve(8080, "python3", "-m", "http.server", "8080", "--directory", "/proc/self")
    assert "cmdline" in fetches(lb, f"http://{four(3)}:8080/")
    assert not pings(site.world, four(3), count=1)
    assert not pings(site.guest("a"), four(3), count=1)


def test_nobody_else_is_a_balancer_that_has_a_port(site: Guarded) -> None:
    """SPEC 3.5: its address and its MAC count at its port alone, where its MAC stays; from elsewhere they are refused,
    at its backend and at a guest whose rules would let it in."""
    lb, world, own = site.net.host("lb"), site.world, mac(BALANCER_NUMBER)
    elsewhere = [(world, "eth0", WORLD), (site.guest("b"), "eth-b", 2), (site.guest("d"), "eth-d", 4)]
    with contextlib.ExitStack() as stack:
        taps = {
            host.name: stack.enter_context(tapped(host, interface))
            for host, interface, _ in [*elsewhere, (lb, "eth0", 0), (site.guest("c"), "eth-c", 3)]
        }
        open_guest = stack.enter_context(tapped(site.guest("a"), "eth-a"))
        for to, target in ((3, taps[site.guest("c").name]), (1, open_guest)):
            for host, interface, number in elsewhere:
                at_home = host.run("cat", f"/sys/class/net/{interface}/address").stdout.strip()
                for source, address in ((at_home, BALANCER_NUMBER), (own, number), (own, BALANCER_NUMBER)):
                    said = token()
                    head = Ether(src=source, dst=mac(to)) / IP(src=four(address), dst=four(to))
                    taps[host.name].send(raw(head / UDP(dport=99) / said))
                    assert not target.seen(said, 0.1), f"{interface} as {source} {four(address)} to guest {to}"
        said = token()
        head = Ether(src=own, dst=mac(3)) / IP(src="198.51.100.9", dst=four(3))
        taps[lb.name].send(raw(head / UDP(dport=9) / said))
        assert taps[site.guest("c").name].seen(said)
        said = token()
        head = Ether(src=mac(3), dst=own) / IP(src=four(3), dst=four(BALANCER_NUMBER))
        taps[site.guest("c").name].send(raw(head / UDP(dport=9) / said))
        assert taps[lb.name].seen(said)
    station = next(s for s in site.ask("stations") if s["mac"] == own)
    assert (station["port"], station["fixed"]) == ("lb0", True)


def test_neighbours_and_a_router(site: Guarded) -> None:
    """SPEC 4.8: neighbour discovery without a rule, a router's advertisement from outside, none from a guest."""
    a = site.guest("a")
    a.ip("neighbour", "flush", "dev", "eth-a")
    assert pings(site.world, six(1))
    a.sysctl("net.ipv6.conf.eth-a.accept_ra", 2)
    advertisement = (
        IPv6(src="fe80::9", dst="ff02::1", hlim=255)
        / ICMPv6ND_RA(routerlifetime=600)
        / ICMPv6NDOptPrefixInfo(prefix="fd55::", prefixlen=64)
    )
    with tapped(site.guest("b"), "eth-b") as b:
        b.send(raw(Ether(src=mac(2), dst="33:33:00:00:00:01") / advertisement))
    with tapped(site.guest("d"), "eth-d") as d:
        d.send(raw(Ether(src=mac(4), dst="33:33:00:00:00:01") / advertisement))
    assert not pings(a, six(5), count=1)
    assert "fd55::" not in a.ip("-6", "route")
    with tapped(site.world, "eth0") as world:
        world.send(raw(Ether(src="02:00:00:00:99:09", dst="33:33:00:00:00:01") / advertisement))
    until(lambda: "default via fe80::9" in a.ip("-6", "route"), "the guest has a default route")
    assert "fd55::" in a.ip("-6", "address", "show", "dev", "eth-a")
    a.sysctl("net.ipv6.conf.eth-a.accept_ra", 0)


def test_dhcp(site: Guarded, tmp_path: Path) -> None:
    """A lease without a rule, from a real server outside; no guest is a server."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    lease = ("udhcpc", "-f", "-q", "-n", "-t", "2", "-T", "1", "-i", "eth-c", "-s", str(script))
    c = site.guest("c")
    server = (
        *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--leasefile-ro", "--bind-interfaces"),
        *(f"--dhcp-host={mac(3)},{four(3)}", f"--dhcp-range={four(3)},static", "--no-ping"),
    )
    guest_server = site.guest("d").serve(67, *server, "--interface=eth-d")
    said = c.run(*lease)
    assert said.returncode
    site.guest("d").stop(guest_server)
    site.world.serve(67, *server, "--interface=eth0")
    said = c.run(*lease)
    assert f"lease of {four(3)} obtained from {four(WORLD)}" in said.stdout + said.stderr


def test_what_was_denied_is_told_by_its_name(site: Guarded) -> None:
    """ARP is no IP protocol 0, and the identifier of a ping is no port."""
    forged = Ether(src=mac(2), dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=mac(2), psrc=four(8), pdst=four(WORLD))
    ping = Ether(src=mac(2), dst="02:00:00:00:99:01") / IP(src=four(8), dst=four(WORLD)) / ICMP(id=77)
    told: dict[str, Any] = {}

    def are_told() -> bool:
        told.update(
            {flow["protocol"]: flow for flow in site.ask("counters")["denied_flows"] if flow["source"] == four(8)}
        )
        return len(told) == 2

    with tapped(site.guest("b"), "eth-b") as b:
        b.send(*[raw(forged), raw(ping)] * 50)
    until(are_told, "both are counted")
    assert told.keys() == {"arp", "icmp"}
    assert told["icmp"]["source_port"] is None


def malformed() -> Iterator[bytes]:
    """Frames that no stack sends: cut, with lengths that lie, with headers that overlap, and noise."""
    head = Ether(src="02:00:00:00:99:09", dst=mac(1))
    good = [
        raw(head / IP(src=four(WORLD), dst=four(1)) / ICMP() / b"payload"),
        raw(head / IP(src=four(WORLD), dst=four(1)) / TCP(dport=80, options=[("MSS", 1460)]) / b"payload"),
        raw(head / IPv6(src=six(WORLD), dst=six(1)) / IPv6ExtHdrFragment() / UDP(dport=99) / b"payload"),
        raw(head / IPv6(src=six(WORLD), dst=six(1)) / ICMPv6EchoRequest() / b"payload"),
        raw(head / ARP(op=2, hwsrc="02:00:00:00:99:09", psrc=four(WORLD), pdst=four(1))),
        raw(Ether(src=head.src, dst=mac(1), type=0x8100) / Raw(b"\x00\x0a\x08\x00" + bytes(20))),
        raw(head / IPv6(src="fe80::9", dst="ff02::1:2") / UDP(sport=546, dport=547) / DHCP6_Solicit()),
    ]
    dice = random.Random(5)
    for frame in good:
        yield from (frame[:length] for length in range(14, len(frame)))
        for _ in range(200):
            broken = bytearray(frame)
            for _ in range(dice.randint(1, 6)):
                broken[dice.randrange(12, len(broken))] = dice.randrange(256)
            yield bytes(broken)
    for ihl, length in ((4, 40), (15, 40), (5, 10), (5, 65535)):
        yield raw(head / IP(src=four(WORLD), dst=four(1), ihl=ihl, len=length) / UDP(dport=99) / b"x")
    for offset, more in ((1, 1), (1, 0), (8189, 0), (8191, 1)):
        yield raw(head / IP(src=four(WORLD), dst=four(1), id=7, frag=offset, flags=more) / (b"z" * 600))
    for _ in range(500):
        yield dice.randbytes(dice.randint(14, 1500))


def test_malformed_frames(site: Guarded) -> None:
    """The firewall outlives them, counts some of them, and goes on serving both sides."""
    frames = list(malformed())
    for host, interface in ((site.world, "eth0"), (site.guest("b"), "eth-b"), (site.guest("d"), "eth-d")):
        with tapped(host, interface) as sender:
            sender.send(*frames)
    assert pings(site.world, four(1))
    assert pings(site.guest("b"), six(WORLD))
    reasons = {
        (check["reason"], check["verdict"]) for port in site.ask("counters")["ports"] for check in port["checks"]
    }
    assert {("malformed", "deny"), ("invalid", "deny")} <= reasons


def datagrams(sender: int, receiver: int, said: bytes, **wrong: int) -> dict[str, bytes]:
    """A frame of each protocol whose checksum is looked at; with chksum=N that is its checksum."""
    head = Ether(src=mac(sender), dst=mac(receiver))
    ip, ip6 = IP(src=four(sender), dst=four(receiver)), IPv6(src=six(sender), dst=six(receiver))
    return {
        "ip": raw(head / IP(src=four(sender), dst=four(receiver), **wrong) / UDP(dport=99) / said),
        "udp": raw(head / ip / UDP(dport=99, **wrong) / said),
        "udp6": raw(head / ip6 / UDP(dport=99, **wrong) / said),
        "tcp": raw(head / ip / TCP(sport=7, dport=99, flags="S", **wrong) / said),
        "icmp": raw(head / ip / ICMP(**wrong) / said),
        "icmpv6": raw(head / ip6 / ICMPv6EchoRequest(data=said, **({"cksum": wrong["chksum"]} if wrong else {}))),
    }


def malformed_at(site: Guarded, port: str, direction: str) -> tuple[int, int]:
    """How many packets were denied as malformed in a direction at a port, and anywhere for a wrong checksum."""
    counters = site.ask("counters")
    (found,) = [p for p in counters["ports"] if p["port"] == port]
    wanted = {"direction": direction, "verdict": "deny", "reason": "malformed"}
    counts = [check["packets"] for check in found["checks"] if wanted.items() <= check.items()]
    return sum(counts), counters["causes"].get("bad-checksum", {"packets": 0})["packets"]


@pytest.mark.parametrize(("sender", "receiver", "direction"), [(1, WORLD, "egress"), (WORLD, 1, "ingress")])
def test_a_wrong_checksum_is_malformed(site: Guarded, sender: int, receiver: int, direction: str) -> None:
    """From a TAP and from a veth end: denied and counted, with its cause; the same frames with the right one pass."""
    a, world = (site.guest("a"), "eth-a"), (site.world, "eth0")
    (at, port), (to, far) = (a, world) if direction == "egress" else (world, a)
    with tapped(at, port) as source, tapped(to, far) as target:
        for name, frame in datagrams(sender, receiver, right := token()).items():
            source.send(frame)
            allowed = direction == "egress" or name in ("ip", "udp", "icmp", "icmpv6")
            assert target.seen(right) is allowed, name
        before = malformed_at(site, "eth-a", direction)
        frames = datagrams(sender, receiver, wrong := token(), chksum=0x1234)
        for name, frame in frames.items():
            source.send(frame)
            assert not target.seen(wrong, 0.2), name
        after = malformed_at(site, "eth-a", direction)
        assert [now - then for then, now in zip(before, after, strict=True)] == [len(frames)] * 2


def test_a_wrong_checksum_is_told(site: Guarded) -> None:
    frame = datagrams(WORLD, 1, token(), chksum=0x1234)["udp"]
    with tapped(site.world, "eth0") as world, site.asking() as client, ThreadPoolExecutor(1) as reader:
        told = reader.submit(next, client.stream("drops"), None)
        try:
            until(lambda: world.send(frame) or told.done(), "the drop is told")
        finally:
            client.stop()
        drop = told.result()
    found = {name: drop[name] for name in ("port", "instance", "direction", "reason", "cause", "destination_port")}
    assert found == {
        "port": "eth-a",
        "instance": "a",
        "direction": "ingress",
        "reason": "malformed",
        "cause": "bad-checksum",
        "destination_port": 99,
    }


@pytest.mark.parametrize("direction", ["egress", "ingress"])
def test_a_checksum_that_is_left_to_the_card_passes(site: Guarded, direction: str) -> None:
    """What the sender's kernel marks as not filled in yet is not looked at, and is filled in by who needs it."""
    a, world = (site.guest("a"), "eth-a"), (site.world, "eth0")
    ends, source, target = ((1, WORLD), a, world) if direction == "egress" else ((WORLD, 1), world, a)
    frame = datagrams(*ends, said := token(), chksum=0x1234)["udp"]
    before = malformed_at(site, "eth-a", direction)
    with tapped(*target) as receiver:
        send_unfinished(*source, frame, offset=6)
        assert receiver.seen(said)
    assert malformed_at(site, "eth-a", direction) == before


def send_unfinished(host: Host, interface: str, frame: bytes, offset: int) -> None:
    """Sends an IPv4 frame whose transport checksum, at `offset`, the card is to make (PACKET_VNET_HDR)."""
    with standing_in(host), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        sender.bind((interface, 0))
        needs_checksum = 1
        sender.send(struct.pack("=BBHHHH", needs_checksum, 0, 0, 0, 14 + 20, offset) + frame)


def test_frames_that_are_no_ip(site: Guarded) -> None:
    """SPEC 4.8: denied when live, also between guests."""
    said = token()
    with tapped(site.guest("b"), "eth-b") as b, tapped(site.world, "eth0") as world:
        b.send(raw(Ether(src=mac(2), dst="ff:ff:ff:ff:ff:ff", type=0x88B5) / said))
        assert not world.seen(said, 0.2)


def test_a_hundred_guests(tmp_path: Path) -> None:
    """Ports for 100 instances, two of which talk; most of them share a namespace."""
    with guarded(tmp_path) as site:
        crowd = site.net.host("crowd")
        others = "".join(
            f"  - {{id: i{n}, addresses: [10.8.0.{n}], interface: i{n}, security_groups: [sg],"
            f" tap: {{namespace: {crowd.name}}}}}\n"
            for n in range(98)
        )
        site.write(RULES + "instances:\n" + site.instance("a", 1) + site.instance("b", 2) + others)
        site.start()
        for name, number in (("a", 1), ("b", 2)):
            site.address(name, number)
        assert len(site.ask("counters")["ports"]) == 101
        assert pings(site.guest("a"), four(2))
        assert pings(site.world, four(1))
        assert _up(crowd) == 98


def _up(host: Host) -> int:
    return sum(",UP" in line for line in host.ip("-o", "link").splitlines() if ": i" in line)
