"""Real programs through `dataplane run`: what passes, what does not, and in which form (SPEC 3, 4)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Dot1Q, Ether

from .guarded import PROGRAMS, WORLD, Guarded, connects, fetches, four, guarded, mac, pings, six, tapped, token
from .network import Host, needs_root_and

pytestmark = needs_root_and(*PROGRAMS, "tcpdump")

RULES = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: web, direction: ingress, protocol: tcp, multiport: "8080,5201"}
      - {id: web6, direction: ingress, ethertype: IPv6, protocol: tcp, multiport: "8080"}
      - {id: ping, direction: ingress, protocol: icmp}
      - {id: ping6, direction: ingress, ethertype: IPv6, protocol: icmpv6}
      - {id: dns, direction: ingress, protocol: udp, multiport: "5353"}
      - {id: out, direction: egress}
      - {id: out6, direction: egress, ethertype: IPv6}
  - id: quiet
    security_group_rules:
      - {id: quiet-out, direction: egress, protocol: tcp, multiport: "8080"}
instances:
"""


@pytest.fixture(
    scope="module", params=["--workers 1", "--workers 2", "--workers 1 --no-io-uring", "--workers 2 --no-io-uring"]
)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Guests a and b of group sg, c of a group that lets nothing in, and d, which is only in VLAN 10."""
    with guarded(tmp_path_factory.mktemp("site")) as made:
        vlan = made.instance("d", 4).replace("10.9.0.4", "10.10.0.4").replace("fd09::4", "fd0a::4")
        policy = made.instance("a", 1) + made.instance("b", 2) + made.instance("c", 3, "quiet") + vlan
        made.write(RULES + policy)
        made.start(*str(request.param).split())
        for number, name in enumerate("abc", 1):
            made.address(name, number)
        for name in "ac":
            served(made.guest(name))
        served(made.world)
        yield made


def served(host: Host) -> None:
    """A web server over IPv4 and IPv6 that answers everybody with the name of its folder's only file."""
    folder = Path("/proc/self")
    host.serve(8080, "python3", "-m", "http.server", "8080", "--bind", "::", "--directory", str(folder))


def test_ping_in_and_out(site: Guarded) -> None:
    a, b, c = site.guest("a"), site.guest("b"), site.guest("c")
    for address in (four, six):
        assert pings(site.world, address(1))
        assert pings(a, address(WORLD))
        assert pings(a, address(2))
        assert pings(b, address(1))
        assert not pings(a, address(3), count=1)
        assert not pings(c, address(1), count=1)


def test_web_and_other_ports(site: Guarded) -> None:
    """curl and nc: a port with a rule, one without, and a group that lets only its own connections out."""
    a, c = site.guest("a"), site.guest("c")
    for host in (site.world, site.guest("b"), c):
        assert "cmdline" in fetches(host, f"http://{four(1)}:8080/")
    assert "cmdline" in fetches(site.world, f"http://[{six(1)}]:8080/")
    assert "cmdline" in fetches(a, f"http://[{six(WORLD)}]:8080/")
    assert fetches(site.world, f"http://{four(3)}:8080/") == ""
    a.serve(9999, "nc", "-lk", "9999")
    assert not connects(site.world, four(1), 9999)
    assert connects(a, "127.0.0.1", 9999)
    assert fetches(c, f"http://[{six(1)}]:8080/") == ""


def test_what_is_denied_is_counted_and_told(site: Guarded) -> None:
    before = denied(site, "eth-a", "no-rule-matched")
    assert not connects(site.world, four(1), 23)
    assert denied(site, "eth-a", "no-rule-matched") > before


def denied(site: Guarded, port: str, reason: str) -> int:
    counters = site.ask("counters")
    (found,) = [p for p in counters["ports"] if p["port"] == port]
    return sum(c["packets"] for c in found["checks"] if c["verdict"] == "deny" and c["reason"] == reason)


def test_udp_both_ways(site: Guarded) -> None:
    a = site.guest("a")
    a.serve(5353, "nc", "-ulk", "-p", "5353")
    a.serve(5354, "nc", "-ulk", "-p", "5354")
    said = "from-outside"
    with tapped(a, "eth-a") as at:
        for port, arrives in ((5353, True), (5354, False)):
            site.world.run("sh", "-c", f"echo {said}{port} | nc -u -q 0 {four(1)} {port}")
            assert at.seen(f"{said}{port}".encode()) is arrives


def test_fragments(site: Guarded) -> None:
    """SPEC 4.6: pings of 4,000 bytes, in three fragments each, in, out and between guests."""
    for address in (four, six):
        assert pings(site.world, address(1), "-s", "4000")
        assert pings(site.guest("a"), address(WORLD), "-s", "4000")
        assert pings(site.guest("a"), address(2), "-s", "4000")
        assert not pings(site.world, address(3), "-s", "4000", count=1)


def test_path_mtu(site: Guarded) -> None:
    """SPEC 4.5: "fragmentation needed" and "packet too big" of a router on the way reach the guest."""
    far = site.net.host("far")
    site.net.wire(site.world, "to-far", far, "eth0")
    for host, interface, number in ((site.world, "to-far", 1), (far, "eth0", 2)):
        host.ip("link", "set", interface, "mtu", "1300")
        host.ip("address", "add", f"10.99.0.{number}/24", "dev", interface)
        host.ip("address", "add", f"fd99::{number}/64", "dev", interface, "nodad")
    site.world.sysctl("net.ipv4.ip_forward", 1)
    site.world.sysctl("net.ipv6.conf.all.forwarding", 1)
    far.ip("route", "add", "10.9.0.0/24", "via", "10.99.0.1")
    far.ip("route", "add", "fd09::/64", "via", "fd99::1")
    a = site.guest("a")
    a.ip("route", "replace", "10.99.0.0/24", "via", four(WORLD))
    a.ip("route", "replace", "fd99::/64", "via", six(WORLD))
    for to in ("10.99.0.2", "fd99::2"):
        told = a.run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", "-M", "do", "-s", "1400", to)
        assert "mtu = 1300" in told.stdout + told.stderr or "mtu: 1300" in told.stdout + told.stderr
    served(far)
    assert "cmdline" in fetches(a, "http://10.99.0.2:8080/")
    assert "cmdline" in fetches(a, "http://[fd99::2]:8080/")


def test_super_packets_stay_whole(site: Guarded, tmp_path: Path) -> None:
    """One TCP stream each way: most of what leaves a port is far longer than what its MTU lets onto a wire.

    iperf3 ends while what it wrote last, some 12 MB, waits in sockets: so much that this is little of it.
    """
    a, b = site.guest("a"), site.guest("b")
    a.serve(5201, "iperf3", "-s")
    for host, interface in ((b, "eth-b"), (site.world, "eth0")):
        for way in ((), ("-R",)):
            seen = tmp_path / "seen"
            tcpdump = host.start(
                *("tcpdump", "-i", interface, "-nn", "-s", "64", "-c", "1", "greater", "20000"), output=seen
            )
            before = traffic(site, "eth-a")
            done = json.loads(host.run("iperf3", "-c", four(1), "-n", "400M", "-J", *way).stdout)
            assert done["end"]["sum_received"]["bytes"] >= 380e6
            packets, size = (now - then for now, then in zip(traffic(site, "eth-a"), before, strict=True))
            assert size > 380e6
            assert size / packets > 3000
            assert tcpdump.wait(60) == 0


def traffic(site: Guarded, port: str) -> tuple[int, int]:
    """Packets and bytes that passed a port, both ways."""
    (found,) = [p for p in site.ask("counters")["ports"] if p["port"] == port]
    return tuple(found["received"][what] + found["sent"][what] for what in ("packets", "bytes"))  # type: ignore[return-value]


def test_vlans_pass_unchanged(site: Guarded) -> None:
    """Frames in VLAN 10, also in another one, are judged by what they carry and keep their tags both ways."""
    outside = "02:00:00:00:99:09"
    with tapped(site.world, "eth0") as world, tapped(site.guest("d"), "eth-d") as d:
        for tags in (Dot1Q(vlan=10, prio=3), Dot1Q(vlan=10, type=0x8100) / Dot1Q(vlan=20)):
            said, denied, answer = token(), token(), token()
            there = Ether(src=outside, dst=mac(4)) / tags / IP(src="10.10.0.9", dst="10.10.0.4")
            back = Ether(src=mac(4), dst=outside) / tags / IP(src="10.10.0.4", dst="10.10.0.9")
            number = said[0]
            world.send(bytes(there / UDP(dport=99) / denied), bytes(there / ICMP(id=number) / said))
            assert d.seen(bytes(there / ICMP(id=number) / said))
            d.send(bytes(back / ICMP(type=0, id=number) / answer))
            assert world.seen(bytes(back / ICMP(type=0, id=number) / answer))
            world.send(bytes(there / UDP(dport=99) / denied))
            assert not d.seen(denied, 0.2)
    assert 10 in [s["vlan"] for s in site.ask("stations") if s["port"] == "up0"]


def test_the_switch_knows_who_is_where(site: Guarded) -> None:
    stations = {s["mac"]: s["port"] for s in site.ask("stations")}
    assert stations[mac(1)] == "eth-a"
    assert stations[mac(2)] == "eth-b"
    assert pings(site.guest("a"), four(WORLD))
    with tapped(site.guest("b"), "eth-b") as at_b:
        assert pings(site.guest("a"), four(WORLD))
        assert not at_b.seen(bytes([10, 9, 0, 9]), 0.3)
