"""Changes made one by one lead where the whole document leads (SPEC 5, 7): an engine that makes each change, one that
is given the document of then as another policy, one that begins with it, and the slow model answer alike.
"""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dataplane import ChangeError, DataPlane, Policy
from dataplane.policy import write

from . import frames
from .beside_engine import agree, engine_change
from .conversation import Host
from .model import SECOND, Model
from .policy_model import Document, RefusedChangeError, members
from .policy_strategies import NEW_INSTANCE, changes, of_balancers, of_groups, of_instances, open_documents
from .story import START_NS, tell_verdict
from .strategies import hosts

PROFILES = {"quick": (100, 12, True), "long": (3000, 30, False)}
WAITS = st.sampled_from([0, 0, 1, 10, 30])
EXAMPLES, STEPS, DERANDOMIZE = PROFILES[os.environ.get("DATAPLANE_PROPERTIES", "quick")]


class OneByOne(RuleBasedStateMachine):
    """The same changes and packets for all of them."""

    @initialize(document=open_documents())
    def begin(self, document: Document) -> None:
        """Everybody begins with the same document."""
        self.document = document
        policy = Policy.parse(json.dumps(document))
        self.changed, self.replaced = DataPlane(policy, seed=0), DataPlane(policy, seed=0)
        self.model = Model(document)
        self.now, self.port, self.made = START_NS, 1024, 0
        self.ends = [host for host in hosts(document) if ":" not in host.address]
        self.ends.append(Host(NEW_INSTANCE["addresses"][0], NEW_INSTANCE["mac"]))
        pairs = [(a, b) for a in self.ends for b in self.ends if a.mac != b.mac]
        self.said = [(source, destination, port) for port, (source, destination) in enumerate(pairs, 100)]
        self._say_again()

    @rule(data=st.data(), wait=WAITS)
    def change_a_rule_or_a_membership(self, data: st.DataObject, wait: int) -> None:
        """Those that a story of any kind has."""
        change, broken = data.draw(changes(self.document))
        if not self._joins_again(change) and "apply_policy" not in change:
            self._change(change, broken, wait)

    @rule(data=st.data(), wait=WAITS)
    def change_an_instance(self, data: st.DataObject, wait: int) -> None:
        """One comes, goes, or is another."""
        self._change(data.draw(of_instances(self.document)), False, wait)

    @rule(data=st.data(), wait=WAITS)
    def change_a_group_or_a_balancer(self, data: st.DataObject, wait: int) -> None:
        """One comes, goes, or is another."""
        self._change(data.draw(of_groups(self.document) | of_balancers(self.document)), False, wait)

    def _change(self, change: dict[str, Any], broken: bool, wait: int) -> None:
        """One change, by itself and as the difference of two policies: the same is cut, or it is refused (SPEC 5.6).

        What was said before is said again, to see what is cut.
        """
        self.now += wait * SECOND
        before = self.changed.policy
        try:
            cut = self.changed.apply(engine_change(change, None), time_ns=self.now)
        except ChangeError:
            cut = None
            assert self.changed.policy is before
        if not broken:
            try:
                self.model.apply(change, self.now)
            except RefusedChangeError:
                broken = True
        assert broken == (cut is None), change
        if cut is None:
            return
        other = self.replaced.apply({"apply_policy": self._written()}, time_ns=self.now)
        assert (cut.by_instance, cut.revoked) == (other.by_instance, other.revoked), change
        self.made += 1
        self._say_again()

    @rule(data=st.data(), wait=st.sampled_from([0, 0, 1, 29, 30]))
    def packet(self, data: st.DataObject, wait: int) -> None:
        """A packet of a connection of before, or of what was denied, from either side."""
        self.now += wait * SECOND
        source, destination, port = data.draw(st.sampled_from(self.said))
        ports = (port, 22)
        if data.draw(st.booleans()):
            source, destination, ports = destination, source, (22, port)
        self._alike(source, destination, ports, [self.changed, self.replaced], self.model)

    @precondition(lambda self: self.made)
    @rule()
    def begin_anew(self) -> None:
        """Each new connection is told the same by an engine, and a model, that begin with the document of now."""
        fresh, model = DataPlane(self._written(), seed=0), Model(write.document(self.changed.policy))
        for source in self.ends:
            for destination in self.ends:
                if source.mac != destination.mac:
                    self.port += 1
                    ports = self.port, 22
                    self._alike(source, destination, ports, [self.changed, self.replaced, fresh], model)
                    self.model.process(_udp(source, destination, ports), self.now)

    @invariant()
    def policy_is_whole(self) -> None:
        """What is in force is a valid document, and the other engine's policy is the same."""
        if hasattr(self, "made"):
            assert self._written() == self.changed.policy
            assert self.replaced.policy == self.changed.policy

    def _say_again(self) -> None:
        for source, destination, port in self.said:
            self._alike(source, destination, (port, 22), [self.changed, self.replaced], self.model)

    def _written(self) -> Policy:
        return Policy.parse(json.dumps(write.document(self.changed.policy)))

    def _joins_again(self, change: dict[str, Any]) -> bool:
        """Whether an instance is added to an SG that it is in: refused or nothing, the specification does not say."""
        value = change.get("add_instance", {"security_group": "", "instance": ""})
        return value["instance"] in [i["id"] for i in members(self.model.document, value["security_group"])]

    def _alike(
        self, source: Host, destination: Host, ports: tuple[int, int], engines: list[DataPlane], model: Model
    ) -> None:
        frame = _udp(source, destination, ports)
        expected = model.process(frame, self.now)
        for engine in engines:
            got = engine.process(frame, time_ns=self.now)
            assert agree(expected, got), f"model: {tell_verdict(expected)}, engine: {tell_verdict(got)}"


def _udp(source: Host, destination: Host, ports: tuple[int, int]) -> bytes:
    body = frames.datagram(source.address, destination.address, 17, ports)
    packet = frames.packet(source.address, destination.address, 17, body)
    return frames.ethernet(source.mac, destination.mac, packet)


TestOneByOne = OneByOne.TestCase
TestOneByOne.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize=DERANDOMIZE,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
