"""What a command reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dataplane.cli.output import refuse


def refuse_standard_input_twice(names: Iterable[str | Path | None]) -> None:
    """Ends the command where standard input is named twice among what it reads: the second reader would find nothing.

    None stands for an option that is not given.
    """
    if sum(str(name) == "-" for name in names) > 1:
        refuse("-: standard input can be read only once: name it once")
