"""The command line's beginning, of ``python -m dataplane`` and of the console script."""

from __future__ import annotations

import os
import signal
import sys
from types import ModuleType


def main() -> None:
    """Runs the command line; ends the process with its exit status."""
    # Ctrl-C ends the process in silence, also while the modules are loaded; a command that has to end in order
    # has handlers of its own.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _without_plugins()
    from dataplane.cli import main as run

    run()


def _without_plugins() -> None:
    """Has pydantic look for no plugins: none concerns the command, and the looking is a tenth of its start.

    The variable is pydantic's own switch. What it switches off is loaded all the same, and brings importlib.metadata
    with it, if nothing stands in its place; where pydantic has it under another name, it is only slower.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    loader = ModuleType("pydantic.plugin._loader")
    loader.get_plugins = tuple  # type: ignore[attr-defined]
    sys.modules.setdefault(loader.__name__, loader)


if __name__ == "__main__":
    main()
