"""Values as notebooks show them: tables of HTML, in which nothing of what they say is taken for markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dataplane.terminal import printable


def table(title: str, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table with a head; None is an empty cell, numbers have commas and stand on the right."""
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><caption>{_text(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{_text(text)}</p>"


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f'<td style="text-align: right">{value:,}</td>'
    return f"<td>{'' if value is None else _text(str(value))}</td>"


def _text(text: str) -> str:
    # What replays on the command line has no tables of HTML.
    from html import escape

    return escape(printable(text))
