"""What subscriptions make of items of the feed: bounded, thinned out for people, and counted."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from dataplane._core import ffi, lib
from dataplane.compiler import pack_address
from dataplane.live import feed
from dataplane.live.capture import Capture
from dataplane.live.feed import ConnectionEvents, Drops, Subscription

from .scene import filled, frame_item


def denied() -> Any:
    """A denied packet, as a worker tells of it."""
    item = ffi.new("struct dp_feed_item *", {"size": ffi.sizeof("struct dp_feed_item"), "kind": lib.DP_FEED_DENIED})
    item.record.verdict, item.record.checks, item.record.length = lib.DP_DENY, 1, 74
    check = item.record.check[0]
    check.direction, check.verdict, check.reason = lib.DP_INGRESS, lib.DP_DENY, lib.DP_REASON_NO_RULE_MATCHED
    flow = item.flow
    flow.family, flow.protocol, flow.transport = 4, 6, True
    flow.source_port, flow.destination_port = 40000, 22
    flow.source = pack_address("192.0.2.9").ljust(16, b"\0")
    flow.destination = pack_address("10.0.0.1").ljust(16, b"\0")
    return item


def lines(subscription: Subscription) -> list[dict[str, Any]]:
    return [json.loads(line)["item"] for line in subscription.take().splitlines()]


def test_a_drop_says_what_was_denied_and_why() -> None:
    drops = Drops(filled(), lambda: None)
    drops.offer(denied())
    (told,) = lines(drops)
    assert {name: told[name] for name in ("instance", "direction", "reason", "rule", "cause", "port")} == {
        "instance": "a",
        "direction": "ingress",
        "reason": "no-rule-matched",
        "rule": None,
        "cause": None,
        "port": "port 0",
    }
    assert (told["protocol"], told["source"], told["source_port"]) == ("tcp", "192.0.2.9", 40000)
    assert (told["destination"], told["destination_port"], told["length"]) == ("10.0.0.1", 22, 74)


def test_a_drop_of_a_ping_has_its_identifier() -> None:
    drops, item = Drops(filled(), lambda: None), denied()
    item.flow.protocol, item.flow.source_port, item.flow.destination_port = 1, 77, 0
    drops.offer(item)
    (told,) = lines(drops)
    assert (told["protocol"], told["icmp_id"], told["source_port"], told["destination_port"]) == (
        "icmp",
        77,
        None,
        None,
    )


def test_drops_are_at_most_so_many_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is counted, and told with the next one that is shown."""
    now = 1000.0
    monkeypatch.setattr(feed.time, "monotonic", lambda: now)
    drops = Drops(filled(), lambda: None, rate=5)
    for _ in range(100):
        drops.offer(denied())
    assert [line.get("suppressed") for line in lines(drops)] == [None] * 5
    now += 0.5
    for _ in range(10):
        drops.offer(denied())
    assert [line.get("suppressed") for line in lines(drops)] == [95, None]
    assert drops.lost == 0


def test_a_reader_that_is_too_slow_loses_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "QUEUE_BYTES", 2000)
    told = []
    drops = Drops(filled(), lambda: told.append(1), rate=100_000)
    for _ in range(50):
        drops.offer(denied())
    shown = len(lines(drops))
    assert 0 < shown < 20
    assert drops.lost == 50 - shown
    assert len(told) == shown, "who reads is woken for what there is"
    drops.offer(denied())
    assert len(lines(drops)) == 1, "and goes on with what comes then"


def test_nothing_is_taken_that_nobody_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a change disconnected waits in the table; with one reader that keeps up it is told."""
    monkeypatch.setattr(feed, "QUEUE_BYTES", 2000)
    firewall = filled()
    reader = feed.Feed(firewall)
    slow, quick = (ConnectionEvents(firewall, lambda: None) for _ in range(2))
    reader.subscribe(slow)
    slow.put(bytes(1900))
    firewall.apply({"add_rule": {"security_group": "sg", "rule": {"direction": "ingress", "protocol": "gre"}}})
    assert reader.pump() is None
    reader.subscribe(quick)
    while reader.pump():
        continue
    assert len(lines(quick)) == 2
    assert slow.lost == 1


def test_what_the_workers_lost_is_told_to_those_who_wanted_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only what was lost while they did: frames of a capture are no drops."""
    firewall = filled()
    counters = ffi.new("struct dp_worker_counters *")
    monkeypatch.setattr(firewall, "worker_counters", lambda worker: counters)
    reader = feed.Feed(firewall)
    drops, events, capture = (kind(firewall, lambda: None) for kind in (Drops, ConnectionEvents, Capture))
    counters.feed_lost = [100, 200, 400]
    for subscription in (drops, events, capture):
        reader.subscribe(subscription)
    counters.feed_lost = [101, 202, 404]
    reader.look_for_losses()
    assert (drops.lost, events.lost, capture.lost) == (1, 2, 4)


def test_an_event_has_the_connection_and_the_time_of_the_wall() -> None:
    firewall = filled()
    events = ConnectionEvents(firewall, lambda: None)
    item = ffi.new("struct dp_feed_item *", {"kind": lib.DP_FEED_CONNECTIONS, "event": lib.DP_EVENT_NEW})
    item.time_ns = firewall.now()
    found = ffi.new("struct dp_connection[]", 1)
    every = ffi.new("struct dp_connection_filter *", {"zone": -1, "origin": -1, "protocol": 17, "disconnected": -1})
    assert lib.dp_plane_connections(firewall.plane, every, ffi.new("uint64_t *"), found, 1) == 1
    item.connection = found[0]
    events.offer(item)
    (told,) = lines(events)
    assert told["event"] == "NEW"
    assert told["connection"]["remote"] == "192.0.2.53"
    assert abs(told["time"] - time.time()) < 5


def test_a_capture_begins_with_a_section_and_counts_what_it_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    firewall = filled()
    capture = Capture(firewall, lambda: None)
    frame = bytes(range(60))
    item = frame_item(frame)
    capture.offer(item)
    monkeypatch.setattr(feed, "QUEUE_BYTES", 0)
    capture.offer(item)
    data = capture.take()
    assert data.startswith(bytes.fromhex("0a0d0d0a"))
    assert data.count(frame) == 1
    assert capture.lost == 1
    assert (1).to_bytes(8, "little") in capture.ending()
