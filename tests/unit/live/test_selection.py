"""Connections chosen in the words of conntrack-tools."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from dataplane.control.selection import Selection

from .scene import filled


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ({}, {"192.0.2.9:80", "fd00::9:80", "192.0.2.53:5353", "192.0.2.9:None", "b"}),
        ({"protocol": "udp"}, {"192.0.2.53:5353"}),
        ({"protocol": "17"}, {"192.0.2.53:5353"}),
        ({"source": "192.0.2.9"}, {"192.0.2.9:80", "b"}),
        ({"destination": "192.0.2.9"}, {"192.0.2.9:None"}),
        ({"source": "10.0.0.1"}, {"192.0.2.53:5353", "192.0.2.9:None"}),
        ({"source": "10.0.0.0/8", "destination": "192.0.2.0/24"}, {"192.0.2.53:5353", "192.0.2.9:None"}),
        ({"source": "fd00::/64"}, {"fd00::9:80"}),
        ({"protocol": "tcp", "destination_port": 80}, {"192.0.2.9:80", "fd00::9:80", "b"}),
        ({"protocol": "tcp", "source_port": 80}, set()),
        ({"protocol": "udp", "source_port": 5353, "destination_port": 53}, {"192.0.2.53:5353"}),
        ({"origin": "outbound"}, {"192.0.2.53:5353", "192.0.2.9:None"}),
        ({"origin": "outbound", "source": "192.0.2.9"}, set()),
        ({"instance": "b"}, {"b"}),
        ({"state": "established", "instance": "a"}, {"192.0.2.9:80", "fd00::9:80"}),
        ({"state": "UNREPLIED"}, {"192.0.2.53:5353"}),
        ({"disconnected": True}, set()),
    ],
)
def test_what_is_chosen(words: dict[str, Any], found: set[str]) -> None:
    """Source and destination are those of the first packet, whichever side of the instance that is."""
    views = Selection(**words).views(filled().connections)
    chosen = [c for view in views for c in view]
    names = {"b" if c.instance == "b" else f"{c.remote}:{c.local_port}" for c in chosen}
    assert names == found
    assert len(chosen) == len(found), "each connection is in one view"
    assert sum(map(len, views)) == len(found)


def test_what_is_deleted_is_what_is_chosen() -> None:
    firewall = filled()
    views = Selection(protocol="tcp", source="192.0.2.9", destination="10.0.0.1", destination_port=80).views(
        firewall.connections
    )
    assert sum(view.flush() for view in views) == 1
    assert sorted(c.remote for c in firewall.connections if c.protocol == "tcp") == ["192.0.2.9", "fd00::9"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"destination_port": 80}, "a port needs a protocol with ports"),
        ({"protocol": "icmp", "source_port": 8}, "a port needs a protocol with ports"),
        ({"protocol": "tcpp"}, "protocol 'tcpp' is not known"),
        ({"protocol": "²"}, "protocol '²' is not known"),
        ({"state": "OPEN"}, "state 'OPEN' is not known"),
        ({"instance": "c"}, "instance 'c' is not known"),
        ({"source": "192.0.2.300"}, "192.0.2.300"),
        ({"source": "10.0.0.1", "destination": "fd00::1"}, "is IPv"),
    ],
)
def test_a_word_that_is_not_known_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Selection(**words).views(filled().connections)


@pytest.mark.parametrize("words", [{"destination_port": 0}, {"source_port": 65536}, {"origin": "in"}, {"sport": 1}])
def test_a_value_that_cannot_be_is_refused(words: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Selection(**words)


def test_census_counts_all_connections_in_one_walk() -> None:
    assert filled().connections.census() == {
        ("a", "ESTABLISHED"): 2,
        ("a", "UNREPLIED"): 1,
        ("a", "REPLIED"): 1,
        ("b", "ESTABLISHED"): 1,
    }
