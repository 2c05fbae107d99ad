"""`ctl flows` and the flow log tell the same of a flow, whenever they are asked."""

from __future__ import annotations

import itertools
import json

import pytest

from dataplane import Policy
from dataplane.cli.ctl.flows import HEAD, _csv_line, _json_line, flow_lines
from dataplane.flow import FIELDS
from dataplane.live.firewall import Firewall
from dataplane.live.flows import Flows

from .scene import POLICY
from .test_rule_uses import pass_through, web

TIME_NS = 1_795_787_315_123_456_789


def test_times_are_the_same_whenever_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clocks are read one behind the other; only where the wall clock is set, times are others."""
    offsets = itertools.count(TIME_NS, 1000)
    monkeypatch.setattr(Firewall, "to_wall_clock", staticmethod(lambda: next(offsets)))
    firewall = Firewall(Policy.parse(POLICY), seed=1, flow_interval=60)
    flows = Flows(firewall)
    pass_through(firewall, web())
    firewall.start()
    try:
        first, again = ([flow["first_ns"] for batch in flows.listed(lambda _: True) for flow in batch] for _ in "12")
        assert first == again
        monkeypatch.setattr(Firewall, "to_wall_clock", staticmethod(lambda: TIME_NS + 3_600_000_000_000))
        (moved,) = (flow["first_ns"] for batch in flows.listed(lambda _: True) for flow in batch)
        assert moved - first[0] == 3_600_000_000_000
    finally:
        firewall.stop()


def test_a_clock_before_1970_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a machine has been up for longer than its clock shows, what it saw first was there in 1970."""
    monkeypatch.setattr(Firewall, "to_wall_clock", staticmethod(lambda: -(10**19) // 2))
    firewall = Firewall(Policy.parse(POLICY), seed=1, flow_interval=60)
    flows = Flows(firewall)
    pass_through(firewall, web())
    firewall.start()
    try:
        (flow,) = (flow for batch in flows.listed(lambda _: True) for flow in batch)
        assert (flow["first_ns"], flow["last_ns"]) == (0, 0)
        flows.take_all()
    finally:
        firewall.stop()


FLOW = dict.fromkeys(FIELDS) | {
    "instance": '"first":0,',
    "origin": "inbound",
    "protocol": "tcp",
    "remote": "203.0.113.200",
    "remote_port": 40000,
    "local_port": 22,
    "packets_in": 0,
    "packets_out": 0,
    "packets_denied": 123456,
    "reason": "no-rule-matched",
    "first": TIME_NS / 1e9,
    "last": 1_795_787_316.5,
    "first_ns": TIME_NS,
    "last_ns": 1_795_787_316_500_000_000,
}


def test_times_are_written_as_in_the_log() -> None:
    """Six decimals, or nine where there are nanoseconds; a name of any form stays."""
    text = _json_line(FLOW)
    assert '"first":1795787315.123456789,' in text
    assert '"last":1795787316.500000,' in text
    told = json.loads(text)
    assert (list(told), told["instance"]) == (list(FIELDS), '"first":0,')
    assert ",1795787315.123456789,1795787316.500000," in _csv_line(FLOW)


@pytest.mark.parametrize("rule", [None, "A01", "0b6e3a0e-6a3c-4a1f-9f6f-0d7f6f1e2a3b"])
@pytest.mark.parametrize("reason", ["no-rule-matched", "port-security", "load-balancer"])
@pytest.mark.parametrize("remote", ["203.0.113.200", "2001:db8:aaaa:bbbb::200"])
def test_a_row_has_80_columns(rule: str | None, reason: str, remote: str) -> None:
    """With a long id of a rule too, and with the reason of a flow that was denied."""
    row = flow_lines(FLOW | {"instance": "web-1", "rule": rule, "reason": reason, "remote": remote})
    assert max(map(len, [HEAD, *row])) <= 80
    assert (rule or reason) in " ".join(row)
