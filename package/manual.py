"""Makes the man pages and the shells' completions of all commands, from the commands themselves.

    manual.py DIRECTORY

writes DIRECTORY/man1/dataplane.1 and a page for each command, such as dataplane-ctl-rule-add.1, and beside them
bash/dataplane, zsh/_dataplane and fish/dataplane.fish. The texts are those of --help; the format is man(7)'s.
SOURCE_DATE_EPOCH is the date of the pages, where it is set.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from dataplane import __version__
from dataplane.cli import app
from dataplane.cli.completion import VARIABLE

_COMPLETIONS = {"bash": "bash/dataplane", "zsh": "zsh/_dataplane", "fish": "fish/dataplane.fish"}
_EXIT_STATUS = (
    ("0", "Done."),
    ("1", "An expectation failed, or the running firewall could not do what was asked."),
    ("2", "Bad usage, policy or changes, or output that is refused or cannot be written."),
    ("3", "A capture could not be read to its end."),
    ("130, 143", "Ended by a signal."),
)


def commands(command: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    """A command and all below it, each with its context, which has its name."""
    yield command, context
    if hasattr(command, "list_commands"):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            yield from commands(below, typer.Context(below, info_name=name, parent=context))


def escaped(text: str) -> str:
    """A text as roff prints it: nothing in it is a request or a macro."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in text.split("\n"))


def paragraphs(text: str) -> Iterator[str]:
    """A help text: paragraphs, and after a \\b one whose lines stay as they are."""
    for part in text.strip().split("\n\n"):
        if part.startswith("\b\n"):
            title, *lines = part[2:].split("\n")
            yield ".SH EXAMPLES" if title.strip() == "Examples:" else f".PP\n{escaped(title)}"
            yield ".nf\n" + "\n".join(escaped(line.strip()) for line in lines) + "\n.fi"
        else:
            yield f".PP\n{escaped(' '.join(part.split()))}"


def page(command: Any, context: Any, date: str) -> str:
    """The page of a command, as man(7) has it."""
    path = context.command_path
    name = path.replace(" ", "-")
    parameters = command.get_params(context)
    told = [part for part in (command.help, command.epilog) if part]
    # Examples come last.
    parts = list(paragraphs("\n\n".join(told)))
    at = parts.index(".SH EXAMPLES") if ".SH EXAMPLES" in parts else len(parts)
    summary = (command.help or "").strip().split("\n\n")[0].split(". ")[0].split(":")[0]
    lines = [
        f'.TH {escaped(name).upper()} 1 "{date}" "dataplane {escaped(__version__)}" "dataplane"',
        ".SH NAME",
        f"{escaped(name)} \\- {escaped(' '.join(summary.split()).rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {escaped(path)}",
        escaped(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        # A section begins a paragraph by itself.
        *[part.removeprefix(".PP\n") for part in parts[:1]],
        *parts[1:at],
    ]
    records = [record for parameter in parameters if (record := parameter.get_help_record(context))]
    options = [record for record in records if record[0].startswith("-")]
    arguments = [record for record in records if not record[0].startswith("-")]
    for title, some in (("ARGUMENTS", arguments), ("OPTIONS", options)):
        if some:
            lines.append(f".SH {title}")
            lines += [f".TP\n.B {escaped(term)}\n{escaped(text)}" for term, text in some]
    if hasattr(command, "list_commands"):
        lines.append(".SH COMMANDS")
        for below in command.list_commands(context):
            one = command.get_command(context, below)
            lines.append(f".TP\n.BR {escaped(f'{name}-{below}')} (1)\n{escaped(one.get_short_help_str(200))}")
    if context.parent is None:
        lines.append(".SH EXIT STATUS")
        lines += [f".TP\n.B {escaped(status)}\n{escaped(text)}" for status, text in _EXIT_STATUS]
    lines += parts[at:]
    if context.parent is not None:
        lines += [".SH SEE ALSO", f".BR {escaped(context.parent.command_path.replace(' ', '-'))} (1)"]
    return "\n".join(lines) + "\n"


def completions() -> Iterator[tuple[str, str]]:
    """The scripts of the shells, each with the place of its file."""
    for shell, place in _COMPLETIONS.items():
        environ = os.environ | {VARIABLE: f"source_{shell}"}
        command = [sys.executable, "-m", "dataplane"]
        yield place, subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.lstrip()


def main(directory: Path) -> None:
    """Writes everything below a directory."""
    date = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
    root = typer.main.get_command(app)
    for command, context in commands(root, typer.Context(root, info_name="dataplane", terminal_width=1000)):
        path = directory / "man1" / f"{context.command_path.replace(' ', '-')}.1"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(command, context, date))
    for place, script in completions():
        (directory / place).parent.mkdir(parents=True, exist_ok=True)
        (directory / place).write_text(script)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
