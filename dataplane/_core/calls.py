"""What two kinds of C handle have in common: one engine, and a firewall with an engine for each worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dataplane._core import lib


class Calls(NamedTuple):
    """The functions that put a policy in force and look at what it does, for one kind of handle."""

    update: Callable[..., int]
    connections: Callable[..., int]
    count: Callable[..., int]
    flush: Callable[..., int]
    counters: Callable[..., None]
    rule_counters: Callable[..., None]
    denied: Callable[..., int]
    retire: Callable[..., None]


def _calls(prefix: str) -> Calls:
    functions: list[Any] = [getattr(lib, prefix + name) for name in Calls._fields]
    return Calls(*functions)


ENGINE = _calls("dp_engine_")
FIREWALL = _calls("dp_firewall_")
