"""Cases of `dataplane test` (SPEC 8.6), as people write them.

A file ``*.test.yaml`` is one case, or several under ``cases`` that take over what stands beside it::

    policy: policy.yaml
    cases:
      - name: ssh from the office only
        packets:
          - 0 tcp 172.16.0.9:40000 > 172.16.1.5:22 S => allow rule=A01
          - 1 tcp 172.17.0.9:40000 > 172.16.1.5:22 S
        expect:
          - {packet: 2, verdict: deny, reason: no-rule-matched}

``policy``, ``changes`` and ``expect`` stand there or are the name of a file; names are relative to the file that they
stand in. A line of ``packets`` is a time in seconds since the first (left out: a millisecond after the line before), a
packet as SPEC 8 writes it, and behind ``=>`` what is expected of it. In place of packets, ``capture`` names captures.

A folder with ``policy.yaml`` and ``expect.yaml`` is a case too: with the captures in it, or the lines of
``packets.txt``, and with ``changes.yaml`` where there is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, WithJsonSchema

from dataplane.insight.packet_lines import Line, packets_of
from dataplane.insight.packet_text import Packet
from dataplane.policy import fields
from dataplane.policy.base import CheckedModel
from dataplane.policy.mistakes import Conflict, Location, Mistake, PolicyError, shown
from dataplane.policy.model import Policy
from dataplane.policy.reading.file_kinds import policy_told
from dataplane.policy.reading.load import diagnose, in_order
from dataplane.policy.reading.source import Source, read, read_file
from dataplane.policy.schedule import TimedChange, load_changes, read_changes
from dataplane.replay import CaptureError
from dataplane.replay.expectation import Expectation, read_expectations
from dataplane.replay.expectations import Expectations
from dataplane.replay.folder import captures_of

FILES = "*.test.yaml"
_POLICY, _EXPECT, _CHANGES, _PACKETS = "policy.yaml", "expect.yaml", "changes.yaml", "packets.txt"


def _or_file(kind: str, **also: Any) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "string"}, {"type": kind, **also}]})


_Lines = Annotated[Any, _or_file("array", items={"type": "string"})]


class WrittenCase(CheckedModel):
    """One case as it stands in a file."""

    name: fields.Text | None = Field(None, description="What the case is called; absent: its place in the file.")
    policy: Annotated[Any, _or_file("object")] = Field(None, description="A policy document, or the name of its file.")
    packets: _Lines = Field(None, description="Packets, one a line: [TIME] PACKET [=> VERDICT [FIELD=VALUE]...].")
    capture: _Lines = Field(None, description="The name of a capture, or a list of such names.")
    changes: Annotated[Any, _or_file("array")] = Field(
        None, description="Changes as `replay --changes` takes them, or the name of their file."
    )
    expect: Annotated[Any, _or_file("array")] = Field(
        None, description="Expectations as `replay --expect` takes them, or the name of their file."
    )


class WrittenSuite(WrittenCase):
    """A file ``*.test.yaml``."""

    cases: Annotated[tuple[WrittenCase, ...], fields.AsTuple] = Field(
        (), description="Several cases; what stands beside `cases` holds for each that does not say it."
    )

    def conflicts(self) -> Iterable[Conflict]:
        if self.cases and self.name is not None:
            yield Conflict(("name",), "name belongs to one case: write it within cases", at_key=True)


@dataclass(frozen=True)
class Case:
    """A case that can be run: either `captures` or `packets` with their times, in nanoseconds, are what is replayed."""

    name: str
    policy: Policy
    captures: Sequence[str]
    packets: Sequence[Packet]
    times_ns: Sequence[int]
    changes: Sequence[TimedChange]
    expectations: Sequence[tuple[str, Expectation]]


@dataclass(frozen=True)
class BrokenCase:
    """A case that cannot be run, and why: a sentence a line; `status` is the exit status that it leads to (SPEC 7)."""

    name: str
    why: str
    status: int = 2


def find_cases(paths: Iterable[str | Path]) -> Iterator[Case | BrokenCase]:
    """The cases of files and folders, in order: a folder's by name, its subfolders' behind them."""
    for path in map(Path, paths):
        if not path.is_dir():
            yield from cases_of_file(path)
            continue
        found = False
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            files = sorted(name for name in names if Path(name).match(FILES))
            for name in files:
                found = True
                yield from cases_of_file(Path(folder, name))
            if is_case_folder(names) and (case := _case_of_folder(Path(folder), given=bool(files))):
                found = True
                yield case
        if not found:
            yield BrokenCase(
                str(path), f"{path}: no case is in it: neither {FILES} nor a folder with {_POLICY} and {_EXPECT}"
            )


# ---- folders ----


def is_case_folder(names: Iterable[str]) -> bool:
    """Whether a folder with files of these names may be a case."""
    return {_POLICY, _EXPECT} <= set(names)


def _case_of_folder(folder: Path, *, given: bool) -> Case | BrokenCase | None:
    """The case that a folder is; None where its files are parts of cases that are written there."""
    try:
        captures: list[str] = []
        if (folder / _PACKETS).is_file():
            data, name = read_file(folder / _PACKETS)
            packets, times, expected = packets_of(Line.of_text(data.decode(errors="replace"), name))
        else:
            packets, times, expected = [], [], []
            captures = captures_of([folder])
        policy = Policy.load(folder / _POLICY)
        changes = load_changes(folder / _CHANGES, policy) if (folder / _CHANGES).is_file() else []
        expectations = Expectations.load(folder / _EXPECT).items
    except CaptureError as error:
        return None if given else BrokenCase(str(folder), str(error), 3)
    except PolicyError as error:
        return BrokenCase(str(folder), str(error))
    return Case(str(folder), policy, captures, packets, times, changes, [*expected, *expectations])


# ---- files ----


def cases_of_file(path: Path) -> Iterator[Case | BrokenCase]:
    """The cases of one file, or the one broken case that it is."""
    try:
        source = read(*read_file(path))
        suite = _suite(source)
    except PolicyError as error:
        yield BrokenCase(str(path), str(error))
        return
    taken: set[str] = set()
    told: set[Mistake] = set()
    for location, written, beside in _each(suite):
        name = f"{path}::{written.name}" if written.name else str(path)
        if name in taken or (not written.name and location):
            numbered = (f"{path}::{written.name or 'case'} {n}" for n in count(int(location[-1]) + 1))
            name = next(name for name in numbered if name not in taken)
        taken.add(name)
        try:
            yield _case(name, _Reader(source, path.parent, location, beside), written)
        except PolicyError as error:
            # What several cases share is told once.
            new = [mistake for mistake in error.mistakes if mistake not in told]
            told.update(new)
            yield BrokenCase(name, str(PolicyError(new)) if new else "it shares what is told above")
        except CaptureError as error:
            yield BrokenCase(name, str(error), 3)


def _suite(source: Source) -> WrittenSuite:
    if not isinstance(source.value, dict):
        raise PolicyError([source.mistake((), f"the document is {shown(source.value)}: a mapping is needed")])
    if told := policy_told(source.value):
        raise PolicyError([source.mistake((), told)])
    try:
        suite = WrittenSuite.model_validate(source.value)
    except ValidationError as error:
        found = [
            source.mistake(c.location, c.message, at_key=c.at_key)
            for c in diagnose(WrittenSuite, source.value, error, "the case")
        ]
        raise PolicyError(in_order([*source.mistakes, *found])) from None
    if source.mistakes:
        raise PolicyError(in_order(source.mistakes))
    if "cases" in suite.model_fields_set and not suite.cases:
        raise PolicyError([source.mistake(("cases",), "no case is in it: write a mapping for each")])
    return suite


def _each(suite: WrittenSuite) -> Iterator[tuple[Location, WrittenCase, WrittenSuite | None]]:
    if "cases" not in suite.model_fields_set:
        yield (), suite, None
        return
    for number, written in enumerate(suite.cases):
        yield ("cases", number), written, suite


@dataclass(frozen=True)
class _Reader:
    """What a case says, or what stands beside the cases, with its place."""

    source: Source
    folder: Path
    location: Location
    beside: WrittenSuite | None

    def part(self, written: WrittenCase, name: str) -> tuple[Any, Location]:
        """A field's value and place; None where it is given nowhere."""
        value = getattr(written, name)
        if value is None and self.beside is not None:
            return getattr(self.beside, name), (name,)
        return value, (*self.location, name)

    def path(self, value: str) -> Path:
        return self.folder / value

    def fail(self, location: Location, message: str) -> PolicyError:
        return PolicyError([self.source.mistake(location, message)])

    @contextmanager
    def naming(self, location: Location) -> Iterator[None]:
        """Gives what has no place of its own, such as a file that is not there, the place that names it."""
        try:
            yield
        except PolicyError as error:
            found = [m if m.line else self.source.mistake(location, str(m)) for m in error.mistakes]
            raise PolicyError(found) from None


def _case(name: str, reader: _Reader, written: WrittenCase) -> Case:
    """Raises PolicyError with the mistakes of all its parts; CaptureError where a capture is all that is wrong."""
    mistakes, unread = list[Mistake](), list[CaptureError]()

    @contextmanager
    def gathering() -> Iterator[None]:
        try:
            yield
        except PolicyError as error:
            mistakes.extend(error.mistakes)
        except CaptureError as error:
            unread.append(error)

    policy: Policy | None = None
    captures: list[str] = []
    packets, times, expected = list[Packet](), list[int](), list[tuple[str, Expectation]]()
    schedule: list[TimedChange] = []
    with gathering():
        policy = _policy(reader, *reader.part(written, "policy"))
    with gathering():
        packets, times, expected = _packets(reader, *reader.part(written, "packets"))
        captures = _captures(reader, *reader.part(written, "capture"))
        if bool(captures) == bool(packets):
            raise reader.fail(reader.location, "what is replayed? Write either packets or a capture")
    with gathering():
        schedule = _schedule(reader, *reader.part(written, "changes"), policy)
    with gathering():
        expected = [*expected, *_expectations(reader, *reader.part(written, "expect"))]
        if not expected and not mistakes and not unread:
            raise reader.fail(reader.location, "nothing is expected: write expect, or => VERDICT behind a packet")
    if unread and not mistakes:
        raise unread[0]
    if mistakes or policy is None:
        where = reader.part(written, "capture")[1]
        raise PolicyError([*mistakes, *(reader.source.mistake(where, str(error)) for error in unread)])
    return Case(name, policy, captures, packets, times, schedule, expected)


def _schedule(reader: _Reader, value: Any, where: Location, policy: Policy | None) -> list[TimedChange]:
    if isinstance(value, str):
        with reader.naming(where):
            return load_changes(reader.path(value), policy)
    return [] if value is None else read_changes(reader.source, where, value, reader.folder, policy)


def _policy(reader: _Reader, value: Any, where: Location) -> Policy:
    if isinstance(value, str):
        with reader.naming(where):
            return Policy.load(reader.path(value))
    if not isinstance(value, dict):
        raise reader.fail(where, "policy is missing: write the name of a file, or the policy itself")
    try:
        return Policy.model_validate(value)
    except ValidationError as error:
        found = (c.within(where) for c in diagnose(Policy, value, error))
        raise PolicyError(
            in_order([reader.source.mistake(c.location, c.message, at_key=c.at_key) for c in found])
        ) from None


def _packets(
    reader: _Reader, value: Any, where: Location
) -> tuple[list[Packet], list[int], list[tuple[str, Expectation]]]:
    if value is None:
        return [], [], []
    texts = value.splitlines() if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise reader.fail(where, "packets are lines of text: [TIME] PROTOCOL SRC[:PORT] > DST[:PORT] [FLAGS|TYPE]")
    lines = []
    for number, text in enumerate(texts):
        at = reader.source.mistake(where if isinstance(value, str) else (*where, number), "")
        if isinstance(value, str) and "\n" in value and at.line:
            # The lines of a block stand below the key that it belongs to.
            at = replace(at, line=at.line + 1 + number, column=1)
        lines.append(Line(text, at))
    return packets_of(lines)


def _captures(reader: _Reader, value: Any, where: Location) -> list[str]:
    names = [value] if isinstance(value, str) else value or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise reader.fail(where, "capture is the name of a file, or a list of names")
    return captures_of([str(reader.path(name)) for name in names])


def _expectations(reader: _Reader, value: Any, where: Location) -> Sequence[tuple[str, Expectation]]:
    if isinstance(value, str):
        with reader.naming(where):
            return Expectations.load(reader.path(value)).items
    return read_expectations(reader.source, where, value) if value is not None else []
