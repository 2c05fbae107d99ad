"""The kernel as a packet filter: nf_conntrack and nftables between two TUN devices, in a network namespace of its own.

An IP packet is written to one device, and what the kernel forwards is read from the other. The kernel carries a packet
all the way within the write, so that there is nothing to wait for: what cannot be read afterwards was denied.

The namespace has no name; it goes when the object is closed, or with the process. No packet leaves it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

PROGRAMS = ("ip", "nft")

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

SYSCTLS = {
    "ipv4/ip_forward": 1,
    "ipv4/conf/all/rp_filter": 0,
    "ipv4/conf/default/rp_filter": 0,
    "ipv6/conf/all/forwarding": 1,
    "ipv6/conf/default/forwarding": 1,
    "netfilter/nf_conntrack_checksum": 0,
    "netfilter/nf_conntrack_tcp_be_liberal": 0,
    "netfilter/nf_conntrack_tcp_ignore_invalid_rst": 0,
    "netfilter/nf_conntrack_tcp_loose": 0,
}

#: Timeouts of a policy's `conntrack` section -> those of nf_conntrack.
TIMEOUTS = {
    "tcp_established": ["tcp_timeout_established"],
    "tcp_fin_wait": ["tcp_timeout_fin_wait", "tcp_timeout_last_ack"],
    "tcp_close_wait": ["tcp_timeout_close_wait"],
    "tcp_half_open": ["tcp_timeout_syn_sent", "tcp_timeout_syn_recv"],
    "tcp_close": ["tcp_timeout_time_wait", "tcp_timeout_close"],
    "icmp": ["icmp_timeout", "icmpv6_timeout"],
    "other_bidirectional": ["udp_timeout_stream", "gre_timeout_stream"],
    "other_unidirectional": ["udp_timeout", "gre_timeout", "generic_timeout"],
}

#: Forwarded packets carry in their DSCP why they were let through. What the kernel itself sends carries none.
WHY = {1: "new", 2: "established", 3: "related", 4: "untracked"}

RULESET = """
table inet security_group {
  chain new { ip dscp set 1 accept; ip6 dscp set 1 accept; }
  chain established { ip dscp set 2 accept; ip6 dscp set 2 accept; }
  chain related { ip dscp set 3 accept; ip6 dscp set 3 accept; }
  chain untracked { ip dscp set 4 accept; ip6 dscp set 4 accept; }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state vmap { invalid : drop, established : goto established, related : goto related, untracked : goto untracked }
    # To the kernel a connection is new until it was answered; a security group judges its first packet only.
    ct status confirmed goto established
    %s
  }
}
"""

T = TypeVar("T")


def _new_namespace() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")


def _sysctl(name: str, value: int) -> None:
    Path("/proc/sys/net", name).write_text(str(value))


def _run(*command: str, script: str) -> None:
    subprocess.run(command, input=script, check=True, text=True, timeout=60)


def _tun(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


class KernelFilter:
    """Protects packed addresses `inside` by nftables `rules`, which send what they allow to the chain `new`.

    `timeouts` are those of a policy's `conntrack` section, in whole seconds.
    """

    def __init__(self, inside: tuple[str, ...], rules: str, timeouts: Mapping[str, int]) -> None:
        # A namespace belongs to a thread, and to the programs that it starts.
        self._thread = ThreadPoolExecutor(1, initializer=_new_namespace)
        self._devices = self._there(lambda: (_tun("inside"), _tun("outside")))
        self._there(lambda: self._set_up(inside, rules, timeouts))

    def close(self) -> None:
        """Gives the devices back, and with them the namespace."""
        for device in self._devices:
            os.close(device)
        self._thread.shutdown()

    def _there(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result()

    def _set_up(self, inside: tuple[str, ...], rules: str, timeouts: Mapping[str, int]) -> None:
        # First the rules: they load conntrack, where it is a module, and with it come its settings.
        _run("nft", "-f", "-", script=RULESET % rules)
        for name, value in SYSCTLS.items():
            _sysctl(name, value)
        for name, seconds in timeouts.items():
            for timeout in TIMEOUTS[name]:
                _sysctl(f"netfilter/nf_conntrack_{timeout}", seconds)
        for timeout in ("unacknowledged", "max_retrans"):
            _sysctl(f"netfilter/nf_conntrack_tcp_timeout_{timeout}", timeouts["tcp_established"] // 2)
        lines = [f"link set {device} mtu 65535 up" for device in ("inside", "outside")]
        lines += [f"route add {family}/0 dev outside" for family in ("0.0.0.0", "::")]
        lines += [f"route add {address} dev inside" for address in inside]
        _run("ip", "-batch", "-", script="\n".join(lines))

    def process(self, packet: bytes, from_inside: bool) -> str:
        """Sends one IP packet from one side: why it came out at the other (a word of `WHY`), or "denied"."""
        source, destination = self._devices if from_inside else reversed(self._devices)
        try:
            os.write(source, packet)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        outcomes = [*self._read(destination), "denied"]
        self._read(source)
        return outcomes[0]

    def _read(self, device: int) -> list[str]:
        """All that the kernel has forwarded to a device."""
        outcomes: list[str] = []
        while True:
            try:
                packet = os.read(device, 65535)
            except BlockingIOError:
                return outcomes
            dscp = (packet[0] << 4 | packet[1] >> 4) >> 2 & 63 if packet[0] >> 4 == 6 else packet[1] >> 2
            if dscp in WHY:
                outcomes.append(WHY[dscp])
