"""What all panes have in common: a table that keeps its place while its rows change, and text that is no markup."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, Protocol, cast

from rich.cells import cell_len
from rich.text import Text
from textual.containers import Vertical
from textual.coordinate import Coordinate
from textual.css.query import NoMatches
from textual.message import Message
from textual.message_pump import MessagePump
from textual.widgets import DataTable

from dataplane.screen.requests import Asker
from dataplane.screen.watch import Watch, figure
from dataplane.terminal import printable

#: A text that gives way keeps so many columns.
_ELIDED_LEAST = 10
#: What a verdict looks like.
LOOKS = {"allow": "green", "deny": "bold red", "bypass": "yellow"}


def cell(value: object, style: str = "") -> Text:
    """Text of a firewall or a policy as it is: nothing in it is markup, and what does not print is escaped."""
    return Text(printable("" if value is None else str(value)), style, no_wrap=True)


def number(value: int) -> Text:
    """A count."""
    return Text(f"{value:,}", justify="right", no_wrap=True)


def rate(value: float) -> Text:
    """How much a second."""
    return Text(figure(value), justify="right", no_wrap=True)


class Rows(DataTable[Text]):
    """A table with a row for each key; `show` puts other rows in, and the cursor stays on its key.

    Where the screen is not wide enough, texts of the columns `elided` give way, in their middle: ids have no bound.
    """

    def __init__(
        self,
        named: str,
        columns: Sequence[str],
        *,
        right: Sequence[str] = (),
        elided: Sequence[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(id=named, cursor_type="row", zebra_stripes=True, cell_padding=1, **options)
        self._heads = columns
        self._right = right
        self._elided = [columns.index(name) for name in elided]
        self._shown: list[Hashable] = []

    def on_mount(self) -> None:
        for name in self._heads:
            self.add_column(Text(name, justify="right" if name in self._right else "left"), key=name)

    @property
    def chosen(self) -> Hashable | None:
        """The key of the row that the cursor is on."""
        at = self.cursor_row
        return self._shown[at] if 0 <= at < len(self._shown) else None

    def show(self, rows: Sequence[tuple[Hashable, Sequence[Text]]]) -> None:
        """Puts rows in place of those before."""
        rows = self._fitting(rows)
        keys = [key for key, _ in rows]
        if keys == self._shown:
            for column in range(len(self._heads)):
                self._update_column(column, [cells[column] for _, cells in rows])
            return
        chosen, line = self.chosen, self.cursor_row
        self.clear()
        for _, cells in rows:
            self.add_row(*cells)
        self._shown = keys
        if keys:
            at = keys.index(chosen) if chosen in keys else min(line, len(keys) - 1)
            self.move_cursor(row=max(at, 0), animate=False, scroll=True)

    def _update_column(self, column: int, values: Sequence[Text]) -> None:
        """Puts values in place of those before; the width of the column is found once, not for each of them."""
        if not values:
            return
        widths = [value.cell_len for value in values]
        before = max(self.get_cell_at(Coordinate(at, column)).cell_len for at in range(len(values)))
        widest = widths.index(max(widths)) if max(widths) != before else None
        for at, value in enumerate(values):
            place = Coordinate(at, column)
            if at == widest or self.get_cell_at(place) != value:
                self.update_cell_at(place, value, update_width=at == widest)

    def _fitting(self, rows: Sequence[tuple[Hashable, Sequence[Text]]]) -> Sequence[tuple[Hashable, Sequence[Text]]]:
        if not self.size.width:
            # It has no place yet.
            return rows
        widths = [
            max(map(cell_len, (head, *(cells[i].plain for _, cells in rows)))) for i, head in enumerate(self._heads)
        ]
        spare = self.size.width - sum(widths) - 2 * self.cell_padding * len(widths)
        while spare < 0 and self._elided:
            widest = max(self._elided, key=widths.__getitem__)
            if widths[widest] <= _ELIDED_LEAST:
                break
            widths[widest] -= 1
            spare += 1
        return [(key, [_elided(text, width) for text, width in zip(cells, widths, strict=True)]) for key, cells in rows]


def _elided(text: Text, most: int) -> Text:
    if text.cell_len <= most:
        return text
    end = most // 2
    return Text.assemble(text[: most - 1 - end], "…", text[-end:], no_wrap=True)


class Answer(Message, bubble=False):
    """Something that a thread has found, and what is done with it in the screen's own."""

    def __init__(self, function: Callable[..., object], *arguments: Any) -> None:
        super().__init__()
        self.function, self.arguments = function, arguments


class Answering(MessagePump):
    """What asks in threads: `later` hands an answer over, and waits for nothing."""

    def later(self, function: Callable[..., object], *arguments: Any) -> None:
        """Calls a function in the screen's own thread, if it is still there."""
        self.post_message(Answer(function, *arguments))

    def on_answer(self, answer: Answer) -> None:
        # While the screen is being left, parts of it are gone already.
        with suppress(NoMatches):
            answer.function(*answer.arguments)


class Looking(Protocol):
    """What a pane has of the screen that it is on: whom it asks, and what was read last."""

    asker: Asker
    seen: Watch
    read_only: bool

    def shows(self, pane: Pane) -> bool:
        """Whether this pane is the one that is looked at."""


class Pane(Answering, Vertical):
    """A part of the screen; `read` shows what the firewall said last."""

    @property
    def top(self) -> Looking:
        """The screen that it is on."""
        return cast(Looking, self.app)

    def read(self) -> None:
        """Shows the last reading; called once there is one, and after each."""
