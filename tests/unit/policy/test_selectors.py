"""The ranges over protocol and ports that rule tables are made from (`struct dp_selector` in csrc/dp_tables.h)."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane.policy import icmp
from dataplane.policy.rule import SecurityGroupRule

TCP, UDP, ICMP, ICMPV6 = 6 << 16, 17 << 16, 1 << 16, 58 << 16


@pytest.mark.parametrize(
    ("fields", "selectors"),
    [
        ({}, [(0, 0xFFFFFF)]),
        ({"protocol": "tcp"}, [(TCP, TCP | 0xFFFF)]),
        ({"protocol": "gre"}, [(47 << 16, 47 << 16 | 0xFFFF)]),
        ({"protocol": 0}, [(0, 0xFFFF)]),
        ({"protocol": 255}, [(0xFF0000, 0xFFFFFF)]),
        ({"protocol": "tcp", "multiport": "22"}, [(TCP | 22, TCP | 22)]),
        ({"protocol": "udp", "multiport": "80-82,53"}, [(UDP | 80, UDP | 82), (UDP | 53, UDP | 53)]),
        ({"protocol": "tcp", "multiport": "1-65535"}, [(TCP | 1, TCP | 65535)]),
        ({"protocol": "sctp", "multiport": "3868"}, [(132 << 16 | 3868, 132 << 16 | 3868)]),
        ({"protocol": 33, "multiport": "5004,6000-6001"}, [(33 << 16 | 5004,) * 2, (33 << 16 | 6000, 33 << 16 | 6001)]),
        ({"protocol": "udplite", "multiport": "53"}, [(136 << 16 | 53, 136 << 16 | 53)]),
        ({"protocol": "icmp"}, [(ICMP, ICMP | 0xFFFF)]),
        ({"protocol": "icmp", "icmp_type": 8}, [(ICMP | 0x0800, ICMP | 0x08FF)]),
        ({"protocol": "icmp", "icmp_type": "echo-request"}, [(ICMP | 0x0800, ICMP | 0x08FF)]),
        ({"protocol": "icmp", "icmp_type": 3, "icmp_code": 1}, [(ICMP | 0x0301, ICMP | 0x0301)]),
        ({"protocol": 1, "icmp_type": 0, "icmp_code": 0}, [(ICMP, ICMP)]),
        (
            {"protocol": "icmp", "icmp_type": "destination-unreachable", "icmp_code": "fragmentation-needed"},
            [(ICMP | 0x0304, ICMP | 0x0304)],
        ),
        (
            {"protocol": "icmp", "icmp_type": 3, "icmp_code": "host-unreachable"},
            [(ICMP | 0x0301, ICMP | 0x0301)],
        ),
        (
            {"protocol": "icmpv6", "ethertype": "IPv6", "icmp_type": "echo-request"},
            [(ICMPV6 | 0x8000, ICMPV6 | 0x80FF)],
        ),
        (
            {
                "protocol": 58,
                "ethertype": "IPv6",
                "icmp_type": "destination-unreachable",
                "icmp_code": "port-unreachable",
            },
            [(ICMPV6 | 0x0104, ICMPV6 | 0x0104)],
        ),
        ({"protocol": "icmp", "icmp_type": "TIME-EXCEEDED"}, [(ICMP | 0x0B00, ICMP | 0x0BFF)]),
        ({"protocol": "icmp", "icmp_type": "8"}, [(ICMP | 0x0800, ICMP | 0x08FF)]),
    ],
)
def test_selectors(fields: dict[str, Any], selectors: list[tuple[int, int]]) -> None:
    assert SecurityGroupRule.model_validate({"direction": "ingress", **fields}).selectors == tuple(selectors)


@pytest.mark.parametrize("protocol", ["icmp", "icmpv6"])
def test_every_name_can_be_written(protocol: str) -> None:
    ethertype = "IPv6" if protocol == "icmpv6" else "IPv4"
    base = {"direction": "ingress", "ethertype": ethertype, "protocol": protocol}
    for name, number in icmp.type_names(protocol).items():
        assert SecurityGroupRule.model_validate({**base, "icmp_type": name}).selectors[0][0] >> 8 & 0xFF == number
        for code_name, code in icmp.code_names(protocol, number).items():
            rule = SecurityGroupRule.model_validate({**base, "icmp_type": name, "icmp_code": code_name})
            assert rule.selectors[0][0] & 0xFFFF == number << 8 | code
