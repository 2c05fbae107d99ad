"""A directory named as a capture stands for the captures in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from dataplane.outputs import CAPTURE_MAGIC
from dataplane.replay.captures import CaptureError
from dataplane.replay.reading import KnownFile, Reading
from dataplane.replay.urls import is_remote, local_path


def captures_of(paths: Iterable[str | Path], tell: Callable[[str], object] = lambda sentence: None) -> list[str]:
    """Paths with each directory replaced by the captures in it, by name; what a URL stands for too.

    `tell` gets a sentence for each file that is passed over. What is a capture is told by how it begins, decompressed.
    Directories within are passed over too. Raises CaptureError for a directory that cannot be read or has no capture in
    it.
    """
    captures = list[str]()
    for path in (local_path(str(path)) for path in paths):
        if is_remote(path):
            captures += _remote(path, tell)
            continue
        if path == "-" or not os.path.isdir(path):
            captures.append(path)
            continue
        found = 0
        try:
            for entry in sorted(os.listdir(path)):
                name = os.path.join(path, entry)
                if reason := _no_capture(name):
                    tell(f"{name}: {reason}: passed over")
                else:
                    captures.append(name)
                    found += 1
        except OSError as error:
            raise CaptureError(error.errno, error.strerror or str(error), error.filename or path) from None
        if not found:
            raise CaptureError(None, "there is no capture in this directory", path)
    return captures


def _remote(url: str, tell: Callable[[str], object]) -> list[str]:
    """The captures that a URL stands for."""
    from dataplane.replay.remote import remote_captures

    try:
        found = remote_captures(url, _no_remote_capture, tell)
    except OSError as error:
        raise CaptureError(error.errno, error.strerror or str(error), error.filename or url) from None
    if not found:
        raise CaptureError(None, "there is no capture in this directory", url)
    return found


def _no_remote_capture(url: str) -> str | None:
    """As `_no_capture`."""
    from dataplane.replay.remote import RemoteFile

    file = RemoteFile.look(url)
    return _no_capture_in(Reading(file.open()))


def _no_capture(name: str) -> str | None:
    """Why a file is no capture. Raises OSError."""
    try:
        about = os.stat(name)
    except FileNotFoundError:
        return "it is a link that leads nowhere"
    if stat.S_ISDIR(about.st_mode):
        return "it is a directory"
    if not stat.S_ISREG(about.st_mode):
        return "it is no regular file"
    with open(name, "rb"):
        return _no_capture_in(Reading(KnownFile(name, about, None)))


def _no_capture_in(reading: Reading) -> str | None:
    """Why what is read, and closed then, is no capture."""
    try:
        begin = bytes(reading.next()[:4])
        while len(begin) < 4 and (more := reading.next()):
            begin += bytes(more[: 4 - len(begin)])
    finally:
        reading.close()
    if not begin and not reading.compression and not reading.fault:
        return "it is empty"
    return None if begin.startswith(CAPTURE_MAGIC) else "it is no capture"
