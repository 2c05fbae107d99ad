"""What a shell offers for the word at hand: ids of the policy that the line names, or of the running firewall's.

The shell runs the command with a variable set that says which shell it is; typer does the rest. A policy that cannot be
read, and a firewall that is not there or does not answer at once, offer nothing: there is no room for a mistake.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer

from dataplane.terminal import printable

#: The variable that typer looks for.
VARIABLE = "_DATAPLANE_COMPLETE"

_SECONDS = 2.0
_SECTIONS = {
    "groups_by_id": "security_groups",
    "address_groups_by_id": "address_groups",
    "instances_by_id": "instances",
    "load_balancers_by_id": "load_balancers",
}

Completer = Callable[[typer.Context, str], list[str]]


def is_wanted() -> bool:
    """Whether a shell has started this process for a completion."""
    return VARIABLE in os.environ


def ids(lookup: str) -> Completer:
    """Offers the ids of the policy's items by the name of their table in it, such as ``rules_by_id``."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        # A word that a shell would take apart, or that does not print, cannot be offered.
        return [name for name in _ids(_document(context), lookup) if name.startswith(incomplete) and _is_a_word(name)]

    return complete


def presets(context: typer.Context, incomplete: str) -> list[str]:
    """Offers what a policy, or a group, can begin with."""
    from dataplane.policy.services import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def values(names: list[str]) -> Completer:
    """Offers the beginnings of FIELD=VALUE words; those that are there already are left out."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        given = {str(word).partition("=")[0] for word in context.params.get("fields") or ()}
        return [f"{name}=" for name in names if name not in given and f"{name}=".startswith(incomplete)]

    return complete


def _is_a_word(name: str) -> bool:
    # Nor is it an option, or what a shell takes for names of files, a home or a comment.
    special = any(c.isspace() or c in "\"'\\$`&|;<>()*?[]{}~#!" for c in name)
    return printable(name) == name and not special and not name.startswith("-")


def _ids(document: Any, lookup: str) -> Iterator[str]:
    if lookup == "rules_by_id":
        found = [
            rule for group in _items(document, "security_groups") for rule in _items(group, "security_group_rules")
        ]
    else:
        found = _items(document, _SECTIONS[lookup])
    for item in found:
        if isinstance(item, dict) and isinstance(name := item.get("id"), str):
            yield name


def _items(value: Any, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def _document(context: typer.Context) -> Any:
    """The policy at hand as it is written, with its mistakes; None without one."""
    from dataplane.live.client import RefusedError, UnreachableError
    from dataplane.policy.mistakes import PolicyError

    with suppress(PolicyError, UnreachableError, RefusedError, OSError, TimeoutError), _in_time():
        asked: Any = context
        while asked is not None and "socket" not in asked.params:
            asked = asked.parent
        if asked is not None:
            return _of_the_firewall(asked.params["socket"])
        # An option that still waits for its value leaves the arguments before it where they were written.
        named = context.params.get("policy") or context.params.get("old") or next(iter(context.args), None)
        if named is not None and Path(named).is_file():
            return _of_the_file(Path(named))
    return None


def _of_the_firewall(socket: str) -> Any:
    from dataplane.live.client import ControlClient

    with ControlClient(socket) as client:
        return client.call("policy")


def _of_the_file(path: Path) -> Any:
    from dataplane.policy.reading.source import read, read_file

    return read(*read_file(path)).value


@contextmanager
def _in_time() -> Iterator[None]:
    """Raises TimeoutError when it takes longer than somebody who has pressed a key waits."""

    def end(number: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
