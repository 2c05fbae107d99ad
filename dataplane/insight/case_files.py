"""Which files cases of `dataplane test` are read from, so that no report takes the place of one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from dataplane.insight.cases import FILES, is_case_folder
from dataplane.policy.mistakes import PolicyError
from dataplane.policy.reading.source import read, read_file

_NAMING = ("policy", "capture", "changes", "expect")


def files_of_cases(paths: Iterable[str | Path]) -> Iterator[Path]:
    """The files of cases, and those that they name, also where a case has mistakes; some may not be there."""
    for path in map(Path, paths):
        if not path.is_dir():
            yield from _with_named(path)
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            whole = is_case_folder(names)
            for file in (Path(folder, name) for name in names):
                if file.match(FILES):
                    yield from _with_named(file)
                elif whole:
                    yield file
                    yield from _put_in_force(_value(file) if file.suffix == ".yaml" else None, file.parent)


def _with_named(file: Path) -> Iterator[Path]:
    yield file
    value = _value(file)
    cases = value.get("cases") if isinstance(value, dict) else None
    for written in (value, *(cases if isinstance(cases, list) else ())):
        if not isinstance(written, dict):
            continue
        yield from _put_in_force(written.get("changes"), file.parent)
        for part in _NAMING:
            names = written.get(part)
            for name in names if isinstance(names, list) else [names]:
                if isinstance(name, str):
                    yield from _files(file.parent / name, schedule=part == "changes")


def _files(named: Path, *, schedule: bool) -> Iterator[Path]:
    if named.is_dir():
        yield from named.iterdir()
        return
    yield named
    if schedule:
        yield from _put_in_force(_value(named), named.parent)


def _put_in_force(changes: Any, folder: Path) -> Iterator[Path]:
    """The policies that a list of changes names."""
    for change in changes if isinstance(changes, list) else ():
        name = change.get("apply_policy") if isinstance(change, dict) else None
        if isinstance(name, str):
            yield folder / name


def _value(file: Path) -> Any:
    with suppress(PolicyError):
        return read(*read_file(file)).value
    return None
