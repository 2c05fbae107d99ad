"""The sides of the live benchmark: two hosts, A and B, and between them a forwarder, the firewall or a peer of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workloads import compiled

A, B, ROUTER = "dpbench-a", "dpbench-b", "dpbench-r"
A_IP, B_IP = "10.81.0.1", "10.82.0.2"
A_MAC, B_MAC = "02:00:00:00:81:01", "02:00:00:00:82:02"
SENDERS = "10.100.0.1"  # packet_blast counts up from here


def sh(command: str, *, check: bool = True) -> str:
    """Runs a line of shell and returns what it printed."""
    done = subprocess.run(command, shell=True, check=False, capture_output=True, text=True)
    if check and done.returncode:
        sys.exit(f"{command}\n{done.stderr}")
    return done.stdout


def inside(namespace: str, command: str) -> str:
    """The same in a namespace."""
    return sh(f"ip netns exec {namespace} {command}", check=False)


@dataclass(frozen=True)
class Ends:
    """What the two hosts call the wire, and the MAC that a frame from A to B carries."""

    a: str
    b: str
    to_b: str
    to_a: str


def programs() -> dict[str, Path]:
    """The bare forwarder and what makes traffic, compiled once."""
    return {name: compiled(name) for name in ("tap_forwarder", "packet_blast", "round_trip")}


def hosts(ends: Ends) -> None:
    """Addresses in A and B: one subnet on the wire, no ARP, and the senders' network behind A."""
    for namespace, dev, own, mac, other, other_mac in (
        (A, ends.a, A_IP, A_MAC, B_IP, ends.to_b),
        (B, ends.b, B_IP, B_MAC, A_IP, ends.to_a),
    ):
        ip = f"ip -n {namespace}"
        sh(f"{ip} link set {dev} address {mac} && {ip} addr add {own}/8 dev {dev} && {ip} link set lo up")
        sh(f"{ip} link set {dev} up && {ip} neigh replace {other} lladdr {other_mac} dev {dev} nud permanent")
        inside(namespace, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv4.conf.all.rp_filter=0")
    # packet_blast's frames are counted by the interface where they arrive and go no further.
    for namespace, dev in ((A, ends.a), (B, ends.b)):
        chain = f"type filter hook ingress device {dev} priority 0; udp dport 9000 drop; udp sport 9000 drop"
        sh(f"ip netns exec {namespace} nft 'table netdev sink {{ chain c {{ {chain}; }}; }}'")


@contextlib.contextmanager
def namespaces(*names: str) -> Iterator[None]:
    """Namespaces that are gone afterwards."""
    for name in names:
        sh(f"ip netns add {name}")
    try:
        yield
    finally:
        for name in names:
            sh(f"ip netns del {name}", check=False)


def stopped(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that was started here."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def bare(tools: dict[str, Path], rules: int) -> Iterator[Ends]:
    """The bare forwarder between two TAPs, with offloads, no rules at all."""
    with namespaces(A, B):
        process = subprocess.Popen([str(tools["tap_forwarder"]), "dpba", "dpbb", "0"])
        try:
            time.sleep(0.3)
            sh(f"ip link set dpba netns {A} && ip link set dpbb netns {B}")
            hosts(Ends("dpba", "dpbb", B_MAC, A_MAC))
            yield Ends("dpba", "dpbb", B_MAC, A_MAC)
        finally:
            stopped(process)


def rule_lines(rules: int) -> list[dict[str, object]]:
    """Rules that never match, and the one that does at their end."""
    filler = [
        {
            "direction": "ingress",
            "protocol": "tcp",
            "multiport": str(20000 + i),
            "remote_ip_prefix": f"{i % 90 + 101}.0.0.0/16",
        }
        for i in range(rules - 1)
    ]
    return [*filler, {"direction": "ingress", "priority": 100}, {"direction": "egress", "priority": 100}]


@contextlib.contextmanager
def ours(tools: dict[str, Path], rules: int) -> Iterator[Ends]:
    """The firewall: B is an instance, A stands on the uplink."""
    policy = {
        "security_groups": [{"id": "sg", "security_group_rules": rule_lines(rules)}],
        "instances": [{"id": "b", "addresses": [B_IP], "mac": B_MAC, "security_groups": ["sg"], "interface": "dpbb"}],
        "uplinks": [{"interface": "dpba"}],
        "conntrack": {"max_entries": 4194304},
    }
    with namespaces(A, B), tempfile.TemporaryDirectory() as folder:
        sh("ip tuntap add dpba mode tap && ip tuntap add dpbb mode tap")
        path = Path(folder, "policy.json")
        path.write_text(json.dumps(policy))
        process = subprocess.Popen(
            [sys.executable, "-m", "dataplane", "run", str(path), "--control", f"{folder}/control"],
            preexec_fn=lambda: os.sched_setaffinity(0, {0}),
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(100):
                if Path(folder, "control").exists():
                    break
                time.sleep(0.1)
            # Answers once the ports are open.
            sh(f"{sys.executable} -m dataplane ctl --socket {folder}/control status")
            sh(f"ip link set dpba netns {A} && ip link set dpbb netns {B}")
            hosts(Ends("dpba", "dpbb", B_MAC, A_MAC))
            yield Ends("dpba", "dpbb", B_MAC, A_MAC)
        finally:
            stopped(process)
            sh("ip link del dpba", check=False)
            sh("ip link del dpbb", check=False)


@contextlib.contextmanager
def kernel(tools: dict[str, Path], rules: int) -> Iterator[Ends]:
    """The kernel: A and B routed through a third namespace with nftables and conntrack."""
    with namespaces(A, B, ROUTER):
        for namespace, dev, mac in ((A, "dpba", "02:00:00:00:81:fe"), (B, "dpbb", "02:00:00:00:82:fe")):
            sh(f"ip link add {dev} netns {namespace} type veth peer name {dev} netns {ROUTER}")
            sh(f"ip -n {ROUTER} link set {dev} address {mac} && ip -n {ROUTER} link set {dev} up")
        hosts(Ends("dpba", "dpbb", "02:00:00:00:81:fe", "02:00:00:00:82:fe"))
        for command in (
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.netfilter.nf_conntrack_max=4194304",
            f"ip route add {A_IP}/32 dev dpba",
            f"ip route add {B_IP}/32 dev dpbb",
            "ip route add 10.0.0.0/8 dev dpba",
            f"ip neigh replace {A_IP} lladdr {A_MAC} dev dpba nud permanent",
            f"ip neigh replace {B_IP} lladdr {B_MAC} dev dpbb nud permanent",
        ):
            sh(f"ip netns exec {ROUTER} {command}", check=False)
        lines = "\n".join(f"ip saddr {i % 90 + 101}.0.0.0/16 tcp dport {20000 + i} accept" for i in range(rules - 1))
        table = (
            "table ip f { chain c { type filter hook forward priority 0; policy drop;\n"
            f"ct state established,related accept\nct state invalid drop\n{lines}\naccept\n}}\n}}\n"
        )
        subprocess.run(["ip", "netns", "exec", ROUTER, "nft", "-f", "-"], input=table.encode(), check=True)
        yield Ends("dpba", "dpbb", "02:00:00:00:81:fe", "02:00:00:00:82:fe")


def commands(*lines: str) -> None:
    """Lines of shell that have to work, one after the other."""
    for line in lines:
        sh(line)


@contextlib.contextmanager
def openvswitch(tools: dict[str, Path], rules: int) -> Iterator[Ends]:
    """Open vSwitch's userspace datapath between two TAPs: its own connection tracking, as many stateful rules."""
    flows = [
        "table=0,priority=10,arp,actions=NORMAL",
        "table=0,priority=5,ip,ct_state=-trk,actions=ct(table=1)",
        "table=1,priority=200,ip,ct_state=+trk+est,actions=NORMAL",
        "table=1,priority=200,ip,ct_state=+trk+inv,actions=drop",
        *(
            f"table=1,priority=100,tcp,ct_state=+trk+new,nw_src={i % 90 + 101}.0.0.0/16,tp_dst={20000 + i},"
            "actions=ct(commit),NORMAL"
            for i in range(rules - 1)
        ),
        "table=1,priority=1,ip,ct_state=+trk+new,actions=ct(commit),NORMAL",
    ]
    with namespaces(A, B), tempfile.TemporaryDirectory() as folder:
        here = f"env OVS_RUNDIR={folder} OVS_LOGDIR={folder} OVS_DBDIR={folder}"
        database, to = f"unix:{folder}/db.sock", f"{here} ovs-vsctl --db=unix:{folder}/db.sock"
        sh(f"ovsdb-tool create {folder}/conf.db /usr/share/openvswitch/vswitch.ovsschema")
        running = []
        try:
            for program in (f"ovsdb-server {folder}/conf.db --remote=p{database}", f"ovs-vswitchd {database}"):
                command = f"{here} taskset -c 0 {program} --pidfile={folder}/{program.split()[0]}.pid".split()
                quiet = subprocess.DEVNULL
                running.append(subprocess.Popen(command, stdout=quiet, stderr=quiet))
                time.sleep(1)
            commands(
                f"{to} add-br dpbr -- set bridge dpbr datapath_type=netdev",
                *(f"{to} add-port dpbr {dev} -- set interface {dev} type=tap" for dev in ("dpba", "dpbb")),
                f"ip link set dpba netns {A} && ip link set dpbb netns {B}",
                f"ovs-ofctl del-flows {folder}/dpbr.mgmt",
            )
            Path(folder, "flows").write_text("\n".join(flows) + "\n")
            sh(f"ovs-ofctl add-flows {folder}/dpbr.mgmt {folder}/flows")
            sh(f"ovs-appctl -t {folder}/ovs-vswitchd.*.ctl dpctl/ct-set-maxconns 4194304")
            hosts(Ends("dpba", "dpbb", B_MAC, A_MAC))
            yield Ends("dpba", "dpbb", B_MAC, A_MAC)
        finally:
            for process in reversed(running):
                stopped(process)
            for left in ("dpbr", "ovs-netdev"):
                sh(f"ip link del {left}", check=False)


SIDES: dict[str, Callable[[dict[str, Path], int], contextlib.AbstractContextManager[Ends]]] = {
    "bare": bare,
    "dataplane": ours,
    "kernel": kernel,
    "openvswitch": openvswitch,
}
