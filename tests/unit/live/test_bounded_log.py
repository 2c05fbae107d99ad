"""The log of what others choose how often it happens (docs/ports.md, Interfaces that come and go)."""

from __future__ import annotations

import logging

import pytest

from dataplane.live.bounded_log import LINES, BoundedLog


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> tuple[BoundedLog, list[float], pytest.LogCaptureFixture]:
    caplog.set_level(logging.INFO)
    now = [0.0]
    return BoundedLog(logging.getLogger("dataplane"), lambda: now[0]), now, caplog


def test_a_flapping_link_fills_no_log(said: tuple[BoundedLog, list[float], pytest.LogCaptureFixture]) -> None:
    """The first lines of a minute at once, then one that says how many more and how it is now; others are not hit."""
    log, now, caplog = said
    for n in range(6000):
        now[0] = n * 0.01
        log.say(logging.WARNING if n % 2 else logging.INFO, "interface a", f"interface a is {n}")
    log.say(logging.INFO, "interface b", "interface b is up")
    first = [f"interface a is {n}" for n in range(LINES)]
    assert caplog.messages == [*first, "interface b is up"]
    now[0] = 60.0
    log.look()
    told = f"interface a: {6000 - LINES} more lines about it were left out in 60 seconds, the last of them: interface a"
    assert caplog.messages[LINES + 1 :] == [f"{told} is 5999"]
    assert caplog.records[-1].levelno == logging.WARNING
    # A quiet one is told again at once, as before.
    now[0] = 120.0
    log.look()
    assert len(caplog.messages) == LINES + 2
    log.say(logging.INFO, "interface a", "interface a is up")
    assert caplog.messages[-1] == "interface a is up"


def test_what_goes_on_for_ever_says_no_more_in_the_next_minutes(
    said: tuple[BoundedLog, list[float], pytest.LogCaptureFixture],
) -> None:
    """LINES lines a minute, that of the minute before among them."""
    log, now, caplog = said
    for n in range(600):
        now[0] = float(n)
        log.say(logging.INFO, "interface a", f"interface a is {n}")
    assert len(caplog.messages) == 10 * LINES
