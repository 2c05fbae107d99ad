"""More interfaces than one firewall serves are refused before one is touched (SPEC 5.6)."""

from __future__ import annotations

import pytest

from dataplane import Policy
from dataplane.live.interfaces.links import PortError
from dataplane.live.interfaces.ports import Ports
from dataplane.live.interfaces.required import required_by
from dataplane.port_bindings import PORTS_MAX


def policy(instances: int) -> Policy:
    rows = (f"{{id: i{n}, addresses: [10.0.{n >> 8}.{n & 255}], interface: t{n}}}" for n in range(instances))
    return Policy.parse(f"instances: [{', '.join(rows)}]")


def test_too_many_interfaces_are_refused_as_a_whole() -> None:
    assert PORTS_MAX == 1024
    assert len(required_by(policy(PORTS_MAX - 1), ["up"])) == PORTS_MAX
    words = "the policy names 1,025 interfaces, and one firewall serves 1,024 at most"
    ports = Ports(1)
    with pytest.raises(PortError, match=words):
        ports.rehearse(policy(PORTS_MAX + 1))
    with pytest.raises(PortError, match=words):
        ports.update(policy(PORTS_MAX + 1))
    assert not ports.ports
