"""What can be asked of a running firewall, as values with types: a request is a JSON object with the key `command` and
that command's arguments.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dataplane.control.confirmation import CONFIRM_SECONDS_MAX
from dataplane.control.selection import Selection
from dataplane.policy.fields import SECONDS_MAX
from dataplane.policy.reading.source import DOCUMENT_BYTES_MAX

#: No state that is imported is longer, whatever the bound of the connection table.
STATE_BYTES_MAX = 1 << 32


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


class Rules(Request):
    """The rules in force, with when each was hit last; with `unused` those that were not for so many seconds."""

    command: Literal["rules"]
    unused: float | None = Field(default=None, ge=0, le=SECONDS_MAX)


class _OfPolicy(Request):
    """What changes the policy in force, or with `dry_run` tells only what that would disconnect.

    `expected_generation` is that of the policy which the asker has seen: the request is refused when another one is in
    force by now. With `confirm` it is taken back after so many seconds, unless it is confirmed.
    """

    dry_run: bool = False
    confirm: float | None = Field(default=None, ge=1, le=CONFIRM_SECONDS_MAX)
    expected_generation: int | None = Field(default=None, ge=1)


class Confirm(Request):
    """The change that waits for it is confirmed, or with `revert` taken back at once."""

    command: Literal["confirm"]
    revert: bool = False
    expected_generation: int | None = Field(default=None, ge=1)


class Reload(_OfPolicy):
    """The policy is loaded again from where it is kept."""

    command: Literal["reload"]


class Difference(Request):
    """What a reload would do to live connections; or, of another `policy`, what putting that in force would."""

    command: Literal["difference"]
    policy: dict[str, Any] | None = None


class ChangePolicy(_OfPolicy):
    """One change as SPEC 7 writes it, or several that are made in their order, as one: all of them or none."""

    command: Literal["change"]
    change: dict[str, Any] | list[dict[str, Any]]


class ApplyPolicy(_OfPolicy):
    """Another policy is put in force, and kept where changes are; the difference to the one in force is what changes.

    The document follows the request (an upload), in so many `bytes`; `name` is where it was read.
    """

    command: Literal["apply"]
    bytes: int = Field(ge=0, le=DOCUMENT_BYTES_MAX)
    name: str = "-"


class CurrentPolicy(Request):
    """The policy in force, as a document."""

    command: Literal["policy"]


class Save(Request):
    """The state file is written."""

    command: Literal["save"]


class Connections(Request):
    """What to do with chosen connections: `list` is a stream of items, `export` a state."""

    command: Literal["conntrack"]
    action: Literal["list", "count", "delete", "flush", "export"]
    selection: Selection = Selection()


class ImportConnections(Request):
    """Connections that another firewall has exported come into this one.

    The state with them follows the request (an upload), in so many `bytes`.
    """

    command: Literal["import"]
    bytes: int = Field(ge=0, le=STATE_BYTES_MAX)


class FlowState(Request):
    """What is known of one flow: its connections, and the policy in force. Nothing is changed by it.

    `protocol` is a number; ports are left out where there are none.
    """

    command: Literal["flow"]
    protocol: int = Field(ge=0, le=255)
    source: str
    destination: str
    source_port: int | None = Field(default=None, ge=1, le=65535)
    destination_port: int | None = Field(default=None, ge=1, le=65535)


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


class Flows(Request):
    """Flows as records of SPEC 8.2: a stream of those that there are (`list`), or of those that end (`follow`)."""

    command: Literal["flows"]
    action: Literal["list", "follow"] = "list"
    selection: Selection = Selection()
    verdict: Literal["allow", "deny"] | None = None


class Shadow(Request):
    """Another policy that judges beside the one in force: it begins, ends, or tells what it has judged otherwise.

    `policy` is a document, `name` where it was read; a report has `top` flows at most.
    """

    command: Literal["shadow"]
    action: Literal["begin", "end", "report"]
    policy: dict[str, Any] | None = None
    name: str = "-"
    top: int = Field(default=1000, ge=0, le=1_000_000)


#: Those that go on until the asker has enough.
Streaming = Events | Drops | Capture | Flows
#: Those that are followed by so many `bytes`, once they are taken.
Upload = ApplyPolicy | ImportConnections

REQUESTS: dict[str, type[Request]] = {
    "status": Status,
    "counters": Counters,
    "stations": Stations,
    "rules": Rules,
    "reload": Reload,
    "difference": Difference,
    "confirm": Confirm,
    "change": ChangePolicy,
    "apply": ApplyPolicy,
    "policy": CurrentPolicy,
    "save": Save,
    "conntrack": Connections,
    "import": ImportConnections,
    "flow": FlowState,
    "events": Events,
    "drops": Drops,
    "capture": Capture,
    "flows": Flows,
    "shadow": Shadow,
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
