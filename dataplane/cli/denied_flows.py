"""The flows denied most, as rows of a table: each cause, and folded under it what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

COLUMNS = ("instance", "direction", "flow", "reason", "packets", "bytes")


class Row(NamedTuple):
    """A row under COLUMNS; `at_most` says that the packets are a bound."""

    instance: str
    direction: str
    flow: str
    reason: str
    packets: int
    bytes: int
    at_most: bool

    @property
    def cells(self) -> tuple[str, str, str, str, int, int]:
        """What stands under COLUMNS."""
        return self[:6]


def rows(flows: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """Rows of denied flows, which are as `--json` has them."""
    for flow in flows:
        cause = f", {flow['cause']}" if flow["cause"] else ""
        reason = flow["reason"] + cause
        about = bool(flow["overcount"])
        yield Row(flow["instance"], flow["direction"], _flow(flow), reason, flow["packets"], flow["bytes"], about)
        after = flow["consequences"]
        if after["packets"]:
            yield Row(
                "", "", "  and without a connection because of it", "invalid", after["packets"], after["bytes"], False
            )


def _flow(flow: Mapping[str, Any]) -> str:
    if flow["source"] is None:
        return "not IP"
    port = f" port {flow['destination_port']}" if flow["destination_port"] is not None else ""
    return f"{flow['protocol']} {flow['source']} > {flow['destination']}{port}"
