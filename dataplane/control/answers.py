"""What a running firewall answers: JSON values, whose names outside programs know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

REFUSED: Literal["refused"] = "refused"
FAILED: Literal["failed"] = "failed"


class Disconnected(TypedDict):
    """What a change cut: inbound connections by instance, and `revoked` because a remote group changed (SPEC 5.4)."""

    total: int
    by_instance: dict[str, int]
    revoked: int


class Changed(TypedDict):
    """What a change did, or would do.

    `generation` is that of the policy in force afterwards; `warnings` are sentences about what the policy says of
    interfaces and they did not, or would not, get. `new_rules` are ids; `unsaved_changes` are those that the next
    reload from `policy_file` takes back; `waiting` is there where it must be confirmed. `on_change` is what becomes of
    what is cut (SPEC 5.7).
    """

    changed: bool
    dry_run: bool
    generation: int
    disconnected: Disconnected
    on_change: Literal["hold", "reevaluate"]
    warnings: list[str]
    new_rules: NotRequired[list[str]]
    unsaved_changes: NotRequired[int]
    policy_file: NotRequired[str]
    waiting: NotRequired[Waiting]


class Applied(Changed):
    """What another policy changed, or would change: the first of the `differences`, in the words of the log.

    `differences_total` is how many there are.
    """

    differences: list[str]
    differences_total: int


class Waiting(TypedDict):
    """A change that waits for its confirmation, by whom it was made, and when it is taken back.

    `until` is in seconds since 1970, as the clock is now; what counts is `seconds_left`.
    """

    change: str
    generation: int
    by: dict[str, Any]
    until: float
    seconds_left: float


class Made(TypedDict):
    """A change that was made since the start, by whom, and what it cut; `time` is in seconds since 1970.

    `differences` are the first of its differences, in the words of the log.
    """

    generation: int
    time: float
    by: dict[str, Any]
    differences: list[str]
    disconnected: Disconnected


class Confirmed(TypedDict):
    """A change that is confirmed, or was taken back; what that disconnected then, and the generation in force."""

    confirmed: bool
    change: str
    generation: int
    disconnected: Disconnected
    warnings: list[str]


class Reloaded(Changed):
    """What loading the policy again did, or would do; `policy` is where it was loaded from.

    `taken_back` is how many changes of those made in memory since it was loaded before are not in it.
    """

    policy: str
    taken_back: int
    seconds: float


class Judged(TypedDict):
    """What a verdict on a connection comes from: `rule` is the one that admitted it, or would decide about it."""

    verdict: str
    reason: str
    rule: str | None


class DifferentFlow(TypedDict):
    """A connection that stays and that the new rules would deny, were it new; `flow` as packets are written."""

    flow: str
    instance: str
    origin: str
    old: Judged
    new: Judged


class DifferentRules(TypedDict):
    """How many connections go from one rule to another, by their ids; no `new` one: none matches."""

    old: str | None
    new: str | None
    connections: int
    disconnected: int


class Different(TypedDict):
    """What a change would do to live connections.

    `connections` that are `changed` stay, and the new rules would deny them; `flows` are some of these, `rules` are all
    that the change does something to, most first. `disconnected` are the others: they would be cut.
    """

    policy: str
    generation: int
    connections: dict[str, int]
    flows: list[DifferentFlow]
    rules: list[DifferentRules]
    disconnected: Disconnected
    warnings: list[str]


class Saved(TypedDict):
    """The state file, and how many connections are in it."""

    file: str
    connections: int


class Deleted(TypedDict):
    """How many connections were taken out of the table."""

    deleted: int


class Imported(TypedDict):
    """What became of connections that came from another firewall, and how long ago they were exported.

    Of those `taken`, `disconnected` were cut, because the policies say different things of their instances. `refused`
    is by reason: `no-instance` here, `not-valid`, `expired`, `there-already`, `table-full`.
    """

    connections: int
    taken: int
    disconnected: int
    refused: dict[str, int]
    seconds_ago: float


class FlowKnown(TypedDict):
    """What is known of a flow: `state` is in the form of the state file, in base64."""

    generation: int
    state: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not done.

    `kind` is ``refused`` where the request, a policy or a change is not valid, ``failed`` where it could not be carried
    out; `mistakes` are those of a policy.
    """

    kind: Literal["refused", "failed"]
    error: str
    mistakes: tuple[dict[str, Any], ...] = ()
