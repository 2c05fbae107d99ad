"""The arrows between modules, in Python and in C, and what must stand in one place only."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from dataplane._core import build

ROOT = Path(__file__).resolve().parents[2]

# C modules by the path of their files under csrc/, without suffix, and the modules whose headers each may include;
# what those may include is allowed as well. CONTRIBUTING, Habits: pipeline -> judge -> fragment, classifier,
# conntrack -> packet; conntrack -> flow_table, timer, tcp; io -> pipeline, which it drives through the dp_*.h alone. No
# arrow runs back.
ARROWS: dict[str, set[str]] = {
    "dp_api": set(),
    "dp_tables": {"dp_api"},
    "dp_plane": {"dp_tables"},
    "dp_counters": {"dp_plane"},
    "dp_connections": {"dp_plane"},
    "dp_findings": {"dp_connections", "dp_counters"},
    "dp_live": {"dp_findings"},
    "dp_captures": {"dp_plane"},
    "dp_text": {"dp_findings"},
    "bytes": set(),
    "stream_store": set(),
    "memory": set(),
    "wire": set(),
    "prefix": {"dp_tables"},
    "words": {"dp_findings"},
    "discovery": {"bytes", "wire"},
    "link": {"dp_api", "bytes", "wire"},
    "icmp": {"wire"},
    "tcp_segment": {"bytes", "wire"},
    "packet": {"discovery", "icmp", "link", "tcp_segment"},
    "flow_key": {"packet"},
    "timer": {"dp_api", "memory"},
    "trie": {"bytes", "dp_tables", "memory"},
    "classifier": {"prefix", "trie"},
    "classifier_draw": {"classifier"},
    "classifier_build": {"classifier_draw"},
    "classifier_burst": {"classifier"},
    "rule_subset": {"classifier_build"},
    "rule_patch": {"prefix", "rule_subset"},
    "endpoint_maps": {"bytes", "packet", "prefix", "trie"},
    "endpoints": {"endpoint_maps", "prefix"},
    "checksum": {"packet", "bytes"},
    "denied_flows": {"dp_counters", "packet", "memory"},
    "top_talkers": {"dp_findings"},
    "difference": {"dp_findings", "memory"},
    "fair_share": {"memory"},
    "port_bindings": {"dp_plane"},
    "datagram_table": {"dp_counters", "flow_key", "fair_share", "memory"},
    "fragment": {"datagram_table"},
    "owners": {"discovery", "dp_plane", "endpoints"},
    "flow_table": {"dp_plane", "flow_key", "memory"},
    "resync": {"flow_table", "memory"},
    "tcp_window": {"flow_table"},
    "tcp": {"resync", "tcp_window"},
    "zone_queues": {"dp_api", "memory"},
    "conntrack": {"dp_connections", "dp_counters", "flow_table", "resync", "tcp", "timer", "zone_queues"},
    "admission": {"conntrack"},
    "conntrack_changes": {"conntrack"},
    "remote_change": {"classifier", "flow_table"},
    "engine": {
        *("classifier", "conntrack_changes", "denied_flows", "endpoints"),
        *("flow_cache", "fragment", "owners", "port_bindings", "remote_change"),
    },
    "table_walk": {"admission", "engine", "prefix"},
    "flow_pool": {"dp_findings", "flow_key", "icmp"},
    "flow_log": {"engine", "flow_pool"},
    "flow_log_live": {"flow_log", "table_walk", "memory"},
    "reclaim": {"engine", "table_walk", "flow_log_live"},
    "history": {"dp_findings", "table_walk"},
    "community_id": {"dp_findings", "packet"},
    "flow_cache": {"flow_key", "memory"},
    "shard": {"packet"},
    "plane": {"admission", "engine"},
    "plane_update": {"plane", "table_walk"},
    "plane_walk": {"plane_update", "reclaim", "shard", "table_walk"},
    "spoof": {"discovery", "endpoints", "port_bindings"},
    "judge": {"admission", "engine", "tcp"},
    "control_traffic": {"judge", "bytes", "discovery"},
    "fast_read": {"bytes", "checksum", "engine", "link", "spoof"},
    "fast_first": {"bytes", "classifier_burst", "fast_read", "judge"},
    "fast_path": {"bytes", "fast_first", "fast_read", "judge", "tcp_window"},
    "pipeline": {"checksum", "control_traffic", "fast_path", "judge", "spoof", "stream_store"},
    "io/clock": {"dp_live"},
    "io/held_buffers": set(),
    "io/source": {"dp_api", "io/held_buffers"},
    "io/byte_queue": set(),
    "io/capture_clock": set(),
    "io/capture_state": {"dp_captures", "io/byte_queue", "io/capture_clock", "io/source"},
    "io/pcap": {"io/capture_state"},
    "io/pcapng": {"io/capture_state"},
    "io/capture": {"io/pcap", "io/pcapng"},
    "io/reorder": {"dp_captures"},
    "io/address_text": set(),
    "io/line_text": {"dp_text", "wire", "words", "io/address_text"},
    "io/verdict_text": {"io/line_text"},
    "io/flow_text": {"io/line_text"},
    "io/mac_table": {"dp_live"},
    "io/frame_path": {"wire", "endpoints", "port_bindings", "io/mac_table"},
    "io/capture_ports": {"flow_key", "io/capture", "io/frame_path"},
    "io/replay_at_port": {"pipeline", "io/capture_ports"},
    "io/remap": {"bytes", "checksum", "dp_captures", "packet", "trie"},
    "io/record_match": {"dp_text"},
    "io/frame_shard": {"bytes", "control_traffic", "link", "shard"},
    "io/events": set(),
    "io/piece": {"pipeline", "stream_store"},
    "io/judges": {"plane", "io/events", "io/frame_shard", "io/piece"},
    "io/kept_frames": {"io/capture"},
    "io/merge": {"io/capture", "io/kept_frames"},
    "io/judging": {"plane", "io/judges", "io/merge", "io/reorder", "io/replay_at_port"},
    "io/part": {"bytes", "control_traffic", "dp_captures", "endpoints", "io/merge", "link"},
    "io/replay": {"io/judging", "io/merge", "io/part", "io/remap", "io/reorder"},
    "io/flow_match": {"dp_text", "prefix", "wire"},
    "io/ring": {"dp_live", "memory"},
    "io/inbox": {"dp_live", "memory", "io/ring"},
    "io/uring": set(),
    "io/segment": {"bytes", "wire"},
    "io/port": {"dp_live", "wire", "io/uring", "io/segment"},
    "io/busy_poll": {"dp_live", "io/clock"},
    "io/shadow": {"difference", "flow_log", "pipeline", "table_walk"},
    "io/worker": {
        "engine",
        "flow_log_live",
        "io/clock",
        "io/frame_path",
        "io/inbox",
        "io/port",
        "io/ring",
        "io/shadow",
    },
    "io/feed": {"table_walk", "io/worker"},
    "io/forward": {"pipeline", "io/feed", "io/worker"},
    "io/offload": {"dp_live", "bytes", "packet", "io/port"},
    "io/receive": {"shard", "io/forward", "io/offload", "io/worker"},
    "io/worker_loop": {"io/busy_poll", "io/receive", "io/worker"},
    "io/firewall": {"plane", "io/forward", "io/worker", "io/worker_loop"},
    "io/switch_ports": {"io/firewall"},
    "io/feed_reader": {"io/firewall", "table_walk", "io/feed"},
    "io/flows": {"io/firewall", "io/feed", "table_walk"},
    "io/shadow_report": {"io/firewall", "table_walk"},
}

# All that the core calls outside itself: memory, what the processor can do, and nothing that knows a clock, a file, a
# socket or a thread.
CORE_CALLS = {
    *("bsearch", "memcmp", "memcpy", "memmove", "memset", "qsort", "strlen"),
    *("aligned_alloc", "calloc", "free", "malloc", "realloc", "madvise", "mmap", "mremap", "munmap"),
    *("_GLOBAL_OFFSET_TABLE_", "__cpu_model", "__stack_chk_fail"),
}

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
# A folder of somebody's machine: a checkout, a home.
MACHINE_PATH = re.compile(rb"(?<![\w.\-/])/(?:work|root|farm|Users|home)/\w")


@cache
def below(module: str) -> frozenset[str]:
    """Every module that an arrow from `module` leads to, directly or through others."""
    return frozenset(ARROWS[module]).union(*(below(target) for target in ARROWS[module]))


def c_files() -> list[Path]:
    return sorted((ROOT / "csrc").rglob("*.[ch]"))


def output_of(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def objects() -> dict[str, list[str]]:
    """The compiled C files of the two build targets."""
    paths, _ = build.extension_objects()
    io = [str(path) for path in paths if path.parent.name == "io"]
    return {"core": [str(path) for path in paths if str(path) not in io], "io": io}


@pytest.fixture(scope="module")
def modules(objects: dict[str, list[str]]) -> dict[str, str]:
    """The path of each C module's object file."""
    core = {Path(path).stem: path for path in objects["core"]}
    return core | {f"io/{Path(path).stem}": path for path in objects["io"]}


@pytest.fixture(scope="module")
def border() -> set[str]:
    """The functions that the headers for Python declare."""
    return set(build.declared_functions())


def symbols(paths: list[str], *options: str) -> set[str]:
    """Names that nm lists for object files; `options` choose which."""
    lines = output_of("nm", "--just-symbols", *options, *paths).split()
    return {name for name in lines if not name.endswith(".o:")}


def test_imports_follow_the_arrows() -> None:
    """CONTRIBUTING, Habits: cli -> replay, live -> plane -> compiler, conntrack -> policy; who may import _core.

    In a process of its own: import-linter sets logging up anew and silences every logger that there is.
    """
    program = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    command = [sys.executable, "-c", program, "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_c_arrows_have_no_circle() -> None:
    list(TopologicalSorter(ARROWS).static_order())


def test_every_c_module_has_its_arrows() -> None:
    modules = {str(path.relative_to(ROOT / "csrc").with_suffix("")) for path in c_files()}
    assert modules <= ARROWS.keys(), "name the new module's arrows in ARROWS"


@pytest.mark.parametrize("path", c_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_c_includes_follow_the_arrows(path: Path) -> None:
    """CONTRIBUTING, Habits, in C; a file may include its own module's header, and what lies below."""
    module = str(path.relative_to(ROOT / "csrc").with_suffix(""))
    found = {
        next(file for folder in (path.parent, ROOT / "csrc") if (file := (folder / name).resolve()).exists())
        for name in INCLUDE.findall(path.read_text())
    }
    included = {str(file.relative_to(ROOT / "csrc").with_suffix("")) for file in found}
    assert included - {module} <= below(module)


def test_c_symbols_follow_the_arrows(modules: dict[str, str], border: set[str]) -> None:
    """As the includes, whoever declares a function: what a module calls is its own, or of one below it; what io calls
    in the core may be any function of the dp_*.h."""
    owner = {
        name: module for module, path in modules.items() for name in symbols([path], "--defined-only", "--extern-only")
    }
    for module, path in modules.items():
        called = symbols([path], "--undefined-only") & owner.keys()
        known = below(module) | {module}
        beyond = {name: owner[name] for name in called if owner[name] not in known}
        if module.startswith("io/"):
            beyond = {name: of for name, of in beyond.items() if of.startswith("io/") or name not in border}
        assert not beyond, f"{module} calls what no arrow leads to"


def test_each_module_has_one_header(modules: dict[str, str], border: set[str]) -> None:
    """CONTRIBUTING, Habits: what others may call of a module stands in its own header, or in a dp_*.h: nowhere else."""
    declared = {path: declared_names(path.read_text()) for path in c_files() if path.suffix == ".h"}
    for module, path in modules.items():
        own = (ROOT / "csrc" / module).with_suffix(".h")
        for name in symbols([path], "--defined-only", "--extern-only") - border:
            found = [header.name for header, names in declared.items() if name in names]
            assert found == [own.name], f"{name} of {module}"


def declared_names(header: str) -> set[str]:
    """What a header declares, a declaration beginning at the start of a line."""
    return {
        name
        for line in re.findall(r"^\w[^;{}\n]*;?", header, re.MULTILINE)
        for name in re.findall(r"\w+(?=[(;])", line)
    }


def test_io_knows_only_the_border_and_the_words() -> None:
    """CONTRIBUTING, Habits: io stands on the core through the dp_*.h; verdict_text takes the names of enumerations from
    words.h, rings their memory from memory.h, who looks into packets reads numbers by bytes.h and knows them by wire.h,
    filters of flows test prefixes by prefix.h, and who looks after checksums knows headers by packet.h; who puts other
    addresses into frames knows prefixes and checksums. Only who says where a frame passes looks into it: workers and
    judges, who run a shard each, and the replay of captures by port."""
    outside = {module: {name for name in below(module) if not name.startswith("io/")} for module in ARROWS}
    looks_in = {name for name, known in outside.items() if name.startswith("io/") and "endpoints" in known}
    workers = {"io/worker", "io/receive", "io/forward", "io/feed", "io/worker_loop", "io/firewall", "io/feed_reader"}
    workers |= {"io/flows", "io/shadow", "io/shadow_report", "io/switch_ports"}
    replay = {"io/frame_shard", "io/judges", "io/judging", "io/piece", "io/part", "io/replay_at_port", "io/replay"}
    replay |= {"io/capture_ports"}
    assert looks_in == workers | replay | {"io/frame_path"}
    known = set[str]().union(*(outside[name] for name in ARROWS if name.startswith("io/") and name not in looks_in))
    assert known == {
        *(
            "bytes",
            "icmp",
            "memory",
            "tcp_segment",
            "words",
            "packet",
            "prefix",
            "link",
            "discovery",
            "wire",
            "trie",
            "checksum",
        ),
        *("dp_api", "dp_tables", "dp_plane", "dp_counters", "dp_connections", "dp_findings"),
        *("dp_live", "dp_captures", "dp_text"),
    }


def test_core_links_without_io_and_knows_no_clock_file_or_thread(objects: dict[str, list[str]]) -> None:
    """CONTRIBUTING, Habits: the core knows no clock, socket, file or thread."""
    core = objects["core"]
    assert symbols(core, "--undefined-only") - symbols(core, "--defined-only", "--extern-only") <= CORE_CALLS


def test_c_has_no_global_mutable_state(objects: dict[str, list[str]]) -> None:
    """Only constants outlive a call: no object file has anything in a writable section."""
    for path in objects["core"] + objects["io"]:
        for line in output_of("size", "-A", path).splitlines():
            name, *size = line.split() or [""]
            if name.startswith((".data", ".bss", ".tdata", ".tbss")) and not name.startswith(".data.rel.ro"):
                assert int(size[0]) == 0, f"{path} has {size[0]} bytes in {name}"


def imported_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)
            yield node.module or ""


def test_one_module_imports_the_extension() -> None:
    """CONTRIBUTING, Habits: _core/__init__.py is the only importer of the extension."""
    importers = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "dataplane").rglob("*.py")
        if any("_dataplane" in name.split(".") for name in imported_modules(ast.parse(path.read_text())))
    }
    assert importers == {"dataplane/_core/__init__.py"}


def test_no_file_carries_a_path_of_one_machine() -> None:
    names = output_of("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    paths = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    assert paths
    here = re.compile(re.escape(str(ROOT).encode()) + rb"\b")
    carriers = [path for path in paths if MACHINE_PATH.search(path.read_bytes()) or here.search(path.read_bytes())]
    assert not carriers
