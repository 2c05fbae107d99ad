"""The state file: the connection table and the policy that it lived under, so that a restart cuts nothing.

Its form, with numbers as the machine has them, which is little-endian wherever this runs::

    8 bytes   "dpstate" and a newline
    u32       version of this form
    u32       length of the head
    head      JSON: time (nanoseconds since 1970), policy, instances by zone, rules by number, records' size and number,
              and of each rule since when it is there and when it was hit last
    records   `struct dp_saved_connection`, one behind the other
    32 bytes  SHA-256 of all before

Zones and rule numbers are those of the firewall that wrote the file; the names in the head say what they were called.
The policy is there because connections belong to it: a firewall starts under the saved policy, takes the connections,
and then changes to the policy of now, which disconnects what such a change disconnects at any time (SPEC 5).
"""

from __future__ import annotations

import hashlib
import json
import struct
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataplane._core import ffi
from dataplane.atomic import replacing
from dataplane.live.rule_uses import SavedUse
from dataplane.outputs import STATE_MAGIC
from dataplane.policy import Policy, PolicyError
from dataplane.policy.fields import SECONDS_MAX
from dataplane.policy.reading.source import DOCUMENT_BYTES_MAX
from dataplane.policy.write import document

if TYPE_CHECKING:
    from dataplane.connection_table import Connections
    from dataplane.live.firewall import Firewall
    from dataplane.plane import Plane
    from dataplane.verdict import Names

VERSION = 1
_HEAD = struct.Struct("<8sII")
_DIGEST = hashlib.sha256
_DIGEST_BYTES = 32
_RECORD = "struct dp_saved_connection"
RECORD = ffi.sizeof(_RECORD)
ZONE_WORD, RULE_WORD = (ffi.offsetof(_RECORD, field) // 4 for field in ("zone", "rule"))
_AT_ONCE = 8192
#: Clocks are set back, by no more than this; a file that comes from further ahead has another fault.
_AHEAD_NS = 86_400 * 10**9
#: Longer than any connection lives.
_OLD_NS = SECONDS_MAX * 10**9


class StateError(Exception):
    """A state file that cannot be used: one sentence that says which, why, and what happens instead."""


@dataclass(frozen=True, slots=True)
class State:
    """What a state file holds. `saved_ns` is nanoseconds since 1970, `records` are `struct dp_saved_connection`."""

    saved_ns: int
    policy: Policy
    instances: tuple[str, ...]
    rules: tuple[tuple[str, str] | None, ...]
    records: bytes
    uses: tuple[SavedUse, ...] = ()

    @property
    def connections(self) -> int:
        """How many connections are in it."""
        return len(self.records) // RECORD

    def passed_ns(self) -> int:
        """How long ago it was saved by the wall clock; never negative."""
        return max(0, time.time_ns() - self.saved_ns)


def taken(firewall: Firewall, chosen: Iterable[Connections] | None = None, uses: tuple[SavedUse, ...] = ()) -> State:
    """The state of a firewall now, with all its connections or those of some views, which have none in common."""
    views = [firewall.connections] if chosen is None else chosen
    records = b"".join(batch for view in views for batch in view.saved())
    names = firewall.names
    return State(time.time_ns(), firewall.policy, tuple(names.instances), tuple(names.rules), records, uses)


def write(path: Path, state: State) -> None:
    """Writes a state file as a whole or not at all, readable by its owner only. Raises OSError."""
    with replacing(path) as file:
        for part in encoded(state):
            file.write(part)


def encoded(state: State) -> tuple[bytes, bytes, bytes]:
    """A state in the form of the file, in three parts."""
    head = json.dumps(
        {
            "time": state.saved_ns,
            "policy": document(state.policy),
            "instances": state.instances,
            "rules": state.rules,
            "record": RECORD,
            "connections": state.connections,
            "rule_uses": state.uses,
        },
        separators=(",", ":"),
    ).encode()
    begin = _HEAD.pack(STATE_MAGIC, VERSION, len(head)) + head
    digest = _DIGEST(begin)
    digest.update(state.records)
    return begin, state.records, digest.digest()


def most_bytes(connections: int) -> int:
    """How long a state with so many connections is at most."""
    return DOCUMENT_BYTES_MAX + connections * RECORD


def held_back_path(path: Path) -> Path:
    """Where the policy is that a restart begins with, beside a state file."""
    return path.with_name(f"{path.name}.before")


def hold_back(path: Path, policy: Policy | None) -> None:
    """Keeps, beside a state file, the policy that a restart begins with, as a state without connections; None: none.

    Raises OSError.
    """
    kept = held_back_path(path)
    if policy is None:
        kept.unlink(missing_ok=True)
    else:
        write(kept, State(time.time_ns(), policy, (), (), b""))


def held_back(path: Path) -> Policy | None:
    """The policy that is kept beside a state file to begin with. Raises StateError for one that cannot be used."""
    kept = held_back_path(path)
    try:
        return decoded(kept.read_bytes(), f"{kept}.json").policy
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = f"it cannot be read: {error.strerror}"
    except StateError as error:
        reason = str(error)
    raise StateError(f"{kept}: {reason}; it is ignored, and the policy file is in force")


def is_something_else(path: Path) -> bool:
    """Whether a file is at `path` that is no state file, not even a damaged one; an empty one is nothing yet."""
    try:
        with path.open("rb") as file:
            begin = file.read(len(STATE_MAGIC))
    except OSError as error:
        # What gives nothing up at its beginning, as /proc/self/mem, takes nothing either.
        return not isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError)
    return not STATE_MAGIC.startswith(begin) if len(begin) < len(STATE_MAGIC) else begin != STATE_MAGIC


def read(path: Path) -> State | None:
    """What a state file holds; None where there is no file. Raises StateError for one that cannot be used."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, f"it cannot be read: {error.strerror}") from None
    try:
        return decoded(data, f"{path}.json")
    except StateError as error:
        raise _unusable(path, str(error)) from None


def decoded(data: bytes, name: str) -> State:
    """A state from the form of the file; `name` is what its policy is called. Raises StateError with a clause."""
    if len(data) < _HEAD.size or not data.startswith(STATE_MAGIC):
        raise StateError("it is no state file of dataplane")
    _, version, length = _HEAD.unpack_from(data)
    if version != VERSION:
        raise StateError(f"its form has version {version}, and this program reads version {VERSION}")
    if _DIGEST(data[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:]:
        raise StateError("its checksum is wrong: it is damaged or was cut short")
    try:
        return _state(data[_HEAD.size : _HEAD.size + length], data[_HEAD.size + length : -_DIGEST_BYTES], name)
    except PolicyError as error:
        raise StateError(f"the policy in it is not valid here: {error.mistakes[0].message}") from None
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError):
        raise StateError("its head is not what this program writes") from None


def _state(head_text: bytes, records: bytes, name: str) -> State:
    head: dict[str, Any] = json.loads(head_text)
    if head["record"] != RECORD or head["connections"] * RECORD != len(records):
        raise ValueError
    instances = tuple(str(name) for name in head["instances"])
    rules = tuple(None if rule is None else (str(rule[0]), str(rule[1])) for rule in head["rules"])
    words = array("I", records)
    if max(words[ZONE_WORD :: RECORD // 4], default=-1) >= len(instances):
        raise ValueError
    if max(words[RULE_WORD :: RECORD // 4], default=-1) >= len(rules):
        raise ValueError
    saved_ns = head["time"]
    if type(saved_ns) is not int:
        raise ValueError
    ago = time.time_ns() - saved_ns
    if not -_AHEAD_NS <= ago <= _OLD_NS or saved_ns < 0:
        when = "ahead of this machine's clock" if ago < 0 else "older than any connection"
        raise StateError(f"it says that it was saved at a time that is {when}")
    policy = Policy.parse(json.dumps(head["policy"]), name)
    return State(saved_ns, policy, instances, rules, records, _uses(head.get("rule_uses", [])))


def _uses(written: list[Any]) -> tuple[SavedUse, ...]:
    uses = tuple(SavedUse(str(rule), str(group), since, last) for rule, group, since, last in written)
    if not all(type(use.since_ns) is int and isinstance(use.last_ns, int | None) for use in uses):
        raise ValueError
    return uses


def _unusable(path: Path, reason: str) -> StateError:
    return StateError(f"{path}: {reason}; it is ignored, and the connections of before begin anew")


def records_of(state: State) -> Iterator[Any]:
    """The connections of a state, as `struct dp_saved_connection`."""
    yield from ffi.from_buffer(f"{_RECORD}[]", state.records)


def restore(under: Plane, state: State, *, passed_ns: int | None = None) -> int:
    """Puts the connections of a state into what has the policy of the state in force; returns how many were taken.

    `passed_ns` is how long ago they were saved, by the wall clock where it is not given.
    """
    passed = state.passed_ns() if passed_ns is None else passed_ns
    return under.restore(_renumbered(state, under.names), passed)


def _renumbered(state: State, names: Names) -> Iterator[bytes]:
    """The records, some at once, with the zones and rule numbers that `names` gives to the same names."""
    for first in range(0, len(state.records), _AT_ONCE * RECORD):
        records = state.records[first : first + _AT_ONCE * RECORD]
        yield numbered(records, dict(enumerate(state.instances)), dict(enumerate(state.rules)), names)


def numbered(
    records: bytes | bytearray,
    instances: Mapping[int, str],
    rules: Mapping[int, tuple[str, str] | None],
    names: Names,
) -> bytes:
    """Records with the zones and rule numbers that `names` gives to the names that they have by these."""
    words = array("I", bytes(records))
    step = RECORD // 4
    zones = {zone: names.zone(instances[zone]) for zone in sorted(set(words[ZONE_WORD::step]))}
    numbers = {number: _rule_number(rules[number], names) for number in sorted(set(words[RULE_WORD::step]))}
    words[ZONE_WORD::step] = array("I", map(zones.__getitem__, words[ZONE_WORD::step]))
    words[RULE_WORD::step] = array("I", map(numbers.__getitem__, words[RULE_WORD::step]))
    return words.tobytes()


def _rule_number(rule: tuple[str, str] | None, names: Names) -> int:
    return 0 if rule is None else names.rule_number(*rule)
