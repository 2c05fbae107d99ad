"""Times as people write them after an option: ``90``, ``90s``, ``5m``, ``12h``, ``30d``, ``2w``."""

from __future__ import annotations

import re

import typer

from dataplane.policy.fields import SECONDS_MAX

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def seconds(text: str) -> float:
    """A time in seconds. Raises typer.BadParameter."""
    found = re.fullmatch(r"(\d{1,10}(?:\.\d{1,9})?)([smhdw]?)", text.strip(), re.ASCII)
    if found is None:
        raise typer.BadParameter(f"{text} is no time: write a number of seconds, or one with s, m, h, d or w, as 30d")
    value = float(found[1]) * _SECONDS[found[2]]
    if value > SECONDS_MAX:
        raise typer.BadParameter(f"{text} is too long: at most {SECONDS_MAX // 86400:,} days are allowed")
    return value


def words(value: float) -> str:
    """A time for people, in the largest unit that it fills: ``3 days``."""
    for name, unit in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if value >= unit:
            number = int(value // unit)
            return f"{number:,} {name}{'' if number == 1 else 's'}"
    return f"{int(value)} s"
