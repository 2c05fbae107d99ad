"""Standard output and error: escaped, and also where nobody reads or can write them; one way for all commands.

The streams are put in place of Python's own by `guard`. Whatever is printed, by us or a library, goes through
`printable_lines` there; a console of `dataplane.terminal` has done so itself, and adds its colours. Libraries that
print for us know broken pipes too, each with an exit status of its own; they see no OSError here, but `LostError`,
which goes past them to `main`.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from dataplane.terminal import columns, printable, printable_lines, wrapped

EXIT_USAGE = EXIT_UNWRITABLE = 2
_STDIN, _STDOUT, _STDERR = 0, 1, 2


class LostError(Exception):
    """Standard output takes no more: its reader has gone away, or the system says why."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(f"standard output cannot be written: {reason.strerror}")
        self.reader_left = isinstance(reason, BrokenPipeError)

    def status(self) -> int:
        """The exit status of a command that ended by it: a reader that left has seen enough. Says all else."""
        if self.reader_left:
            return 0
        sys.stderr.write(f"{self}\n")
        sys.stderr.flush()
        return EXIT_UNWRITABLE


class _Descriptor(io.FileIO):
    """A standard stream. After its first failure it leads nowhere, so that what is still buffered does not fail again.

    Standard error fails in silence: it only accompanies an exit status, which stays what it is.
    """

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if self.fileno() == _STDERR:
                return memoryview(data).nbytes
            raise LostError(error) from None


class _Escaped(io.TextIOWrapper):
    """Text for people: what does not print is escaped."""

    def write(self, text: str) -> int:
        super().write(printable_lines(text))
        return len(text)

    def write_as_it_is(self, text: str) -> int:
        """For what is escaped already, and coloured."""
        return super().write(text)


def guard() -> None:
    """Puts the two streams in place of Python's.

    Closed standard input and error are as /dev/null; a closed standard output takes nothing, and says so to who writes.
    """
    for number in (_STDIN, _STDOUT, _STDERR):
        # The number would be the next file's or socket's, and what is printed would go there.
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == _STDOUT else os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(_STDIN, encoding="utf-8", closefd=False)
    for name, number in (("stdout", _STDOUT), ("stderr", _STDERR)):
        old = getattr(sys, name)
        if old is not None:
            old.flush()
        stream = _Escaped(
            io.BufferedWriter(_Descriptor(number, "w", closefd=False)),
            encoding=old.encoding if old else "utf-8",
            errors=old.errors if old else "backslashreplace",
            line_buffering=old is None or old.line_buffering or old.write_through,
        )
        setattr(sys, name, stream)


def say(line: str, *, err: bool = False) -> None:
    """Prints one line for people, on standard error if `err`: a name with a line feed in it begins no other.

    At a terminal its words are wrapped.
    """
    for part in wrapped(printable(line), columns(sys.stderr if err else sys.stdout)):
        typer.echo(part, err=err)


def say_aside(line: str) -> None:
    """The same on standard error."""
    say(line, err=True)


def refuse(text: str, status: int = EXIT_USAGE) -> NoReturn:
    """Ends the command with sentences on standard error, a line each, and an exit status (SPEC 7)."""
    for line in text.splitlines():
        say(line, err=True)
    raise typer.Exit(status)


def json_text(value: object) -> str:
    """A value as JSON in ASCII."""
    import json

    from pydantic_core import to_json

    try:
        return to_json(value, ensure_ascii=True).decode()
    except ValueError:
        # It takes no halves of surrogate pairs, which stand for the bytes of a file's name that are no UTF-8.
        return json.dumps(value)


def flush() -> None:
    """Writes what is still buffered, which the interpreter would do later and tell in its own way."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def leave(status: int) -> NoReturn:
    """Ends the process here and now: to free a large policy and its tables piece by piece takes time and gains nothing.

    Nothing else is ended: files must be closed already.
    """
    try:
        flush()
    except LostError as lost:
        status = lost.status()
    os._exit(status)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """For output that a command goes on behind: its exit status still depends on what comes."""
    try:
        yield
        flush()
    except LostError as lost:
        if not lost.reader_left:
            raise
