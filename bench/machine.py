"""What a run was made on, and with which versions of what: the words that belong to its figures."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from typing import Any

#: Programs and libraries that a run compares with or stands on, and the Debian package that says which version it is.
PACKAGES = {
    "dpdk": "libdpdk-dev",
    "libpcap": "libpcap0.8",
    "nftables": "nftables",
    "openvswitch": "openvswitch-switch",
    "tcpdump": "tcpdump",
}


def _first_line(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else None


def _cpu() -> str | None:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _nfstream() -> str | None:
    try:
        return importlib.metadata.version("nfstream")
    except importlib.metadata.PackageNotFoundError:
        return None


def description() -> dict[str, Any]:
    """Processor, kernel, compiler and peers; what is not there is null."""
    peers = {name: _first_line("dpkg-query", "-W", "-f", "${Version}", package) for name, package in PACKAGES.items()}
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "kernel": platform.release(),
        "compiler": _first_line("cc", "--version"),
        "python": platform.python_version(),
        "peers": peers | {"nfstream": _nfstream()},
    }
