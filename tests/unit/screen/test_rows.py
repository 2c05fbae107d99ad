"""A table of the screen: columns as wide as what is in them, found in a time that grows with the rows alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.widgets import _data_table

from dataplane.screen.panes import Rows, cell, rate

MANY = 400


class OneTable(App[None]):
    """A screen of one table."""

    def compose(self) -> ComposeResult:
        yield Rows("rows", ("name", "idle"), right=("idle",))


def rows(names: Sequence[str], idle: float) -> list[tuple[int, tuple[Any, ...]]]:
    return [(number, (cell(name), rate(idle + number / 10))) for number, name in enumerate(names)]


def test_values_of_many_rows_are_measured_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them change each second; textual alone measures a whole column for every value that has become shorter."""
    measured = 0
    measure = _data_table.measure

    def counting(*arguments: Any) -> Any:
        nonlocal measured
        measured += 1
        return measure(*arguments)

    monkeypatch.setattr(_data_table, "measure", counting)

    async def run() -> None:
        nonlocal measured
        app = OneTable()
        async with app.run_test(size=(80, 24)) as pilot:
            table = app.query_one(Rows)
            names = [f"row {number}" for number in range(MANY)]
            table.show(rows(names, 1000.0))
            await pilot.pause()
            for idle in (2000.0, 5.0, 100_000.0):
                measured = 0
                table.show(rows(names, idle))
                await pilot.pause()
                assert str(table.get_row_at(MANY - 1)[1]) == str(rate(idle + (MANY - 1) / 10))
                # A column twice: before and behind the change.
                assert measured <= 2 * 2 * MANY

    asyncio.run(run())


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    """Wider and narrower again, while rows stay."""

    async def run() -> None:
        app = OneTable()
        async with app.run_test(size=(80, 24)) as pilot:
            table = app.query_one(Rows)
            for names in (["a", "b"], ["a", "quite long"], ["longest of all", "b"], ["a", "four"], ["a", "b"]):
                table.show(rows(names, 1.0))
                await pilot.pause()
                assert table.ordered_columns[0].content_width == max(len("name"), *map(len, names))

    asyncio.run(run())
