"""Open vSwitch's userspace conntrack alone: its library, built from Debian's source, with ovs_conntrack.c around it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from rows import Run, stop
from workloads import BENCH, BUILD

SOURCE = Path("/usr/src/openvswitch/openvswitch.tar.gz")
#: Packets at once, as many as its datapath takes.
BURST = 32
#: More than any workload has; its own bound is three million.
CONNECTIONS = 4_000_000
#: What Debian builds with, without the parts that the connection tracker does not use.
BUILD_LIBRARY = (
    "./configure --quiet --disable-shared --disable-libcapng --disable-ssl CFLAGS='-g -O2'"
    " && make -s include/odp-netlink.h include/odp-netlink-macros.h lib/vswitch-idl.h lib/ovsdb-server-idl.h"
    " && make -s -j$(nproc) lib/libopenvswitch.la"
)
LINK = (
    "./libtool --quiet --tag=CC --mode=link cc -O2 -I. -Ilib -Iinclude -o {output} {source}"
    " lib/libopenvswitch.la -lpthread"
)


def _shell(command: str, folder: Path, log: Path) -> bool:
    with log.open("a") as output:
        return (
            subprocess.run(command, shell=True, cwd=folder, stdout=output, stderr=output, check=False).returncode == 0
        )


def conntrack(run: Run) -> Path | None:
    """The program; None where Debian's package is not there or cannot be built. Building takes about a minute, once."""
    program, source, log = BUILD / "ovs_conntrack", BENCH / "ovs_conntrack.c", BUILD / "openvswitch.log"
    if not SOURCE.exists():
        run.skip("Open vSwitch's conntrack", "its source is missing; apt-get install openvswitch-source")
        return None
    if program.exists() and program.stat().st_mtime >= max(SOURCE.stat().st_mtime, source.stat().st_mtime):
        return program
    BUILD.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        tree, made = Path(folder, "openvswitch"), Path(folder, program.name)
        link = LINK.format(output=made, source=source)
        if not (
            _shell(f"tar xzf {SOURCE}", Path(folder), log)
            and _shell(BUILD_LIBRARY, tree, log)
            and _shell(link, tree, log)
        ):
            run.skip("Open vSwitch's conntrack", f"it could not be built; {log} says why")
            return None
        made.replace(program)
    return program


def passes(program: Path, file: Path, n: int) -> tuple[list[float], float]:
    """Nanoseconds a packet of each of `n` passes over a capture, and the share of packets that were not invalid."""
    command = [str(program), str(file), str(BURST), str(n), str(CONNECTIONS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        stop(done.stderr)
    *times, valid = (float(line) for line in done.stdout.split())
    return times, valid
