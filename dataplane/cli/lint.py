"""What `dataplane check --lint` prints (SPEC 8.5)."""

from __future__ import annotations

import json
import sys
from collections import Counter
from enum import StrEnum
from textwrap import wrap
from typing import TYPE_CHECKING

import typer

from dataplane.cli.output import say
from dataplane.terminal import columns

if TYPE_CHECKING:
    from dataplane.insight.lint import Located

EXIT_FOUND = 1
#: Columns of text where there is no terminal.
_WIDTH = 80


class Format(StrEnum):
    """How findings are printed."""

    text = "text"
    json = "json"
    sarif = "sarif"
    github = "github"


def kinds(text: str | None) -> frozenset[str]:
    """The kinds of `--fail-on`, written with commas. Raises BadParameter for one that is none."""
    from dataplane.insight.lint import KINDS
    from dataplane.policy.mistakes import alternatives, nearest, shown

    wanted = [word.strip() for word in text.split(",")] if text is not None else []
    for word in wanted:
        if word not in KINDS:
            near = nearest(word, KINDS)
            hint = f"; did you mean {near}?" if near else ""
            raise typer.BadParameter(f"{shown(word)} is no kind of finding: {alternatives(KINDS)}{hint}")
    return frozenset(wanted)


def print_findings(name: str, found: list[Located], how: Format) -> None:
    """Prints findings about the policy `name`."""
    from dataplane import __version__
    from dataplane.insight.reports import sarif, workflow_commands

    if how is Format.json:
        typer.echo(json.dumps({"findings": [located.to_dict() for located in found]}, indent=2))
    elif how is Format.sarif:
        typer.echo(json.dumps(sarif(found, __version__), indent=2))
    elif how is Format.github:
        for line in workflow_commands(found):
            say(line)
    else:
        _print_text(name, found)


def _print_text(name: str, found: list[Located]) -> None:
    width = columns(sys.stdout) if sys.stdout.isatty() else _WIDTH
    for located in found:
        finding = located.finding
        say(f"{located.file}:{located.line}: {finding.kind}")
        for text in (finding.message, finding.example_words):
            for line in wrap(text, width - 2, break_long_words=False, break_on_hyphens=False):
                say(f"  {line}")
    counts = Counter(located.finding.kind for located in found)
    if not found:
        say(f"{name}: nothing found.")
        return
    listed = ", ".join(f"{counts[kind]:,} {kind}" for kind in sorted(counts, key=lambda kind: (-counts[kind], kind)))
    total = f"{len(found):,} finding{'' if len(found) == 1 else 's'}"
    for line in wrap(f"{name}: {total}: {listed}.", width, break_long_words=False, break_on_hyphens=False):
        say(line)
