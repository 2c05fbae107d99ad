"""Rates from readings of counters that only grow (docs/top.md)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.screen.watch import HISTORY, Rates, Watch, figure, sparkline


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(0.1, 10)), min_size=1, max_size=100))
def test_a_rate_is_what_a_counter_grew_by(readings: list[tuple[int, float]]) -> None:
    """A second, for each of the last readings; a counter that fell began anew at 0."""
    rates = Rates()
    for number, (total, seconds) in enumerate(readings):
        rates.read({"a": total}, seconds if number else None)
    expected = [(now if now < before else now - before) / seconds for (before, _), (now, seconds) in pairwise(readings)]
    assert list(rates["a"].history) == pytest.approx(expected[-HISTORY:])
    assert rates["a"].total == readings[-1][0]


def test_counters_come_and_go() -> None:
    """One that comes counts from 0 on; of one that is gone nothing is known."""
    rates = Rates()
    rates.read({"a": 5}, None)
    rates.read({"a": 7, "b": 4}, 2.0)
    assert (rates["a"].now, rates["b"].now) == (1.0, 2.0)
    rates.read({"b": 4}, 1.0)
    assert (rates["a"].total, rates["b"].now) == (0, 0.0)


def reading(packets: int, pid: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """Status and counters as far as they are read."""
    traffic = {"packets": packets, "bytes": 100 * packets}
    denied = {"direction": "ingress", "verdict": "deny", "reason": "rule", **traffic}
    counters = {
        "ports": [{"port": "p", "received": traffic, "sent": traffic, "checks": [denied], "drops": {}}],
        "verdicts": dict.fromkeys(("allow", "deny", "bypass"), traffic),
        "checks": [{"verdict": "allow", "reason": "rule", **traffic}, {"verdict": "deny", "reason": "rule", **traffic}],
        "rules": [{"rule": "r", "security_group": "g", "hits": 1, **traffic}],
        "connections": {"opened": packets, "disconnected": 0},
    }
    return {"pid": pid, "started": 1.0}, counters


def test_a_firewall_that_is_another_begins_anew() -> None:
    """Its counters have nothing to do with those of the one before."""
    watch = Watch()
    watch.read(*reading(10), 1.0)
    watch.read(*reading(30), 3.0)
    assert watch.rates["port", "p", "received"].now == 10
    assert watch.rates["bytes", "p", "sent"].now == 1000
    assert watch.rates["port", "p", "denied"].now == 10
    assert watch.reasons == [("deny", "rule"), ("allow", "rule")]
    watch.read(*reading(50, pid=2), 4.0)
    assert watch.rates["port", "p", "received"].total == 50
    assert list(watch.rates["port", "p", "received"].history) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.04, "0.0"),
        (0.4, "0.4"),
        (9.94, "9.9"),
        (12.4, "12"),
        (1234, "1,234"),
        (9999.4, "9,999"),
        (56_700, "56.7k"),
        (150_000, "150k"),
        (8_900_000, "8.9M"),
        (12.3e9, "12.3G"),
        (5e12, "5000G"),
    ],
)
def test_figures_have_six_characters_at_most(value: float, text: str) -> None:
    assert figure(value) == text


def test_a_sparkline_is_as_high_as_its_highest() -> None:
    assert sparkline([], 4) == "    "
    assert sparkline([0, 1, 4, 8], 6) == "   ▁▄█"
    assert sparkline([9, 0, 1, 4, 8], 4) == " ▁▄█"
