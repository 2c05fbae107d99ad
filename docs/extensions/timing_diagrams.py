"""The directive ``timing``: a diagram drawn from text, in which time goes down.

A ``|`` that stands in many lines is somebody's time. Between two of them ``---- SYN --->`` and ``<--- ACK ----`` are
packets, ``........`` is a moment; all else is text where it stands. Where there is no site, the text is the diagram.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html import escape
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

#: A character, in pixels.
_WIDTH, _HEIGHT = 7.8, 22
_PACKET = re.compile(r"(?P<left><?)[-=]{2,}(?P<label>[^-=].*?)?[-=]*(?P<right>>?)")
_EVENT = re.compile(r"\.{4,}")
#: Words of a packet that does not pass.
_DENIED = re.compile(r"disconnected|invalid|denied")


def lives(lines: list[str]) -> list[int]:
    """The columns of those whose time it is."""
    found = Counter(match.start() for line in lines for match in re.finditer(r"\|", line))
    return sorted(column for column, n in found.items() if n >= max(2, len(lines) // 3))[:2]


def svg(text: str, name: str) -> str:
    """The picture of a diagram as SVG; `name` is its own on the page."""
    lines = [line.rstrip() for line in text.strip("\n").split("\n")]
    columns = lives(lines)
    width, height = (max(map(len, lines)) + 1) * _WIDTH, (len(lines) + 0.5) * _HEIGHT
    rows = [row for row, line in enumerate(lines) if any(line[c : c + 1] == "|" for c in columns)]
    parts = [
        f'<line class="life" x1="{_x(c)}" x2="{_x(c)}" y1="{rows[0] * _HEIGHT}" y2="{(rows[-1] + 1) * _HEIGHT}"/>'
        for c in columns
    ]
    for row, line in enumerate(lines):
        parts += _row(line, columns, row, name)
    return (
        f'<svg class="timing" role="img" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}">'
        f'<desc>{escape(text)}</desc><defs><marker id="{name}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8"'
        ' markerHeight="8" orient="auto-start-reverse"><path d="M0 0 8 4 0 8z"/></marker></defs>'
        f"{''.join(parts)}</svg>"
    )


def _x(column: float) -> float:
    return round((column + 0.5) * _WIDTH, 1)


def _row(line: str, columns: list[int], row: int, name: str) -> Iterator[str]:
    middle = row * _HEIGHT + 15
    rest = line
    if len(columns) == 2:
        first, second = columns
        between = line[first + 1 : second]
        if line[first : first + 1] == "|" and (packet := _PACKET.fullmatch(between.strip())):
            yield from _arrow(packet, columns, middle, name)
        elif line[first : first + 1] == "|" and _EVENT.fullmatch(between):
            yield f'<line class="event" x1="{_x(first)}" x2="{_x(second)}" y1="{middle - 4}" y2="{middle - 4}"/>'
        else:
            second = first
        rest = line[:first] + " " * (second - first) + line[second:]
    for word in re.finditer(r"\S+(?: \S+)*", rest.replace("|", " ")):
        yield _text(word[0], word.start(), middle, "denied" if _DENIED.match(word[0]) else "")


def _arrow(packet: re.Match[str], columns: list[int], y: float, name: str) -> Iterator[str]:
    first, second = columns
    ends = [end for end, side in (("start", "left"), ("end", "right")) if packet[side]]
    heads = "".join(f' marker-{end}="url(#{name})"' for end in ends)
    yield f'<line class="packet" x1="{_x(first)}" x2="{_x(second)}" y1="{y}" y2="{y}"{heads}/>'
    if packet["label"]:
        yield _text(packet["label"].strip(), (first + second) / 2 + 0.5, y - 4, "middle")


def _text(text: str, column: float, y: float, kind: str) -> str:
    return f'<text class="{kind}" x="{round(column * _WIDTH, 1)}" y="{y}">{escape(text)}</text>'


class Timing(SphinxDirective):
    """Takes a text."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        picture = svg("\n".join(self.content), f"timing-{self.env.new_serialno('timing')}")
        return [nodes.raw("", f'<div class="timing">{picture}</div>', format="html")]


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("timing", Timing)
    app.add_css_file("timing.css")
    return {"parallel_read_safe": True}
