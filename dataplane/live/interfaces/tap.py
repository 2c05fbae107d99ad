"""TAP devices: making one, taking hold of one that exists, and what a file descriptor of one is told.

Each queue is one descriptor, non-blocking, whose frames stand behind a virtio-net header of `HEADER_BYTES`. The kernel
hands over super-packets (segmentation offload) and packets without a checksum, and says so in the header; it takes the
same from us.

Raises PortError with a sentence for people.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress

from dataplane.live.interfaces.links import PortError, refusal

HEADER_BYTES = 10
#: Of a virtio-net header that tells of tunnels over UDP, which Linux has since 6.17.
TUNNEL_HEADER_BYTES = 24

_DEVICE = "/dev/net/tun"

# From linux/if_tun.h, as the architectures encode them that have no encoding of their own (x86, Arm, RISC-V, s390).
_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TUNSETOWNER = 0x400454CC
_TUNSETOFFLOAD = 0x400454D0
_TUNGETIFF = 0x800454D2
_TUNSETVNETHDRSZ = 0x400454D8

_IFF_TAP = 0x0002
_IFF_MULTI_QUEUE = 0x0100
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_IFF_TUN_EXCL = 0x8000

# Checksums, TCP segmentation over IPv4 and IPv6, also with ECN; then UDP segmentation, which Linux has since 6.2.
_OFFLOADS = 0x01 | 0x02 | 0x04 | 0x08
_UDP_OFFLOADS = 0x20 | 0x40
_TUNNEL_OFFLOADS = 0x80 | 0x100


def make(name: str, queues: int) -> list[int]:
    """A new TAP with this many queues. It goes when the last descriptor is closed, unless `keep` says otherwise."""
    flags = _IFF_MULTI_QUEUE if queues > 1 else 0
    # Only the first queue makes the TAP, and must not find one.
    fds = [_queue(name, flags | _IFF_TUN_EXCL)]
    return _with_more(name, fds, flags, queues)


def make_for_tunnels(name: str) -> int:
    """A new TAP that takes super-packets of tunnels over UDP, behind a header of `TUNNEL_HEADER_BYTES`."""
    fd = _queue(name, _IFF_TUN_EXCL)
    try:
        fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", TUNNEL_HEADER_BYTES))
        fcntl.ioctl(fd, _TUNSETOFFLOAD, _OFFLOADS | _UDP_OFFLOADS | _TUNNEL_OFFLOADS)
    except OSError as error:
        os.close(fd)
        if error.errno == errno.EINVAL:
            raise PortError("TAPs take no super-packets of tunnels before Linux 6.17") from None
        raise refusal(f"setting up TAP {name}", error) from None
    return fd


def attach(name: str, queues: int, *, multi_queue: bool) -> list[int] | None:
    """Descriptors of a TAP that exists; None where somebody else holds it.

    One without multi-queue has a single queue, which all descriptors share.
    """
    flags = _IFF_MULTI_QUEUE if multi_queue else 0
    try:
        fds = [_queue(name, flags)]
    except _BusyError:
        return None
    if not multi_queue:
        fds += [os.dup(fds[0]) for _ in range(queues - 1)]
    return _with_more(name, fds, flags, queues)


def _with_more(name: str, fds: list[int], flags: int, queues: int) -> list[int]:
    try:
        while len(fds) < queues:
            fds.append(_queue(name, flags))
        fcntl.ioctl(fds[0], _TUNSETVNETHDRSZ, struct.pack("i", HEADER_BYTES))
        try:
            fcntl.ioctl(fds[0], _TUNSETOFFLOAD, _OFFLOADS | _UDP_OFFLOADS)
        except OSError:
            fcntl.ioctl(fds[0], _TUNSETOFFLOAD, _OFFLOADS)
    except OSError as error:
        close(fds)
        raise refusal(f"setting up TAP {name}", error) from None
    except PortError:
        close(fds)
        raise
    return fds


class _BusyError(PortError):
    """Somebody else holds the TAP."""


def _queue(name: str, flags: int) -> int:
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            raise PortError(
                f"TAP {name} needs {_DEVICE}, which is missing: load the module (modprobe tun), or give the container"
                " that device"
            ) from None
        raise refusal(f"opening {_DEVICE} for TAP {name}", error) from None
    request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | flags)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, request)
    except OSError as error:
        os.close(fd)
        if error.errno == errno.EBUSY:
            raise _BusyError(f"TAP {name} is held by another program: stop that, or choose another interface") from None
        raise refusal(f"{'making' if flags & _IFF_TUN_EXCL else 'attaching to'} TAP {name}", error) from None
    return fd


def keep(fd: int, persistent: bool) -> None:
    """Whether the TAP stays when all its descriptors are closed."""
    fcntl.ioctl(fd, _TUNSETPERSIST, int(persistent))


def give(fd: int, user: int) -> None:
    """Which user, by number, may attach to the TAP without CAP_NET_ADMIN."""
    # Python wants the signed number with the same bits.
    fcntl.ioctl(fd, _TUNSETOWNER, user - (1 << 32) if user >> 31 else user)


def is_attached(fd: int) -> bool:
    """Whether the TAP behind a descriptor still exists, in whichever namespace it is by now."""
    try:
        fcntl.ioctl(fd, _TUNGETIFF, bytes(40))
    except OSError:
        return False
    return True


def close(fds: list[int]) -> None:
    """Closes descriptors."""
    for fd in fds:
        with suppress(OSError):
            os.close(fd)
