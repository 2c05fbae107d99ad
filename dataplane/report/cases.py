"""The page about cases that were run (``dataplane test --report``)."""

from __future__ import annotations

from collections.abc import Sequence

from dataplane.insight.suite import Result
from dataplane.report.charts import bars
from dataplane.report.page import Card, Column, Page, SearchedTable, Section, fitting, number_words
from dataplane.terminal import counted

#: Rows of the table of cases.
SHOWN = 5000
_BARS = 12
_LOOKS = {"passed": "allow", "failed": "deny", "error": "deny"}
_COLUMNS = (Column("case"), Column("outcome", "word", choice=True), Column("file", spare=True, choice=True))


def cases_page(paths: Sequence[str], results: Sequence[Result], left_out: int) -> Page:
    """The page, after the cases were run; `left_out` were not."""
    counts = {word: sum(result.outcome == word for result in results) for word in _LOOKS}
    cards = [Card("cases", number_words(len(results)))]
    cards += [
        Card(word, number_words(n), _LOOKS[word] if n else "plain")
        for word, n in counts.items()
        if n or word != "error"
    ]
    if left_out:
        cards.append(Card("left out", number_words(left_out)))
    # Those that need a look come first.
    worst = sorted(results, key=lambda result: list(_LOOKS)[::-1].index(result.outcome))
    table = fitting(SHOWN, lambda most: _case_table(worst[:most]))
    failed = counts["failed"] + counts["error"]
    sentence = "Every case passed." if not failed else f"{counted(failed, 'case')} did not pass: a line tells why."
    shown = f"Of {len(worst):,} these are the first {len(table.rows):,}, those that did not pass before others."
    more = [shown] if len(table.rows) < len(worst) else []
    sections = [Section("cases", "Cases", [sentence, *more], searched=table)]
    slowest = sorted(results, key=lambda result: (-result.seconds, result.name))[:_BARS]
    if len(slowest) > 1:
        chart = bars(
            ("time-chart", "The slowest cases", "How long each took to run."),
            [result.name for result in slowest],
            [("time", "@allow", [round(result.seconds * 1000) for result in slowest])],
            "milliseconds",
        )
        sections.append(Section("time", "Time", charts=[chart]))
    return Page("Cases of what a policy should do", [("Cases of", ", ".join(paths[:10]))], cards, sections)


def _case_table(results: Sequence[Result]) -> SearchedTable:
    rows, told = [], []
    for result in results:
        file, _, name = result.name.partition("::")
        rows.append((name or file, result.outcome, file))
        told.append(result.told.splitlines() or ["all that was expected came"])
    return SearchedTable("case-table", "cases", _COLUMNS, rows, told)
