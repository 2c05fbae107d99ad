"""Captures that a command reads more than once."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from dataplane.cli.output import say_aside


@contextmanager
def repeatable(captures: Sequence[str]) -> Iterator[list[str]]:
    """Paths of captures that can be read again: what is no regular file, such as ``-``, is copied to one first.

    The copies are gone after the context. Raises CaptureError and OSError.
    """
    from dataplane.replay.folder import captures_of

    found = captures_of(captures, say_aside)
    with ExitStack() as stack:
        yield [stack.enter_context(_copied(path)) if passes_once(path) else path for path in found]


def passes_once(path: str) -> bool:
    """Whether a capture is gone once it is read: standard input, a FIFO."""
    if path == "-":
        return True
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        # Whoever reads it says what is wrong with it.
        return False


@contextmanager
def _copied(path: str) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(prefix="dataplane-") as copy:
        with ExitStack() as stack:
            source: BinaryIO = sys.stdin.buffer if path == "-" else stack.enter_context(open(path, "rb"))
            shutil.copyfileobj(source, copy)
        copy.flush()
        yield copy.name
