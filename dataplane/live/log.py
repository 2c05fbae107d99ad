"""The log of the daemon on standard error: lines for people, or JSON, a record a line, for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

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
    """A record as a line: level unless it is just information, message, and what was given with it in brackets."""

    def format(self, record: logging.LogRecord) -> str:
        line = record.getMessage()
        if record.levelno > logging.INFO:
            line = f"{record.levelname.lower()}: {line}"
        given = ", ".join(f"{name}={_short(value)}" for name, value in _given(record).items())
        if given:
            line += f" ({given})"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _short(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, dict | list | tuple) else str(value)


def set_up(form: Format) -> None:
    """Sends the log to standard error in one of the two forms."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
