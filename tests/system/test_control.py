"""The running firewall and its control plane, with real programs.

Three hosts: `a` behind port tap-a's place (a veth end that the firewall serves by AF_PACKET), the firewall between, and
`out` behind the uplink. Connections are those of real kernels on both sides.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.utils import rdpcap

from dataplane import DataPlane, Policy
from dataplane.live.client import ControlClient
from tests.system.network import needs_root_and, network, standing_in, until
from tests.system.running import INSIDE, OUTSIDE, POLICY, ROOT, Conversation, Running

pytestmark = needs_root_and("ip", "ping", "curl", "setpriv")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with network() as net:
        yield Running(net, tmp_path)


@pytest.fixture
def inbound(running: Running) -> Iterator[Conversation]:
    running.start()
    made = Conversation(running.out, running.a, INSIDE, 8080)
    yield made
    made.close()


def test_a_rule_that_is_added_cuts_inbound_and_leaves_outbound(running: Running, inbound: Conversation) -> None:
    """SPEC 5.2; a dry run says the same beforehand and cuts nothing."""
    outbound = Conversation(running.a, running.out, OUTSIDE, 9000)
    assert inbound.goes_on()
    assert outbound.goes_on()
    add = ("rule", "add", "sg", "id=extra", "direction=egress", "protocol=tcp", "multiport=443,8443")
    dry = running.json(*add, "--dry-run")
    assert dry["disconnected"] == {"total": 1, "by_instance": {"a": 1}, "revoked": 0}
    assert inbound.goes_on()
    done = running.ctl(*add).stdout
    assert done.splitlines()[:3] == ["rule extra", "1 connection disconnected", "  a: 1"]
    assert "in memory only" in done
    assert not inbound.goes_on(within=1)
    assert outbound.goes_on()
    listed = running.ctl("conntrack", "list", "-p", "tcp", "--dport", "8080", "-s", OUTSIDE).stdout
    assert "[DISCONNECTED]" in listed
    # Another connection is judged by the rules of now at once.
    Conversation(running.out, running.a, INSIDE, 8080).close()
    outbound.close()


def test_changes_in_memory_are_told_and_can_be_kept(running: Running, inbound: Conversation) -> None:
    """Each says that the file does not have it, and so does `status`, until the file does."""
    running.policy.chmod(0o640)
    change = running.ctl("rule", "add", "sg", "direction=egress", "protocol=udp").stdout
    assert f"This change is in memory only, not in {running.policy}: a reload or a restart takes it back" in change
    change = running.ctl("clone", "sg", "copy").stdout
    assert "This change and 1 change before it are in memory only" in change
    assert "not in this file: 2 changes since then; a reload or a restart takes them back; `dataplane ctl --socket" in (
        running.ctl("status").stdout
    )
    reopened = Conversation(running.out, running.a, INSIDE, 8080)
    shown = running.ctl("policy").stdout
    assert Policy.parse(shown) == Policy.parse(running.ctl("policy", "-o", "json").stdout)
    assert running.ctl("reload", "--dry-run").stdout.startswith(
        "2 changes in memory would be taken back\n1 connection would be disconnected\n"
    )
    assert "cuts nothing" in running.ctl("policy", str(running.policy)).stdout
    assert (running.policy.read_text(), running.policy.stat().st_mode & 0o777) == (shown, 0o640)
    check = running.fw.run(sys.executable, "-m", "dataplane", "check", str(running.policy))
    assert check.returncode == 0, check.stdout
    assert running.ctl("reload").stdout == "Nothing changed.\n"
    assert reopened.goes_on()
    assert "not in this file" not in running.ctl("status").stdout
    assert "nothing is written" in running.ctl("policy", "/nowhere/policy.yaml", status=2).stderr
    reopened.close()


def test_a_mistake_in_the_policy_keeps_the_old_one(running: Running, inbound: Conversation) -> None:
    """SPEC 5.6: every mistake with its place, status 2, nothing is cut; and the same by SIGHUP."""
    running.policy.write_text(POLICY.replace('"8080"', '"0"').replace("protocol: icmp", "protocol: ping"))
    refused = running.ctl("reload", status=2)
    assert f"{running.policy}:5:" in refused.stderr
    assert f"{running.policy}:6:" in refused.stderr
    assert "the one before stays in force: 2 mistakes" in refused.stderr
    assert running.process
    running.process.send_signal(signal.SIGHUP)
    until(lambda: "stays in force" in running.log, "the log tells of the mistakes")
    assert inbound.goes_on()
    assert running.json("status")["generation"] == 1


def test_a_dry_run_refuses_what_a_reload_would(running: Running) -> None:
    """Interfaces that are missing are told by both, in the same words; what the policy lacks is its mistake."""
    running.start()
    for old, new, words, status in (
        ("interface: to-out", "interface: to-nowhere", "interface to-nowhere of an uplink does not exist", 1),
        ("interface: to-a,", "", "instance a in the policy has no interface", 2),
        ("interface: to-a,", "interface: new, tap: {namespace: dp-none},", "there is no network namespace dp-none", 1),
        ("interface: to-a,", "interface: new, tap: {owner: dp-nobody},", "there is no user dp-nobody", 1),
    ):
        running.policy.write_text(POLICY.replace(old, new))
        for command in (("reload", "--dry-run"), ("reload",)):
            assert words in running.ctl(*command, status=status).stderr
    assert running.json("status")["generation"] == 1


def test_reload_is_in_force_when_it_returns(running: Running, inbound: Conversation) -> None:
    running.policy.write_text(POLICY.replace('"8080"', '"8081"'))
    dry = running.ctl("reload", "--dry-run").stdout
    held = "What is disconnected stays so until its timeout"
    assert dry.splitlines()[:-1] == ["1 connection would be disconnected", "  a: 1"]
    assert dry.splitlines()[-1].startswith(held)
    assert inbound.goes_on()
    done = running.ctl("reload").stdout.splitlines()
    assert done[:-1] == ["1 connection disconnected", "  a: 1"]
    assert done[-1].startswith(held)
    assert not inbound.goes_on(within=1)
    assert running.ctl("reload").stdout == "Nothing changed.\n"
    Conversation(running.out, running.a, INSIDE, 8081).close()
    running.policy.write_text(POLICY)
    assert running.process
    running.process.send_signal(signal.SIGHUP)
    until(lambda: running.json("status")["generation"] == 3, "SIGHUP has reloaded")


def test_memberships_address_groups_and_clones(running: Running) -> None:
    """Each change of SPEC 7 has its command."""
    running.policy.write_text(POLICY + "address_groups:\n  - {id: list, ip_version: 4, ip_set: [192.0.2.0/24]}\n")
    running.start()
    running.ctl("clone", "sg", "copy")
    running.ctl("group", "add-instance", "copy", "a")
    running.ctl("group", "remove-instance", "sg", "a")
    running.ctl("rule", "update", "copy/1", "protocol=udp", "multiport=53")
    running.ctl("rule", "add", "copy", "direction=ingress", "protocol=icmp", "remote_address_group_id=list")
    assert not running.ping(running.out, INSIDE)
    running.ctl("address-group", "set", "list", "192.0.2.0/24", OUTSIDE)
    assert running.ping(running.out, INSIDE)
    running.ctl("rule", "delete", "copy/4")
    assert not running.ping(running.out, INSIDE)
    refused = running.ctl("group", "remove-instance", "copy", "a", status=2)
    assert "is the last one of instance" in refused.stderr
    status = running.json("status")
    assert (status["generation"], status["unsaved_changes"]) == (8, 7)


def test_the_connection_table(running: Running, inbound: Conversation) -> None:
    """list, count, delete and flush, with conntrack's filters."""
    with running.watching("conntrack", "events", "-o", "json") as events:
        assert running.ping(running.a, OUTSIDE)
        port = inbound.client.getsockname()[1]
        line = running.ctl("conntrack", "list", "-p", "tcp", "--state", "ESTABLISHED").stdout
        assert line.split()[:2] == ["tcp", "6"]
        assert (
            f"ESTABLISHED src={OUTSIDE} dst={INSIDE} sport={port} dport=8080 src={INSIDE} dst={OUTSIDE} sport=8080 "
            f"dport={port} [ASSURED] mark=0 use=1 instance=a origin=inbound rule=web security_group=sg" in line
        )
        assert 590 <= int(line.split()[2]) <= 600
        ping = running.ctl("conntrack", "list", "-p", "icmp", "--origin", "outbound").stdout
        assert f"src={INSIDE} dst={OUTSIDE} type=8 code=0 id=" in ping
        assert running.ctl("conntrack", "count").stdout == "2\n"
        assert running.ctl("conntrack", "count", "-d", INSIDE).stdout == "1\n"
        assert running.ctl("conntrack", "count", "--instance", "a", "-p", "udp").stdout == "0\n"
        running.ctl("conntrack", "delete", status=2)
        running.ctl("conntrack", "list", "--sport", "80", status=2)
        deleted = running.ctl("conntrack", "delete", "-p", "tcp", "--sport", str(port), "--dport", "8080").stdout
        assert deleted == "1 connection has been deleted.\n"
        assert running.ctl("conntrack", "flush").stdout == "1 connection has been deleted.\n"
        assert running.ctl("conntrack", "list").stdout == ""
        # Mid-stream segments of a connection that is not there are invalid.
        assert not inbound.goes_on(within=1)
        events.send_signal(signal.SIGINT)
        told = [json.loads(line) for line in events.communicate(timeout=60)[0].splitlines()]
    assert [(e["event"], e["connection"]["protocol"]) for e in told] == [
        ("NEW", "icmp"),
        ("UPDATE", "icmp"),
        ("DESTROY", "tcp"),
        ("DESTROY", "icmp"),
    ]


def test_events_tell_what_a_change_disconnects(running: Running, inbound: Conversation) -> None:
    """At once and without a packet; what is outbound stays, and is not told of."""
    outbound = Conversation(running.a, running.out, OUTSIDE, 9000)
    with running.watching("conntrack", "events", "--count", "1") as events:
        running.ctl("rule", "update", "ping", "icmp_type=echo-request")
        line = events.communicate(timeout=60)[0]
    assert line.startswith(" [UPDATE] tcp      6 ")
    assert f" src={OUTSIDE} dst={INSIDE} " in line
    assert " [ASSURED] [DISCONNECTED] mark=0 use=1 instance=a origin=inbound rule=web security_group=sg\n" in line
    assert not inbound.goes_on(within=1)
    assert outbound.goes_on()
    outbound.close()


def test_drops_are_told_as_they_come(running: Running) -> None:
    running.start()
    with running.watching("drops", "--count", "1") as drops:
        running.out.run("ping", "-c", "1", "-W", "1", "-I", OUTSIDE, INSIDE)
        with contextlib.suppress(OSError), standing_in(running.out):
            socket.create_connection((INSIDE, 22), timeout=0.5)
        line = drops.communicate(timeout=60)[0]
    assert f"deny ingress a tcp {OUTSIDE}:" in line
    assert f"> {INSIDE}:22 no-rule-matched port=to-a length=" in line
    counters = running.json("counters")
    (denied,) = counters["denied_flows"]
    assert (denied["destination_port"], denied["reason"]) == (22, "no-rule-matched")
    assert next(r for r in counters["rules"] if r["rule"] == "ping")["hits"] == 1


def test_a_capture_has_frames_and_verdicts(running: Running) -> None:
    """Our own replay reads it; each frame of one port is in it once, and what is denied too."""
    running.start()
    path, every = running.folder / "capture.pcapng", running.folder / "every.pcapng"
    with (
        running.watching("capture", str(path), "--port", "to-out") as capture,
        running.watching("capture", str(every)) as of_all,
    ):
        assert running.ping(running.out, INSIDE, count=3)
        with contextlib.suppress(OSError), standing_in(running.out):
            socket.create_connection((INSIDE, 22), timeout=0.5)
        capture.send_signal(signal.SIGINT)
        assert "frames captured" in capture.communicate(timeout=60)[1]
        of_all.send_signal(signal.SIGINT)
        assert "frames captured" in of_all.communicate(timeout=60)[1]
    summary = DataPlane(Policy.parse(POLICY)).replay(path)
    assert not summary.faults
    rules = {rule.rule: rule for rule in summary.rules}
    assert (rules["ping"].hits, rules["ping"].packets) == (1, 6)
    assert summary.verdicts["deny"].packets == 1
    data = path.read_bytes()
    assert b"allow rule\ningress a: allow new rule rule=ping group=sg connection=inbound" in data
    assert b"deny no-rule-matched\ningress a: deny new no-rule-matched" in data
    verdicts = running.folder / "v.jsonl"
    assert not DataPlane(Policy.parse(POLICY)).replay(every, verdicts=verdicts).faults
    records = [json.loads(line) for line in verdicts.read_text().splitlines()]
    frames = list(rdpcap(str(every)))
    assert len(frames) == len(records) > 10
    for frame, record in zip(frames, records, strict=True):
        live = frame.comment.decode().split()[0]
        assert record["verdict"] == ("bypass" if frame.direction == 2 else live), frame.comment
        assert record["interface"] == frame.sniffed_on


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_restart_keeps_connections(running: Running, workers: str) -> None:
    """TCP into and out of the instance, and a ping's identifier; nothing is left of the firewall in between."""
    running.start("--workers", workers)
    pairs = [
        Conversation(running.out, running.a, INSIDE, 8080),
        Conversation(running.a, running.out, OUTSIDE, 9000),
    ]
    assert running.stop() == 0
    assert not running.control.exists()
    assert running.state.stat().st_mode & 0o777 == 0o600
    assert not pairs[0].goes_on(within=1), "nothing passes without the firewall"
    running.start("--workers", workers)
    assert "restored=2" in running.log
    for pair in pairs:
        until(pair.goes_on, "the connection goes on after the restart")
        pair.close()


def test_a_restart_under_another_policy_cuts_what_the_change_cuts(running: Running, inbound: Conversation) -> None:
    """SPEC 5.2: the change was made while the firewall was down."""
    outbound = Conversation(running.a, running.out, OUTSIDE, 9000)
    assert running.stop() == 0
    running.policy.write_text(POLICY.replace('"8080"', '"8080,8081"'))
    running.start()
    assert "disconnected=1" in running.log
    assert not inbound.goes_on(within=1)
    until(outbound.goes_on, "the outbound connection goes on")
    outbound.close()


def test_a_damaged_state_file_is_told_and_ignored(running: Running) -> None:
    running.state.write_bytes(b"dpstate\n" + bytes(100))
    running.start()
    assert "it is ignored" in running.log
    assert running.ping(running.out, INSIDE)
    assert "saved" in running.ctl("save").stdout
    assert running.state.read_bytes()[8] == 1


def test_after_a_kill_outbound_traffic_comes_back(running: Running) -> None:
    """Without a word of farewell: the socket that was left is replaced, and a ping from inside passes again."""
    running.policy.write_text(POLICY.partition("uplinks:")[0])
    running.start("--uplink", "to-out")
    assert running.ping(running.a, OUTSIDE)
    running.stop(signal.SIGKILL)
    assert "is the firewall running?" in running.ctl("status", status=1).stderr
    running.start("--uplink", "to-out")
    assert running.ping(running.a, OUTSIDE)


def test_metrics_and_the_log_are_for_machines(running: Running) -> None:
    running.start("--metrics", "127.0.0.1:9477", "--log-format", "json")
    assert running.ping(running.out, INSIDE, count=2)
    text = running.fw.run("curl", "-s", "http://127.0.0.1:9477/metrics").stdout
    assert 'dataplane_connections{instance="a",state="REPLIED"} 1.0' in text
    labels = 'direction="ingress",port="to-a",reason="rule",verdict="allow"'
    assert f"dataplane_port_packets_total{{{labels}}} 1.0" in text
    running.stop()
    records = [record for line in running.log.splitlines() if (record := json.loads(line))["level"] == "info"]
    assert [r["message"] for r in records] == ["running", "stopping", "state saved", "stopped"]
    assert records[0]["ports"] == ["to-a", "to-out"]


def test_only_one_firewall_at_a_socket_and_only_its_users(running: Running) -> None:
    running.start()
    second = running.fw.run(
        sys.executable, "-m", "dataplane", "run", str(running.policy), "--control", str(running.control)
    )
    assert second.returncode == 1
    assert "another firewall listens at" in second.stderr
    nobody = running.fw.run(
        *("setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-c"),
        f"import socket; socket.socket(socket.AF_UNIX).connect({str(running.control)!r})",
    )
    assert "PermissionError" in nobody.stderr or "Permission denied" in nobody.stderr
    assert running.ping(running.out, INSIDE)


def test_what_hinders_the_start_is_a_sentence(running: Running) -> None:
    """Status 2 for a policy that is not valid, 1 for a host that is not ready; nothing is left behind."""
    program = [sys.executable, "-m", "dataplane", "run", str(running.policy), "--control", str(running.control)]
    for text, status, words in (
        (POLICY.replace("to-out", "to-nowhere"), 1, "interface to-nowhere of an uplink does not exist"),
        (POLICY.replace("interface: to-a, ", ""), 1, "instance a in the policy has no interface"),
        (POLICY.replace("protocol: icmp", "protocol: x"), 2, f"{running.policy}:5:"),
    ):
        running.policy.write_text(text)
        ended = running.fw.run(*program)
        assert (ended.returncode, words in ended.stderr, "Traceback" in ended.stderr) == (status, True, False), ended
        assert not running.control.exists()


def test_two_firewalls_share_no_interface(running: Running) -> None:
    """The second is refused in a sentence and touches nothing, until the first is gone, even by kill -9."""
    running.start()
    other = running.folder / "other"
    program = [sys.executable, "-m", "dataplane", "run", str(running.policy), "--control", str(other)]
    ended = running.fw.run(*program)
    assert running.process
    message = f"interface to-a is another firewall's, process {running.process.pid}: stop that one, or name another"
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended
    assert ended.stderr.startswith(message)
    assert not other.exists()
    # Each has its own.
    running.net.wire(running.fw, "to-b", running.a, "eth1")
    apart = running.folder / "apart.yaml"
    apart.write_text("uplinks: [{interface: to-b}]")
    second = running.fw.start(*program[:4], str(apart), "--control", str(other), output=running.folder / "second-log")
    until(lambda: "running" in (running.folder / "second-log").read_text(), "the second runs")
    apart.write_text(POLICY)
    for more in ((), ("--dry-run",)):
        asked = [sys.executable, "-m", "dataplane", "ctl", "--socket", str(other), "reload", *more]
        refused = subprocess.run(asked, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
        assert (refused.returncode, refused.stderr.startswith(message)) == (1, True), refused
    assert running.ping(running.out, INSIDE, 3)
    running.stop(signal.SIGKILL)
    taken = subprocess.run(asked[:-1], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert taken.returncode == 0, taken
    assert running.ping(running.out, INSIDE)
    running.fw.stop(second)
    assert "NOARP" not in running.fw.ip("link", "show")


def test_what_a_tap_elsewhere_was_not_given_is_in_the_answer(running: Running) -> None:
    """One that was made while the firewall ran keeps its mtu in another namespace, and who reloads is told so."""
    running.start()
    guest = running.net.host("guest").name
    for mtu in (1500, 1400):
        tap = f"tap: {{namespace: {guest}, mtu: {mtu}}}"
        more = f"  - {{id: b, addresses: [10.66.0.3], interface: eth0, {tap}}}\nuplinks:"
        running.policy.write_text(POLICY.replace("uplinks:", more))
        told = [running.ctl("reload", *options).stderr for options in (("--dry-run",), ())]
    assert told[0] == told[1]
    assert told[1].startswith("warning: TAP eth0 keeps its mtu and MAC: dataplane may not enter the network namespace")
    assert told[1].count("\n") == 1
    assert running.ctl("reload").stderr == ""


def test_a_wrong_option_is_told_before_an_interface_is_touched(running: Running) -> None:
    running.policy.write_text(POLICY.replace("to-out", "to-nowhere"))
    program = [sys.executable, "-m", "dataplane", "run", str(running.policy), "--control", str(running.control)]
    ended = running.fw.run(*program, "--metrics", "9477")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended
    assert ended.stderr.startswith("--metrics 9477: an address and a port are needed")


def test_a_port_comes_and_goes_with_the_policy(running: Running) -> None:
    """A TAP that the firewall made goes when the policy names it no more, and at the end."""
    running.start()
    more = POLICY.replace("uplinks:", "  - {id: b, addresses: [10.66.0.3], interface: dp-tap-b}\nuplinks:")
    running.policy.write_text(more)
    running.ctl("reload")
    assert "dp-tap-b" in running.fw.ip("-brief", "link")
    assert [p["instance"] for p in running.json("status")["ports"]] == ["a", None, "b"]
    running.policy.write_text(POLICY)
    running.ctl("reload")
    assert "dp-tap-b" not in running.fw.ip("-brief", "link")
    running.policy.write_text(more)
    running.ctl("reload")
    running.policy.write_text(more.replace("dp-tap-b", "dp-tap-c").replace("to-out", "to-nowhere"))
    refused = running.ctl("reload", status=1)
    assert "interface to-nowhere of an uplink does not exist" in refused.stderr
    assert "dp-tap-c" not in running.fw.ip("-brief", "link")
    assert "dp-tap-b" in running.fw.ip("-brief", "link")
    assert running.stop() == 0
    assert "dp-tap-b" not in running.fw.ip("-brief", "link")


def test_a_port_comes_and_goes_with_its_instance(running: Running) -> None:
    """SPEC 5.1, 5.6: an instance that is created while traffic flows has a port that is judged; deleted it has none."""
    running.start()
    b = running.net.host("b")
    running.net.wire(running.fw, "to-b", b, "eth0")
    b.ip("address", "add", "10.66.0.3/24", "dev", "eth0")
    refused = running.ctl("instance", "create", "b", f"addresses={INSIDE}", "interface=to-b", status=2)
    assert 'instance "a" has it already' in refused.stderr
    assert [p["instance"] for p in running.json("status")["ports"]] == ["a", None]
    running.ctl("instance", "create", "b", "addresses=10.66.0.3", "interface=to-b", "security_groups=sg")
    assert [p["instance"] for p in running.json("status")["ports"]] == ["a", None, "b"]
    until(lambda: running.ping(b, OUTSIDE), "the instance's port is served")
    running.ctl("instance", "update", "b", "interface=dp-tap-b")
    assert "dp-tap-b" in running.fw.ip("-brief", "link")
    assert not running.ping(b, OUTSIDE)
    running.ctl("instance", "delete", "b")
    assert "dp-tap-b" not in running.fw.ip("-brief", "link")
    assert [p["instance"] for p in running.json("status")["ports"]] == ["a", None]


def test_an_interface_that_goes_and_comes_back(running: Running) -> None:
    """Its port is missing meanwhile, and served again without a word from anybody."""
    running.start()
    assert running.ping(running.out, INSIDE)
    running.fw.ip("link", "delete", "to-a")
    until(lambda: running.json("status")["missing_interfaces"] == ["to-a"], "the port is taken out")
    running.net.wire(running.fw, "to-a", running.a, "eth0")
    running.a.ip("address", "add", f"{INSIDE}/24", "dev", "eth0")
    until(lambda: running.ping(running.a, OUTSIDE), "the port is served again")


def test_a_client_that_reads_nothing_stalls_nobody(running: Running, inbound: Conversation) -> None:
    """A capture that nobody takes, under traffic: packets go on, and other clients are answered."""
    with ControlClient(running.control) as stuck:
        blocks = stuck.capture()
        next(blocks)
        inbound.client.settimeout(60)
        inbound.server.settimeout(60)
        for _ in range(200):
            inbound.client.sendall(bytes(60_000))
            left = 60_000
            while left:
                left -= len(inbound.server.recv(left))
        started = time.monotonic()
        assert running.json("status")["generation"] == 1
        assert time.monotonic() - started < 5
        assert inbound.goes_on()
