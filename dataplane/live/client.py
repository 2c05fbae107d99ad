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

from dataplane.live import CONTROL_SOCKET

_READ_BYTES = 1 << 16
_BLOCK_MAX = 1 << 24


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
    """A connection to a running firewall. Raises UnreachableError when there is none."""

    def __init__(self, path: str | Path = CONTROL_SOCKET) -> None:
        self._path = path
        #: How many items a stream that has ended could not bring, because they came faster than they were read.
        self.lost = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
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

    def call(self, command: str, **arguments: Any) -> Any:
        """The result of a command. Raises RefusedError with what the firewall says."""
        self._send(command, arguments)
        return self._answer()["result"]

    def stream(self, command: str, **arguments: Any) -> Iterator[Any]:
        """The items of a command that goes on, until the firewall or `stop` ends it. Raises RefusedError."""
        self._send(command, arguments)
        answer = self._answer()
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

    def _send(self, command: str, arguments: dict[str, Any]) -> None:
        given = {name: value for name, value in arguments.items() if value is not None}
        # A firewall that takes no more has said why before it closed its side.
        with contextlib.suppress(OSError):
            self._socket.sendall(json.dumps({"command": command, **given}).encode() + b"\n")

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._file.readline()
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            raise UnreachableError(_ended(self._path))
        answer: dict[str, Any] = json.loads(line)
        if not answer.get("ok", True):
            raise RefusedError(answer)
        return answer


def _ended(path: str | Path) -> str:
    return f"{path}: the firewall ended the connection: it was stopped, or its log says why"


def _unreachable(path: str | Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return (
            f"{path}: nobody listens at the control socket: is the firewall running? (dataplane run starts it, --socket"
            " names another place)"
        )
    if isinstance(error, PermissionError):
        return f"{path}: the control socket is not for you: become root, or a member of its group"
    return f"{path}: the control socket cannot be used: {error.strerror or error}"
