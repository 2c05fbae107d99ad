"""Files that commands write: none of them is, or destroys, what the command reads or what is hard to have again.

A regular file is written beside and takes the place of the old one when it is whole, with the old one's owner and
mode; where its name is a symbolic link, what that leads to is replaced. Devices, FIFOs and descriptors (/dev/stdout,
/dev/fd/3) are written straight.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

#: How a URL begins, of a scheme that is no drive's letter.
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_HEAD = 1 << 16
#: How uncompressed captures begin.
CAPTURE_MAGIC = (
    *(b"\xa1\xb2\xc3\xd4", b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x4d\x3c\xb2\xa1"),
    *(b"\xa1\xb2\xcd\x34", b"\x34\xcd\xb2\xa1", b"\x0a\x0d\x0d\x0a"),
)
#: And compressed ones.
COMPRESSED_MAGIC = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zX", b"BZh", b"\x04\x22\x4d\x18")
#: Names of files as programs that compress write them, and read them.
_COMPRESSED = (".gz", ".zst", ".xz", ".bz2", ".lz4")
_POLICY = re.compile(
    rb"""(?:^|[{,])\s*["']?(?:security_groups|address_groups|instances|load_balancers)["']?\s*:""", re.M
)
#: How JSON begins that commands write as an output, and write anew each time: verdict records, flow records, coverage.
_OWN_JSON = re.compile(
    rb"""\s*\{\s*(?:"packet":\s*\d+,\s*"time":"""
    rb"""|"instance":\s*(?:null|"(?:[^"\\]|\\.)*"),\s*"origin":"""
    rb"""|"packets":\s*\d+,\s*"rules":\s*\{\s*"total":\s*\d+,\s*"hit":)"""
)
_DESCRIPTOR = re.compile(r"/dev/(?:stdin|stdout|stderr|fd/\d+)|/proc/(?:self|thread-self|\d+)/fd/\d+")

#: What an existing file can be that is not overwritten unasked.
CAPTURE, POLICY, STATE = "a capture", "a policy or another document", "a state file"
#: What else is there and not empty; for outputs of which nobody has another one to replace.
OTHER = "a file of another kind"
#: How a state file of `dataplane run` begins.
STATE_MAGIC = b"dpstate\n"


class OutputError(Exception):
    """An output that would destroy something; the text says what and what to do."""


def kind_of(path: str | Path) -> str | None:
    """CAPTURE, POLICY or STATE for a regular file that is one; None for all else."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            if head.startswith((*CAPTURE_MAGIC, *COMPRESSED_MAGIC)):
                return CAPTURE
            if head.startswith(STATE_MAGIC):
                return STATE
            file.seek(0)
            written = _without_comments(file)
    except OSError:
        return None
    if _OWN_JSON.match(written):
        return None
    # Other JSON may be what `dataplane import` reads, changes or expectations.
    if written.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return POLICY
    if _POLICY.search(written) or (head and Path(path).suffix.lower() in (".yaml", ".yml")):
        return POLICY
    return None


def _without_comments(file: BinaryIO) -> bytes:
    """The beginning of a text, without the lines that are comments: a policy may have any number of them first."""
    kept, size, begins, comment = list[bytes](), 0, True, False
    while size < _HEAD and (line := file.readline(_HEAD)):
        comment = line.lstrip().startswith((b"#", b"\xef\xbb\xbf#")) if begins else comment
        begins = line.endswith(b"\n")
        if not comment and not line.isspace():
            kept.append(line)
            size += len(line)
    return b"".join(kept)


def check_outputs(
    outputs: Mapping[str, str | None],
    inputs: Iterable[str | Path],
    *,
    force: bool = False,
    stdout: bool = True,
    spare: Iterable[str] = (CAPTURE, POLICY, STATE),
) -> None:
    """Raises OutputError where an output is an input or another output, or, without `force`, of a kind in `spare`; also
    for the name of a compressed file, which nothing here writes.

    `outputs` are paths by the option that names them; ``-`` is standard output, which is also looked at where `stdout`
    says that something is printed there. ``-`` among `inputs` is standard input.
    """
    read = {
        key: "the file of standard input" if str(path) == "-" else str(path)
        for path in inputs
        if (key := _identity(0 if str(path) == "-" else path))
    }
    written: dict[tuple[object, ...], str] = {}
    if stdout and (key := _identity(1)) in read:
        raise OutputError(f"standard output is {read[key]}, which is read: name another file")
    for option, path in outputs.items():
        if path is None:
            continue
        if URL.match(path):
            raise OutputError(
                f"{path}: {option} takes a file of this machine, no URL: name one, and copy it there then"
            )
        if path.endswith(_COMPRESSED):
            raise OutputError(
                f"{path}: {option} is written uncompressed: name it without {Path(path).suffix}, and compress it then"
            )
        key = _identity(1) if path == "-" else _identity(path) or ("new", os.path.realpath(path))
        if key is None:
            continue
        if key in read:
            raise OutputError(f"{path}: {option} would overwrite {read[key]}, which is read: name another file")
        if key in written:
            raise OutputError(f"{path}: {option} and {written[key]} would write the same file: name two")
        written[key] = option
        kind = None
        if path != "-" and not is_descriptor(path):
            kind = kind_of(path) or (OTHER if os.path.isfile(path) and os.path.getsize(path) else None)
        if kind in tuple(spare) and not force:
            raise OutputError(
                f"{path}: {option} would overwrite {kind}: it takes the file to write; --force overwrites it"
            )


def _identity(file: int | str | Path) -> tuple[object, ...] | None:
    """What a regular file is known by, whatever name it has; None for what is no regular file or is not there."""
    try:
        about = os.stat(file)
    except OSError:
        return None
    return (about.st_dev, about.st_ino) if stat.S_ISREG(about.st_mode) else None


def close_output(file: BinaryIO) -> None:
    """Flushes a file that was written, and closes it unless it is standard output."""
    file.flush()
    if file is not sys.stdout.buffer:
        file.close()


def is_descriptor(path: str | Path) -> bool:
    """Whether a path names an open descriptor, such as /dev/stdout."""
    return _DESCRIPTOR.fullmatch(os.path.normpath(path)) is not None


class OutputFile:
    """A file that is being written: `path` is where, until `keep` puts it in its place or `discard` undoes it."""

    def __init__(self, name: str | Path) -> None:
        """Raises OSError where it cannot be written."""
        self._temporary: str | None = None
        self._target = Path(name)
        self.path = str(name)
        try:
            about = os.stat(name)
        except FileNotFoundError:
            about = None
        if about and stat.S_ISDIR(about.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a directory: name a file in it", str(name))
        if is_descriptor(name) or (about and not stat.S_ISREG(about.st_mode)):
            return
        self._target = Path(os.path.realpath(name))
        if about and not os.access(name, os.W_OK):
            raise PermissionError(13, os.strerror(13), str(name))
        folder = self._target.parent
        try:
            fd, self._temporary = tempfile.mkstemp(prefix=f".{self._target.name}.", dir=folder)
        except FileNotFoundError:
            text = f"there is no folder {folder}: make it (mkdir -p {folder}), or name another place"
            raise FileNotFoundError(errno.ENOENT, text, str(name)) from None
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(name)) from None
        self.path = self._temporary
        try:
            if about:
                with suppress(PermissionError):
                    os.fchown(fd, about.st_uid, about.st_gid)
                os.fchmod(fd, about.st_mode & 0o777)
            else:
                mask = os.umask(0o077)
                os.umask(mask)
                os.fchmod(fd, 0o666 & ~mask)
        finally:
            os.close(fd)

    def open(self) -> BinaryIO:
        """The file to write to."""
        return open(self.path, "wb")

    def keep(self) -> None:
        """Puts the file, closed by now, in its place."""
        if self._temporary:
            os.replace(self._temporary, self._target)
            self._temporary = None

    def discard(self) -> None:
        """Leaves what was there before as it was; does nothing after `keep`."""
        if self._temporary:
            with suppress(FileNotFoundError):
                os.unlink(self._temporary)
            self._temporary = None


def check_writable(name: str | Path) -> None:
    """Raises OSError where a file cannot be written; leaves nothing of it. For what is written after long work."""
    OutputFile(name).discard()
