"""Text as people see it: nothing in it moves a cursor, turns the writing round or begins a line of its own.

Ids, names of files and interfaces, and what peers say may hold any character. What does not print (controls, C1, bidi
and other format characters, line separators, lone surrogates) is escaped as Python writes it; nothing is taken out, so
that two names that differ never look the same. Streams that people read are put behind `printable_lines` in one place
(`dataplane.cli.output`); whoever puts foreign text into a line of its own makes it `printable` first.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Columns of what is no terminal: a program that reads a table wants its rows whole.
_UNBOUNDED = 1 << 16
#: A word of a table up to here is not cut while a longer text can be folded in its place.
_WORD = 24


class Color(StrEnum):
    """When output for people has colours; `auto`: at a terminal."""

    auto = "auto"
    always = "always"
    never = "never"


def set_color(when: Color) -> None:
    """Chooses for this process, in place of what the environment says (no-color.org), by the same variables."""
    if when is not Color.auto:
        for name, wanted in (("FORCE_COLOR", Color.always), ("NO_COLOR", Color.never)):
            os.environ.pop(name, None)
            if when is wanted:
                os.environ[name] = "1"


def printable(text: str) -> str:
    """Text that stays on its line: what does not print, line ends among it, is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def host_port(host: str, port: int | None) -> str:
    """A host, or an address, with its port: IPv6 in brackets (RFC 5952, 6). Without a port it stands alone."""
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def printable_lines(text: str) -> str:
    """The same for text of several lines, whose line feeds are its own."""
    if text.isprintable() or text.replace("\n", "").isprintable():
        return text
    return "\n".join(map(printable, text.split("\n")))


def columns(stream: TextIO | None = None) -> int:
    """The columns of the terminal that a stream, standard output, is; without one there is no bound."""
    stream = stream or sys.stdout
    if not stream.isatty():
        return _UNBOUNDED
    if os.environ.get("COLUMNS"):
        return shutil.get_terminal_size().columns
    with suppress(OSError):
        return os.get_terminal_size(stream.fileno()).columns or _UNBOUNDED
    return _UNBOUNDED


def wrapped(line: str, width: int) -> list[str]:
    """A line in lines of at most so many columns, if its words allow that; all are indented as it is."""
    if len(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip(" "))]
    return textwrap.wrap(line, width, subsequent_indent=f"{indent}  ", break_long_words=False, break_on_hyphens=False)


def counted(number: int, thing: str) -> str:
    """``1 packet``, ``2,000 packets``: of a thing whose plural has an s."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


#: Of things that are listed with a number each, so many are named in a text for people.
_LISTED = 20


def most_of(numbers: Mapping[str, int]) -> list[tuple[str, int]]:
    """What has a number each, as a text lists it: all in their order; of many, those with most first, then the rest."""
    if len(numbers) <= _LISTED:
        return list(numbers.items())
    listed = sorted(numbers.items(), key=lambda one: -one[1])
    rest = listed[_LISTED:]
    return [*listed[:_LISTED], (f"{len(rest):,} more", sum(number for _, number in rest))]


class _Unescaped:
    """A stream of `dataplane.cli.output` without its escaping: for a console, which escapes before it adds colours."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.write = stream.write_as_it_is

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def console(stream: TextIO, **options: Any) -> Console:
    """A console of rich that prints plain text as it is: no markup, and what does not print is escaped.

    Lines are wrapped at a terminal only, and coloured there unless NO_COLOR is set, elsewhere where FORCE_COLOR is.
    """
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.text import Text

    class Escaping(Console):
        """Escapes strings before they are measured, and all else, such as Text, when it is rendered."""

        def render_str(self, text: str, **settings: Any) -> Text:
            return super().render_str(printable_lines(text), **(settings | {"markup": False, "emoji": False}))

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(printable_lines(segment.text), segment.style)

    if os.environ.get("NO_COLOR"):
        options = {"color_system": None} | options
    elif os.environ.get("FORCE_COLOR") and not stream.isatty():
        options = {"force_terminal": True, "color_system": "standard"} | options
    target: Any = _Unescaped(stream) if hasattr(stream, "write_as_it_is") else stream
    if not stream.isatty():
        options = {"width": _UNBOUNDED} | options
    return Escaping(file=target, **({"highlight": False, "markup": False, "emoji": False} | options))


def print_table(to: Console, table: Table, *, indent: int = 0) -> None:
    """Prints a table; where it is too wide, its texts are folded between words, and numbers not at all.

    Only where that is not enough are words cut, the longest first: ids, which have no bound.
    """
    from rich.cells import cell_len
    from rich.measure import Measurement
    from rich.padding import Padding

    texts = [
        [text for text in (str(column.header), *map(str, column.cells)) if text] or [""] for column in table.columns
    ]
    widths = [max(map(cell_len, column)) for column in texts]
    words = [[cell_len(word) for text in column for word in text.split()] for column in texts]
    least = [
        width if column.justify == "right" else min(width, max((n for n in found if n <= _WORD), default=_WORD))
        for column, width, found in zip(table.columns, widths, words, strict=True)
    ]
    natural = Measurement.get(to, to.options.update(width=_UNBOUNDED), table).maximum
    over = natural - (to.width - indent)
    if over > 0:
        while over > 0 and max(widths) > 1:
            spare = [width if width > least[i] else 0 for i, width in enumerate(widths)]
            at = spare.index(max(spare)) if any(spare) else widths.index(max(widths))
            widths[at] -= 1
            over -= 1
        for column, width in zip(table.columns, widths, strict=True):
            column.width, column.overflow = width, "fold"
    to.print(Padding(table, (0, 0, 0, indent), expand=False) if indent else table)
