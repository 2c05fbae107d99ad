"""How the cost of a packet and the size of the table grow: with rules, connections, packet size, nesting of prefixes.

    .venv/bin/python bench/scale.py --quick

Packets are made while the clock stands (made_loop.c) and judged in batches of 64. New connections are first packets,
which rules decide about; packets of known ones are of any connection, each as likely as the next, so that with many
connections hardly one is in a cache: no real traffic is that even.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import policy as documents
import typer
from cffi import FFI
from engine import UNIT, judge, shard
from rows import Row, Run, show, stop
from workloads import library, policy, written

from dataplane.plane import Plane
from dataplane.policy.model import Policy

#: Networks of the rules of policy.py, and the one of its nested prefixes: first address, bits for clients.
SPREAD, NESTED = (100 << 24, 29), (10 << 24, 8)
#: Packets that are judged before one value is taken.
PACKETS = 1_000_000

made_ffi = FFI()
made_ffi.cdef(
    """
    struct made {
        void *judge;
        void *engine;
        uint32_t clients;
        uint32_t client_bits;
        uint32_t size;
        uint32_t unused;
        uint64_t time_ns;
        uint64_t random;
        uint64_t allowed;
    };
    double made_open(struct made *made, uint64_t first, uint64_t n);
    double made_known(struct made *made, uint64_t connections, uint64_t packets);
    """
)


class Made:
    """A fresh plane and packets for it."""

    def __init__(
        self, policy: Policy, clients: tuple[int, int] = SPREAD, *, size: int = 60, verify: bool = False
    ) -> None:
        self._loop = made_ffi.dlopen(str(library("made_loop")))
        self.plane = Plane(policy, seed=1, verify_checksums=verify)
        words = {"judge": made_ffi.cast("void *", int(made_ffi.cast("uintptr_t", judge())))}
        words |= {"engine": made_ffi.cast("void *", int(made_ffi.cast("uintptr_t", shard(self.plane))))}
        numbers = {"clients": clients[0], "client_bits": clients[1], "size": size, "random": 88172645463325252}
        self._made: Any = made_ffi.new("struct made *", words | numbers | {"time_ns": 10**18})
        self.connections = 0
        self._packets = 0

    def open(self, n: int) -> float:
        """Nanoseconds a packet of so many new connections."""
        took = self._loop.made_open(self._made, self.connections, n)
        self.connections += n
        self._packets += n
        return self._checked(took)

    def known(self, packets: int = PACKETS) -> float:
        """Nanoseconds a packet of known ones."""
        self._packets += packets
        return self._checked(self._loop.made_known(self._made, self.connections, packets))

    def _checked(self, took: float) -> float:
        if self._made.allowed != self._packets:
            stop(f"{self._packets - self._made.allowed} of {self._packets} packets were denied: this measures nothing")
        return took


def _resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as numbers:
        return int(numbers.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def by_rules(run: Run, counts: Sequence[int]) -> list[Row]:
    """A new connection and a packet of a known one, by rules of the policy."""
    policies = {n: Policy.load(policy(n)) for n in counts}
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(run.rounds):
        for n, loaded in policies.items():
            made = Made(loaded)
            found.setdefault(("new connections", n), []).append(made.open(200_000))
            found.setdefault(("known connections", n), []).append(made.known())
    return _curves(found, UNIT, "rules")


def by_connections(run: Run, counts: Sequence[int]) -> list[Row]:
    """The same by connections that there are, and what these take of memory."""
    found: dict[tuple[str, int], list[float]] = {}
    table: dict[tuple[str, int], list[float]] = {}
    for n in counts:
        loaded = Policy.load(written(f"policy-100-{n}.json", documents.workload(100, max(n + n // 4, 10_000))))
        for _ in range(run.rounds if n < 1_000_000 else max(1, run.rounds // 2)):
            before = _resident()
            made = Made(loaded)
            found.setdefault(("new connections", n), []).append(made.open(n))
            resident, told = _resident() - before, int(made.plane.counters().table_bytes)
            if made.plane.counters().entries != n:
                stop(f"of {n} connections {made.plane.counters().entries} are in the table")
            found.setdefault(("known connections", n), []).append(made.known())
            if n >= 10_000:
                # Of fewer, what a plane has besides its table is more than that.
                table.setdefault(("resident memory", n), []).append(resident / n)
                table.setdefault(("the table's own count", n), []).append(told / n)
            del made
    return _curves(found, UNIT, "connections") + _curves(table, "bytes/connection", "connections")


def by_size(run: Run, sizes: Sequence[int]) -> list[Row]:
    """A packet of a known connection by its length: checksums verified, as live, and not, as in a replay."""
    loaded = Policy.load(policy(100))
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(run.rounds):
        for size in sizes:
            for verify in (False, True):
                made = Made(loaded, size=size, verify=verify)
                made.open(1000)
                work = "known connections, checksums verified" if verify else "known connections"
                found.setdefault((work, size), []).append(made.known(PACKETS // 4))
    return _curves(found, UNIT, "bytes")


def by_nesting(run: Run, depths: Sequence[int]) -> list[Row]:
    """A new connection by how many prefixes of rules are around its client, one in the other."""
    policies = {depth: Policy.load(written(f"policy-nested-{depth}.json", documents.nested(depth))) for depth in depths}
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(run.rounds):
        for depth, loaded in policies.items():
            found.setdefault(("new connections", depth), []).append(Made(loaded, NESTED).open(200_000))
    return _curves(found, UNIT, "nested prefixes")


def _curves(found: dict[tuple[str, int], list[float]], unit: str, along: str) -> list[Row]:
    works = dict.fromkeys(work for work, _ in found)
    return [
        Row(work, "dataplane", unit, values, at=at, along=along)
        for work in works
        for (other, at), values in found.items()
        if other == work
    ]


#: Curves by name: what measures them, where, and where in a quick run.
CURVES: dict[str, tuple[Callable[[Run, Sequence[int]], list[Row]], Sequence[int], Sequence[int]]] = {
    "rules": (by_rules, (10, 100, 1000, 10_000, 100_000), (100, 1000, 10_000, 100_000)),
    "connections": (
        by_connections,
        (1000, 10_000, 100_000, 1_000_000, 10_000_000),
        (1000, 100_000, 1_000_000, 10_000_000),
    ),
    "size": (by_size, (60, 128, 256, 512, 1024, 1500), (60, 512, 1500)),
    "nesting": (by_nesting, (1, 2, 4, 8, 16), (1, 4, 16)),
}


def measure(run: Run, curves: Sequence[str] = (), places: Sequence[int] | None = None) -> list[Row]:
    """Rows of the curves, all if left out; `places` on them take the place of the usual ones."""
    os.sched_setaffinity(0, {run.cpu})
    rows = []
    for name in curves or CURVES:
        by, usual, quick = CURVES[name]
        rows += by(run, places or (quick if run.quick else usual))
    return rows


def main(
    curve: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(CURVES)}.")] = None,
    quick: Annotated[bool, typer.Option(help="Fewer places.")] = False,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    cpu: Annotated[int | None, typer.Option(help="The processor to run on; the last by default.")] = None,
) -> None:
    """Prints the curves; ratios are to the first program at the same place."""
    if unknown := [name for name in curve or () if name not in CURVES]:
        stop(f"There is no curve {unknown[0]}; there are {', '.join(CURVES)}.")
    show("Scale", measure(Run(quick=quick, rounds=rounds, **({} if cpu is None else {"cpu": cpu})), curve or ()))


if __name__ == "__main__":
    typer.run(main)
