"""Rule tables by size: how long they take to build, what they weigh, and how long a look-up takes."""

from __future__ import annotations

import random
import time

from rich.console import Console
from rich.table import Table
from workloads import policy

from dataplane._core import ffi, lib
from dataplane.compiler import Compiler
from dataplane.policy.model import Policy
from dataplane.verdict import Names

LOOKUPS = 200_000

table = Table("rules", "load policy ms", "compile ms", "table bytes", "ns a look-up, from Python")
for rules in (10, 100, 1000, 10000):
    path = policy(rules)
    started = time.perf_counter()
    loaded = Policy.load(path)
    parsed = time.perf_counter()
    compiler = Compiler(Names())
    zones, _ = compiler.compile(loaded)
    compiled = time.perf_counter()
    handle = zones[0].table[lib.DP_INGRESS][0]
    action = ffi.new("uint32_t *")
    chance = random.Random(1)
    remotes = [ffi.new("uint8_t[16]", chance.randbytes(4).ljust(16, b"\0")) for _ in range(1000)]
    selectors = [6 << 16 | chance.randrange(65536) for _ in range(1000)]
    began = time.perf_counter()
    for i in range(LOOKUPS):
        lib.dp_rule_table_lookup(handle, remotes[i % 1000], selectors[i % 1000], action)
    each = (time.perf_counter() - began) / LOOKUPS
    table.add_row(
        str(rules),
        f"{(parsed - started) * 1e3:.0f}",
        f"{(compiled - parsed) * 1e3:.0f}",
        f"{lib.dp_rule_table_size(handle):,}",
        f"{each * 1e9:.0f}",
    )
Console().print(table)
