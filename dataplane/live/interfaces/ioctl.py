"""Settings of interfaces through descriptors of their network namespace, also when that cannot be entered any more.

A socket stays in the namespace that it was opened in, and what is asked of it (ioctl) concerns the interfaces there; so
do the kernel's settings of IPv4 and IPv6 below their folders. Whoever opens all while he may enter can go on with what
CAP_NET_ADMIN alone allows.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import io
import os
import socket
import struct

from dataplane.live.interfaces.links import IFF_NOARP, IFF_UP

_SIOCGIFNAME = 0x8910
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_SIOCSIFADDR = 0x8916
_SIOCSIFMTU = 0x8922
_SIOCSIFHWADDR = 0x8924
_SIOCGIFINDEX = 0x8933
_SIOCETHTOOL = 0x8946

_ARPHRD_ETHER = 1
_ETHTOOL_GFLAGS = 0x25
_ETHTOOL_SFLAGS = 0x26
_ETH_FLAG_LRO = 1 << 15
_IPV4, _IPV6 = "/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf"


class Access:
    """The interfaces of the network namespace that the calling thread is in now. Methods raise OSError."""

    def __init__(self) -> None:
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(socket.AF_INET6, kind)
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise
            self._socket = socket.socket(socket.AF_INET, kind)
        self._ipv4: int | None = None
        self._ipv6: int | None = None
        try:
            self._ipv4, self._ipv6 = _folder(_IPV4), _folder(_IPV6)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the access up."""
        self._socket.close()
        for folder in (self._ipv4, self._ipv6):
            if folder is not None:
                os.close(folder)
        self._ipv4 = self._ipv6 = None

    def index(self, name: str) -> int | None:
        """The number of the interface that has this name now."""
        try:
            answer = self._ask(_SIOCGIFINDEX, name)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        number: int = struct.unpack_from("i", answer, 16)[0]
        return number

    def name(self, index: int) -> str | None:
        """The name that the interface with this number has now."""
        try:
            answer = fcntl.ioctl(self._socket, _SIOCGIFNAME, struct.pack("16xi20x", index))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return os.fsdecode(answer[:16].rstrip(b"\0"))

    def set_flags(self, name: str, flags: int) -> None:
        """Makes IFF_UP and IFF_NOARP those of `flags`."""
        now: int = struct.unpack_from("H", self._ask(_SIOCGIFFLAGS, name), 16)[0]
        ours = IFF_UP | IFF_NOARP
        self._ask(_SIOCSIFFLAGS, name, struct.pack("H", now & ~ours | flags & ours))

    def set_mtu(self, name: str, mtu: int) -> None:
        """Another largest packet."""
        self._ask(_SIOCSIFMTU, name, struct.pack("i", mtu))

    def set_mac(self, name: str, mac: str) -> None:
        """Another MAC."""
        self._ask(_SIOCSIFHWADDR, name, struct.pack("H6s", _ARPHRD_ETHER, bytes.fromhex(mac.replace(":", ""))))

    def has_lro(self, name: str) -> bool:
        """Whether large-receive offload is on; most interfaces have none."""
        try:
            return bool(self._offloads(name) & _ETH_FLAG_LRO)
        except OSError:
            return False

    def set_lro(self, name: str, *, on: bool) -> None:
        """Switches large-receive offload."""
        value = array.array("I", [_ETHTOOL_SFLAGS, self._offloads(name) & ~_ETH_FLAG_LRO | (_ETH_FLAG_LRO * on)])
        self._ask(_SIOCETHTOOL, name, struct.pack("P", value.buffer_info()[0]))

    def has_ipv6(self, name: str) -> bool:
        """Whether IPv6 is on; a kernel may have none."""
        try:
            with _setting(self._ipv6, name, "disable_ipv6", os.O_RDONLY) as switch:
                return switch.read().strip() == b"0"
        except FileNotFoundError:
            return False

    def set_ipv6(self, name: str, *, on: bool) -> None:
        """Switches IPv6; what it was has no part in it."""
        with _setting(self._ipv6, name, "disable_ipv6", os.O_WRONLY) as switch:
            switch.write(b"0" if on else b"1")

    def ipv4(self, name: str, key: str) -> int | None:
        """A setting of IPv4, of an interface or of `all`; None where the kernel has none."""
        try:
            with _setting(self._ipv4, name, key, os.O_RDONLY) as setting:
                return int(setting.read())
        except FileNotFoundError:
            return None

    def set_ipv4(self, name: str, key: str, value: int) -> None:
        """Another value of a setting of IPv4."""
        with _setting(self._ipv4, name, key, os.O_WRONLY) as setting:
            setting.write(b"%d" % value)

    def add_address(self, index: int, address: str, length: int) -> None:
        """Another IPv6 address; one that is there stays."""
        packed = socket.inet_pton(socket.AF_INET6, address)
        with contextlib.suppress(FileExistsError):
            fcntl.ioctl(self._socket, _SIOCSIFADDR, struct.pack("16sIi", packed, length, index))

    def _offloads(self, name: str) -> int:
        value = array.array("I", [_ETHTOOL_GFLAGS, 0])
        self._ask(_SIOCETHTOOL, name, struct.pack("P", value.buffer_info()[0]))
        return value[1]

    def _ask(self, request: int, name: str, value: bytes = b"") -> bytes:
        return fcntl.ioctl(self._socket, request, struct.pack("16s24s", os.fsencode(name), value))


def _folder(path: str) -> int | None:
    """A kernel may have none."""
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _setting(folder: int | None, name: str, key: str, way: int) -> io.FileIO:
    if folder is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    fd = os.open(f"{name}/{key}", way | os.O_CLOEXEC, dir_fd=folder)
    return io.FileIO(fd, "r" if way == os.O_RDONLY else "w")
