"""Interfaces as the kernel's netlink tells of them, and what is set on them through it (pyroute2).

Everything here happens in the network namespace of the calling thread; `inside` runs work in a thread of its own, in a
namespace by name. That thread also keeps pyroute2's event loop apart from any that the caller has.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pyroute2 import IPRoute

T = TypeVar("T")

IFF_UP = 0x1
IFF_RUNNING = 0x40
IFF_NOARP = 0x80
_TUN_TYPE_TAP = 2
_RTMGRP_LINK = 1
_ETH_P_ALL = 3
_CLSACT_INGRESS = 0xFFFFFFF2

#: Numbers of interfaces from here to twice as much are hardly ever taken.
_FREE_INDEX = 1 << 20


class PortError(Exception):
    """An interface that cannot be served: one sentence that says which, why, and what to do."""


class NoEntryError(PortError):
    """A network namespace that may not be entered."""


def refusal(doing: str, error: OSError) -> PortError:
    """The sentence about a call that the system refused while `doing` something with an interface."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return PortError(f"{doing} is not permitted: run dataplane as root, or with the capability CAP_NET_ADMIN")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return PortError(f"{doing} needs more open files than the system allows: raise the limit (ulimit -n)")
    if error.errno == errno.EROFS:
        return PortError(
            f"{doing} failed: /proc/sys cannot be written, as in a container that may not: let it (docker run"
            " --security-opt systempaths=unconfined, or --privileged)"
        )
    return PortError(f"{doing} failed: {error.strerror or error}")


def inside(namespace: str | None, work: Callable[[], T]) -> T:
    """What `work` returns, done in a network namespace by name (None: the caller's).

    Raises PortError when there is no such namespace or it may not be entered.
    """

    def there() -> T:
        if namespace is not None:
            _enter(namespace)
        return work()

    # A thread takes its namespace with it when it ends, so that nothing has to find its way back.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(there).result()


def identity(namespace: str | None) -> tuple[int, int] | None:
    """What tells the network namespace that has a name now from any that had it; None where there is none."""
    try:
        found = os.stat(f"/run/netns/{namespace}") if namespace is not None else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found else None


def _enter(namespace: str) -> None:
    from pyroute2 import netns

    try:
        there = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise PortError(
            f"there is no network namespace {namespace}: make it (ip netns add {namespace}), or take it out of the"
            " policy"
        ) from None
    try:
        netns.setns(there, libc=ctypes.CDLL(None, use_errno=True))
    except OSError as error:
        if error.errno == errno.EPERM:
            raise NoEntryError(
                f"entering the network namespace {namespace} is not permitted: start dataplane with the capability"
                " CAP_SYS_ADMIN; once it runs, it can make a TAP there, but take none that exists"
            ) from None
        raise refusal(f"entering the network namespace {namespace}", error) from None
    finally:
        os.close(there)


@dataclass(frozen=True, slots=True)
class Link:
    """What an interface is. `name` is its proper one, whichever of its names it was found by.

    `queues` counts the queues of a TAP that somebody holds; `master` is a bridge or bond.
    """

    index: int
    name: str
    mac: str | None
    flags: int
    mtu: int
    is_tap: bool
    multi_queue: bool
    queues: int
    master: str | None
    addresses: tuple[tuple[str, int], ...]


def find(name: str) -> Link | None:
    """The interface with this name; None where there is none."""
    with _netlink(f"looking up interface {name}") as ip:
        found = _get(ip, ifname=name)
        if found is None:
            return None
        tun = found.get(("linkinfo", "data")) if found.get(("linkinfo", "kind")) == "tun" else None
        master = found.get("master")
        above = _get(ip, index=master) if master else None
        addresses = tuple((a.get("address"), a["prefixlen"]) for a in ip.get_addr(index=found["index"]))
        return Link(
            index=found["index"],
            name=found.get("ifname"),
            mac=found.get("address"),
            flags=found["flags"],
            mtu=found.get("mtu"),
            is_tap=tun is not None and tun.get("tun_type") == _TUN_TYPE_TAP,
            multi_queue=bool(tun and tun.get("tun_multi_queue")),
            queues=(tun.get("tun_num_queues") or 0) + (tun.get("tun_num_disabled_queues") or 0) if tun else 0,
            master=above.get("ifname") if above else None,
            addresses=addresses,
        )


def configure(
    name: str, *, mac: str | None, mtu: int, rename: str | None = None, namespace: str | None = None
) -> int | None:
    """Sets an interface up, with a MAC if there is one, also under another name and in another namespace.

    Returns its index, or None where that is not known.
    """
    from pyroute2 import NetlinkError

    wanted: dict[str, Any] = {"mtu": mtu, "state": "up"}
    if mac is not None:
        wanted["address"] = mac
    if rename is not None:
        wanted["ifname"] = rename
    if namespace is not None:
        # The kernel moves first and then sets the rest, so that this is one step and needs no entry.
        wanted["net_ns_fd"] = namespace
    with _netlink(f"setting up interface {rename or name}") as ip:
        found = _get(ip, ifname=name)
        if found is None:
            raise PortError(f"interface {name} is gone: it was removed while it was set up")
        if mac is not None and found.get("address") == mac:
            del wanted["address"]
        index: int = found["index"]
        if namespace is None:
            ip.link("set", index=index, **wanted)
            return index
        # Where it goes its number may be taken, and which one the kernel chose then could not be found out from here.
        for number in (index, *(_FREE_INDEX + secrets.randbelow(_FREE_INDEX) for _ in range(3))):
            try:
                ip.link("set", index=index, new_ifindex=number, **wanted)
            except NetlinkError as error:
                if error.code != errno.EBUSY:
                    raise
            else:
                return number
        ip.link("set", index=index, **wanted)
        return None


def pass_on(name: str, to: int) -> None:
    """Sets an interface up whose frames all leave by the interface with number `to`, and never reach the host's stack.

    Raises PortError, also where the kernel has no u32 or mirred (tc).
    """
    with _netlink(f"passing frames of {name} on") as ip:
        found = _get(ip, ifname=name)
        if found is None:
            raise PortError(f"interface {name} is gone: it was removed while it was set up")
        index = found["index"]
        ip.tc("add", kind="clsact", index=index)
        redirect = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": to}
        ip.tc(
            "add-filter", kind="u32", index=index, parent=_CLSACT_INGRESS, prio=1, protocol=_ETH_P_ALL,
            keys=["0x0/0x0+0"], target=0, action=[redirect],
        )  # fmt: skip
        ip.link("set", index=index, flags=IFF_UP | IFF_NOARP, change=IFF_UP | IFF_NOARP)


def watch() -> socket.socket:
    """A socket that becomes readable when any interface of this namespace changes; what it says need not be read."""
    events = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    events.bind((0, _RTMGRP_LINK))
    return events


def drain(events: socket.socket) -> None:
    """Empties a socket made by `watch`; events that did not fit into it are no loss, since it is all one."""
    while True:
        try:
            events.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise


@contextmanager
def _netlink(doing: str) -> Iterator[IPRoute]:
    from pyroute2 import IPRoute, NetlinkError

    try:
        with IPRoute() as ip:
            yield ip
    except NetlinkError as error:
        raise refusal(doing, OSError(error.code, os.strerror(error.code))) from None
    except OSError as error:
        raise refusal(doing, error) from None


def _get(ip: IPRoute, **which: object) -> Any:
    from pyroute2 import NetlinkError

    try:
        return next(iter(ip.link("get", **which)))
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise
