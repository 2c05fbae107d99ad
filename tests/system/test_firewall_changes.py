"""Changes of the policy under running programs, and a firewall that stops and starts (SPEC 5)."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from dataplane.live.interfaces import tap

from .guarded import PROGRAMS, WORLD, Guarded, connects, fetches, four, guarded, pings, tapped
from .network import Host, needs_root_and, run, standing_in, until

pytestmark = needs_root_and(*PROGRAMS, "ssh", "sshd", "ssh-keygen", "unshare")

#: A request for the world's address from 10.9.0.6.
ARP_OF_SIX = bytes.fromhex("0001080006040001 020000000906 0a090006 000000000000 0a090009")

RULES = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: iperf, direction: ingress, protocol: tcp, multiport: "5201"}
      - {id: ping, direction: ingress, protocol: icmp}
      - {id: out, direction: egress}
conntrack: {timeouts: {icmp: 2}}
instances:
"""

ADD_UDP = {"add_rule": {"security_group": "sg", "rule": {"direction": "ingress", "protocol": "udp"}}}

QUARANTINE = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: shut-out, direction: ingress, action: deny, remote_group_id: shut}
      - {id: in, direction: ingress, priority: 2}
      - {id: out, direction: egress}
  - {id: peers, security_group_rules: [{id: peers-in, direction: ingress}, {id: peers-out, direction: egress}]}
  - {id: shut, security_group_rules: [{id: shut-out-to, direction: egress}]}
instances:
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Guarded]:
    with guarded(tmp_path) as made:
        made.write(RULES + made.instance("a", 1))
        yield made


def started(site: Guarded, *options: str) -> Host:
    site.start(*options)
    site.address("a", 1)
    return site.guest("a")


class Stream:
    """A running iperf3 that receives 8 Mbit/s; `rates` are its Mbit/s in steps of 0.2 s."""

    def __init__(self, host: Host, to: str, output: Path) -> None:
        self._output = output
        self.process = host.start(
            *("iperf3", "-c", to, "-R", "-b", "8M", "-t", "60", "-i", "0.2", "-f", "m", "--forceflush"), output=output
        )
        until(lambda: any(self.rates()), "iperf3 runs")

    def rates(self) -> list[float]:
        found = re.findall(r"MBytes|KBytes", self._output.read_text()) and re.findall(
            r"([\d.]+) Mbits/sec", self._output.read_text()
        )
        return [float(rate) for rate in found]

    def goes_on(self) -> bool:
        """Whether it moves something in the second to come."""
        before = len(self.rates())
        until(lambda: len(self.rates()) >= before + 7, "iperf3 tells more")
        return any(self.rates()[before + 2 :])


def test_a_rule_change_cuts_inbound_and_leaves_outbound(site: Guarded, tmp_path: Path) -> None:
    """SPEC 5.2: whatever the rule; the connection table tells which is which."""
    a = started(site)
    a.serve(5201, "iperf3", "-s")
    site.world.serve(5201, "iperf3", "-s")
    inbound = Stream(site.world, four(1), tmp_path / "inbound")
    outbound = Stream(a, four(WORLD), tmp_path / "outbound")
    answer = site.ask("rule", "add", "sg", "direction=egress", "protocol=gre")
    assert answer["changed"] is True
    assert not inbound.goes_on()
    assert outbound.goes_on()
    assert site.ask("conntrack", "count", "-p", "tcp", "--origin", "outbound")["count"] == 2
    # Another connection is a new one at once.
    assert connects(site.world, four(1), 5201)


def test_a_disconnected_ping_is_held_until_its_timeout(site: Guarded, tmp_path: Path) -> None:
    """SPEC 5.3: 30 s by default, 2 s here, counted from the change although the ping goes on, then the rules decide.

    By the times that ping prints, however late it or the firewall is let run: no answer may come sooner than 2 s after
    the change was asked for, and what is sent later than 2 s after it was answered is answered.
    """
    started(site)
    output = tmp_path / "ping"
    process = site.world.start("ping", "-n", "-D", "-O", "-i", "0.1", "-c", "900", "-W", "1", four(1), output=output)

    def times(of: str) -> dict[int, float]:
        found = re.findall(rf"^\[([\d.]+)\] {of}.* icmp_seq=(\d+)", output.read_text(), re.MULTILINE)
        return {int(number): float(when) for when, number in found}

    def gaps() -> list[tuple[int, int]]:
        """Between which answered ones some were not, but for the last that came."""
        return [(a, b) for a, b in pairwise(sorted(times("64 bytes from"))[:-10]) if b - a > 1]

    until(lambda: len(times("64 bytes from")) >= 10, "ten pings are answered")
    with site.asking() as client:
        asked = time.time()
        client.call("change", change=ADD_UDP)
        answered = time.time()
    until(gaps, "ten more are answered after a time")
    site.world.stop(process, signal.SIGINT)
    ((before, after),) = gaps()
    assert times("64 bytes from")[after] >= asked + 2
    # Of a ping it is said that there is no answer yet just before the next one is sent.
    sent_after = times("no answer yet for")
    assert all(sent_after.get(number - 1, asked) <= answered + 2.4 for number in range(before + 1, after))


EITHER = """\
      - {id: one, direction: ingress, protocol: udp, multiport: "1001"}
      - {id: two, direction: ingress, protocol: udp, multiport: "1002", action: deny}
"""

# Sends pairs of datagrams, the two of a pair to two ports, each pair from another source port: for so many seconds, and
# no fewer than 3,000.
SEND = """
import socket, sys, time
host, seconds = sys.argv[1], float(sys.argv[2])
end = time.monotonic() + seconds
pair = 0
while time.monotonic() < end or pair < 3000:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("", 10000 + pair))
        for port in (1001, 1002):
            s.sendto(b"%d" % pair, (host, port))
    pair += 1
    time.sleep(0.0002)
print(pair)
"""

# Prints the pairs that come, with the port, in the order in which they come.
RECEIVE = """
import selectors, socket
SO_RCVBUFFORCE = 33
ready = selectors.DefaultSelector()
for port in (1001, 1002):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    s.bind(("", port))
    ready.register(s, selectors.EVENT_READ, port)
while True:
    for key, _ in ready.select():
        print(key.data, key.fileobj.recv(100).decode(), flush=True)
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_packet_is_judged_by_half_a_policy(site: Guarded, tmp_path: Path, workers: str) -> None:
    """SPEC 5.1: under load, one policy lets port 1001 in and the other port 1002: of each pair exactly one arrives,
    but for the few pairs that a change came between."""
    document = RULES.replace("      - {id: ping,", EITHER + "      - {id: ping,")
    other = document.replace("1001", "0").replace("1002", "1001").replace('"0"', '"1002"')
    assert other != document
    instance = site.instance("a", 1)
    site.write(document + instance)
    a = started(site, "--workers", workers)
    output, sent = tmp_path / "received", tmp_path / "sent"
    a.start("python3", "-c", RECEIVE, output=output)
    until(lambda: ":1002 " in a.run("ss", "-Hlnu").stdout, "the receiver listens")
    sender = site.world.start("python3", "-c", SEND, four(1), "2.5", output=sent)
    changes = 0
    while sender.poll() is None:
        for text in (other, document):
            time.sleep(0.1)
            site.write(text + instance)
            site.signal(signal.SIGHUP)
            changes += 1
    time.sleep(0.3)
    pairs = int(sent.read_text())
    came: dict[int, set[int]] = {}
    for line in output.read_text().splitlines():
        port, pair = map(int, line.split())
        came.setdefault(pair, set()).add(port)
    assert site.ask("status")["generation"] > 10
    assert pairs > 2000
    ports = [came.get(pair, set()) for pair in range(pairs)]
    assert {1001} in ports
    assert {1002} in ports
    assert [p["drops"] for p in site.ask("counters")["ports"]] == [{}, {}]
    # Two workers hand packets to each other, so that the two of a pair may be some pairs apart.
    apart = 1 if workers == "1" else 10
    assert len([found for found in ports if len(found) != 1]) <= apart * changes
    assert len([a for a, b in pairwise(ports) if a != b]) <= 3 * apart * changes


def test_who_is_put_into_quarantine_is_cut_off_at_once(site: Guarded, tmp_path: Path) -> None:
    """SPEC 5.4: a guest's ssh session in another guest stops as it joins the group that the other's rules deny; a dry
    run says so beforehand; what comes from elsewhere goes on, and nothing new from that guest gets in."""
    site.write(QUARANTINE + site.instance("a", 1) + site.instance("b", 2, "peers"))
    a = started(site)
    site.address("b", 2)
    b = site.guest("b")
    key, session = serve_ssh(a, tmp_path), tmp_path / "session"
    known = ("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path / 'known'}", "-o", "BatchMode=yes")
    b.start("ssh", "-F", "none", "-i", str(key), *known, f"root@{four(1)}", "while sleep 0.1; do echo on; done",
            output=session)  # fmt: skip
    world = tmp_path / "world"
    site.world.start("ping", "-i", "0.2", four(1), output=world)
    until(lambda: "on\n" in session.read_text() and "bytes from" in world.read_text(), "ssh and ping run")
    expected = {"total": 1, "by_instance": {}, "revoked": 1}
    join = ("group", "add-instance", "shut", "b")
    assert site.ask(*join, "--dry-run")["disconnected"] == expected
    before = len(session.read_text())
    until(lambda: len(session.read_text()) > before, "the dry run has cut nothing")
    assert site.ask(*join)["disconnected"] == expected
    after, pings_before = len(session.read_text()), world.read_text().count("bytes from")
    time.sleep(1)
    # A line may have been under way.
    assert len(session.read_text()) <= after + len("on\n")
    assert world.read_text().count("bytes from") > pings_before
    assert "[DISCONNECTED]" in site.ctl("conntrack", "list", "--instance", "a", "-s", four(2))
    assert not connects(b, four(1), 22)
    assert connects(site.world, four(1), 22)


def test_a_policy_with_mistakes_changes_nothing(site: Guarded) -> None:
    """Every mistake is told with its place, the exit status is 2, and the policy before stays in force."""
    started(site)
    said = site.reload(RULES.replace("5201", "70000").replace("icmp}", "icpm}") + site.instance("a", 1), status=2)
    assert re.search(r"policy\.yaml:5:\d+: multiport .*70000", said)
    assert re.search(r"policy\.yaml:6:\d+: protocol .*did you mean icmp", said)
    assert pings(site.world, four(1))
    site.write("nonsense")
    site.signal(signal.SIGHUP)
    until(lambda: "stays in force" in site.log.read_text(), "the refusal is logged")
    assert pings(site.world, four(1))


def test_guests_come_and_go(site: Guarded) -> None:
    """With a reload; an interface that cannot be made refuses the whole."""
    started(site)
    both = RULES + site.instance("a", 1) + site.instance("b", 2)
    site.reload(both)
    site.address("b", 2)
    assert pings(site.guest("b"), four(1))
    said = site.reload(both.replace("eth-a", "eth-c").replace(site.guest("b").name, "dp-nowhere"), status=1)
    assert "there is no network namespace dp-nowhere" in said
    assert pings(site.guest("b"), four(1))
    site.reload(RULES + site.instance("b", 2))
    assert site.guest("a").run("ip", "link", "show", "eth-a").returncode
    assert pings(site.world, four(2))


def test_interfaces_deleted_under_way(site: Guarded) -> None:
    """The guest's TAP is made anew, an uplink is taken again when it is back; the other ports go on meanwhile."""
    document = RULES + site.instance("a", 1) + site.instance("b", 2)
    site.write(document)
    a = started(site)
    site.address("b", 2)
    a.ip("link", "delete", "eth-a")
    until(lambda: a.run("ip", "link", "show", "eth-a").returncode == 0, "the TAP is back")
    site.address("a", 1)
    until(lambda: pings(site.guest("b"), four(1)), "the TAP is served again")
    site.fw.ip("link", "delete", "up0")
    until(lambda: "interface up0 is gone" in site.log.read_text(), "the loss is told")
    assert pings(site.guest("b"), four(1))
    site.net.wire(site.fw, "up0", site.world, "eth0")
    site.world.ip("address", "add", f"{four(WORLD)}/24", "dev", "eth0")
    until(lambda: pings(site.world, four(1), count=1), "the uplink is back")


def test_it_leaves_nothing_behind(site: Guarded) -> None:
    started(site)
    site.fw.ip("link", "add", "mine", "type", "bridge")
    assert site.stop() == 0
    assert [line.split()[1] for line in site.fw.ip("-o", "link").splitlines()] == ["lo:", "up0@if2:", "mine:"]
    assert "NOARP" not in site.fw.ip("link", "show", "up0")
    assert site.guest("a").run("ip", "link", "show", "eth-a").returncode
    assert "Traceback" not in site.log.read_text()


def serve_ssh(host: Host, folder: Path) -> Path:
    """A real sshd, which lets root in with the key that is returned; its /run is its own."""
    key = folder / "key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    options = f"Port=22 HostKey={key} AuthorizedKeysFile={key}.pub StrictModes=no UsePAM=no PidFile=none".split()
    server = " ".join(("/usr/sbin/sshd -D -f /dev/null", *(f"-o {option}" for option in options)))
    host.serve(22, "unshare", "-m", "sh", "-c", f"mount -t tmpfs none /run && mkdir /run/sshd && exec {server}")
    return key


def test_a_restart_keeps_what_runs(site: Guarded, tmp_path: Path) -> None:
    """Connections are saved at SIGTERM and restored, under iperf3 both ways, ssh and ping; after SIGKILL the way out
    is open again by itself."""
    rules = RULES.replace("icmp: 2", "icmp: 30")
    site.write(rules + site.instance("a", 1).replace("tap: {", "tap: {persistent: true, "))
    options = ("--state", str(tmp_path / "state"))
    a = started(site, *options)
    a.serve(5201, "iperf3", "-s")
    site.world.serve(5201, "iperf3", "-s")
    inbound = Stream(site.world, four(1), tmp_path / "inbound")
    outbound = Stream(a, four(WORLD), tmp_path / "outbound")
    key, session, ping = serve_ssh(site.world, tmp_path), tmp_path / "session", tmp_path / "ping"
    known = ("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path / 'known'}", "-o", "BatchMode=yes")
    a.start("ssh", "-F", "none", "-i", str(key), *known, f"root@{four(WORLD)}", "while sleep 0.2; do echo on; done",
            output=session)  # fmt: skip
    site.world.start("ping", "-i", "0.2", four(1), output=ping)
    until(lambda: "on\n" in session.read_text() and "bytes from" in ping.read_text(), "ssh and ping run")
    assert site.stop() == 0
    site.start(*options)
    lines = {path: len(path.read_text().splitlines()) for path in (session, ping)}
    assert inbound.goes_on()
    assert outbound.goes_on()
    for path, before in lines.items():
        until(lambda path=path, before=before: len(path.read_text().splitlines()) > before + 3, f"{path.name} goes on")
    # Two connections of each iperf3, the session and the ping: those that were restored, and no other.
    counted = site.ask("counters")["connections"]
    assert (counted["live"], counted["opened"]) == (6, 6)
    assert "restored=6, saved=6" in site.log.read_text()
    site.stop(signal.SIGKILL)
    site.start()
    until(lambda: pings(a, four(WORLD)), "the guest reaches the world")


def test_a_tap_that_outlives_its_machine(site: Guarded) -> None:
    """A persistent TAP whose QEMU ended: nobody holds it, people see that, and it works again when somebody does."""
    site.fw.ip("tuntap", "add", "dev", "vm0", "mode", "tap")
    with standing_in(site.fw):
        held = tap.attach("vm0", 1, multi_queue=False)
    assert held is not None
    site.write(RULES + site.instance("a", 1) + f"  - {{id: vm, addresses: [{four(6)}], interface: vm0}}\n")
    site.start("--metrics", "127.0.0.1:9101")

    def state() -> tuple[str | None, bool]:
        (port,) = (p for p in site.ask("status")["ports"] if p["port"] == "vm0")
        return port["error"], 'port_up{port="vm0"} 1.0' in fetches(site.fw, "http://127.0.0.1:9101/metrics")

    without = "no carrier (nobody holds the TAP, or its other end is down)"
    assert state() == (None, True)
    tap.close(held)
    until(lambda: state() == (without, False), "it is told that nobody holds it")
    with standing_in(site.fw):
        held = tap.attach("vm0", 1, multi_queue=False)
    assert held is not None
    until(lambda: state() == (None, True), "it is well again")
    asked = b"\xff" * 6 + bytes.fromhex("020000000906") + b"\x08\x06" + ARP_OF_SIX
    with tapped(site.world, "eth0") as world:
        os.write(held[0], bytes(tap.HEADER_BYTES) + asked)
        assert world.seen(asked)
    tap.close(held)
    log = site.log.read_text()
    assert log.count(f"interface vm0 has {without}: it is served as soon as there is one") == 1
    assert log.count("interface vm0 has a carrier again") == 1
