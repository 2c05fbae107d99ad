"""Control traffic (SPEC 4.8) of real programs: guests that no rule allows anything get addresses, routes and leases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .guarded import PROGRAMS, Guarded, four, guarded, mac, six
from .network import Host, needs_root_and, until

pytestmark = needs_root_and(*PROGRAMS, "dnsmasq", "udhcpc", "dhclient")

RULES = """
security_groups:
  - {id: closed, security_group_rules: []}
  - id: server
    security_group_rules:
      - {id: asked, direction: ingress, protocol: udp, multiport: "67"}
      - {id: asked6, direction: ingress, ethertype: IPv6, protocol: udp, multiport: "547"}
      - {id: answers, direction: egress, protocol: udp}
      - {id: answers6, direction: egress, ethertype: IPv6, protocol: udp}
"""
SERVER = (
    *(
        "dnsmasq",
        "--no-daemon",
        "--conf-file=/dev/null",
        "--port=0",
        "--leasefile-ro",
        "--bind-interfaces",
        "--no-ping",
    ),
    *(
        f"--dhcp-host={mac(3)},{four(3)},[{six(3)}]",
        f"--dhcp-range={four(3)},static",
        f"--dhcp-range={six(0)},static,64",
    ),
)


def policy(site: Guarded, more: str = "") -> str:
    """Guest c, closed, and guest d, whose groups let it serve."""
    return RULES + "instances:\n" + site.instance("c", 3, "closed") + site.instance("d", 4, "server", more)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Two workers, which share what a client asked."""
    with guarded(tmp_path_factory.mktemp("site")) as made:
        made.write(policy(made))
        made.start("--workers", "2")
        made.address("d", 4)
        yield made


class Client:
    """A guest that asks for addresses."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder
        self.script = folder / "script"
        self.script.write_text("#!/bin/sh\n")
        self.script.chmod(0o755)

    def leases(self) -> bool:
        """Whether it gets its address by DHCP."""
        asked = self.host.run("udhcpc", "-fqn", "-t", "2", "-T", "1", "-i", "eth-c", "-s", str(self.script))
        return f"lease of {four(3)} obtained" in asked.stdout + asked.stderr

    def leases6(self) -> bool:
        """Whether it gets its address by DHCPv6; the leases that were given before are forgotten."""
        leases, pid = self.folder / "leases", self.folder / "pid"
        leases.write_text("")
        command = ("dhclient", "-6", "-1", "-v", "-sf", str(self.script), "-lf", str(leases), "-pf", str(pid), "eth-c")
        self.host.run("timeout", "6", *command)
        self.host.run("dhclient", "-6", "-x", "-pf", str(pid), "-lf", str(leases), "eth-c")
        return f"iaaddr {six(3)}" in leases.read_text()


@pytest.fixture
def client(site: Guarded, tmp_path: Path) -> Client:
    """Guest c."""
    return Client(site.guest("c"), tmp_path)


def test_a_router_and_leases_without_a_rule(site: Guarded, client: Client) -> None:
    """From a server outside: DHCP, DHCPv6, and by its advertisements an address and a route."""
    c = client.host
    c.sysctl("net.ipv6.conf.eth-c.accept_ra", 2)
    server = site.world.serve(547, *SERVER, "--enable-ra", "--interface=eth0", f"--dhcp-range={six(0)},slaac")
    assert client.leases()
    assert client.leases6()
    c.ip("link", "set", "eth-c", "down")
    c.sysctl("net.ipv6.conf.eth-c.router_solicitations", 3)
    c.ip("link", "set", "eth-c", "up")
    until(lambda: "default via fe80::" in c.ip("-6", "route"), "the guest has a route by an advertisement", 15)
    assert "fd09::" in c.ip("-6", "address", "show", "dev", "eth-c")
    site.world.stop(server)
    drops = site.ask("counters")["causes"]
    assert not {"dhcp", "neighbour-discovery", "multicast-listener", "arp", "control-rate"} & drops.keys()


def test_a_guest_serves_dhcp_only_if_the_policy_says_so(site: Guarded, client: Client) -> None:
    """Its rules allow it all the time."""
    server = site.guest("d").serve(547, *SERVER, "--interface=eth-d")
    assert not client.leases()
    assert not client.leases6()
    assert site.ask("counters")["causes"]["dhcp-server"]["packets"]
    site.reload(policy(site, "dhcp_server: true"))
    assert client.leases()
    assert client.leases6()
    site.guest("d").stop(server)
