"""Captures that workers read for who meets whom, and judge in parts by that (`dataplane.replay.parts`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dataplane.cli.cluster.workers import Lost, Workers, size_of
from dataplane.cli.output import say_aside
from dataplane.replay.parts import Census, census

if TYPE_CHECKING:
    from dataplane.cli.interrupt import Interrupt
    from dataplane.policy.model import Policy
    from dataplane.replay.window import Part

_MIB = 1 << 20


def are_large(captures: Sequence[str], above: float) -> bool:
    """Whether captures, together, are larger than so many MiB: worth being cut."""
    return sum(map(size_of, captures)) > above * _MIB


def parts_there(
    workers: Workers, policy: Policy, captures: Sequence[str], part: Part, interrupt: Interrupt
) -> tuple[list[int] | None, str | None]:
    """The part of each instance, by number, or None and why captures have to be judged as a whole, in words.

    Neither where they cannot be read, or Ctrl-C came: whoever judges the whole says what is wrong with it.
    """
    shared = workers.shared((policy, part))
    for _, found in workers.done(_census, shared, [list(captures)], interrupt, in_order=True):
        if isinstance(found, Lost):
            break
        part_of = found.parts(workers.n)
        return part_of, None if part_of else found.reason or "all instances meet"
    return None, None


def _census(shared: tuple[Policy, Part], captures: Sequence[str]) -> Census:
    policy, part = shared
    return census(policy, captures, part)


def judged_there(
    workers: Workers, work: Callable[[Any, Any], Any], asked: Any, part_of: Sequence[int], interrupt: Interrupt
) -> list[Any] | None:
    """What comes of `work((asked, part_of), part)` for each part; None where one is lost, or Ctrl-C came."""
    mine = range(max(part_of) + 1)
    parts = dict(workers.done(work, workers.shared((asked, part_of)), mine, interrupt, in_order=True))
    if len(parts) < len(mine) or any(isinstance(part, Lost) for part in parts.values()):
        return None
    return [parts[n] for n in mine]


def say_whole(captures: Sequence[str], reason: str | None) -> None:
    """Says why captures are judged by one worker, where there is a reason."""
    if reason:
        say_aside(f"{', '.join(captures)}: judged by one worker: {reason}")
