"""AF_PACKET sockets on an interface that is no free TAP: a veth end, a network card, a TAP that QEMU holds.

A socket gives what the interface receives, behind the same virtio-net header as a TAP, so that the super-packets of
GRO stay whole; what the host itself sends there is not read. A VLAN tag that the card took off comes as auxiliary data
(PACKET_AUXDATA), and whoever reads puts it back.

Raises PortError with a sentence for people.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct

from dataplane.live.interfaces.links import IFF_RUNNING, IFF_UP, Link, PortError, refusal

_ETH_P_ALL = 0x0003
_SIOCGIFFLAGS = 0x8913
_SOL_PACKET = 263
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33

_PACKET_ADD_MEMBERSHIP = 1
_PACKET_AUXDATA = 8
_PACKET_VNET_HDR = 15
_PACKET_FANOUT = 18
_PACKET_IGNORE_OUTGOING = 23

_MR_PROMISC = 1

_FANOUT_HASH = 0
_FANOUT_UNIQUE_ID = 0x2000
_FANOUT_IGNORE_OUTGOING = 0x4000

#: Room for some hundred super-packets, or for the small packets of some milliseconds, as the kernel counts its memory.
BUFFER_BYTES = 16 << 20


def open_sockets(link: Link, queues: int) -> list[int]:
    """This many non-blocking sockets that share what the interface receives, both ways of a flow on the same one."""
    sockets: list[socket.socket] = []
    try:
        for _ in range(queues):
            sockets.append(_prepared(link))
        # Bound at last: until then a socket receives nothing, and so nothing in another form.
        for each in sockets:
            each.bind((link.name, _ETH_P_ALL))
        if queues > 1:
            _share(sockets)
    except OSError as error:
        for each in sockets:
            each.close()
        if error.errno in (errno.EPERM, errno.EACCES):
            raise PortError(
                f"reading interface {link.name} is not permitted: run dataplane as root, or with the capabilities"
                " CAP_NET_RAW and CAP_NET_ADMIN"
            ) from None
        raise refusal(f"reading interface {link.name}", error) from None
    return [each.detach() for each in sockets]


def _prepared(link: Link) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        for option in (_PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING, _PACKET_AUXDATA):
            made.setsockopt(_SOL_PACKET, option, 1)
        member = struct.pack("iHH8x", link.index, _MR_PROMISC, 0)
        made.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, member)
        for force, option in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            try:
                made.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
            except PermissionError:
                made.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    except OSError:
        made.close()
        raise
    return made


def _share(sockets: list[socket.socket]) -> None:
    """Spreads flows over sockets by a hash that is the same for both ways."""
    first, *others = sockets
    kind = _FANOUT_HASH | _FANOUT_IGNORE_OUTGOING
    try:
        first.setsockopt(_SOL_PACKET, _PACKET_FANOUT, (kind | _FANOUT_UNIQUE_ID) << 16)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Before Linux 6.0 a group has no such flag, and follows its first socket.
        kind = _FANOUT_HASH
        first.setsockopt(_SOL_PACKET, _PACKET_FANOUT, (kind | _FANOUT_UNIQUE_ID) << 16)
    group = first.getsockopt(_SOL_PACKET, _PACKET_FANOUT) & 0xFFFF
    for other in others:
        other.setsockopt(_SOL_PACKET, _PACKET_FANOUT, kind << 16 | group)


def is_attached(fd: int) -> bool:
    """Whether the interface behind a socket still exists: the kernel takes its index away when it does not."""
    return bool(_name(fd))


def has_carrier(fd: int) -> bool:
    """Whether anybody is at the other end of the interface: False for a TAP that nobody holds, for a veth whose peer is
    down, and for a card without a link. One that is down, or gone, is not asked."""
    try:
        answer = fcntl.ioctl(fd, _SIOCGIFFLAGS, struct.pack("16s24x", _name(fd).encode()))
    except OSError:
        return True
    flags: int = struct.unpack_from("H", answer, 16)[0]
    return not flags & IFF_UP or bool(flags & IFF_RUNNING)


def _name(fd: int) -> str:
    with socket.socket(fileno=fd) as view:
        try:
            name: str = view.getsockname()[0]
        finally:
            view.detach()
    return name
