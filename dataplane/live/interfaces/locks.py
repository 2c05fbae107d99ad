"""Which interfaces are this firewall's: a locked file for each, so that two firewalls never serve one interface.

An interface is known by its network namespace and its index in it. The lock goes with the process, however that ends;
what is in the file stays, so that the next firewall learns what one that was killed had changed.

Raises PortError with a sentence for people.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import time
from pathlib import Path

from dataplane.live.interfaces.links import PortError

#: For root alone: whoever could lock a file in it could keep a firewall from starting.
FOLDER = Path("/run/dataplane/interfaces")

_READ_BYTES = 1 << 16
#: How long who puts an interface back may need; a firewall has it for longer.
_LOCK_SECONDS = 0.5
#: Numbers of interfaces are positive and of 31 bits.
_INDEXES = range(1, 1 << 31)
#: In the place of a note that cannot be read: what nobody notes.
_DAMAGED = "damaged"


class TakenError(PortError):
    """An interface that is another firewall's."""


class Claim:
    """An interface that is this firewall's until `release`.

    `left` is what a firewall that was killed had noted about it, or what is in the place of that where it is damaged:
    any JSON value. None where there was none.
    """

    def __init__(self, name: str, index: int, path: Path, fd: int) -> None:
        self.index = index
        self.left = _noted(fd).get("note")
        self._name = name
        self._path = path
        self._fd = fd
        self._write(self.left)

    def note(self, value: object) -> None:
        """What the next firewall must know if this one is killed: a JSON value."""
        self._write(value)

    def release(self) -> None:
        """Anybody may claim the interface from now on, and nothing is left to know about it."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            self._path.unlink()
        self.abandon()

    def abandon(self) -> None:
        """Anybody may claim the interface from now on, and learns what is noted."""
        os.close(self._fd)
        self._fd = -1

    def _write(self, note: object) -> None:
        text = json.dumps({"pid": os.getpid(), "interface": self._name, "note": note}).encode()
        try:
            os.pwrite(self._fd, text, 0)
            os.ftruncate(self._fd, len(text))
        except OSError as error:
            raise _unusable(error) from None


def claim(name: str, index: int, namespace: str | None = None) -> Claim:
    """Claims an interface of this thread's network namespace, or of one by name.

    Raises TakenError when another firewall has it. Who puts back what was left of it is waited for.
    """
    try:
        path = _path(index, namespace)
        FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = _locked(path)
    except BlockingIOError:
        raise _taken(name, path) from None
    except OSError as error:
        raise _unusable(error) from None
    try:
        return Claim(name, index, path, fd)
    except BaseException:
        os.close(fd)
        raise


def refuse_taken(name: str, index: int) -> None:
    """Raises TakenError when another firewall has an interface of this thread's network namespace; claims nothing.

    Where this process may not look, nobody is known to have it.
    """
    path = _path(index)
    with contextlib.suppress(OSError):
        fd = _open(path, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(name, path) from None
        finally:
            os.close(fd)


def abandoned() -> dict[tuple[int, int], list[int]]:
    """The interfaces that a firewall which was killed has noted something about: indexes by what tells their network
    namespace (device and inode)."""
    found: dict[tuple[int, int], list[int]] = {}
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = sorted(os.listdir(FOLDER))
    for name in names:
        match name.split("-"):
            case [device, inode, index] if all(part.isdecimal() for part in (device, inode, index)):
                if int(index) in _INDEXES and _is_abandoned(FOLDER / name):
                    found.setdefault((int(device), int(inode)), []).append(int(index))
    return found


def _is_abandoned(path: Path) -> bool:
    """Whether nobody has locked a file in which something is noted; one in which nothing is goes."""
    try:
        fd = _open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        # It is empty before it is locked for the first time.
        if not _noted(fd) or not _is_locked_now(fd, path):
            return False
        if _noted(fd).get("note") is None:
            path.unlink()
            return False
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def left_behind(index: int) -> Claim | None:
    """A claim of an interface of this thread's network namespace that a firewall which was killed has noted something
    about; None where there is none. Nobody's claim is in the way of a firewall for longer than that is put back."""
    path = _path(index)
    try:
        fd = _open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        # One that was released meanwhile has another file, or none.
        if _noted(fd).get("note") is not None and _is_locked_now(fd, path):
            return Claim(str(_noted(fd).get("interface")), index, path, fd)
    except BlockingIOError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _path(index: int, namespace: str | None = None) -> Path:
    place = os.stat(f"/run/netns/{namespace}" if namespace else "/proc/thread-self/ns/net")
    return FOLDER / f"{place.st_dev}-{place.st_ino}-{index}"


def _taken(name: str, path: Path) -> TakenError:
    return TakenError(
        f"interface {name} is another firewall's{_whose(path)}: stop that one, or name another interface in the policy"
    )


def _locked(path: Path) -> int:
    """A descriptor of the file at `path`, locked. Raises BlockingIOError when somebody else has it locked for long."""
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        fd = _open(path, os.O_RDWR | os.O_CREAT)
        try:
            if _is_locked_now(fd, path):
                return fd
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(fd)
                raise
            time.sleep(_LOCK_SECONDS / 10)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is_locked_now(fd: int, path: Path) -> bool:
    """Locks a file; whether it is still the one at `path`: whoever had it may have taken it away since it was opened.

    Raises BlockingIOError when somebody else has locked it.
    """
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(fd), os.stat(path))
    return False


def _open(path: Path, way: int) -> int:
    """A descriptor of a regular file. Raises OSError at once for all else, as for a pipe that nobody writes into."""
    fd = os.open(path, way | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, f"{path.name} is no regular file")


def _noted(fd: int) -> dict[str, object]:
    """What is in a file; nothing where it is empty, a note that is damaged where it cannot be read."""
    text = os.pread(fd, _READ_BYTES, 0)
    if not text:
        return {}
    try:
        found = json.loads(text)
        # What is nested too deeply to be noted again is no less damaged.
        json.dumps(found)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"note": _DAMAGED}


def _whose(path: Path) -> str:
    """Which process has locked a file, as far as it says so."""
    try:
        fd = _open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        pid = _noted(fd).get("pid")
    finally:
        os.close(fd)
    return f", process {pid}" if isinstance(pid, int) else ""


def _unusable(error: OSError) -> PortError:
    remedy = "give the folder to the user that dataplane runs as"
    if error.errno == errno.EROFS:
        remedy = f"mount something there that can be written (mount -t tmpfs none {FOLDER.parent})"
    return PortError(
        f"{FOLDER}: the interfaces that are in use cannot be noted there: {error.strerror or error}: {remedy}"
    )
