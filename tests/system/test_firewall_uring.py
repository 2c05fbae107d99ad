"""TAPs through io_uring, and without: the same traffic, interfaces that go under it, a firewall that ends under it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from .guarded import OPEN, PROGRAMS, Guarded, four, guarded, mac, pings, tapped, token
from .network import needs_root_and, until

pytestmark = needs_root_and(*PROGRAMS)


@pytest.fixture(params=["--io-uring --workers 1", "--io-uring --workers 2", "--no-io-uring --workers 2"])
def options(request: pytest.FixtureRequest) -> list[str]:
    return str(request.param).split()


@pytest.fixture
def site(options: list[str], tmp_path: Path) -> Iterator[Guarded]:
    """Guests a, b and c of one group, which lets everything in."""
    with guarded(tmp_path) as made:
        made.write(OPEN + "".join(made.instance(name, number) for number, name in enumerate("abc", 1)))
        made.start(*options)
        for number, name in enumerate("abc", 1):
            made.address(name, number)
        yield made


def flood(site: Guarded) -> Callable[[], None]:
    """Two guests send each other, and the world sends to one, as much as they can, until what is returned is called."""
    a, b = site.guest("a"), site.guest("b")
    for host in (b, site.world):
        until(lambda host=host: pings(host, four(1)), "they reach each other")
    b.serve(5201, "iperf3", "-s")
    senders = [(host, host.start("ping", "-f", "-l", "100", four(2))) for host in (a, site.world)]
    senders.append((a, a.start("iperf3", "-c", four(2), "-t", "60", "--bidir")))
    until(lambda: passed(site, "eth-b") > 5000, "much passes")

    def end() -> None:
        for host, sender in senders:
            host.stop(sender, signal.SIGKILL)

    return end


def passed(site: Guarded, port: str) -> int:
    (found,) = [p for p in site.ask("counters")["ports"] if p["port"] == port]
    return int(found["received"]["packets"] + found["sent"]["packets"])


def busy(site: Guarded, seconds: float) -> float:
    """The part of a processor that the firewall uses for a while."""
    stat = Path(f"/proc/{site.ask('status')['pid']}/stat")

    def ticks() -> int:
        return sum(int(word) for word in stat.read_text().rpartition(")")[2].split()[11:13])

    before = ticks()
    time.sleep(seconds)
    return (ticks() - before) / 100 / seconds


def test_the_way_is_told(site: Guarded, options: list[str]) -> None:
    used = "--io-uring" in options
    status = site.ask("status")
    if status["io_uring_error"]:
        pytest.skip(f"no io_uring here: {status['io_uring_error']}")
    assert status["io_uring"] is used
    assert f" {'with' if used else 'without'} io_uring\n" in site.ctl("status")
    assert f"io_uring={'on' if used else 'off'}" in site.log.read_text()


def test_a_link_that_is_down(site: Guarded) -> None:
    """Its port keeps nobody busy, the others go on, and it is served again when it is up."""
    end = flood(site)
    a = site.guest("a")
    a.ip("link", "set", "eth-a", "down")
    assert pings(site.guest("c"), four(2))
    assert pings(site.world, four(2))
    end()
    assert busy(site, 1) < 0.3
    a.ip("link", "set", "eth-a", "up")
    site.address("a", 1)
    until(lambda: pings(site.guest("c"), four(1)), "the guest is there again")


def test_an_uplink_that_was_down(site: Guarded) -> None:
    """It has failed while it is down, and no longer once something has come from it again."""
    site.fw.ip("link", "set", "up0", "down")
    until(lambda: "Network is down" in site.ctl("status"), "it is told")
    site.fw.ip("link", "set", "up0", "up")
    until(lambda: pings(site.world, four(1)), "it is served again")
    assert "Network is down" not in site.ctl("status")


def test_a_tap_that_is_deleted(site: Guarded) -> None:
    """Under traffic: it is made anew and served, and nobody else sees what was meant for it."""
    end = flood(site)
    a, c = site.guest("a"), site.guest("c")
    with tapped(c, "eth-c") as other:
        for _ in range(3):
            a.ip("link", "delete", "eth-a")
            said = token()
            with tapped(site.world, "eth0") as world:
                frame = Ether(src="02:00:00:00:99:01", dst=mac(1)) / IP(src=four(77), dst=four(1)) / UDP() / said
                world.send(*[bytes(frame)] * 50)
            assert not other.seen(said, 0.2)
            until(lambda: a.run("ip", "link", "show", "eth-a").returncode == 0, "the TAP is back")
            site.address("a", 1)
            until(lambda: pings(c, four(1)), "the TAP is served again")
            assert pings(site.guest("b"), four(1))
            assert passed(site, "eth-a") > 0
    end()
    assert busy(site, 1) < 0.3


def test_it_ends_under_traffic(site: Guarded) -> None:
    """At once, and its TAPs with it."""
    flood(site)
    began = time.monotonic()
    assert site.stop() == 0
    assert time.monotonic() - began < 3
    assert site.guest("a").run("ip", "link", "show", "eth-a").returncode
    assert "Traceback" not in site.log.read_text()


def test_it_is_killed_under_traffic(site: Guarded, options: list[str]) -> None:
    """Its TAPs are gone before another one could take them, and that one serves."""
    flood(site)
    site.stop(signal.SIGKILL)
    until(lambda: site.guest("b").run("ip", "link", "show", "eth-b").returncode, "its TAPs are gone", 0.3)
    site.start(*options)
    for number, name in enumerate("abc", 1):
        site.address(name, number)
    until(lambda: pings(site.guest("b"), four(1)), "the next one serves")
    assert [p["kind"] for p in site.ask("status")["ports"]] == ["tap", "tap", "tap", "packet"]


def test_a_burst_keeps_its_order(site: Guarded) -> None:
    """Frames that come faster than they are read, from one guest to another."""
    a, b = site.guest("a"), site.guest("b")
    assert pings(b, four(1))
    b.serve(5202, "iperf3", "-s", "-p", "5202")
    done = json.loads(a.run("iperf3", "-c", four(2), "-p", "5202", "-u", "-b", "0", "-l", "64", "-t", "1", "-J").stdout)
    received = done["end"]["sum_received"] if "sum_received" in done["end"] else done["end"]["sum"]
    assert received["packets"] > 1000
    assert all(stream["udp"]["out_of_order"] == 0 for stream in done["end"]["streams"])
