"""TCP in VXLAN between veths: super-packets of tunnels leave whole where the kernel can, else in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from .guarded import OPEN, PROGRAMS, WORLD, Guarded, four, guarded, mac
from .network import Host, needs_root_and, until

pytestmark = needs_root_and(*PROGRAMS)

INNER = {1: "10.19.0.1", WORLD: "10.19.0.9"}
SIZE = 8 << 20


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Guarded]:
    """Guest a behind a veth, the world behind another one, and a VXLAN between them."""
    with guarded(tmp_path) as made:
        a = made.guest("a")
        made.net.wire(made.fw, "v-a", a, "eth0", "address", "02:00:00:00:09:fe")
        a.ip("link", "set", "eth0", "address", mac(1))
        a.ip("address", "add", f"{four(1)}/24", "dev", "eth0")
        for host, number, other in ((a, 1, WORLD), (made.world, WORLD, 1)):
            tunnel = ("type", "vxlan", "id", "42", "local", four(number), "remote", four(other), "dstport", "4789")
            host.ip("link", "add", "t0", *tunnel, "dev", "eth0", check=False)
            if not host.ip("link", "show", "t0", check=False):
                pytest.skip("this kernel has no VXLAN")
            host.ip("address", "add", f"{INNER[number]}/24", "dev", "t0")
            host.ip("link", "set", "t0", "up")
        made.write(
            f"{OPEN}  - {{id: a, addresses: [{four(1)}], mac: '{mac(1)}', interface: v-a, security_groups: [sg]}}"
        )
        made.start()
        yield made


def carried(there: Host, to: str, here: Host, folder: Path) -> None:
    """Some megabytes arrive as they were sent."""
    data = folder / "data"
    data.write_bytes(hashlib.shake_128(b"tunnel").digest(SIZE))
    got = folder / "got"
    server = here.serve(7000, "sh", "-c", f"nc -l -p 7000 >{got}")
    done = there.run("sh", "-c", f"nc -N {to} 7000 <{data} || nc -q 0 {to} 7000 <{data}", timeout=60)
    assert done.returncode == 0, done.stderr
    server.wait(60)
    assert hashlib.sha256(got.read_bytes()).digest() == hashlib.sha256(data.read_bytes()).digest()


def test_super_packets_of_a_tunnel_leave_whole(site: Guarded, tmp_path: Path) -> None:
    """At first in pieces; then by a TAP beside the port, which goes with the firewall. The data is always right."""
    a = site.guest("a")
    carried(a, INNER[WORLD], site.world, tmp_path)
    pieces = segmented(site, "up0")
    assert pieces > 0

    def settled() -> bool:
        return "dptun" in site.fw.ip("link") or "super-packets of tunnels in pieces" in site.log.read_text()

    until(settled, "the firewall has seen to tunnels")
    if "in pieces" in site.log.read_text():
        pytest.skip("TAPs of this kernel know no tunnels")
    # The worker is told right behind the TAP's making, by the thread that answers this.
    site.ask("status")
    pieces = segmented(site, "up0")
    carried(a, INNER[WORLD], site.world, tmp_path)
    assert segmented(site, "up0") == pieces
    (beside,) = [line.split() for line in site.fw.ip("-brief", "address").splitlines() if line.startswith("dptun")]
    assert len(beside) == 2, "it has no address"
    site.stop()
    assert "dptun" not in site.fw.ip("link")


def segmented(site: Guarded, port: str) -> int:
    """Super-packets that left a port in pieces."""
    (found,) = [p for p in site.ask("counters")["ports"] if p["port"] == port]
    return int(found["segmented"]["packets"])
