"""The policies that the benchmarks run under, as documents.

`workload` goes with workloads.c: all 4,096 servers (172.16.0.0/20) are instances of one group. Of its `rules` rules of
ingress for IPv4, all but the last match none of the workloads' packets; then one allows every packet, and one every
packet of egress; the same for IPv6, without those that match nothing.
"""

from __future__ import annotations

from typing import Any

SERVERS = 4096
ENTRIES = 4_194_304


def _document(ingress: list[dict[str, Any]], entries: int) -> dict[str, Any]:
    last = [
        {"id": f"{direction}-{ethertype}", "direction": direction, "ethertype": ethertype, "priority": 100}
        for direction in ("ingress", "egress")
        for ethertype in ("IPv4", "IPv6")
    ]
    instances = [
        {
            "id": f"i{n}",
            "addresses": [f"172.16.{n >> 8}.{n & 255}", f"2001:db8::ac10:{n:x}"],
            "security_groups": ["sg"],
        }
        for n in range(SERVERS)
    ]
    return {
        "security_groups": [{"id": "sg", "security_group_rules": ingress + last}],
        "instances": instances,
        "conntrack": {"max_entries": entries},
    }


def workload(rules: int, entries: int = ENTRIES) -> dict[str, Any]:
    """With so many rules of ingress for IPv4, over 50 · 256 networks of 16 bits in 100.0.0.0 to 149.255.0.0."""
    miss = [
        {
            "id": f"m{n}",
            "direction": "ingress",
            "protocol": ("tcp", "udp")[n % 2],
            "multiport": str(20000 + n % 40000),
            "remote_ip_prefix": f"{100 + n % 50}.{n // 50 % 256}.0.0/16",
            "priority": 1 + n % 99,
        }
        for n in range(rules - 2)
    ]
    return _document(miss, entries)


def grouped(rules: int, entries: int = ENTRIES) -> dict[str, Any]:
    """The rules of `workload`, 100 in a group; each server is in one of the groups."""
    document = workload(rules, entries)
    (whole,) = document["security_groups"]
    found = whole["security_group_rules"]
    groups = [found[n : n + 100] for n in range(0, len(found), 100)]
    document["security_groups"] = [{"id": f"sg{n}", "security_group_rules": some} for n, some in enumerate(groups)]
    for n, instance in enumerate(document["instances"]):
        instance["security_groups"] = [f"sg{n % len(groups)}"]
    return document


def nested(depth: int, entries: int = ENTRIES) -> dict[str, Any]:
    """With prefixes of 8 bits and more around 10.0.0.0, one in the other, each with a rule that matches nothing."""
    rule = {"direction": "ingress", "protocol": "udp", "multiport": "20000"}
    return _document([rule | {"remote_ip_prefix": f"10.0.0.0/{8 + n}"} for n in range(depth)], entries)
