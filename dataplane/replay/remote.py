"""Captures in object stores and on web servers, named by URL (``s3://``, ``https://``), by fsspec.

They are read as a stream by whoever judges them, some MiB ahead: nothing is written to a disk. What fsspec and the
libraries under it need to know, such as keys and endpoints, they take from the environment of that process.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dataplane.installation import how_to_install
from dataplane.replay.decompress import DamagedError

#: How much of an object is asked for at once, in bytes.
_BLOCK = 4 << 20
#: How long a web server may be silent, in seconds.
_PATIENCE = 60
#: How many captures are looked at together.
_AT_ONCE = 16
#: What file systems tell of a file that is another one if the file is.
_MARKS = ("ETag", "etag", "LastModified", "Last-Modified", "mtime", "size")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at `url`, of so many bytes, 0 where that is not told; `mark` is another one if the file is."""

    url: str
    size: int
    mark: str

    @staticmethod
    def look(url: str) -> RemoteFile:
        """The file as it is now. Raises OSError and ModuleNotFoundError."""
        with _in_words(url):
            files, path = _place(url)
            return RemoteFile._of(url, files.info(path))

    @staticmethod
    def _of(url: str, about: dict[str, Any]) -> RemoteFile:
        if about.get("type") == "directory":
            raise IsADirectoryError(None, "it is a directory", url)
        marks = (about.get(key) for key in _MARKS)
        return RemoteFile(url, about.get("size") or 0, " ".join(str(mark) for mark in marks if mark is not None))

    def open(self, *, again: bool = False) -> RemoteStream:
        """The file from its beginning, which is asked for when it is read first; `again` if it was before."""
        return RemoteStream(self, again=again)


class RemoteStream(io.RawIOBase):
    """The bytes of a remote file; `at` is how many were read. Raises DamagedError where another file took its name."""

    def __init__(self, file: RemoteFile, *, again: bool) -> None:
        self._of = file
        self._again = again
        self._file: Any = None
        self.at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _in_words(self._of.url):
            if self._file is None:
                if self._again and RemoteFile.look(self._of.url).mark != self._of.mark:
                    raise DamagedError("cannot be read to its end: another file has taken its name")
                files, path = _place(self._of.url)
                self._file = files.open(path, "rb", block_size=0 if _is_http(self._of.url) else _BLOCK)
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed and self._file is not None:
            self._file.close()
        super().close()


def remote_captures(url: str, why_not: Callable[[str], str | None], tell: Callable[[str], object]) -> list[str]:
    """The captures that a URL stands for: itself, those in a directory or behind a prefix, those that fit a ``*``.

    What is listed and is no capture, by `why_not`, is passed over with a sentence to `tell`. Raises OSError and
    ModuleNotFoundError.
    """
    with _in_words(url):
        listed = _listed(url)
        if listed is None:
            return [url]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            reasons = list(pool.map(why_not, listed))
    for name, reason in zip(listed, reasons, strict=True):
        if reason:
            tell(f"{name}: {reason}: passed over")
    return [name for name, reason in zip(listed, reasons, strict=True) if not reason]


def _listed(url: str) -> list[str] | None:
    """The files in a directory, by name; None for a file."""
    files, path = _place(url)
    if "*" in url:
        found = files.glob(path, detail=True).values()
    elif url.endswith("/") or files.info(path)["type"] == "directory":
        found = files.ls(path, detail=True)
    else:
        return None
    return sorted(files.unstrip_protocol(one["name"]) for one in found if one["type"] == "file")


def _place(url: str) -> tuple[Any, str]:
    """The file system that a URL is of, and the path in it."""
    from fsspec.core import url_to_fs

    settings = {}
    if _is_http(url):
        from aiohttp import ClientTimeout

        # A large file may take hours, but something of it has to come.
        settings = {
            "client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=_PATIENCE, sock_read=_PATIENCE)}
        }
    files, path = url_to_fs(url, **settings)
    return files, path


def _is_http(url: str) -> bool:
    """Whether it is of a web server, which sends it from beginning to end at one request; others send pieces of it."""
    return url.startswith(("http://", "https://"))


@contextmanager
def _in_words(url: str) -> Iterator[None]:
    """What reading raises as an OSError with words, but for what is missing here, which is said as all that is."""
    try:
        yield
    except DamagedError:
        raise
    except ImportError as error:
        # fsspec names no module where it asks for the file system of a scheme.
        missing = f"{error.name} is not installed" if error.name else str(error)
        raise ModuleNotFoundError(
            f"{url}: {missing}: {how_to_install('remote')} brings what S3 and HTTP need", name=error.name
        ) from None
    except FileNotFoundError as error:
        # A web server may have said more, or not be there.
        more = f": {error.__cause__}" if error.__cause__ else ""
        raise FileNotFoundError(None, f"there is no such file{more}", url) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error) or type(error).__name__, url) from None
    except Exception as error:
        # Each kind of file system has errors of its own.
        raise OSError(None, str(error) or type(error).__name__, url) from None
