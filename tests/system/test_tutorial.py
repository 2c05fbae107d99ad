"""The live tutorial of the documents, command by command, in namespaces of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support import pages

from .network import needs_root_and

ROOT = Path(__file__).parents[2]

pytestmark = needs_root_and("ip", "ping", "nc", "unshare")


def test_its_commands_do_what_it_shows(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {"PATH": path, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)}
    # Namespaces that are named stand in /run; what is left running there ends with the process namespace.
    alone = ("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c")
    within = (*alone, 'mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@"', "-")
    assert pages.differences(ROOT / "docs" / "tutorial-live.md", tmp_path, environ, within) == []
