"""Another policy beside the one in force (`Shadow`), as long as it judges. The ports are socket pairs."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from dataplane.live.shadow import Shadow
from dataplane.policy import Policy

from .test_whole_change import Net, net

POLICY = """
security_groups: [{id: dns, security_group_rules: [{id: dns, direction: ingress, protocol: udp, multiport: 53 }]}]
instances:
  - {id: a, addresses: [10.0.0.1], mac: "02:00:00:00:00:01", interface: tap-a, security_groups: [dns]}
  - {id: b, addresses: [10.0.0.2], mac: "02:00:00:00:00:02", interface: tap-b, security_groups: [dns]}
load_balancers: [{id: elb-1, addresses: [10.0.1.1], interface: elb1, backends: []}]
"""


def until(seconds: float) -> Policy:
    """The policy with a rule that ends so many seconds from now."""
    ends = datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()
    return Policy.parse(POLICY.replace("53 }", f'53, expires_at: "{ends}"}}'))


def changed(n: Net, shadow: Shadow) -> int:
    """How many more packets it judges otherwise of one to each instance, which pass."""
    before = shadow.report(0)["packets"]["changed"]
    assert [n.passes("elb-1", "a"), n.passes("elb-1", "b")] == [True, True]
    return int(shadow.report(0)["packets"]["changed"]) - before


def test_its_rules_end_at_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those in force do, and one whose time is over when it begins is not in it."""
    with net(Policy.parse(POLICY)) as n:
        over = Shadow(n.firewall, until(-1), "over.yaml")
        assert changed(n, over) == 2
        shadow = Shadow(n.firewall, until(3600), "new.yaml")
        over.replaced()
        shadow.keep_up()
        assert changed(n, shadow) == 0
        later = time.time_ns() + 3601 * 10**9
        monkeypatch.setattr("dataplane.live.shadow.time.time_ns", lambda: later)
        shadow.keep_up()
        assert changed(n, shadow) == 2
        shadow.end()
