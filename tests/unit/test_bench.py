"""The benchmarks run, on little work, and their page is made. No time is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"


def bench(*arguments: object) -> str:
    """What a script of bench/ prints, in an environment that has no sizes of a terminal."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=BENCH, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows_of(module: str, found: str) -> list[dict[str, object]]:
    """The rows that an expression finds in one round."""
    code = f"import json, rows, {module}; run = rows.Run(rounds=1); found = {found}"
    found = json.loads(bench("-c", f"{code}; print(json.dumps([row.as_json() for row in found]))"))
    assert isinstance(found, list)
    assert found
    return found


@pytest.mark.parametrize("mode", ["mixed", "zipf", "syn", "imix"])
def test_a_workload_is_the_same_each_time_and_all_of_it_passes(mode: str, tmp_path: Path) -> None:
    """Another seed makes another one."""
    code = "import workloads; print(workloads.compiled('workloads', '-lm')); print(workloads.policy(10))"
    generator, policy = bench("-c", code).split()
    files = [tmp_path / name for name in ("a.pcap", "b.pcap")]
    for file in files:
        subprocess.run([generator, "--packets", "2000", "--flows", "50", mode, file], check=True, timeout=60)
    assert files[0].read_bytes() == files[1].read_bytes()
    other = tmp_path / "c.pcap"
    subprocess.run(
        [generator, "--packets", "2000", "--flows", "50", "--seed", "7", mode, other], check=True, timeout=60
    )
    assert other.read_bytes() != files[0].read_bytes()
    summary = json.loads(bench("-m", "dataplane", "replay", policy, files[0], "--json"))
    assert summary["packets"] == 2000
    assert summary["verdicts"]["allow"]["packets"] == 2000


def test_the_engine_is_timed_beside_the_floor() -> None:
    """First and later passes apart, in batches of both sizes, and with the memory of the table made before."""
    rows = rows_of("engine", "engine.measure(run, ['mixed'], packets=2000, peers=False)")
    batches = [f"dataplane, batches of {n}{how}" for n in (32, 256) for how in ("", ", its memory made before")]
    programs = ["floor: plain table", *batches]
    assert [(r["work"], r["program"]) for r in rows] == [
        (f"mixed, {passes}", program) for passes in ("first pass", "later passes") for program in programs
    ]
    assert all(isinstance(r["median"], float) and r["median"] > 0 for r in rows)
    assert {r.get("note") for r in rows} == {None, "100.00% allowed"}


def test_a_curve_has_a_row_at_each_place() -> None:
    """And none of the packets of a curve is denied: the benchmark would stop."""
    places = {"rules": [10, 20], "connections": [10_000], "nesting": [1, 2], "size": [60, 1500]}
    rows = rows_of("scale", f"[row for curve, at in {places}.items() for row in scale.measure(run, [curve], at)]")
    found: dict[object, set[object]] = {}
    for row in rows:
        found.setdefault(row["along"], set()).add(row["at"])
    assert found == {"rules": {10, 20}, "connections": {10_000}, "nested prefixes": {1, 2}, "bytes": {60, 1500}}


def test_rule_sets_are_answered_by_the_first_rule_that_matches() -> None:
    """As going through the rules one by one finds it; and where librte_acl is there, the benchmark compares answers."""
    code = """
import classifier, rule_sets
from workloads import library
rules = rule_sets.made(60)
sides = classifier.ours(classifier.loop_ffi.dlopen(str(library("lookup_loop"))), rules)
answers = sides[classifier.OURS][1]
assert sides[classifier.ONE_BY_ONE][1] == answers
words, asked = rules.rules, rules.questions
five = [words[at : at + 5] for at in range(0, len(words), 5)]
def first(address, selector):
    for place, (network, bits, protocol, low, high) in enumerate(five, 1):
        if address >> (32 - bits) == network >> (32 - bits) and (
            protocol == 256 or (selector >> 16 == protocol and low <= (selector & 0xFFFF) <= high)
        ):
            return place
    return 0
assert len(set(answers)) > 20
assert list(answers) == [first(asked[at], asked[at + 1]) for at in range(0, len(asked), 2)]
print(len(answers))
"""
    assert int(bench("-c", code)) == 60 * 64
    assert {row["at"] for row in rows_of("classifier", "classifier.measure(run, [50])")} == {50}


@pytest.mark.parametrize("source", ["pauses.c", "round_trip.c", "packet_blast.c", "tap_forwarder.c"])
def test_programs_that_no_other_test_runs_still_compile(source: str) -> None:
    """Against the headers of the C part as they are."""
    flags = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-D_GNU_SOURCE=", "-I../csrc")
    done = subprocess.run(["cc", *flags, source], cwd=BENCH, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_changes_of_a_policy_are_timed() -> None:
    """Curves of reading, compiling, the table's size, a change of one rule (the first, later ones, a live firewall's
    first, and kept), and of many at once.
    """
    rows = rows_of("changes", "changes.measure(run, [20])")
    assert [row["unit"] for row in rows] == ["ms", "ms", "bytes/rule", *["ms"] * 16]
    assert [row["along"] for row in rows] == ["rules"] * 9 + ["changes"] * 10


def test_the_page_has_a_plot_of_each_curve_and_a_table_of_the_rest(tmp_path: Path) -> None:
    """And says on which machine figures were taken, and what was left out."""
    common = {"program": "dataplane", "least": 1.5, "most": 3.5, "rounds": 3}
    curve = [
        {"work": "new", "unit": "ns/packet", "at": at, "along": "rules", "median": 2.5} | common for at in (10, 100)
    ]
    alone = {"work": "mixed, later passes", "unit": "ns/packet", "median": 41.25, "note": "some <note>"} | common
    section = {"title": "Engine alone", "taken": "2026-01-02 03:04", "revision": "abc", "quick": True, "rounds": 3}
    machine = {"cpu": "A <processor>", "cores": 2, "memory_gb": 8, "kernel": "6", "compiler": "cc", "python": "3"}
    results = {
        "machine": machine | {"peers": {"dpdk": "22.11", "nfstream": None}},
        "sections": {"engine": section | {"load": 0.1, "skipped": ["a peer: why"], "rows": [*curve, alone]}},
    }
    (tmp_path / "results.json").write_text(json.dumps(results))
    bench("page.py", "--results", tmp_path / "results.json", "--output", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    for words in (
        "ns/packet against rules",
        "A &lt;processor&gt;, 2 cores",
        "dpdk 22.11",
        "Left out: a peer: why.",
        "41.2 ns/packet",
        "1.50 to 3.50",
        "some &lt;note&gt;",
        '"type":"log"',
    ):
        assert words in text
    assert "nfstream" not in text
