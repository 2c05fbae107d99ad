"""Commands in documents, run as they stand there, and what they print held against what the document shows.

A block of the language `console` has commands behind ``$ `` or, as root, ``# ``, each with what it prints below it.
Lines ``...`` stand for any lines, and ``...`` within a line for any text. A comment of HTML, ``<!-- before``, has what
is done beforehand where the reader need not see it. A block of `yaml` that begins with ``# NAME.yaml`` is that file.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_PART = re.compile(
    r"^```console\n(?P<console>.*?)^```|^<!-- before\n(?P<before>.*?)^-->|^```yaml\n(?P<yaml>.*?)^```", re.M | re.S
)
_MARK = "=== the next command ==="


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a document, the line that it stands in, and what it should print; None where nobody is told."""

    line: int
    text: str
    shown: str | None


def commands(page: str) -> Iterator[Command]:
    """The commands of a document in their order."""
    for part in _PART.finditer(page):
        line = page.count("\n", 0, part.start()) + 2
        if part["console"] is not None:
            yield from _in_block(part["console"], line)
        elif part["before"] is not None:
            yield Command(line, part["before"], None)
        elif name := re.match(r"# ([\w.]+\.yaml)\n", part["yaml"]):
            yield Command(line, f"cat >{name[1]} <<'__END__'\n{part['yaml']}__END__", None)


def _in_block(block: str, line: int) -> Iterator[Command]:
    text, shown, begun, end = "", "", line, ""
    for number, said in enumerate(block.splitlines(), line):
        if end or (text and text.endswith("\\")):
            text += f"\n{said}"
            end = "" if said == end else end
        elif said[:2] in ("$ ", "# "):
            if text:
                yield Command(begun, text, shown)
            text, shown, begun = said[2:], "", number
            end = match[1] if (match := re.search(r"<<'?(\w+)'?", said)) else ""
        else:
            shown += f"{said}\n"
    if text:
        yield Command(begun, text, shown)


def fits(printed: str, shown: str) -> bool:
    """Whether what was printed is what is shown, but for spaces at the ends of lines."""
    pattern = ""
    for said in shown.splitlines():
        if said.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(map(re.escape, said.rstrip().split("..."))) + "\n"
    lines = "".join(f"{said.rstrip()}\n" for said in printed.splitlines())
    return re.fullmatch(pattern, lines) is not None


def differences(page: Path, folder: Path, environ: dict[str, str], within: Sequence[str] = ()) -> list[str]:
    """Runs a document's commands in a folder, in one shell that `within` starts; returns what came otherwise."""
    found = list(commands(page.read_text()))
    script = folder / "commands.sh"
    lines = "".join(f"{command.text}\nprintf '\\n%s\\n' {_MARK!r}\n" for command in found)
    script.write_text(f"exec 2>&1\n{lines}")
    done = subprocess.run(
        [*within, "bash", str(script)],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    printed = done.stdout.split(f"\n{_MARK}\n")
    assert len(printed) == len(found) + 1, done.stdout + done.stderr
    return [
        f"{page.name}:{command.line}: {command.text}\n--- shown\n{command.shown}--- printed\n{said}"
        for command, said in zip(found, printed, strict=False)
        if command.shown is not None and not fits(said, command.shown)
    ]
