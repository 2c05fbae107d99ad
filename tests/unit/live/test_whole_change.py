"""A policy and what stands behind its ports change as one (SPEC 3.5, 5.1). The ports are socket pairs."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from dataplane._core import lib
from dataplane.live.firewall import Firewall
from dataplane.live.interfaces.port import Port
from dataplane.policy import Policy

_VNET_HEADER = bytes(10)
_QUIET_SECONDS = 0.1

POLICY = """
security_groups: [{id: shut}]
instances:
  - {id: a, addresses: [10.0.0.1], mac: "02:00:00:00:00:01", interface: tap-a, security_groups: [shut]}
  - {id: b, addresses: [10.0.0.2], mac: "02:00:00:00:00:02", interface: tap-b, security_groups: [shut]}
load_balancers:
"""
ELB = "  - {{id: elb-{0}, addresses: [10.0.1.{0}], interface: elb{0}, backends: [{1}], transfer_client_ip: true}}\n"


def policy(**backends: str) -> Policy:
    """Load balancers, by name, each with its backend."""
    return Policy.parse(POLICY + "".join(ELB.format(name[1:], backend) for name, backend in backends.items()))


class Net:
    """A firewall with a port for each instance and balancer of a policy."""

    def __init__(self, first: Policy) -> None:
        self.firewall = Firewall(first, seed=1)
        self.ports: dict[str, Port] = {}
        self._ends: dict[str, socket.socket] = {}
        self._kept: list[socket.socket] = []
        self._sent = 0
        for holder in (*first.instances, *first.load_balancers):
            self.add(holder.id)
        self.firewall.start()

    def add(self, holder: str) -> None:
        """Serves the port of an instance or balancer of the policy in force."""
        policy = self.firewall.policy
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        instance = policy.instances_by_id.get(holder)
        balancer = next((b for b in policy.load_balancers if b.id == holder), None)
        self.ports[holder] = Port(holder, "tap", (theirs.fileno(),), False, instance, balancer)
        self.firewall.add_port(self.ports[holder])
        self._ends[holder] = ours
        self._kept.append(theirs)

    def passes(self, by: str, to: str) -> bool:
        """Whether a packet of a stranger that comes by one port leaves by another."""
        number = int(self.firewall.policy.instances_by_id[to].addresses[0][-1])
        ether = Ether(src="02:00:00:00:00:99", dst=f"02:00:00:00:00:0{number}")
        self._sent += 1
        frame = bytes(ether / IP(src="192.0.2.1", dst=f"10.0.0.{number}") / UDP(sport=self._sent, dport=53))
        self._ends[by].send(_VNET_HEADER + frame)
        deadline = time.monotonic() + _QUIET_SECONDS
        while time.monotonic() < deadline:
            try:
                if self._ends[to].recv(2000)[len(_VNET_HEADER) :] == frame:
                    return True
            except BlockingIOError:
                time.sleep(0.001)
        return False

    def close(self) -> None:
        """Ends it."""
        self.firewall.stop()
        for end in (*self._ends.values(), *self._kept):
            end.close()


@contextmanager
def net(first: Policy) -> Iterator[Net]:
    """A running firewall."""
    made = Net(first)
    try:
        yield made
    finally:
        made.close()


def test_a_balancer_keeps_its_backends_when_another_goes() -> None:
    """SPEC 3.5: whose packets pass without rules is not a matter of the place in the document."""
    with net(policy(e1="a", e2="b")) as n:
        assert [n.passes("elb-1", "a"), n.passes("elb-1", "b")] == [True, False]
        assert [n.passes("elb-2", "a"), n.passes("elb-2", "b")] == [False, True]
        n.firewall.replace(policy(e2="b"), closed=[n.ports["elb-1"]])
        assert [n.passes("elb-2", "a"), n.passes("elb-2", "b")] == [False, True]
        assert [n.passes("elb-1", "a"), n.passes("elb-1", "b")] == [False, False]


def test_a_balancer_has_a_number_while_a_policy_names_it() -> None:
    """It is given out again when nothing uses it any more: not by the change that takes it back."""
    firewall = Firewall(policy(e1="a", e2="b"), seed=1)

    def numbers() -> list[int]:
        return [firewall.names.balancer(b.id) for b in firewall.policy.load_balancers]

    assert numbers() == [1, 2]
    firewall.replace(policy(e3="b", e2="b"))
    assert numbers() == [3, 2]
    firewall.replace(policy(e4="a", e3="b", e2="b"))
    assert numbers() == [1, 3, 2]


def test_a_port_becomes_another_instances_with_the_policy() -> None:
    """The switch's way to a MAC too."""
    shut = policy(e1="a")
    with net(shut) as n:
        a, b = shut.instances
        text = POLICY.replace("tap-a", "tap-x").replace("tap-b", "tap-a").replace("tap-x", "tap-b")
        swapped = Policy.parse(text + ELB.format(1, "a"))
        changed = [replace(n.ports["a"], instance=b), replace(n.ports["b"], instance=a)]
        n.firewall.replace(swapped, changed=changed)
        stations = {s.mac: s.port for s in n.firewall.stations() if s.fixed}
        assert stations == {"02:00:00:00:00:01": "b", "02:00:00:00:00:02": "a"}
        assert not n.passes("elb-1", "a")  # what is sent to a's MAC goes to its port of now
        assert n._ends["b"].recv(2000)
        # The ports as they are described stay so with the next change.
        n.firewall.replace(Policy.parse(text + ELB.format(1, "b")))
        assert {s.mac: s.port for s in n.firewall.stations() if s.fixed} == stations


def test_the_port_of_who_is_gone_is_nobodys() -> None:
    """SPEC 5.1: from the change on, until it is removed or they are back."""
    with net(policy(e1="b", e2="a")) as n:
        assert n.passes("elb-1", "b")
        n.firewall.replace(policy(e2="b"))
        assert n.passes("elb-2", "b")
        assert not n.passes("elb-1", "b")
        n.firewall.replace(policy(e1="b", e2="a"))
        assert n.passes("elb-1", "b")
        assert not n.passes("elb-2", "b")


def test_a_change_that_cannot_be_made_leaves_ports_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC 5.6."""
    with net(policy(e1="b")) as n:
        with monkeypatch.context() as context:
            context.setattr(n.firewall, "_swap", lambda _: lib.DP_E_MEMORY)
            with pytest.raises(Exception, match="out of memory"):
                n.firewall.replace(policy(e7="a"), closed=[n.ports["elb-1"]])
        assert n.passes("elb-1", "b")
        n.firewall.replace(policy(e1="b", e2="a"))
        n.add("elb-2")
        assert [n.passes("elb-2", "a"), n.passes("elb-2", "b"), n.passes("elb-1", "b")] == [True, False, True]
