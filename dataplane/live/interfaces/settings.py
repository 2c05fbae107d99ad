"""The host's own stack, kept silent on an interface that it shares with instances.

ARP and IPv6 are switched off, IPv4 takes only what comes from where a route of the interface leads, the interface is
set up, and LRO is switched off, since what it puts together cannot be taken apart again; GRO stays, whose super-packets
can. Of an instance's interface the host takes nothing at all, where the kernel can (ingress_drop.py); IPv4 is narrowed
all the same, for where it cannot, and since addresses of the host may come later.

All that is needed to put it back is held from the beginning: a firewall that runs may enter no other namespace.
What there was is noted with the claim on the interface, so that it is put back in the end also where a firewall was
killed in between.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from dataplane.live.interfaces.ingress_drop import IngressDrop
from dataplane.live.interfaces.ioctl import Access
from dataplane.live.interfaces.links import IFF_NOARP, IFF_UP, refusal

if TYPE_CHECKING:
    from dataplane.live.interfaces.links import Link
    from dataplane.live.interfaces.locks import Claim

#: Settings of IPv4 (the kernel's networking/ip-sysctl) and what they are meanwhile. IPv4 cannot be switched off, but
#: what comes by an interface without address and route fails the check of its source, also the looser one (rp_filter
#: 2), which counts where `all` has it.
_IPV4 = {"rp_filter": 1, "forwarding": 0, "accept_local": 0}

#: Of an interface whose note cannot be read.
DAMAGED = (
    "what a firewall that was killed had noted of it is damaged, and given up: see whether ARP and IPv6 are off there"
    " (ip link, sysctl net.ipv6.conf), and switch them on"
)


@dataclass(frozen=True, slots=True)
class _Settings:
    """What an interface was before; `addresses` are those of IPv6, which go when that is switched off."""

    mac: str | None
    flags: int
    lro: bool
    ipv6: bool
    addresses: tuple[tuple[str, int], ...]
    ipv4: dict[str, int]

    @classmethod
    def of(cls, left: object) -> _Settings | None:
        """What a firewall that was killed has noted; None where it is not that, or has been damaged."""
        match left:
            case {"mac": str() | None as mac, "flags": int(flags), "lro": bool(lro), "ipv6": bool(ipv6), **others}:
                addresses = _addresses(others.get("addresses"))
                ipv4 = _ipv4(others.get("ipv4", {}))
                if addresses is not None and ipv4 is not None:
                    return cls(mac, flags, lro, ipv6, addresses, ipv4)
        return None

    def is_in_force(self, link: Link) -> bool:
        """Whether the interface is still as a firewall that was killed has left it; it may have been set up anew since,
        or be another one."""
        return self.mac == link.mac and bool(link.flags & IFF_NOARP)


def _addresses(found: object) -> tuple[tuple[str, int], ...] | None:
    """IPv6 addresses with the lengths of their prefixes; None where anything else is among them."""
    if not isinstance(found, list):
        return None
    addresses: list[tuple[str, int]] = []
    for each in found:
        match each:
            case [str(address), int(length)] if 0 <= length <= 128 and _is_ipv6(address):
                addresses.append((address, length))
            case _:
                return None
    return tuple(addresses)


def _ipv4(found: object) -> dict[str, int] | None:
    """Values by the names of settings; None where anything else is among them."""
    if not isinstance(found, dict):
        return None
    if any(key not in _IPV4 or type(value) is not int for key, value in found.items()):
        return None
    return found


def _is_ipv6(address: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, address)
    except (OSError, ValueError):
        return False
    return True


def is_damaged(claim: Claim) -> bool:
    """Whether something is noted with a claim that is not what a firewall notes."""
    return claim.left is not None and _Settings.of(claim.left) is None


def put_back_left(link: Link, claim: Claim) -> bool:
    """Puts back what a firewall that was killed has left of an interface of this thread's network namespace.

    Returns whether there was anything. Raises OSError.
    """
    left = _Settings.of(claim.left)
    if left is None or not left.is_in_force(link):
        return False
    access = Access()
    try:
        _put_back(access, link.index, left)
    finally:
        access.close()
    return True


def _put_back(access: Access, index: int, before: _Settings) -> None:
    name = None
    with contextlib.suppress(OSError):
        name = access.name(index)
    if name is None:
        return
    # One that is refused, or comes too late, is no reason to leave out the others.
    with contextlib.suppress(OSError):
        access.set_flags(name, before.flags)
    if before.lro:
        with contextlib.suppress(OSError):
            access.set_lro(name, on=True)
    if before.ipv6:
        with contextlib.suppress(OSError):
            access.set_ipv6(name, on=True)
        for address, length in before.addresses:
            with contextlib.suppress(OSError):
                access.add_address(index, address, length)
    for key, value in before.ipv4.items():
        with contextlib.suppress(OSError):
            if access.ipv4(name, key) != value:
                access.set_ipv4(name, key, value)


class Silence:
    """Begins when it is made, in the namespace of the calling thread, and ends with `restore`. Raises PortError.

    `deaf` is for interfaces from which the host's own stack shall take nothing; `is_deaf` says whether it takes none.
    """

    def __init__(self, link: Link, claim: Claim, *, deaf: bool = False) -> None:
        self._link = link
        self._drop: IngressDrop | None = None
        if deaf:
            self.deafen(True)
        try:
            self._access = Access()
        except OSError as error:
            self.deafen(False)
            raise refusal(f"setting up interface {link.name}", error) from None
        try:
            self._before = self._found(_Settings.of(claim.left))
        except BaseException as error:
            self._access.close()
            self.deafen(False)
            if isinstance(error, OSError):
                raise refusal(f"setting up interface {link.name}", error) from None
            raise
        try:
            claim.note(asdict(self._before))
            self._begin()
        except BaseException as error:
            self.restore()
            if isinstance(error, OSError):
                raise refusal(f"setting up interface {link.name}", error) from None
            raise

    @property
    def is_deaf(self) -> bool:
        """Whether the host's own stack takes nothing from the interface."""
        return self._drop is not None

    def deafen(self, deaf: bool) -> None:
        """Whether the host's own stack is to take nothing from now on, where the kernel can."""
        if deaf and self._drop is None:
            with contextlib.suppress(OSError):
                self._drop = IngressDrop(self._link.name)
        elif not deaf and self._drop is not None:
            self._drop.close()
            self._drop = None

    def restore(self) -> None:
        """Puts back what was changed, unless the interface is gone; can be called from any namespace."""
        try:
            _put_back(self._access, self._link.index, self._before)
        finally:
            self._access.close()
            self.deafen(False)

    def _found(self, left: _Settings | None) -> _Settings:
        """What to go back to: what there is now, but what a firewall that was killed changed as it was before that."""
        link = self._link
        now = _Settings(
            mac=link.mac,
            flags=link.flags & (IFF_UP | IFF_NOARP),
            lro=self._access.has_lro(link.name),
            ipv6=self._access.has_ipv6(link.name),
            # Link-local addresses come back by themselves.
            addresses=tuple(a for a in link.addresses if ":" in a[0] and not a[0].startswith("fe80:")),
            ipv4={key: value for key in _IPV4 if (value := self._access.ipv4(link.name, key)) is not None},
        )
        if left is None or not left.is_in_force(link):
            return now
        return _Settings(
            mac=link.mac,
            flags=left.flags,
            lro=now.lro or left.lro,
            ipv6=now.ipv6 or left.ipv6,
            addresses=now.addresses if now.ipv6 else left.addresses,
            ipv4={**now.ipv4, **left.ipv4},
        )

    def _begin(self) -> None:
        name = self._link.name
        if self._before.lro and self._access.has_lro(name):
            with contextlib.suppress(OSError):
                self._access.set_lro(name, on=False)
        # NOARP shows what a firewall that was killed has begun. One that is set up with IPv6 would speak at once.
        self._access.set_flags(name, self._link.flags & IFF_UP | IFF_NOARP)
        if self._before.ipv6 and self._access.has_ipv6(name):
            try:
                self._access.set_ipv6(name, on=False)
            except OSError as error:
                raise refusal(f"switching IPv6 off on interface {name}", error) from None
        for key in self._before.ipv4:
            self._begin_ipv4(name, key)
        self._access.set_flags(name, IFF_UP | IFF_NOARP)

    def _begin_ipv4(self, name: str, key: str) -> None:
        """Raises PortError where it fails and sources are not checked at all; that check alone keeps most out."""
        try:
            if self._access.ipv4(name, key) != _IPV4[key]:
                self._access.set_ipv4(name, key, _IPV4[key])
        except OSError as error:
            # The larger of the interface's own and of that for all counts.
            if not any(self._access.ipv4(each, "rp_filter") for each in (name, "all")):
                raise refusal(f"setting net.ipv4.conf.{name}.{key} to {_IPV4[key]}", error) from None
