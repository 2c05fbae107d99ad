"""The busiest addresses of captures of which no packet touches an instance: usually the policy lacks one of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.packet_words import address_in

_TOP = 5


class BusyAddress(NamedTuple):
    """An address and how many packets came from it or went to it: at least packets - overcount."""

    address: str
    packets: int
    overcount: int


class BusiestAddresses:
    """Counts addresses in bounded memory, for as long as no packet touches an instance."""

    def __init__(self) -> None:
        out = ffi.new("struct dp_busiest **")
        check(lib.dp_busiest_new(out), "counting addresses")
        self._handle = ffi.gc(out[0], lib.dp_busiest_free)

    def count(self, records: Any, flows: Any, n: int) -> bool:
        """Counts the addresses of a batch; False once a packet touches an instance, and counting is of no more use."""
        return not lib.dp_busiest_count(self._handle, records, flows, n)

    def largest(self) -> list[BusyAddress]:
        """The busiest first."""
        found = ffi.new("struct dp_busy_address[]", _TOP)
        n = lib.dp_busiest_largest(self._handle, found, _TOP)
        return [BusyAddress(address_in(busy.address, busy.family), busy.packets, busy.overcount) for busy in found[0:n]]
