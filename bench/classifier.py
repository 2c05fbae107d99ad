"""Rule tables beside DPDK's librte_acl, on sets of rules like ClassBench's: look-ups, build time, memory.

    .venv/bin/python bench/classifier.py --rules 1000

Both answer the same questions in bursts of 32, and the answers are compared. librte_acl may use the widest vectors
that it has for the processor, 512 bits included, which it does not by itself. A rule table is asked as the engine asks
it for the first packets of a burst, and besides about one packet after the other, as the engine does for all else.
"""

from __future__ import annotations

import os
import subprocess
import time
from array import array
from collections.abc import Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated, Any

import rule_sets
import typer
from cffi import FFI
from rows import Row, Run, show, stop
from workloads import BUILD, compiled, library

from dataplane._core import ffi, lib

SIZES = (1000, 10_000, 100_000)
PASSES = 5
BURST = 32
OURS, ONE_BY_ONE, ACL = "dataplane", "dataplane, one by one", "librte_acl"

loop_ffi = FFI()
loop_ffi.cdef(
    """
    double look_up(void *find, const void *table, const void *questions, uint32_t n, uint32_t burst, uint32_t *answers);
    """
)


def table_of(rules: rule_sets.RuleSet) -> tuple[Any, float]:
    """The rule table, and the seconds that building it took, from arrays as the compiler gives them."""
    size = ffi.sizeof("struct dp_rule") // 4
    word = rules.rules
    numbers = range(rules.n)
    sources = dict.fromkeys(zip(word[0::5], word[1::5], strict=True))
    place = {source: number for number, source in enumerate(sources)}
    flat = array("I", bytes(4 * size * rules.n))
    flat[0::size] = array("I", [number + 1 for number in numbers])
    flat[1::size] = array("I", [place[source] for source in zip(word[0::5], word[1::5], strict=True)])
    flat[2::size] = array("I", numbers)
    flat[3::size] = array("I", repeat(1, rules.n))
    flat[4::size] = array("I", repeat(lib.DP_ALLOW, rules.n))
    remotes = array("I", chain.from_iterable((number, 1) for number in range(len(sources))))
    prefixes = b"".join(a.to_bytes(4, "big") + bytes(12) + bits.to_bytes(4, "little") for a, bits in sources)
    ends = array("I")
    for protocol, low, high in zip(word[2::5], word[3::5], word[4::5], strict=True):
        # All protocols have whatever ports there are.
        ends.extend((0, 0xFFFFFF) if protocol == 256 else (protocol << 16 | low, protocol << 16 | high))
    out = ffi.new("struct dp_rule_table **")
    began = time.perf_counter()
    code = lib.dp_rule_table_new(
        4,
        ffi.from_buffer("struct dp_rule[]", flat),
        rules.n,
        ffi.from_buffer("struct dp_remote[]", remotes),
        len(sources),
        ffi.from_buffer("struct dp_prefix[]", prefixes),
        len(sources),
        ffi.from_buffer("struct dp_selector[]", ends),
        rules.n,
        out,
    )
    seconds = time.perf_counter() - began
    if code:
        stop("the rules cannot be compiled")
    return ffi.gc(out[0], lib.dp_rule_table_free), seconds


Side = tuple[dict[str, list[float]], "array[int]"]


def ours(loop: Any, rules: rule_sets.RuleSet) -> dict[str, Side]:
    """Our figures, in bursts and one by one, and the answers."""
    table, seconds = table_of(rules)
    n = len(rules.questions) // 2
    pointer, find = (
        loop_ffi.cast("void *", int(ffi.cast("uintptr_t", what)))
        for what in (table, ffi.addressof(lib, "dp_rule_table_find_many"))
    )
    questions = array("I", rules.questions)
    questions[::2] = array("I", [int.from_bytes(a.to_bytes(4, "big"), "little") for a in questions[::2]])
    asked = loop_ffi.from_buffer("uint32_t[]", questions)
    sides: dict[str, Side] = {}
    for side, burst in ((OURS, BURST), (ONE_BY_ONE, 1)):
        answers = array("I", bytes(4 * n))
        room = loop_ffi.from_buffer("uint32_t[]", answers)
        times = [loop.look_up(find, pointer, asked, n, burst, room) for _ in range(PASSES)]
        sides[side] = ({"look-up": times}, array("I", [found + 1 & 0xFFFFFFFF for found in answers]))
    sides[OURS][0].update({"build": [seconds], "bytes": [float(lib.dp_rule_table_size(table))]})
    return sides


def acl(run: Run) -> Path | None:
    """The program that asks librte_acl."""
    try:
        flags = subprocess.run(["pkg-config", "--cflags", "libdpdk"], check=True, capture_output=True, text=True).stdout
        return compiled("acl", "-Wno-missing-field-initializers", *flags.split(), "-lrte_acl", "-lrte_eal")
    except (OSError, subprocess.CalledProcessError):
        run.skip("librte_acl", "DPDK's headers are missing; apt-get install libdpdk-dev pkgconf")
        return None


def theirs(program: Path, rules: rule_sets.RuleSet, run: Run) -> Side:
    """Its figures, and the answers."""
    files = [BUILD / f"acl-{name}" for name in ("rules", "questions", "answers")]
    for file, words in zip(files, (rules.rules, rules.questions), strict=False):
        file.write_bytes(words.tobytes())
    done = subprocess.run([program, *files, str(run.cpu)], capture_output=True, text=True, check=False)
    if done.returncode:
        stop(done.stderr)
    found: dict[str, list[float]] = {}
    for line in done.stdout.splitlines():
        name, value = line.split()
        found.setdefault(name, []).append(float(value))
    answers = array("I")
    answers.frombytes(files[2].read_bytes())
    return found, answers


def measure(run: Run, sizes: Sequence[int] = SIZES) -> list[Row]:
    """Rows by rules: million look-ups a second, build time, memory; ours first."""
    os.sched_setaffinity(0, {run.cpu})
    loop, program = loop_ffi.dlopen(str(library("lookup_loop"))), acl(run)
    found: dict[tuple[str, str, str, int], list[float]] = {}
    for n in sizes:
        rules = rule_sets.made(n)
        # Building takes librte_acl long.
        for _ in range(run.rounds if n < SIZES[-1] else 1):
            sides = ours(loop, rules) | ({ACL: theirs(program, rules, run)} if program else {})
            if any(answers != sides[OURS][1] for _, answers in sides.values()):
                stop(f"with {n} rules the answers differ")
            for side, (values, _) in sides.items():
                rates = [1e3 / ns for ns in values["look-up"]]
                found.setdefault(("look-ups", side, "million/s", n), []).extend(rates)
                if "build" in values:
                    found.setdefault(("build", side, "ms", n), []).append(values["build"][0] * 1e3)
                    found.setdefault(("memory", side, "kB", n), []).append(values["bytes"][0] / 1e3)
    return [
        Row(work, side, unit, values, at=n, along="rules")
        for wanted in ("look-ups", "build", "memory")
        for (work, side, unit, n), values in sorted(found.items(), key=lambda item: item[0][3])
        if work == wanted
    ]


def main(
    rules: Annotated[list[int] | None, typer.Option(help="Sizes; 1,000, 10,000 and 100,000 if left out.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    cpu: Annotated[int | None, typer.Option(help="The processor to run on; the last by default.")] = None,
) -> None:
    """Prints the rows."""
    show("Rule tables", measure(Run(rounds=rounds, **({} if cpu is None else {"cpu": cpu})), rules or SIZES))


if __name__ == "__main__":
    typer.run(main)
