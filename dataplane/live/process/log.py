"""The log of the daemon on standard error: lines for people, or JSON, a record a line, for machines.

A line for people begins with the time, as RFC 3339 writes it, with the offset of this machine's zone; in the journal,
which notes the time itself, with the priority in angle brackets (sd-daemon(3)). What does not print is escaped, so that
no record looks like two.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from dataplane.terminal import printable

Format = Literal["text", "json"]

#: What every record has; all else was given with it.
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def _given(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in _OWN}


class JsonFormatter(logging.Formatter):
    """A record as an object: time, level, message, and whatever was given with it."""

    def format(self, record: logging.LogRecord) -> str:
        value: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **_given(record),
        }
        if record.exc_info:
            value["exception"] = self.formatException(record.exc_info)
        return json.dumps(value, default=str)


class TextFormatter(logging.Formatter):
    """A record as a line: time, or priority if `in_journal`; level unless it is just information; message; and what was
    given with it in brackets. The lines of a traceback follow, each with the same beginning.
    """

    def __init__(self, *, in_journal: bool = False) -> None:
        super().__init__()
        self._in_journal = in_journal

    def format(self, record: logging.LogRecord) -> str:
        line = record.getMessage()
        if record.levelno > logging.INFO:
            line = f"{record.levelname.lower()}: {line}"
        given = ", ".join(f"{name}={_short(value)}" for name, value in _given(record).items())
        if given:
            line += f" ({given})"
        lines = [line]
        if record.exc_info:
            lines += self.formatException(record.exc_info).splitlines()
        begin = self._beginning(record)
        return "\n".join(begin + printable(line) for line in lines)

    def _beginning(self, record: logging.LogRecord) -> str:
        if self._in_journal:
            return f"<{_priority(record.levelno)}>"
        return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds") + " "


def _priority(level: int) -> int:
    """A level as syslog(3) numbers it."""
    return 3 if level >= logging.ERROR else 4 if level >= logging.WARNING else 6 if level >= logging.INFO else 7


def _short(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, dict | list | tuple) else str(value)


def leads_to_journal(stream: TextIO) -> bool:
    """Whether a stream is the one that systemd has connected to its journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def set_up(form: Format) -> None:
    """Sends the log to standard error in one of the two forms."""
    handler = logging.StreamHandler(sys.stderr)
    text = TextFormatter(in_journal=leads_to_journal(sys.stderr))
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
