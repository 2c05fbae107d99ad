"""One file of HTML from sections: texts, charts, tables, and a table that is sorted, filtered and searched in the page.

All text of captures, policies and file names is escaped: in HTML by jinja2, in data for scripts as JSON without ``<``,
and what does not print as `dataplane.terminal` writes it. The page forbids itself any network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dataplane.report.charts import Chart
from dataplane.terminal import printable

#: Rows and stories of a searched table as JSON, so that a page of any captures stays below 8 MB.
_TABLE_BYTES = 2_800_000
#: Kinds of columns with text.
_TEXTS = ("text", "word")
#: Rows of an ordinary table; more are counted below it.
ROWS = 25


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, and how its values are written.

    `kind` is ``text``, ``word`` (text that stays on its line), ``number``, ``bytes`` or ``seconds``. In a table that is
    searched, `choice` makes a choice of the words that there are, and `spare` is a column for which a telephone has no
    room.
    """

    name: str
    kind: str = "text"
    choice: bool = False
    spare: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """An ordinary table, of at most `ROWS` rows of those given."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]

    @property
    def shown(self) -> Sequence[Sequence[Any]]:
        """The rows that are shown."""
        return self.rows[:ROWS]


@dataclass(frozen=True, slots=True)
class SearchedTable:
    """A table that is sorted, filtered and searched in the page; `stories` are sentences for each row.

    `things` is what its rows are; `command` with the row's number behind it tells more of it, None where none does.
    """

    id: str
    things: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    stories: Sequence[Sequence[str]]
    command: str | None = None
    numbers: Sequence[int] = ()

    @property
    def data(self) -> str:
        """Its rows as JSON, each text in it once."""
        texts: dict[str, int] = {}

        def number(text: str) -> int:
            return texts.setdefault(printable(text), len(texts))

        rows = [
            [
                number("" if value is None else str(value)) if column.kind in _TEXTS else value
                for column, value in zip(self.columns, row, strict=True)
            ]
            for row in self.rows
        ]
        stories = [[number(sentence) for sentence in story] for story in self.stories]
        columns = [{"name": c.name, "kind": c.kind, "choice": c.choice, "spare": c.spare} for c in self.columns]
        value: dict[str, Any] = {
            "things": self.things,
            "columns": columns,
            "rows": rows,
            "stories": stories,
            "texts": list(texts),
        }
        value |= {"command": printable(self.command) if self.command else None, "numbers": list(self.numbers)}
        return json.dumps(value, separators=(",", ":"))


def fitting(most: int, made: Callable[[int], SearchedTable]) -> SearchedTable:
    """The table that is made of at most so many rows, or of fewer where names are so long that it would be too large.

    Each try has half of the rows that there were.
    """
    table = made(most)
    while len(table.data) > _TABLE_BYTES and table.rows:
        table = made(len(table.rows) // 2)
    return table


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page under a heading of its own."""

    id: str
    title: str
    told: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    searched: SearchedTable | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A figure that stands out; `look` is allow, deny, bypass or plain."""

    name: str
    value: str
    look: str = "plain"


@dataclass(frozen=True, slots=True)
class Page:
    """All that a page says. `facts` are names and values about what was read, `notes` what should not be missed."""

    title: str
    facts: Sequence[tuple[str, str]]
    cards: Sequence[Card]
    sections: Sequence[Section]
    notes: Sequence[str] = field(default=())

    def html(self) -> bytes:
        """The file."""
        template = _environment().get_template("page.html")
        plotly = _plotly() if any(s.charts for s in self.sections) else None
        text = template.render(page=self, plotly=plotly)
        return text.encode()


def number_words(value: int | float) -> str:
    """A number for people."""
    return f"{value:,}"


def bytes_words(value: int) -> str:
    """A number of bytes for people."""
    size = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{value} B"
        size /= 1000
    return f"{size:,.3g} TB"


def cell_words(value: Any, kind: str) -> str:
    """A table's value for people."""
    if value is None:
        return ""
    if kind == "bytes":
        return bytes_words(value)
    if kind == "seconds":
        return f"{value:.3f}"
    return number_words(value) if kind == "number" else str(value)


@cache
def _plotly() -> Markup:
    """The library as it is installed, which is no text of a report's."""
    from plotly.offline import get_plotlyjs

    # It is within a script of the page, which would end there.
    text = str(get_plotlyjs()).replace("</script", "<\\/script")
    return Markup(text)  # nosec B704


def _asset(name: str) -> Markup:
    """A file of this package."""
    text = files("dataplane.report").joinpath("templates", name).read_text(encoding="utf-8")
    return Markup(text)  # nosec B704


def _script_json(value: Any) -> Markup:
    """JSON that nothing in HTML takes for its own."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # nosec B704


def _printed(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("dataplane.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printed,
    )
    made.filters |= {"number": number_words, "cell": cell_words, "script_json": _script_json}
    made.globals["asset"] = _asset
    return made
