"""What is drawn: charts as plotly takes them.

A colour is written ``@NAME`` and stands for one of the page's own (``style.css``), so that a chart has the theme of the
page. Text of captures and policies is escaped here: plotly takes some of HTML for its own.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dataplane.terminal import printable

#: Up to so many changes are marked on a chart.
MARKED = 100
_LABEL = 26
#: Up to so many a step of an axis is one.
_FEW = 5
_UNITS = ((1, "s", 600), (60, "min", 36_000), (3600, "h", 864_000), (86_400, "days", float("inf")))
#: As many colours of a row as there may be reasons.
_SERIES = 6


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its title and what it shows in a sentence; `figure` is what plotly draws."""

    id: str
    title: str
    told: str
    figure: dict[str, Any]


def _unit_of(seconds: float) -> tuple[int, str]:
    return next((unit, name) for unit, name, most in _UNITS if seconds <= most)


def time_words(time_ns: int) -> str:
    """A span of time for people: ``128 ms``, ``4.096 s``, ``18.3 min``, ``3,650 days``."""
    if time_ns < 1_000_000_000:
        return f"{time_ns / 1e6:g} ms"
    seconds = time_ns / 1e9
    unit, name = _unit_of(seconds)
    return f"{seconds / unit:.4g} {name}" if unit == 1 or seconds < 10 * unit else f"{seconds / unit:,.1f} {name}"


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of a chart: `buckets` of `width_ns` each, in a unit that fits."""

    width_ns: int
    buckets: int

    @property
    def _unit(self) -> tuple[int, str]:
        return _unit_of(self.width_ns * self.buckets / 1e9)

    @property
    def width(self) -> str:
        """The width of a bucket, in words."""
        return time_words(self.width_ns)

    @property
    def axis(self) -> dict[str, Any]:
        """The axis of time."""
        seconds, name = self._unit
        end = self.buckets * self.width_ns / 1e9 / seconds
        return {"title": {"text": f"{name} since the first packet"}, "range": [0, end]}

    def middles(self) -> list[float]:
        """Where each bucket stands on the axis."""
        seconds, _ = self._unit
        step = self.width_ns / 1e9 / seconds
        return [round((number + 0.5) * step, 6) for number in range(self.buckets)]

    def at(self, time_ns: int) -> float:
        """Where a time since the first packet stands on the axis."""
        return round(time_ns / 1e9 / self._unit[0], 6)


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a time since the first packet, by its number in a list beside the chart."""

    number: int
    time_ns: int


def label(text: str) -> str:
    """Text for a chart: of one line, not long, and nothing in it is markup."""
    text = printable(text)
    text = text if len(text) <= _LABEL else f"{text[: _LABEL // 2 - 1]}…{text[-_LABEL // 2 :]}"
    # Nor is it a colour of the page.
    return html.escape(text, quote=False).replace("@", "&#64;")


def over_time(
    chart: tuple[str, str, str],
    clock: Clock,
    rows: Sequence[tuple[str, str, Sequence[int]]],
    marks: Sequence[Mark] = (),
    *,
    of: str = "packets",
    stacked: bool = True,
) -> Chart:
    """Bars over time, on top of each other or as lines beside each other; a row is a name, a colour, a bucket each."""
    x = clock.middles()
    traces: list[dict[str, Any]] = []
    for name, colour, values in rows:
        trace: dict[str, Any] = {"name": label(name), "x": x, "y": list(values)}
        if stacked:
            trace |= {"type": "bar", "marker": {"color": colour, "line": {"width": 0}}}
        else:
            trace |= {"type": "scatter", "mode": "lines", "line": {"color": colour, "shape": "hvh", "width": 2}}
            if len(rows) == 1:
                trace |= {"fill": "tozeroy"}
        traces.append(trace)
    layout = {
        "barmode": "stack",
        "bargap": 0,
        "xaxis": clock.axis,
        "yaxis": {"title": {"text": f"{of} per {clock.width}" if stacked else of}, **_counts(row for *_, row in rows)},
        "shapes": [_line(clock.at(mark.time_ns)) for mark in marks[:MARKED]],
        "annotations": [_number(clock.at(mark.time_ns), mark.number) for mark in marks[:MARKED]],
        "showlegend": len(rows) > 1,
        "height": 320,
    }
    return Chart(*chart, {"data": traces, "layout": layout})


def _counts(rows: Iterable[Sequence[int]]) -> dict[str, Any]:
    """An axis of whole numbers, for rows that stand on top of each other."""
    few = max(map(sum, zip(*rows, strict=True)), default=0) <= _FEW
    return {"rangemode": "tozero", "tickformat": ",d"} | ({"dtick": 1} if few else {})


def _line(x: float) -> dict[str, Any]:
    line = {"color": "@mark", "width": 1.5, "dash": "dot"}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def _number(x: float, number: int) -> dict[str, Any]:
    place = {"x": x, "y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False}
    return place | {"text": str(number), "font": {"color": "@mark"}}


def bars(
    chart: tuple[str, str, str],
    names: Sequence[str],
    rows: Sequence[tuple[str, str, Sequence[int]]],
    of: str,
) -> Chart:
    """Bars from left to right, the first name on top; a row is what a part of the bar is, its colour, its lengths."""
    places = list(range(len(names)))
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label(name),
            "x": list(values),
            "y": places,
            "customdata": [label(text) for text in names],
            "hovertemplate": "%{customdata}: %{x:,}<extra>%{fullData.name}</extra>",
            "marker": {"color": colour},
        }
        for name, colour, values in rows
    ]
    ticks = {"tickmode": "array", "tickvals": places, "ticktext": [label(text) for text in names]}
    layout = {
        "barmode": "stack",
        "bargap": 0.35,
        "xaxis": {"title": {"text": of}, **_counts(row for *_, row in rows)},
        "yaxis": {"autorange": "reversed", "automargin": True, "ticks": "", **ticks},
        "showlegend": len(rows) > 1,
        "height": 130 + 26 * len(names),
    }
    return Chart(*chart, {"data": traces, "layout": layout})


def series(number: int) -> str:
    """The colour of one of several rows that are alike."""
    return f"@series-{number % _SERIES + 1}"
