"""A firewall without ports whose connection table is filled by hand: what needs neither root nor packets."""

from __future__ import annotations

from typing import Any

from dataplane import Policy
from dataplane._core import ffi, lib
from dataplane.compiler import pack_address
from dataplane.live.firewall import Firewall

POLICY = """
security_groups:
  - id: sg
    security_group_rules:
      - {id: web, direction: ingress, protocol: tcp, multiport: "80"}
      - {id: in6, direction: ingress, ethertype: IPv6}
      - {id: self, direction: ingress, protocol: udp, remote_group_id: sg}
      - {id: out, direction: egress}
  - {id: other, security_group_rules: [{id: listed, direction: ingress, remote_address_group_id: list}]}
address_groups:
  - {id: list, ip_version: 4, ip_set: [192.0.2.0/24]}
instances:
  - {id: a, addresses: [10.0.0.1, "fd00::1"], security_groups: [sg]}
  - {id: b, addresses: [10.0.0.2], security_groups: [other]}
"""

TCP, UDP, ICMP = 6, 17, 1
SECOND = 1_000_000_000


def saved(firewall: Firewall, instance: str, local: str, remote: str, **fields: Any) -> bytes:
    """A `struct dp_saved_connection`; fields that are not given are those of an established inbound TCP connection."""
    values: dict[str, Any] = {
        "local": pack_address(local).ljust(16, b"\0"),
        "remote": pack_address(remote).ljust(16, b"\0"),
        "family": 6 if ":" in local else 4,
        "zone": firewall.names.zone(instance),
        "rule": firewall.names.rule_number("web", "sg"),
        "protocol": TCP,
        "origin": lib.DP_INBOUND,
        "state": lib.DP_CONN_TCP_ESTABLISHED,
        "local_port": 80,
        "remote_port": 40000,
    }
    return bytes(ffi.buffer(ffi.new("struct dp_saved_connection *", values | fields)))


def filled() -> Firewall:
    """A firewall with five connections: TCP and IPv6 TCP into a, UDP and ping out of a, and one into b."""
    firewall = Firewall(Policy.parse(POLICY), seed=1)
    fill(firewall)
    return firewall


def fill(firewall: Firewall) -> None:
    """Gives a firewall under POLICY these connections."""
    out = firewall.names.rule_number("out", "sg")
    udp = {"protocol": UDP, "origin": lib.DP_OUTBOUND, "state": lib.DP_CONN_OTHER_ONE_WAY, "rule": out}
    ping = {"protocol": ICMP, "origin": lib.DP_OUTBOUND, "state": lib.DP_CONN_ICMP_TWO_WAY, "rule": out}
    records = [
        saved(firewall, "a", "10.0.0.1", "192.0.2.9"),
        saved(firewall, "a", "fd00::1", "fd00::9", rule=firewall.names.rule_number("in6", "sg")),
        saved(firewall, "a", "10.0.0.1", "192.0.2.53", local_port=5353, remote_port=53, **udp),
        saved(firewall, "a", "10.0.0.1", "192.0.2.9", local_port=77, remote_port=8 | 0x8000, **ping),
        saved(firewall, "b", "10.0.0.2", "192.0.2.9", rule=firewall.names.rule_number("listed", "other")),
    ]
    assert firewall.restore(records, 0) == len(records)


def frame_item(frame: bytes) -> Any:
    """A `struct dp_feed_item` of a frame that passes, with the frame behind it."""
    item = ffi.from_buffer("struct dp_feed_item *", bytearray(ffi.sizeof("struct dp_feed_item")) + frame)
    item.kind, item.captured, item.record.verdict = lib.DP_FEED_FRAMES, len(frame), lib.DP_BYPASS
    item.record.length = len(frame)
    return item
