"""A firewall dies, and the one that stands by takes its traffic: what was open goes on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.network import Host, needs_root_and, network, run, until
from tests.system.running import INSIDE, OUTSIDE, Running

pytestmark = needs_root_and("ip", "iperf3", "ssh", "sshd", "ssh-keygen", "openssl")

MAC = "fa:16:3e:00:00:01"
POLICY = f"""
security_groups:
  - id: sg
    security_group_rules:
      - {{id: ping, direction: ingress, protocol: icmp}}
      - {{id: in, direction: ingress, protocol: tcp, multiport: "22,5201"}}
      - {{id: out, direction: egress}}
instances:
  - {{id: a, mac: "{MAC}", addresses: [{INSIDE}], interface: to-a, security_groups: [sg]}}
uplinks:
  - {{interface: to-out}}
"""
ACTIVE, STANDBY, PORT = "10.77.0.1", "10.77.0.2", 9478


class One(Running):
    """One of two firewalls between `a` and `out`, each of which has both as ports of a bridge."""

    def __init__(self, net: object, folder: Path, number: int) -> None:
        folder.mkdir()
        self.net, self.folder, self.process = net, folder, None  # type: ignore[assignment]
        self.fw, self.a, self.out = (self.net.host(name) for name in (f"fw{number}", "a", "out"))
        self.policy, self.control, self.state = folder / "policy.yaml", folder / "control", folder / "state"
        self.policy.write_text(POLICY)
        self.port = f"eth{number}"
        for host, end in ((self.a, "to-a"), (self.out, "to-out")):
            self.net.wire(self.fw, end, host, self.port)
            host.ip("link", "set", self.port, "master", "br0")
            host.ip("link", "set", self.port, "down")

    def lead(self) -> None:
        """Frames go by this one from now on."""
        for host in (self.a, self.out):
            host.ip("link", "set", self.port, "up")

    def die(self) -> None:
        """As if its machine lost its power: nothing is said any more."""
        assert self.process
        for host in (self.a, self.out):
            host.ip("link", "set", self.port, "down")
        self.fw.stop(self.process, signal.SIGKILL)


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """A certificate and its key."""
    made = folder / f"{name}.pem", folder / f"{name}.key"
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", f"/CN={name}", "-days", "2", "-out", str(made[0]), "-keyout", str(made[1])),
    )
    return str(made[0]), str(made[1])


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[One, One]]:
    """An active firewall and its standby, which both run; traffic goes by the active one."""
    with network() as net:
        for name, address, options in (("a", INSIDE, ("address", MAC)), ("out", OUTSIDE, ())):
            host = net.host(name)
            host.ip("link", "add", "br0", *options, "type", "bridge")
            host.ip("address", "add", f"{address}/24", "dev", "br0")
            host.ip("link", "set", "br0", "up")
        active, standby = One(net, tmp_path / "one", 1), One(net, tmp_path / "two", 2)
        net.wire(active.fw, "sync", standby.fw, "sync")
        for one, address in ((active, ACTIVE), (standby, STANDBY)):
            one.fw.ip("address", "add", f"{address}/24", "dev", "sync")
        (here, here_key), (there, there_key) = certificate(tmp_path, "one"), certificate(tmp_path, "two")
        active.lead()
        standby.start(
            *("--standby-listen", f"{STANDBY}:{PORT}", "--replication-cert", there, "--replication-key", there_key),
            *("--replication-ca", here, "--metrics", "127.0.0.1:9477"),
        )
        active.start(
            *("--replicate-to", f"{STANDBY}:{PORT}", "--replication-cert", here, "--replication-key", here_key),
            *("--replication-ca", there, "--metrics", "127.0.0.1:9477"),
        )
        until(lambda: active.json("status")["replication"]["connected"], "the standby is told")
        yield active, standby


@pytest.fixture
def logged_in(pair: tuple[One, One], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """An ssh session into `a` that says again what it is told."""
    a, out = pair[0].a, pair[0].out
    for name in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name))
    keys = tmp_path / "authorized"
    shutil.copy(tmp_path / "user.pub", keys)
    Path("/run/sshd").mkdir(exist_ok=True)
    options = [f"AuthorizedKeysFile={keys}", "StrictModes=no", "UsePAM=no", f"PidFile={tmp_path}/pid", "UseDNS=no"]
    a.serve(22, "/usr/sbin/sshd", "-D", "-f", "/dev/null", "-h", str(tmp_path / "host"), *(f"-o{o}" for o in options))
    with subprocess.Popen(
        [
            *("ip", "netns", "exec", out.name, "ssh", "-F", "/dev/null", "-i", str(tmp_path / "user")),
            *("-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR", f"root@{INSIDE}"),
            *("stdbuf", "-o0", "cat"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        yield process
        process.kill()


def says_again(session: subprocess.Popen[str], word: str) -> bool:
    assert session.stdin
    assert session.stdout
    session.stdin.write(f"{word}\n")
    session.stdin.flush()
    return session.stdout.readline() == f"{word}\n"


def streams(out: Host, output: Path) -> subprocess.Popen[bytes]:
    """1 GB into `a`, for 4 seconds at least; it ends when all of it has come."""
    return out.start("iperf3", "-c", INSIDE, "-n", "1000M", "-b", "2G", "--json", output=output)


def test_what_is_open_goes_on_when_a_firewall_dies(
    pair: tuple[One, One], logged_in: subprocess.Popen[str], tmp_path: Path
) -> None:
    """SPEC 4.4: both were admitted by the other firewall, and are known here, one in motion and one at rest."""
    active, standby = pair
    assert says_again(logged_in, "before")
    active.a.serve(5201, "iperf3", "-s", "-1")
    stream = streams(active.out, tmp_path / "iperf")
    time.sleep(1)
    until(lambda: standby.ctl("conntrack", "count", "-p", "tcp").stdout.strip() >= "3", "the standby knows all")
    before = active.json("status")["replication"]
    active.die()
    standby.lead()
    assert says_again(logged_in, "after")
    assert stream.wait(120) == 0
    assert json.loads((tmp_path / "iperf").read_text())["end"]["sum_received"]["bytes"] > 1_000_000_000
    assert (before["lost"], before["resyncs"]) == (0, 1)
    # Nothing of them was outside its window, nor without a connection.
    causes = standby.json("counters")["causes"]
    assert not [cause for cause in causes if cause.startswith("tcp")], causes
    assert standby.ping(standby.out, INSIDE)
    metrics = standby.fw.run("curl", "-s", "http://127.0.0.1:9477/metrics").stdout
    assert 'dataplane_replication_connected{role="standby"} 0.0' in metrics
    assert standby.stop() == 0
