"""The policy's interfaces, for captures that were taken at them (SPEC 7, "At a port")."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.port_bindings import describe_port

if TYPE_CHECKING:
    from dataplane.policy.model import Policy
    from dataplane.verdict import Names

_PORTS_MAX = lib.DP_PORTS_MAX
_NAMED_AT_MOST = 5
#: What ports are known by is an interface's name, or this, which is none.
_AT = "the instance at whose interface the captures were taken"


class UnknownInstanceError(ValueError):
    """Captures were taken at an instance that the policy does not have; the text says which it has."""


class PolicyPorts:
    """Tells a replay what stands behind the interfaces of the policy of a plane, the one at place `which`.

    `at` is the id of the instance at whose interface all captures were taken; without it they are told by their names,
    if there are no more than a live firewall serves. Raises UnknownInstanceError.
    """

    def __init__(self, replay: Any, which: int, names: Names, policy: Policy, at: str | None) -> None:
        self._replay = replay
        self._which = which
        self._names = names
        self._at = at
        self._at_port: Any = None
        self._positions: dict[str, int] = {}
        self._told = False
        if at is not None and at not in policy.instances_by_id:
            raise UnknownInstanceError(_unknown(policy, at))
        self.tell(policy)

    def tell(self, policy: Policy) -> None:
        """What stands behind the interfaces from now on; who stays keeps its position."""
        if self._at is None:
            ports = list(islice(self._named(policy), _PORTS_MAX + 1))
            ports = ports if len(ports) <= _PORTS_MAX else []
        else:
            ports = list(islice(self._around(policy), _PORTS_MAX))
        if not ports and not self._told:
            return
        for key, _, _ in ports:
            self._positions.setdefault(key, len(self._positions))
        if len(self._positions) > _PORTS_MAX:
            self._positions = {key: position for position, (key, _, _) in enumerate(ports)}
        told = ffi.new("struct dp_named_port[]", len(self._positions))
        kept = [ffi.new("char[]", os.fsencode(name)) for _, name, _ in ports]
        for (key, _, port), name in zip(ports, kept, strict=True):
            told[self._positions[key]].name, told[self._positions[key]].port = name, port[0]
        at = -1 if self._at is None else self._positions[_AT]
        error = lib.dp_replay_set_ports(self._replay, self._which, told, len(told), at)
        check(error, "telling the replay its ports")
        self._told = True

    def _named(self, policy: Policy) -> Iterator[tuple[str, str, Any]]:
        """Ports by the names of their interfaces: what each is known by, its name, and what stands behind it."""
        for instance in policy.instances:
            if instance.interface:
                yield instance.interface, instance.interface, self._describe(policy, instance=instance.id)
        yield from self._others(policy)

    def _around(self, policy: Policy) -> Iterator[tuple[str, str, Any]]:
        """The port of one instance, and those of all others: live, each instance has one."""
        there = policy.instances_by_id.get(self._at or "")
        if there:
            self._at_port = self._describe(policy, instance=there.id)
        # What is left of an instance that is gone is its port, by which nobody passes.
        yield _AT, there.interface or "" if there else "", self._at_port
        yield from self._others(policy)
        for instance in policy.instances:
            if instance.id != self._at:
                yield f"instance {instance.id}", instance.interface or "", self._describe(policy, instance=instance.id)

    def _others(self, policy: Policy) -> Iterator[tuple[str, str, Any]]:
        for balancer in policy.load_balancers:
            if balancer.interface:
                yield balancer.interface, balancer.interface, self._describe(policy, balancer=balancer.id)
        for uplink in policy.uplinks:
            yield uplink.interface, uplink.interface, self._describe(policy)

    def _describe(self, policy: Policy, **who: str) -> Any:
        return describe_port(policy, self._names, **who)


def _unknown(policy: Policy, at: str) -> str:
    if any(balancer.id == at for balancer in policy.load_balancers):
        return f"{at} is a load balancer: captures are replayed at the interface of an instance"
    known = [instance.id for instance in policy.instances]
    more = f" and {len(known) - _NAMED_AT_MOST:,} more" if len(known) > _NAMED_AT_MOST else ""
    return f"the policy has no instance {at}: it has {', '.join(known[:_NAMED_AT_MOST]) or 'none'}{more}"
