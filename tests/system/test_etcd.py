"""Firewalls that share a store: real etcd, three members in namespaces of their own, one killed and one cut off."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.etcd import Members, Place, needs_etcd
from tests.system.network import Host, needs_root_and, network, standing_in, until
from tests.system.running import INSIDE, POLICY, Conversation, Running, connected
from tests.unit.store.test_sqlite import over

pytestmark = [needs_root_and("ip"), needs_etcd]

_MEMBERS = 3


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with network() as net:
        yield Running(net, tmp_path)


def wired(running: Running, names: dict[str, str]) -> dict[str, Host]:
    """Hosts, and the firewall's, at one switch; by name, with an address each."""
    switch = running.net.host("switch")
    switch.ip("link", "add", "bridge0", "type", "bridge")
    switch.ip("link", "set", "bridge0", "up")
    made = {}
    for name, address in names.items():
        host = running.fw if name == "fw" else running.net.host(name)
        running.net.wire(switch, f"to-{name}", host, "mgmt")
        switch.ip("link", "set", f"to-{name}", "master", "bridge0")
        host.ip("address", "add", f"{address}/24", "dev", "mgmt")
        made[name] = host
    return made


def test_a_store_that_hosts_share(running: Running, tmp_path: Path) -> None:
    """A change elsewhere cuts live traffic here, whatever becomes of one member; without all, the last policy filters.

    SPEC 5.1, 5.2: the connections are disconnected that a change of rules on the firewall itself would disconnect.
    """
    addresses = {"fw": "10.77.0.9", "api": "10.77.0.8"} | {f"m{n}": f"10.77.0.{n + 1}" for n in range(_MEMBERS)}
    hosts = wired(running, addresses)
    places = [
        Place(addresses[f"m{n}"], 2379, 2380, ("ip", "netns", "exec", hosts[f"m{n}"].name)) for n in range(_MEMBERS)
    ]
    etcd = Members(tmp_path, places)
    path, log = tmp_path / "api.sock", tmp_path / "api.log"
    command = (sys.executable, "-m", "dataplane", "api", str(running.policy), "--listen", str(path))
    try:
        with standing_in(hosts["api"]):
            etcd.await_leader()
        running.start("--store", etcd.url("cloud"))
        api = hosts["api"].start(*command, "--store", etcd.url("cloud", name="api"), output=log)
        until(lambda: "serving" in log.read_text(), "the API is served")
        served = over(path)
        rules = "/vpc/security-group-rules"

        def change(port: int) -> None:
            """Makes a change, and waits until it is in force on the firewall."""
            body = {"security_group_id": "sg", "direction": "ingress", "protocol": "tcp", "multiport": str(port)}
            answer = served.call("POST", rules, {"security_group_rule": body})
            assert answer.status == 201, answer.body
            until(lambda: answer.body["security_group_rule"]["id"] in running.log, "the change is in force")

        talk = Conversation(running.out, running.a, INSIDE, 8080)
        assert talk.goes_on()
        change(9000)
        assert not talk.goes_on(within=1)
        talk.close()
        assert "cause=store" in running.log
        # What is kept by most members is kept, whichever is lost.
        etcd.kill(0)
        change(9001)
        etcd.start(0)
        with standing_in(hosts["api"]):
            # With what it has missed.
            etcd.await_leader()
        running.net.host("switch").ip("link", "set", "to-m1", "down")
        change(9002)
        running.net.host("switch").ip("link", "set", "to-m1", "up")
        # By the firewall's own command, too.
        running.ctl("rule", "add", "sg", "id=here", "direction=ingress", "protocol=tcp", "multiport=9003")
        until(lambda: served.call("GET", f"{rules}/here").status == 200, "the API has what the firewall was told")
        # A kill right behind the answer.
        last = served.call("DELETE", f"{rules}/here")
        hosts["api"].stop(api, signal.SIGKILL)
        assert last.status == 204
        until(lambda: "rule here deleted" in running.log, "what was answered is in force")
        for number in range(_MEMBERS):
            etcd.kill(number)
        until(lambda: running.json("status")["store"]["away_since"], "it notices that etcd is away")
        refused = running.ctl("rule", "add", "sg", "direction=ingress", "protocol=gre", status=1)
        assert "etcd does not answer" in refused.stderr
        assert "the policy in force stays: ask again when it answers" in " ".join(refused.stderr.split())
        for how in (None, signal.SIGKILL):
            if how:
                running.stop(how)
                running.start("--store", etcd.url("cloud"))
                assert "the last good copy is in force" in running.log
            for port in (9000, 9002):
                again = Conversation(running.out, running.a, INSIDE, port)
                assert again.goes_on()
                again.close()
            with pytest.raises(TimeoutError):
                connected(running.out, INSIDE, 9003, seconds=0.5)
        for number in range(_MEMBERS):
            etcd.start(number)
        until(lambda: not running.json("status")["store"]["away_since"], "etcd is there again")
        running.ctl("rule", "add", "sg", "direction=ingress", "protocol=gre")
    finally:
        etcd.close()


def test_a_policy_goes_to_some_hosts_first(running: Running, tmp_path: Path) -> None:
    """Where they would judge otherwise what comes to them, it stays as it is; else it is in force."""
    place = Place("127.0.0.1", 2379, 2380, ("ip", "netns", "exec", running.fw.name))
    etcd = Members(tmp_path, [place])
    file = tmp_path / "new.yaml"
    try:
        with standing_in(running.fw):
            etcd.await_leader()
        running.start("--store", etcd.url("cloud", name="h1"))
        # Each is a connection of its own: those that live are the shadow's too.
        running.out.start("bash", "-c", f"while sleep 0.1; do ping -c 1 -W 1 {INSIDE}; done")

        def applied(policy: str, status: int) -> str:
            file.write_text(policy)
            command = (sys.executable, "-m", "dataplane", "fleet", "apply", str(file), "--store", etcd.url("cloud"))
            done = running.fw.run(*command, "--canary", "5%", "--watch", "1s", "--yes", timeout=60)
            assert done.returncode == status, done.stdout + done.stderr
            return " ".join((done.stdout + done.stderr).split())

        without = POLICY.replace("protocol: icmp}", "protocol: udp}")
        stopped = applied(without, 1)
        assert "The policy stays as it is: host h1 would judge" in stopped
        assert "(generation=2" not in running.log
        assert running.ping(running.out, INSIDE)
        until(lambda: running.json("status")["shadow"] is None, "the shadow has ended")
        more = POLICY.replace("8080", "8080,9000")
        done = applied(more, 0)
        assert ", 0 of them otherwise" in done
        until(lambda: "multiport 8080,9000" in running.log, "the policy is in force")
        assert "Nothing changes" in applied(more, 0)
        command = (sys.executable, "-m", "dataplane", "fleet", "status", "--store", etcd.url("cloud"), "-o", "json")
        until(lambda: '"state": "up to date"' in running.fw.run(*command).stdout, "the host has said how far it is")
    finally:
        etcd.close()
