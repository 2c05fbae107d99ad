"""Schedules of changes (SPEC 7, `--changes`): read, and tried on a policy before the first packet.

Everything wrong with its values is told in one run, with its place. How they fit the policy that they meet is told up
to the first change that cannot be made: what those behind it would meet is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from dataplane.policy import times
from dataplane.policy.changes import ApplyPolicy, Change, Item, apply, objections
from dataplane.policy.mistakes import ChangeError, Conflict, Location, Mistake, PolicyError, shown
from dataplane.policy.model import Policy
from dataplane.policy.reading.file_kinds import expectations_told, is_policy
from dataplane.policy.reading.load import diagnose, in_order
from dataplane.policy.reading.source import Source, read, read_file


@dataclass(frozen=True, slots=True)
class TimedChange:
    """A change of a schedule: `at` is in seconds since the first packet, or a `times.Moment`; all of a schedule are
    one or the other. `place` is where it stands (file:line:column).
    """

    at: float
    change: Change
    place: str = ""
    locate: Callable[[Conflict], Mistake] | None = field(default=None, compare=False, repr=False)

    def apply(self, policy: Policy) -> Policy:
        """`apply`, with the places of what is wrong, one a line, in the message of a ChangeError."""
        try:
            return apply(policy, self.change)
        except ChangeError as error:
            raise ChangeError("\n".join(self._told(error.conflicts)), error.conflicts) from None

    @property
    def file(self) -> str:
        """The file that it stands in; empty for one that was made elsewhere."""
        return self.place.rsplit(":", 2)[0]

    def _told(self, conflicts: Iterable[Conflict]) -> list[str]:
        """What is wrong with the change, and where."""
        if self.locate:
            return list(map(str, in_order(list(map(self.locate, conflicts)))))
        return [f"{self.place}: {c.message}" if self.place else c.message for c in conflicts]


# ---- reading ----


class TimedItem(Item):
    """A change with its time: the name of the change as a key, beside `at`."""

    at: times.Time = Field(description="Seconds since the first packet, or an RFC 3339 time.")


def load_changes(path: str | Path, policy: Policy | None = None) -> list[TimedChange]:
    """Reads a YAML or JSON list of changes, each with its time `at`; they come back in order of time.

    `apply_policy` is relative to the folder of the file. Raises PolicyError with every mistake in it, and in the
    policies that it names. Whether the changes fit the policy that they are made to is seen by `scheduled`; given that
    policy, a PolicyError has those mistakes too, up to the first change that cannot be made.
    """
    source = read(*read_file(path))
    return read_changes(source, (), source.value, Path() if str(path) == "-" else Path(path).parent, policy)


def read_changes(
    source: Source, where: Location, value: Any, base: Path, policy: Policy | None = None
) -> list[TimedChange]:
    """`load_changes` of a list that stands at a place of a document; `base` is what file names are relative to."""
    if not isinstance(value, list):
        what = "is empty" if value is None else "is a policy" if is_policy(value) else f"is {shown(value)}"
        hint = ", as - {at: 0, apply_policy: FILE}" if is_policy(value) else ""
        raise PolicyError([source.mistake(where, f"the document {what}: a list of changes is needed{hint}")])
    if told := expectations_told(value):
        raise PolicyError([source.mistake(where, told)])
    mistakes, elsewhere = list(source.mistakes), list[Mistake]()
    changes, broken = list[TimedChange](), list[_Broken]()
    # Which comes first, of a moment and of seconds after the first packet, is known only once that is there.
    kinds, mixed = set[bool](), list[Mistake]()
    for index, written in enumerate(value):
        at = (*where, index)
        locate = partial(_located, source, at)
        try:
            item = TimedItem.model_validate(written)
            here = locate(Conflict((), ""))
            place = f"{here.file}:{here.line}:{here.column}"
            within = partial(_located, source, (*at, item.kind))
            if len(kinds) == 1 and isinstance(item.at, times.Moment) not in kinds:
                mixed.append(locate(Conflict(("at",), _MIXED)))
            kinds.add(isinstance(item.at, times.Moment))
            changes.append(TimedChange(item.at, item.change(base), place, within))
        except ValidationError as error:
            mistakes.extend(map(locate, diagnose(TimedItem, written, error, "the change")))
            broken.append(_Broken(written, locate))
        except PolicyError as error:
            # A file that is not there has no place; where it is named does.
            elsewhere.extend(m if m.line else locate(Conflict(_NAMED, str(m))) for m in error.mistakes)
            broken.append(_Broken(written, locate))
    changes.sort(key=lambda change: change.at)
    if mistakes or mixed or elsewhere:
        # What a change meets depends on those before it: of two ways to write times, nobody knows which they are.
        if policy is not None and not mixed:
            found, untried = _misfits(policy, source.name, changes, broken)
            mistakes.extend(found)
            elsewhere.extend(untried)
        raise PolicyError([*in_order([*mistakes, *mixed]), *dict.fromkeys(elsewhere)])
    return changes


_NAMED: Location = ("apply_policy",)
_MIXED = "at is written in two ways: let all changes of a file have seconds since the first packet, or RFC 3339 times"


def _located(source: Source, place: Location, conflict: Conflict) -> Mistake:
    found = conflict.within(place)
    return source.mistake(found.location, found.message, at_key=found.at_key)


def named_policies(schedule: Iterable[TimedChange]) -> list[str]:
    """The files of the policies that a schedule puts in force."""
    changes = (timed.change for timed in schedule)
    return [change.name for change in changes if isinstance(change, ApplyPolicy) and change.name]


# ---- trying ----


def scheduled(policy: Policy, changes: Iterable[TimedChange]) -> list[tuple[TimedChange, Policy]]:
    """Each change of a schedule with the policy that it leads to.

    Raises ChangeError with all that does not fit in the first that cannot be made; the later ones, which build on it,
    are not tried, and the message says so.
    """
    steps = list[tuple[TimedChange, Policy]]()
    changes = list(changes)
    for number, change in enumerate(changes, 1):
        try:
            policy = change.apply(policy)
        except ChangeError as error:
            told = [str(error), *_untried(len(changes) - number, change.file)]
            raise ChangeError("\n".join(told), error.conflicts) from None
        steps.append((change, policy))
    return steps


@dataclass(frozen=True, slots=True)
class _Broken:
    """An item of a schedule that is no change, as it was read."""

    value: Any
    locate: Callable[[Conflict], Mistake]

    @property
    def at(self) -> float:
        """Its time; the beginning where that is what is wrong."""
        at = self.value.get("at") if isinstance(self.value, dict) else None
        if isinstance(at, str):
            with suppress(ValueError):
                return times.Moment(at)
        return at if isinstance(at, int | float) and at > 0 else 0


def _misfits(
    policy: Policy, name: str, changes: Iterable[TimedChange], broken: Iterable[_Broken]
) -> tuple[list[Mistake], list[Mistake]]:
    """What does not fit the policy in a schedule with mistakes, up to the first change that cannot be made.

    And that those behind it were not tried, if there are any.
    """
    steps: list[TimedChange | _Broken] = sorted([*broken, *changes], key=lambda step: step.at)
    for number, step in enumerate(steps, 1):
        if isinstance(step, TimedChange):
            try:
                policy = apply(policy, step.change)
                continue
            except ChangeError as error:
                found = error.conflicts
        else:
            found = tuple(objections(policy, step.value))
        assert step.locate
        untried = [Mistake(name, None, None, "", text) for text in _untried(len(steps) - number)]
        return [step.locate(conflict) for conflict in found], untried
    return [], []


def _untried(number: int, file: str = "") -> list[str]:
    """That later changes were not tried, where there are any."""
    if not number:
        return []
    later = "the later change was" if number == 1 else f"the {number:,} later changes were"
    return [f"{f'{file}: ' if file else ''}{later} not tried: what they would meet depends on this one"]
