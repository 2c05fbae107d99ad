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


def without_folder(path: Path) -> str | None:
    """Why nothing can be written at `path`, as far as its folder tells, in words; None where it can.

    Capabilities do not count: who gives them up writes by the folder's mode alone.
    """
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        return f"there is no folder {folder}: make it (mkdir -p {folder}), or name another place"
    found, user = os.stat(folder), os.geteuid()
    shift = 6 if found.st_uid == user else 3 if found.st_gid in (os.getegid(), *os.getgroups()) else 0
    if found.st_mode >> shift & 3 != 3 or not os.access(folder, os.W_OK | os.X_OK):
        return f"folder {folder} cannot be written: give it to user {user} (chown), or name another place"
    return None


_REMEDIES = {
    errno.ENOENT: "make its folder, or name another place",
    errno.ENOTDIR: "make its folder, or name another place",
    errno.EISDIR: "name a file",
    errno.EACCES: "let this user do that, or name another place",
    errno.EPERM: "let this user do that, or name another place",
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EROFS: "name a place that can be written",
}


def remedy(error: OSError) -> str:
    """What to do about a file that cannot be written, or a name that cannot be made."""
    return _REMEDIES.get(error.errno or 0, "name another place")


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
