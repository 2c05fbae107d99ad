"""What `dataplane run` needs of the host, told before it starts: a sentence for each thing that is missing, or shared.

Nothing is changed: no interface is made or claimed, no limit is raised for anybody else.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dataplane._core import lib
from dataplane.live.interfaces import links, locks
from dataplane.live.interfaces.links import PortError
from dataplane.live.interfaces.required import (
    Required,
    not_there,
    required_by,
    shared_with_host,
    user_number,
)
from dataplane.live.process import descriptors
from dataplane.live.process.privileges import CAP_NET_ADMIN, CAP_NET_RAW

if TYPE_CHECKING:
    from dataplane.policy import Policy

#: Of the connection table, for each of `max_entries`, as far as it is taken at the start.
_ENTRY_BYTES, _ENTRIES_MAX = 92, 1 << 22
_TUN, _MEMORY = Path("/dev/net/tun"), Path("/proc/meminfo")


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a firewall would not start without, and what it would warn of as it starts: sentences, each once."""

    missing: list[str]
    warnings: list[str]


def look_at_host(policy: Policy, uplinks: Iterable[str] = (), workers: int = 1) -> Readiness:
    """What a firewall of this policy would find."""
    found, warnings = [*rights(), *_memory(policy)], list[str]()
    try:
        wanted = required_by(policy, uplinks)
    except PortError as error:
        return Readiness([*found, str(error)], [])
    found += limits(len(wanted), workers)
    for want in wanted.values():
        try:
            warnings += _look_at(want)
        except PortError as error:
            found.append(str(error))
    return Readiness(list(dict.fromkeys(found)), warnings)


def rights() -> Iterator[str]:
    """The rights and the device that every live firewall needs."""
    if not _has(CAP_NET_ADMIN):
        if os.geteuid() != 0:
            yield (
                "live traffic needs the rights of root (CAP_NET_ADMIN and CAP_NET_RAW): start it as root, as in sudo"
                " dataplane run"
            )
        else:
            yield (
                "live traffic needs CAP_NET_ADMIN and CAP_NET_RAW, which root does not have here: give them to the"
                " container (--cap-add NET_ADMIN --cap-add NET_RAW)"
            )
    if not _TUN.exists() or _opens_no_more(_TUN):
        yield (
            f"{_TUN} is missing: load the kernel's module (modprobe tun), or give the container the device"
            f" (--device {_TUN})"
        )


def limits(interfaces: int, workers: int, api_places: int = 0) -> Iterator[str]:
    """Open files, of which this process takes all that it may have, and ports.

    Clients are bounded so that they never take the descriptors of ports: there must be enough for all.
    """
    limit, needed = descriptors.allow(), descriptors.needed(interfaces, workers, api_places)
    if limit < needed:
        yield (
            f"this policy with --workers {workers} needs {needed:,} open files, and the limit is {limit:,}: raise it"
            f" (ulimit -n {needed}, or LimitNOFILE={needed} in the unit)"
        )
    if interfaces > lib.DP_PORTS_MAX:
        yield f"the policy has {interfaces:,} interfaces: one firewall serves up to {lib.DP_PORTS_MAX:,}"


def _has(capability: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> capability & 1)
    return False


def _opens_no_more(device: Path) -> bool:
    """Whether a device is there and nothing is behind it: the module is not loaded and cannot be."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.ENODEV, errno.ENXIO)
    return False


def _memory(policy: Policy) -> Iterator[str]:
    """The connection table is taken as a whole at the start."""
    needed = _ENTRY_BYTES * min(policy.conntrack.max_entries, _ENTRIES_MAX)
    for line in _MEMORY.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable" and (available := int(value.split()[0]) << 10) < needed:
            yield (
                f"the connection table takes {needed >> 20:,} MB at the start, and {available >> 20:,} MB are"
                " available: lower conntrack.max_entries"
            )


def _look_at(want: Required) -> list[str]:
    """What would be warned of. Raises PortError for an interface that could not be served."""
    if want.tap and want.tap.owner:
        user_number(want.tap.owner)
    try:
        return links.inside(want.namespace, lambda: _look_at_link(want))
    except links.NoEntryError:
        # What is made there needs no entry, and what exists there is told with the rights.
        if _has(CAP_NET_ADMIN):
            raise
        return []


def _look_at_link(want: Required) -> list[str]:
    link = links.find(want.name)
    if link is None:
        if want.instance is None:
            raise not_there(want)
        return []
    locks.refuse_taken(link.name, link.index)
    if link.is_tap and not link.queues:
        return []
    _need_packet_sockets(want.name)
    shared = shared_with_host(link, is_deaf=want.is_deaf)
    return [f"interface {link.name} {sentence}" for sentence in shared]


def _need_packet_sockets(name: str) -> None:
    """Raises PortError when nothing but a free TAP can be read. Without rights it is not known, and told elsewhere."""
    try:
        with closing(socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)):
            pass
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            raise PortError(
                f"reading interface {name} needs AF_PACKET sockets, which this kernel does not have: load the module"
                " (modprobe af_packet)"
            ) from None
        if _has(CAP_NET_ADMIN) and not _has(CAP_NET_RAW):
            raise PortError(
                f"reading interface {name} needs CAP_NET_RAW: run dataplane as root, or with that capability too"
            ) from None
