"""How NumPy sees the arrays of C that a replay brings, a batch at a time. Whoever imports it says what is missing."""

from __future__ import annotations

import numpy as np

from dataplane._core import ffi

_CHECK = np.dtype(
    [
        ("zone", "u4"),
        ("rule", "u4"),
        ("direction", "u1"),
        ("verdict", "u1"),
        ("state", "u1"),
        ("reason", "u1"),
        ("origin", "u1"),
        ("cause", "u1"),
        ("unused", "u1", 2),
        ("opened_by", "u8"),
    ]
)
RECORD = np.dtype(
    [
        ("time_ns", "u8"),
        ("length", "u4"),
        ("verdict", "u1"),
        ("checks", "u1"),
        ("unused", "u1", 2),
        ("check", _CHECK, 2),
    ]
)
FLOW = np.dtype(
    [
        ("source", "V16"),
        ("destination", "V16"),
        ("source_port", "u2"),
        ("destination_port", "u2"),
        ("family", "u1"),
        ("protocol", "u1"),
        ("arp", "u1"),
        ("icmp", "u1"),
        ("icmp_type", "u1"),
        ("icmp_code", "u1"),
        ("transport", "u1"),
        ("unused", "u1"),
        ("vlans", "u4"),
    ]
)
SEEN = np.dtype([("number", "u8"), ("capture", "u4"), ("interface", "u4")])
_COUNTER = np.dtype([("packets", "u8"), ("bytes", "u8")])
FLOW_RECORD = np.dtype(
    [
        ("flow", FLOW),
        ("first_ns", "u8"),
        ("last_ns", "u8"),
        ("first_packet", "u8"),
        ("passed", _COUNTER, 2),
        ("denied", _COUNTER),
        ("shadow_packets", "u8"),
        ("zone", "u4"),
        ("rule", "u4"),
        ("origin", "u1"),
        ("direction", "u1"),
        ("verdict", "u1"),
        ("reason", "u1"),
        ("state", "u1"),
        ("end", "u1"),
        ("shadow_verdict", "u1"),
        ("shadow_reason", "u1"),
        ("shadow_rule", "u4"),
        ("shadow_checked", "u1"),
        ("unused", "u1", 3),
    ]
)
for _name, _dtype in (("record", RECORD), ("flow", FLOW), ("seen", SEEN), ("flow_record", FLOW_RECORD)):
    assert _dtype.itemsize == ffi.sizeof(f"struct dp_{_name}")
