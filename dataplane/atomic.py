"""Files that are replaced as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def is_replaceable(path: Path) -> bool:
    """Whether a file is, or can be, at `path`: not where a device, a FIFO, a socket or a folder is."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file, for its owner alone (0600), that takes the place of `path` once all is written, and lasts.

    Raises OSError, also where something else than a file is at `path`; what was there stays then.
    """
    path = path.resolve()
    if not is_replaceable(path):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Makes a new name in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
