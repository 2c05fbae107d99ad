"""Policies, frames and interfaces of tests that open ports by hand."""

from __future__ import annotations

import json
import os
import select

from dataplane.live.interfaces import tap
from dataplane.live.interfaces.port import Port
from dataplane.live.interfaces.ports import Ports
from dataplane.policy import Policy

from .network import Host

INSTANCE = "{{id: {0}, addresses: [10.0.0.{1}], mac: '02:00:00:00:00:0{1}', interface: {0}{2}}}"


def policy(*instances: str, uplinks: tuple[str, ...] = (), more: str = "") -> Policy:
    links = ", ".join(f"{{interface: {name}}}" for name in uplinks)
    return Policy.parse(f"instances: [{', '.join(instances)}]\nuplinks: [{links}]\n{more}")


def instance(name: str, number: int = 1, more: str = "") -> str:
    return INSTANCE.format(name, number, more and f", {more}")


def exists(host: Host, name: str) -> bool:
    return host.run("ip", "link", "show", name).returncode == 0


def frame(source: int, destination: int = 0xFF, payload: bytes = b"hello") -> bytes:
    """A frame of a made-up protocol behind an empty virtio-net header."""
    mac = bytes([destination] * 6), bytes([2, 0, 0, 0, 0, source])
    return bytes(tap.HEADER_BYTES) + mac[0] + mac[1] + b"\x88\xb5" + payload.ljust(46, b"\0")


def received(fds: tuple[int, ...]) -> list[bytes]:
    """All frames of the made-up protocol that come within half a second after the last."""
    found = []
    while ready := select.select(fds, [], [], 0.5)[0]:
        for fd in ready:
            data = os.read(fd, 70000)
            if data[22:24] == b"\x88\xb5":
                found.append(data)
    return found


def deleted(host: Host, port: Port, ports: Ports) -> None:
    host.ip("link", "delete", port.name)
    assert select.select([ports.watch_fd], [], [], 5)[0]


def settings(host: Host, name: str) -> tuple[list[str], str, list[str]]:
    """What a firewall changes of an interface: flags, whether IPv6 is off, addresses but for link-local ones."""
    (shown,) = json.loads(host.ip("-json", "address", "show", "dev", name))
    off = host.run("cat", f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").stdout
    return (
        sorted(shown["flags"]),
        off,
        sorted(f"{a['local']}/{a['prefixlen']}" for a in shown["addr_info"] if a["scope"] != "link"),
    )
