"""The rules in force by their hits, and those of before under which connections live on."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from dataplane.screen.panes import Pane, Rows, cell, number, rate
from dataplane.screen.watch import sparkline

#: So many rules are shown.
SHOWN = 500


class Rules(Pane):
    """Rules, those with most hits first."""

    def compose(self) -> ComposeResult:
        yield Static("", id="rules-title", classes="title")
        yield Rows(
            "rules",
            ("rule", "group", "hits", "packets", "a second", "before"),
            right=("hits", "packets", "a second"),
            elided=("rule", "group"),
        )

    def read(self) -> None:
        watch = self.top.seen
        rules = sorted(watch.counters["rules"], key=lambda rule: (-rule["hits"], -rule["packets"], rule["rule"]))
        never = sum(not rule["packets"] for rule in rules)
        more = f", the first {SHOWN} are shown" if len(rules) > SHOWN else ""
        self.query_one("#rules-title", Static).update(
            f"{len(rules):,} rules by hits (first packets that they decided about), {never:,} never hit{more}"
        )
        rows = []
        for rule in rules[:SHOWN]:
            key = "rule", rule["rule"], rule["security_group"]
            found = watch.rates[key]
            rows.append(
                (
                    key,
                    (
                        cell(rule["rule"]),
                        cell(rule["security_group"]),
                        number(rule["hits"]),
                        number(rule["packets"]),
                        rate(found.now),
                        cell(sparkline(found.history, 20), "cyan"),
                    ),
                )
            )
        self.query_one("#rules", Rows).show(rows)
