"""Flow records as lines of VPC flow logs: the examples of the vendors' documents, field by field.

AWS: docs.aws.amazon.com/vpc/latest/userguide/flow-logs-records-examples.html; Huawei Cloud:
support.huaweicloud.com/intl/en-us/usermanual-vpc/FlowLog_0004.html.

The second field is not known here: whose account or
project it is.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from dataplane._core import ffi, lib
from dataplane.lines import FLOW_FORMATS, FlowLines
from dataplane.verdict import Names

SECOND = 10**9


def record(line: str, names: Names) -> Any:
    """The flow record that an example is a line of; it enters the interface where that is the destination's."""
    fields = line.split()
    source, destination = map(ipaddress.ip_address, fields[3:5])
    sport, dport, protocol, packets, size, start, end = map(int, fields[5:12])
    flow = ffi.new("struct dp_flow_record *")
    flow.flow.source, flow.flow.destination = (a.packed.ljust(16, b"\0") for a in (source, destination))
    flow.flow.source_port, flow.flow.destination_port = sport, dport
    flow.flow.family, flow.flow.protocol, flow.flow.transport = source.version, protocol, True
    flow.zone = names.zone(fields[2])
    flow.first_ns, flow.last_ns = start * SECOND + 1, end * SECOND + 999_999_999
    flow.origin, flow.direction = lib.DP_INBOUND, lib.DP_INGRESS
    accepted = fields[12] == "ACCEPT"
    flow.verdict = lib.DP_ALLOW if accepted else lib.DP_DENY
    flow.end, flow.state = (lib.DP_FLOW_CLOSED, lib.DP_CONN_TCP_CLOSE) if accepted else (lib.DP_FLOW_NOT_ADMITTED, 0)
    counter = flow.passed[lib.DP_INGRESS] if accepted else flow.denied
    counter.packets, counter.bytes = packets, size
    return flow


def lines_of(form: str, records: list[Any], names: Names) -> list[str]:
    written: list[bytes] = []
    array = ffi.new("struct dp_flow_record[]", [r[0] for r in records])
    FlowLines(names, FLOW_FORMATS[form], lambda lines, _: written.append(lines)).put(array, len(records))
    return b"".join(written).decode().splitlines()


EXAMPLES = {
    "aws": [
        "2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010"
        " 1418530070 ACCEPT OK",
        "2 123456789010 eni-1235b8ca123456789 172.31.9.69 172.31.9.12 49761 3389 6 20 4249 1418530010"
        " 1418530070 REJECT OK",
        "2 123456789010 eni-1235b8ca123456789 203.0.113.12 172.31.16.139 0 0 1 4 336 1432917027 1432917142 ACCEPT OK",
        "2 123456789010 eni-1235b8ca123456789 2001:db8:1234:a100:8d6e:3477:df66:f105"
        " 2001:db8:1234:a102:3304:8879:34cf:4071 34892 22 6 54 8855 1477913708 1477913820 ACCEPT OK",
    ],
    "huawei": [
        "1 5f67944957444bd6bb4fe3b367de8f3d 1d515d18-1b36-47dc-a983-bd6512aed4bd 192.168.0.154 192.168.3.25 38929 53 17"
        " 1 96 1548752136 1548752736 ACCEPT OK",
    ],
}


@pytest.mark.parametrize("form", EXAMPLES)
def test_lines_are_those_of_the_vendors_documents(form: str) -> None:
    names = Names()
    written = lines_of(form, [record(line, names) for line in EXAMPLES[form]], names)
    unknown = {"aws": "unknown", "huawei": "-"}[form]
    assert written == [" ".join([*(fields := line.split())[:1], unknown, *fields[2:]]) for line in EXAMPLES[form]]


def test_only_files_of_aws_have_a_header() -> None:
    assert FLOW_FORMATS["huawei"].header == b""
    assert FLOW_FORMATS["aws"].header == (
        b"version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action"
        b" log-status\n"
    )


def test_each_way_and_what_was_denied_are_lines_of_their_own() -> None:
    """An outbound flow; an instance whose name has a space; ARP is no line."""
    names = Names()
    flow = record("2 - eni 10.0.0.1 192.0.2.9 4000 443 6 0 0 100 200 ACCEPT OK", names)
    flow.zone = names.zone("web one")
    flow.origin, flow.direction = lib.DP_OUTBOUND, lib.DP_EGRESS
    for counter, packets in ((flow.passed[lib.DP_EGRESS], 5), (flow.passed[lib.DP_INGRESS], 4), (flow.denied, 3)):
        counter.packets, counter.bytes = packets, packets * 100
    arp = ffi.new("struct dp_flow_record *", flow[0])
    arp.flow.arp = 1
    assert lines_of("aws", [arp, flow], names) == [
        "2 unknown web_one 10.0.0.1 192.0.2.9 4000 443 6 5 500 100 200 ACCEPT OK",
        "2 unknown web_one 192.0.2.9 10.0.0.1 443 4000 6 4 400 100 200 ACCEPT OK",
        "2 unknown web_one 10.0.0.1 192.0.2.9 4000 443 6 3 300 100 200 REJECT OK",
    ]
