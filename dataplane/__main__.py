"""The command line's beginning, of ``python -m dataplane`` and of the console script."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Runs the command line; ends the process with its exit status."""
    # Ctrl-C ends the process in silence, also while the modules are loaded; a command that has to end in order
    # has handlers of its own.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Pydantic's own switch: none of its plugins concerns the command, and to look for them takes a while.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        from dataplane.cli import main as run

        run()
    except MemoryError:
        print(
            "there is not enough memory: give the process more (ulimit -v, or MemoryMax in the unit), or it less to do"
            " (a smaller policy, fewer captures at once, a smaller max_entries)",
            file=sys.stderr,
        )
        sys.exit(1)
    except AttributeError as error:
        # So cffi says that the library lacks what the Python part calls.
        if "cffi library" not in str(error):
            raise
        print(
            "dataplane's C part is of another version than the rest: build it anew by 'make install' in a checkout, or"
            f" install all of it again ({error})",
            file=sys.stderr,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
