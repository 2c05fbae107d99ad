"""The control protocol: JSON, a value a line, over a Unix socket.

A request is an object with the key `command` and that command's arguments. The answer is
``{"ok": true, "result": ...}`` or ``{"ok": false, "kind": ..., "error": ..., "mistakes": [...]}``, where `kind` is
``refused`` (the request, a policy or a change is not valid), or ``failed`` (it could not be carried out).

Commands that go on first answer ``{"ok": true, "stream": "items"}``, then send ``{"item": ...}`` or
``{"items": [...]}`` as often as there is something, and at the end an answer; ``"stream": "pcapng"`` is followed by a
pcapng file until the connection ends. A client ends a stream by closing its side for writing.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dataplane.live.selection import Selection

#: A longer request is refused.
REQUEST_BYTES = 1 << 20

REFUSED, FAILED = "refused", "failed"


class Request(BaseModel):
    """What all requests have in common: no unknown arguments, and none of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str


class Ping(Request):
    """Whether anybody serves the socket: answered at once, whatever the firewall has to do besides."""

    command: Literal["ping"]


class Status(Request):
    """The firewall at a glance."""

    command: Literal["status"]


class Counters(Request):
    """All counters."""

    command: Literal["counters"]


class Stations(Request):
    """The switch's table."""

    command: Literal["stations"]


class Reload(Request):
    """The policy file is read again; `dry_run` tells only what that would disconnect."""

    command: Literal["reload"]
    dry_run: bool = False


class ChangePolicy(Request):
    """One change as SPEC 7 writes it."""

    command: Literal["change"]
    change: dict[str, Any]
    dry_run: bool = False


class CurrentPolicy(Request):
    """The policy in force, as a document."""

    command: Literal["policy"]


class Save(Request):
    """The state file is written."""

    command: Literal["save"]


class Connections(Request):
    """What to do with chosen connections: `list` is a stream of items."""

    command: Literal["conntrack"]
    action: Literal["list", "count", "delete", "flush"]
    selection: Selection = Selection()


class Events(Request):
    """A stream of connections that come, change and go."""

    command: Literal["events"]


class Drops(Request):
    """A stream of denied packets, at most `rate` a second."""

    command: Literal["drops"]
    rate: float = Field(default=100.0, gt=0, le=100_000)
    port: str | None = None


class Capture(Request):
    """A stream of frames as pcapng, of one port or of all."""

    command: Literal["capture"]
    port: str | None = None


REQUESTS: dict[str, type[Request]] = {
    "status": Status,
    "counters": Counters,
    "stations": Stations,
    "reload": Reload,
    "change": ChangePolicy,
    "policy": CurrentPolicy,
    "save": Save,
    "conntrack": Connections,
    "events": Events,
    "drops": Drops,
    "capture": Capture,
    "ping": Ping,
}


def parse_request(line: bytes) -> Request:
    """A request of one line. Raises ValueError with one sentence for anything else."""
    import json

    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("the request is no line of JSON") from None
    name = value.get("command") if isinstance(value, dict) else None
    kind = REQUESTS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"the request names no command: one of {', '.join(REQUESTS)} is needed")
    try:
        return kind.model_validate(value)
    except ValueError as error:
        raise ValueError(_sentence(error)) from None


def _sentence(error: Any) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}" if place else str(first["msg"])
