"""What a command reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from dataplane.cli.output import say

EXIT_USAGE = 2


def refuse_standard_input_twice(names: Iterable[str | Path | None]) -> None:
    """Ends the command where standard input is named twice among what it reads: the second reader would find nothing.

    None stands for an option that is not given.
    """
    if sum(str(name) == "-" for name in names) > 1:
        say("-: standard input can be read only once: name it once", err=True)
        raise typer.Exit(EXIT_USAGE)
