"""Schedules of changes (SPEC 7, `--changes`): read, and tried on a policy before the first packet.

Everything wrong with a schedule is told in one run, with its place: in the values by themselves, and in how they fit
the policy that they meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from dataplane.policy import fields
from dataplane.policy.changes import KIND_OF, KINDS, ApplyPolicy, Change, Item, apply, part, unknowns
from dataplane.policy.load import diagnose, in_order
from dataplane.policy.mistakes import ChangeError, Conflict, Location, Mistake, PolicyError, shown
from dataplane.policy.model import Policy
from dataplane.policy.source import Source, read, read_file


@dataclass(frozen=True, slots=True)
class TimedChange:
    """A change of a schedule: `at` is in seconds since the first packet, `place` where it stands (file:line:column)."""

    at: float
    change: Change
    place: str = ""
    locate: Callable[[Conflict], Mistake] | None = field(default=None, compare=False, repr=False)

    def apply(self, policy: Policy) -> Policy:
        """`apply`, with the places of what is wrong, one a line, in the message of a ChangeError."""
        try:
            return apply(policy, self.change)
        except ChangeError as error:
            raise ChangeError("\n".join(map(self.told, error.conflicts)), error.conflicts) from None

    def told(self, conflict: Conflict) -> str:
        """What is wrong with the change, and where."""
        if self.locate:
            return str(self.locate(conflict))
        return f"{self.place}: {conflict.message}" if self.place else conflict.message


# ---- reading ----


class TimedItem(Item):
    at: Annotated[float, Field(ge=0, le=fields.SECONDS_MAX, allow_inf_nan=False)] = Field(
        description="Seconds since the first packet."
    )


def load_changes(path: str | Path, policy: Policy | None = None) -> list[TimedChange]:
    """Reads a YAML or JSON list of changes, each with its time `at`; they come back in order of time.

    `apply_policy` is relative to the folder of the file. Raises PolicyError with every mistake in it, and in the
    policies that it names. Whether the changes fit the policy that they are made to is seen by `scheduled`; given that
    policy, a PolicyError has those mistakes too.
    """
    data, name = read_file(path)
    source = read(data, name)
    if not isinstance(source.value, list):
        what = "is empty" if source.value is None else f"is {shown(source.value)}"
        raise PolicyError([source.mistake((), f"the document {what}: a list of changes is needed")])
    base = Path() if str(path) == "-" else Path(path).parent
    mistakes, elsewhere = list(source.mistakes), list[Mistake]()
    changes, broken = list[TimedChange](), list[_Broken]()
    for index, value in enumerate(source.value):
        locate = partial(_located, source, (index,))
        try:
            item = TimedItem.model_validate(value)
            here = locate(Conflict((), ""))
            place = f"{here.file}:{here.line}:{here.column}"
            within = partial(_located, source, (index, item.kind))
            changes.append(TimedChange(item.at, item.change(base), place, within))
        except ValidationError as error:
            mistakes.extend(map(locate, diagnose(TimedItem, value, error, "the change")))
            broken.append(_Broken(value, locate))
        except PolicyError as error:
            elsewhere.extend(error.mistakes)
            broken.append(_Broken(value, locate))
    changes.sort(key=lambda change: change.at)
    if mistakes or elsewhere:
        if policy is not None:
            mistakes.extend(_misfits(policy, changes, broken))
        raise PolicyError([*in_order(mistakes), *dict.fromkeys(elsewhere)])
    return changes


def _located(source: Source, place: Location, conflict: Conflict) -> Mistake:
    found = conflict.within(place)
    return source.mistake(found.location, found.message, at_key=found.at_key)


# ---- trying ----


def scheduled(policy: Policy, changes: Iterable[TimedChange]) -> list[tuple[TimedChange, Policy]]:
    """Each change of a schedule with the policy that it leads to. Raises ChangeError with all that does not fit."""
    trial = _Trial(policy)
    steps, told = [], list[str]()
    for change in changes:
        told.extend(map(change.told, trial.make(change.change)))
        steps.append((change, trial.policy))
    if told:
        raise ChangeError("\n".join(told))
    return steps


@dataclass(frozen=True, slots=True)
class _Broken:
    """An item of a schedule that is no change, as it was read."""

    value: Any
    locate: Callable[[Conflict], Mistake]

    @property
    def at(self) -> float:
        """Its time; the beginning where that is what is wrong."""
        at = part(self.value, "at")
        return at if isinstance(at, int | float) and at > 0 else 0


def _misfits(policy: Policy, changes: Iterable[TimedChange], broken: Iterable[_Broken]) -> Iterator[Mistake]:
    """What does not fit the policy in a schedule with mistakes, as far as it can be known."""
    trial = _Trial(policy)
    steps: list[TimedChange | _Broken] = [*broken, *changes]
    for step in sorted(steps, key=lambda step: step.at):
        if isinstance(step, TimedChange):
            for conflict in trial.make(step.change):
                yield step.locate(conflict) if step.locate else Mistake("", None, None, "", conflict.message)
        else:
            yield from map(step.locate, trial.fail(step.value))


class _Trial:
    """A schedule tried on a policy.

    What a change that failed would have made is in doubt from then on: nobody is told of a mistake that may only be its
    consequence.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._doubts: set[tuple[str, str]] = set()
        self._lost = False

    def make(self, change: Change) -> list[Conflict]:
        """Makes a change; says why it cannot be made."""
        try:
            self.policy = apply(self.policy, change)
        except ChangeError as error:
            found = [] if self._lost else [c for c in error.conflicts if not self._may_follow(change, c)]
            self._doubt(KIND_OF[type(change)], change)
            return found
        if isinstance(change, ApplyPolicy):
            self._doubts.clear()
            self._lost = False
        return []

    def fail(self, value: object) -> list[Conflict]:
        """Takes note of a change that could not be read; says what of the names in it is not there."""
        found: list[Conflict] = []
        for kind in KINDS:
            change = part(value, kind)
            if change is not None:
                if not self._lost and not self._is_doubtful_rule(kind, change):
                    found.extend(c.within((kind,)) for c in unknowns(self.policy, kind, change))
                self._doubt(kind, change)
        return found

    def _doubt(self, kind: str, change: object) -> None:
        if kind == "apply_policy":
            self._lost = True
        elif kind == "add_rule":
            rule_id = _name(part(change, "rule"), "id")
            if not rule_id:
                self._doubts.add(("rules of", _name(change, "security_group")))
            elif rule_id not in self.policy.rules_by_id:
                self._doubts.add(("rule", rule_id))
        elif kind == "update_rule":
            self._doubts.add(("rule", _name(change, "id")))
        elif kind in ("add_instance", "remove_instance"):
            self._doubts.add(("instance", _name(change, "instance")))

    def _may_follow(self, change: Change, conflict: Conflict) -> bool:
        kind = KIND_OF[type(change)]
        if kind in ("update_rule", "delete_rule"):
            # What a rule refers to does not depend on what the rule was.
            return conflict.location[-1:] not in (("remote_group_id",), ("remote_address_group_id",)) and (
                self._is_doubtful_rule(kind, change)
            )
        if kind in ("add_instance", "remove_instance"):
            # Names that are not there are wrong in any case; whether the instance is in the group is not known.
            unknown = any(unknowns(self.policy, kind, change))
            return not unknown and ("instance", _name(change, "instance")) in self._doubts
        return False

    def _is_doubtful_rule(self, kind: str, change: object) -> bool:
        rule_id = _name(change, "id")
        if kind not in ("update_rule", "delete_rule"):
            return False
        return ("rule", rule_id) in self._doubts or ("rules of", rule_id.rpartition("/")[0]) in self._doubts


def _name(value: object, name: str) -> str:
    """A part that is a name; empty where there is none."""
    found = part(value, name)
    return found if isinstance(found, str) else ""
