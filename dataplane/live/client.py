"""The client's side of the control socket."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic_core import from_json

from dataplane.live import CONTROL_SOCKET

_READ_BYTES = 1 << 16
_BLOCK_MAX = 1 << 24
#: What a firewall says when it is asked whether it is there is shorter.
_PRESENCE_MAX = 1 << 16

#: A firewall takes a connection and says that it is there sooner than this, whatever it has to do besides.
ANSWER_SECONDS = 30.0


class UnreachableError(Exception):
    """There is no firewall to talk to: one sentence that says why, and what to do."""


class RefusedError(Exception):
    """The firewall refused a request or failed at it.

    `invalid` tells a request, policy or change that is not valid from what could not be carried out; `mistakes` are the
    lines that say what is wrong with a policy.
    """

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer["error"])
        self.invalid = answer["kind"] == "refused"
        self.mistakes = [mistake["text"] for mistake in answer["mistakes"]]


class ControlClient:
    """A connection to a running firewall. Raises UnreachableError when there is none.

    A firewall must soon say that it is there; what it is asked then may take its time.
    """

    def __init__(self, path: str | Path = CONTROL_SOCKET) -> None:
        self._path = path
        #: How many items a stream that has ended could not bring, because they came faster than they were read.
        self.lost = 0
        self._is_there = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Python's own timeout would not wait at all where many are waiting to be let in.
            seconds, rest = divmod(ANSWER_SECONDS, 1)
            self._socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(seconds), int(rest * 1e6))
            )
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise UnreachableError(_unreachable(path, error)) from None
        self._file = self._socket.makefile("rb", _READ_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._file.close()
        self._socket.close()

    def stop(self) -> None:
        """Tells the firewall that a stream is enough: it sends what it has and ends it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Ends the connection under whoever waits for an answer in another thread, who gets UnreachableError."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def call(self, command: str, **arguments: Any) -> Any:
        """The result of a command. Raises RefusedError with what the firewall says."""
        self._send(command, arguments)
        return self._answer()["result"]

    def upload(self, command: str, data: bytes, **arguments: Any) -> Any:
        """The result of a command that is followed by data. Raises RefusedError."""
        self._send(command, {**arguments, "bytes": len(data)})
        self._answer()
        # A firewall that takes no more has said why before it closed its side.
        with contextlib.suppress(OSError):
            self._socket.sendall(data)
        return self._answer()["result"]

    def download(self, command: str, **arguments: Any) -> bytes:
        """What a command brings in one piece. Raises RefusedError; UnreachableError where it is not whole."""
        self._send(command, arguments)
        length: int = self._answer()["bytes"]
        data = b""
        with contextlib.suppress(OSError):
            data = self._file.read(length)
        if len(data) < length:
            raise UnreachableError(_ended(self._path))
        return data

    def stream(self, command: str, **arguments: Any) -> Iterator[Any]:
        """The items of a command that goes on, until the firewall or `stop` ends it. Raises RefusedError."""
        self._send(command, arguments)
        return self._items(self._answer())

    def _items(self, answer: dict[str, Any]) -> Iterator[Any]:
        while "result" not in answer:
            if "item" in answer:
                yield answer["item"]
            yield from answer.get("items", ())
            answer = self._answer()
        self.lost = answer["result"].get("lost", 0)

    def capture(self, **arguments: Any) -> Iterator[bytes]:
        """The blocks of a pcapng file, each whole, until the firewall or `stop` ends it. Raises RefusedError."""
        self._send("capture", arguments)
        self._answer()
        return self._blocks()

    def _blocks(self) -> Iterator[bytes]:
        while len(head := self._file.read(8)) == 8:
            (size,) = struct.unpack("<4xI", head)
            if not 12 <= size <= _BLOCK_MAX:
                raise UnreachableError(f"{self._path}: what the firewall sends is no pcapng")
            body = self._file.read(size - 8)
            if len(body) < size - 8:
                return
            yield head + body

    def _find_out_whether_it_is_there(self) -> None:
        """Waits for an answer to a request that takes no time. Raises UnreachableError, or RefusedError."""
        self._socket.settimeout(ANSWER_SECONDS)
        self._put({"command": "ping"})
        try:
            if not isinstance(self._answer(_PRESENCE_MAX).get("result"), dict):
                raise UnreachableError(_no_firewall(self._path))
        except TimeoutError:
            raise UnreachableError(_silent(self._path)) from None
        except RefusedError as error:
            # One of before does not know this request, and is there all the same.
            if not error.invalid:
                raise
        self._socket.settimeout(None)
        self._is_there = True

    def _send(self, command: str, arguments: dict[str, Any]) -> None:
        if not self._is_there:
            self._find_out_whether_it_is_there()
        self._put({"command": command} | {name: value for name, value in arguments.items() if value is not None})

    def _put(self, request: dict[str, Any]) -> None:
        # A firewall that takes no more has said why before it closed its side.
        with contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(request).encode() + b"\n")

    def _answer(self, most: int = -1) -> dict[str, Any]:
        """The next line, of at most so many bytes."""
        try:
            line = self._file.readline(most)
        except TimeoutError:
            raise
        except OSError:
            line = b""
        if len(line) == most:
            raise UnreachableError(_no_firewall(self._path))
        if not line.endswith(b"\n"):
            raise UnreachableError(_ended(self._path))
        try:
            answer = from_json(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise UnreachableError(_no_firewall(self._path))
        if not answer.get("ok", True):
            try:
                refused = RefusedError(answer)
            except (KeyError, TypeError):
                raise UnreachableError(_no_firewall(self._path)) from None
            raise refused
        return answer


#: How an answer shows that it is not as this version has it.
NOT_UNDERSTOOD = (KeyError, TypeError, AttributeError, ValueError)


def another_version(error: Exception) -> str:
    """What is wrong where an answer is not understood, and how that showed."""
    return (
        f"the answer of the firewall cannot be understood ({type(error).__name__}: {error}): it is of another version"
        " than this command, and must be restarted"
    )


def _no_firewall(path: str | Path) -> str:
    return f"{path}: what listens there is no firewall: --socket names another place"


def _ended(path: str | Path) -> str:
    return f"{path}: the firewall ended the connection: it was stopped, or its log says why"


def _silent(path: str | Path) -> str:
    return (
        f"{path}: nobody answers at the control socket within {ANSWER_SECONDS:g} seconds: the firewall hangs and must"
        " be restarted, or another program listens there (--socket names another place)"
    )


def _unreachable(path: str | Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return (
            f"{path}: nobody listens at the control socket: is the firewall running? (dataplane run starts it, --socket"
            " names another place)"
        )
    if isinstance(error, BlockingIOError):
        return _silent(path)
    if isinstance(error, PermissionError):
        return f"{path}: the control socket is not for you: become root, or a member of its group"
    return f"{path}: the control socket cannot be used: {error.strerror or error}: --socket names another place"
