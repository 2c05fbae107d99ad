"""A TAP beside an interface read by AF_PACKET, by which super-packets of tunnels over UDP leave there as they are.

The virtio-net header of AF_PACKET describes TCP in IP, and nothing around it; that of a TAP, since Linux 6.17, also
TCP in IP in UDP. So what came out of one veth as a super-packet of VXLAN enters the kernel by such a TAP, and tc
(clsact, mirred) passes it on to the other veth before the host's own stack has seen it. The TAP has neither addresses
nor IPv6, and goes when its descriptor is closed, also where a firewall is killed.

Raises PortError with a sentence for people.
"""

from __future__ import annotations

import os

from dataplane.live.interfaces import links, tap
from dataplane.live.interfaces.ioctl import Access
from dataplane.live.interfaces.links import PortError, refusal


def name_beside(index: int) -> str:
    """What the TAP beside the interface with this number is called."""
    return f"dptun{index}"


def open_beside(index: int) -> int:
    """A descriptor of a new TAP whose frames leave by the interface with this number, in this thread's namespace."""
    name = name_beside(index)
    fd = tap.make_for_tunnels(name)
    try:
        _silence(name)
        links.pass_on(name, index)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _silence(name: str) -> None:
    try:
        access = Access()
        try:
            if access.has_ipv6(name):
                access.set_ipv6(name, on=False)
        finally:
            access.close()
    except OSError as error:
        raise refusal(f"switching IPv6 off on interface {name}", error) from None


__all__ = ["PortError", "name_beside", "open_beside"]
