"""Hosts for tests that open interfaces in their own process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.network import Host, Network, network, standing_in


@pytest.fixture
def hosts() -> Iterator[Network]:
    with network() as made, standing_in(made.host("here")):
        yield made


@pytest.fixture
def here(hosts: Network) -> Host:
    return hosts.host("here")
