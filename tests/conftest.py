"""What all tests share: hypothesis without time limits for single examples, as machines differ; memory; and packets
that are made without asking a network."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings
from scapy.config import conf
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

settings.register_profile("dataplane", parent=settings(), deadline=None, print_blob=True)
settings.load_profile("dataplane")

# A frame without a destination MAC would have scapy ask for it by ARP or neighbour discovery, on the machine's own
# interface; unanswered, that comes to the same.
for _layer in (IP, IPv6):
    conf.neighbor.register_l3(Ether, _layer, lambda l2, l3: "ff:ff:ff:ff:ff:ff")

#: Bytes that a process of tests may grow by before what is unreachable is looked for.
_MUCH = 1 << 30
_found = {"bytes": 0}


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(autouse=True)
def _memory_is_given_back() -> Iterator[None]:
    """Commands that run in the tests' own process switch the collector off; and a firewall that only a cycle of
    references holds has 100 MB."""
    yield
    gc.enable()
    if _resident() > _found["bytes"] + _MUCH:
        gc.collect()
        _found["bytes"] = _resident()
