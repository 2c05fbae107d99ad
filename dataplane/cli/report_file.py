"""The page of `--report`: where it is written, and the command in it that tells more of a packet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from dataplane.cli.output import refuse
from dataplane.outputs import OutputFile, check_outputs

if TYPE_CHECKING:
    from dataplane.report.page import Page


class ReportFile:
    """A page that takes its place when it is written; before, nothing of it is seen."""

    def __init__(self, stack: ExitStack, name: str, read: Iterable[str | Path], *, force: bool) -> None:
        """Raises OutputError where it would overwrite what is `read` or, without `force`, a capture or a policy.

        Raises OSError where it cannot be written. It is undone with the stack unless it is written before.
        """
        if name == "-":
            refuse("-: --report takes the name of a file: standard output has what is printed")
        check_outputs({"--report": name}, read, force=force)
        self._name = name
        self._output = OutputFile(name)
        stack.callback(self._output.discard)

    def write(self, page: Page | bytes) -> None:
        """Writes the page; ends the command where that fails."""
        try:
            with self._output.open() as file:
                file.write(page if isinstance(page, bytes) else page.html())
            self._output.keep()
        except OSError as error:
            refuse(f"{self._name}: {error.strerror}: the report could not be written")


def explain_command(
    policy: Path,
    captures: Sequence[str],
    changes: Path | None,
    at: str | None,
    time: str | None,
    mapped: Sequence[str] | None,
) -> str:
    """What explains a packet of a replay, with its number behind."""
    # Asked of each replay, wanted by few.
    import shlex

    words = ["dataplane", "explain", str(policy), *captures]
    words += ["--changes", str(changes)] if changes else []
    words += ["--at", at] if at else []
    words += ["--time", time] if time else []
    for mapping in mapped or ():
        words += ["--map", mapping]
    return f"{shlex.join(words)} --packet"
