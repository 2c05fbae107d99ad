"""What stands in a page: all that captures and policies say is text, whatever it says (docs/report.md)."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.report import charts, page
from dataplane.report.charts import Clock, Mark, bars, label, over_time
from dataplane.report.page import ROWS, Card, Column, Page, SearchedTable, Section, Table, fitting
from dataplane.report.replayed import summed_words

HOSTILE = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "<!--<script>",
    "{{ 7*7 }} {% raw %}",
    "a\u2028b\u2029c",
    "\u202emoc.live\u202c\x1b[31m\r\n\x00",
    "\udcff name that is no UTF-8",
    "@deny",
    "<a href='javascript:alert(3)'>b</a>",
]


class Parsed(HTMLParser):
    """The elements of a page, its text, and what its scripts hold."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._script = False
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._script = tag == "script"
        if self._script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[-1] += data
        else:
            self.text += data

    def islands(self) -> list[Any]:
        """The data of the page."""
        kinds = [attributes for tag, attributes in self.elements if tag == "script"]
        return [
            json.loads(script)
            for attributes, script in zip(kinds, self.scripts, strict=True)
            if attributes.get("type") == "application/json"
        ]


def page_with(text: str) -> Page:
    """A page that says a text wherever there is room for one."""
    chart = bars(("c", text, text), [text], [(text, "@allow", [1])], text)
    table = Table(text, [Column(text)], [[text]])
    searched = SearchedTable("t", text, [Column(text, choice=True)], [[text]], [[text]], text, [7])
    section = Section("s", text, [text], [chart], [table], searched)
    return Page(text, [(text, text)], [Card(text, text)], [section], [text])


@pytest.mark.parametrize("text", HOSTILE)
def test_what_captures_and_policies_say_is_text(text: str) -> None:
    """No element, attribute or template comes of it; what does not print is escaped; data comes through whole."""
    plain, hostile = Parsed(page_with("plain").html()), Parsed(page_with(text).html())
    names = lambda parsed: [(tag, sorted(attributes)) for tag, attributes in parsed.elements]  # noqa: E731
    assert names(hostile) == names(plain)
    assert not re.search(r"[\x00\x1b\u202e\u2028\udcff]", hostile.text)
    (figure, rows) = hostile.islands()
    shown = charts.printable(text)
    assert rows["texts"] == [shown]
    # The first is for people to copy; the other is a word of ours.
    assert (rows["command"], rows["things"]) == (shown, text)
    assert figure["data"][0]["type"] == "bar"
    assert shown in hostile.text


def test_the_page_needs_no_network() -> None:
    """It forbids itself any, and names nothing that would be fetched."""
    parsed = Parsed(page_with("plain").html())
    policy = next(a["content"] for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
    named = [value for _, a in parsed.elements for key, value in a.items() if key in ("src", "href", "action")]
    assert all(value and value.startswith(("#", "data:,")) for value in named)
    assert sum("plotly.js v" in script for script in parsed.scripts) == 1


def test_a_page_without_charts_leaves_plotly_out() -> None:
    page = Page("t", [], [], [Section("s", "s")])
    assert len(page.html()) < 50_000


def test_the_names_of_elements_are_there() -> None:
    """For those who hear a page: one heading of each section, captions, headers with their scope, a chart's words."""
    parsed = Parsed(page_with("plain").html())
    tags = [tag for tag, _ in parsed.elements]
    assert (tags.count("h1"), tags.count("h2"), tags.count("main"), tags.count("caption")) == (1, 1, 1, 1)
    assert all(a.get("scope") == "col" for tag, a in parsed.elements if tag == "th")
    assert next(a for _, a in parsed.elements if a.get("role") == "img")["aria-label"] == "plain: plain"
    assert dict(parsed.elements)["html"] == {"lang": "en"}


def test_a_long_table_says_how_much_more_there_is() -> None:
    table = Table("rules", [Column("rule"), Column("hits", "number")], [(f"r{n}", n * 1000) for n in range(ROWS + 3)])
    text = Parsed(Page("t", [], [], [Section("s", "s", tables=[table])]).html()).text
    assert f"r{ROWS - 1}" in text
    assert f"r{ROWS}" not in text
    assert "24,000" in text
    assert "and 3 more" in text


def test_a_table_that_would_be_too_large_has_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half as many at each try; none where not even one fits."""

    def made(most: int) -> SearchedTable:
        rows = [(f"row {number}",) for number in range(100)][:most]
        return SearchedTable("t", "rows", [Column("row")], rows, [[] for _ in rows])

    assert len(fitting(5000, made).rows) == 100
    monkeypatch.setattr(page, "_TABLE_BYTES", 700)
    found = fitting(5000, made)
    assert (len(found.rows), len(found.data) <= 700) == (25, True)
    monkeypatch.setattr(page, "_TABLE_BYTES", 1)
    assert len(fitting(5000, made).rows) == 0


@given(st.text("<>&@;#ax\u202e\x00\n é"))
def test_labels_of_charts_are_no_markup(text: str) -> None:
    """plotly takes some of HTML, and the page a word behind @ for a colour."""
    found = label(text)
    assert not set("<>@") & set(found)
    assert re.sub(r"&(?:lt|gt|amp|#64);", "", found).count("&") == 0
    assert found.isprintable()


@pytest.mark.parametrize(
    ("width_ns", "buckets", "unit", "end", "width"),
    [
        (1_000_000, 5, "s", 0.005, "1 ms"),
        (512_000_000, 200, "s", 102.4, "512 ms"),
        (4_096_000_000, 200, "min", 819.2 / 60, "4.096 s"),
        (1 << 40, 200, "h", (1 << 40) * 200 / 3600e9, "18.3 min"),
        (1 << 42, 200, "days", (1 << 42) * 200 / 86400e9, "73.3 min"),
        # Captures of ten years, and of as long as times go.
        (1 << 51, 147, "days", (1 << 51) * 147 / 86400e9, "26.1 days"),
        (1 << 55, 240, "days", (1 << 55) * 240 / 86400e9, "417.0 days"),
    ],
)
def test_the_axis_of_time_has_a_unit_that_fits(width_ns: int, buckets: int, unit: str, end: float, width: str) -> None:
    clock = Clock(width_ns, buckets)
    assert clock.axis["title"] == {"text": f"{unit} since the first packet"}
    assert clock.axis["range"] == [0, pytest.approx(end)]
    assert clock.width == width
    assert len(clock.middles()) == buckets
    assert clock.at(width_ns * buckets) == pytest.approx(end, abs=1e-6)


@pytest.mark.parametrize(
    ("buckets", "packets", "told"),
    [
        (0, [], "No packet was read."),
        (40, [50, *[0] * 38, 50], "They came in 2 bars of 40 only: --time FROM..TO reads a part of the time."),
        (40, [50, *[0] * 38, 49], "whatever their number."),
        (40, [50, 1, *[0] * 37, 50], "whatever their number."),
    ],
)
def test_charts_that_are_nearly_empty_say_what_to_do(buckets: int, packets: list[int], told: str) -> None:
    """A capture with a gap of years in it has its packets in a few bars."""
    assert summed_words(Clock(10**9, buckets), [packets, [0] * buckets]).endswith(told)


def test_changes_are_marked_at_their_time() -> None:
    chart = over_time(("c", "t", "t"), Clock(10**9, 10), [("a", "@allow", [1] * 10)], [Mark(1, 3 * 10**9)])
    layout = chart.figure["layout"]
    assert [(shape["x0"], shape["x1"]) for shape in layout["shapes"]] == [(3, 3)]
    assert [(note["x"], note["text"]) for note in layout["annotations"]] == [(3, "1")]
