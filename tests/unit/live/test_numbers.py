"""A live firewall gives numbers of instances and rules back, and what it has told of them is read before."""

from __future__ import annotations

import json

import pytest

from dataplane import Policy
from dataplane._core import lib
from dataplane.live.feed import ConnectionEvents, Feed
from dataplane.live.firewall import Firewall
from dataplane.live.records import counters_record

from .scene import saved

MANY = 300


def policy(turn: int, *holders: str) -> Policy:
    """These instances, and many more with their rules that no other turn has."""
    rules = "".join(f"      - {{id: r{turn}-{i}, direction: ingress, protocol: {i % 50 + 100}}}\n" for i in range(MANY))
    named = [*holders, *(f"i{turn}-{i}" for i in range(MANY))]
    instances = "".join(
        f"  - {{id: {name}, addresses: [10.0.{i // 250}.{i % 250 + 1}], security_groups: [sg]}}\n"
        for i, name in enumerate(named)
    )
    return Policy.parse(
        "security_groups:\n  - id: sg\n    security_group_rules:\n"
        "      - {id: web, direction: ingress, protocol: tcp}\n"
        f"{rules}instances:\n{instances}"
    )


@pytest.fixture(params=[1, 2])
def firewall(request: pytest.FixtureRequest) -> Firewall:
    return Firewall(policy(0, "a", "b"), seed=1, workers=request.param)


def until_given_out_again(firewall: Firewall, zone: int, *holders: str) -> None:
    turn = 1
    before = firewall.names.instances[zone]
    while firewall.names.instances[zone] in (before, ""):
        firewall.replace(policy(turn, *holders))
        turn += 1
        assert turn < 10


def test_who_went_is_told_by_name_though_its_number_is_anothers(firewall: Firewall) -> None:
    """The end of its connections is in the feed yet when its number comes back."""
    feed = Feed(firewall)
    events = ConnectionEvents(firewall, lambda: None)
    feed.subscribe(events)
    records = [saved(firewall, "b", "10.0.0.2", "192.0.2.9", remote_port=port) for port in range(1, 101)]
    assert firewall.restore(records, 0) == len(records)
    until_given_out_again(firewall, firewall.names.zone("b"), "a")
    while feed.pump():
        continue
    told = [json.loads(line)["item"] for line in events.take().splitlines()]
    assert [item["event"] for item in told].count("DESTROY") == len(records)
    assert {item["connection"]["instance"] for item in told} == {"b"}


def test_numbers_come_back_where_nobody_reads_the_feed(firewall: Firewall) -> None:
    firewall.restore([saved(firewall, "b", "10.0.0.2", "192.0.2.9")], 0)
    lib.dp_firewall_watch(firewall.handle, lib.DP_FEED_CONNECTIONS, -1)
    until_given_out_again(firewall, firewall.names.zone("b"), "a")
    assert len(firewall.names.instances) < 4 * MANY


def test_a_row_of_a_listing_is_named_when_it_is_read(firewall: Firewall) -> None:
    """A listing goes on while changes are made."""
    records = [saved(firewall, "b", "10.0.0.2", "192.0.2.9", remote_port=port) for port in range(1, 4)]
    assert firewall.restore(records, 0) == len(records)
    rows = next(iter(firewall.connections.rows()))
    first = next(rows)
    until_given_out_again(firewall, firewall.names.zone("b"), "a")
    assert {row[0] for row in (first, *rows)} == {"b"}


def test_changes_leave_the_counters_as_long_as_they_were(firewall: Firewall) -> None:
    """Those of rules that are gone are kept while a connection is under one."""
    lengths = []
    for turn in range(12):
        firewall.replace(policy(turn, "a"))
        lengths.append(len(counters_record(firewall)["rules"]))
        assert len(firewall.rule_counters()) < 4 * MANY
    assert set(lengths) == {MANY + 1}
