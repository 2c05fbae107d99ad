"""Packets a second: by port, and by verdict and reason."""

from __future__ import annotations

from collections.abc import Hashable

from rich.text import Text
from textual.app import ComposeResult
from textual.widgets import Static

from dataplane.screen.panes import LOOKS, Pane, Rows, cell, number, rate
from dataplane.screen.watch import figure, sparkline

_SPARK = 16


class Traffic(Pane):
    """Rates with what they were before."""

    def compose(self) -> ComposeResult:
        yield Static("Ports, packets a second", classes="title")
        yield Rows(
            "ports",
            ("port", "in", "bit/s", "denied", "out", "bit/s out", "in before", "state"),
            right=("in", "bit/s", "denied", "out", "bit/s out"),
            elided=("port", "state"),
        )
        yield Static("Verdicts and reasons, checks a second", classes="title")
        yield Rows("reasons", ("verdict", "reason", "now", "before", "in all"), right=("now", "in all"))

    def read(self) -> None:
        watch = self.top.seen
        rates, wide = watch.rates, self.size.width >= 110
        told = {port["port"]: port for port in watch.status["ports"]}
        rows: list[tuple[Hashable, tuple[Text, ...]]] = []
        for name in watch.ports:
            state = told.get(name, {}).get("error")
            ways = {way: rates["port", name, way] for way in ("received", "denied", "sent")}
            rows.append(
                (
                    name,
                    (
                        cell(name),
                        rate(ways["received"].now),
                        rate(8 * rates["bytes", name, "received"].now),
                        cell(figure(ways["denied"].now), "bold red" if ways["denied"].now else ""),
                        rate(ways["sent"].now),
                        rate(8 * rates["bytes", name, "sent"].now),
                        cell(sparkline(ways["received"].history, _SPARK * 3 if wide else _SPARK), "cyan"),
                        cell(state or "up", "yellow" if state else ""),
                    ),
                )
            )
        rows += [
            (f"missing {name}", (cell(name), *[cell("-")] * 6, cell("missing", "yellow")))
            for name in watch.status["missing_interfaces"]
        ]
        self.query_one("#ports", Rows).show(rows)
        self.query_one("#reasons", Rows).show(
            [
                (
                    (verdict, reason),
                    (
                        cell(verdict, LOOKS[verdict]),
                        cell(reason),
                        rate(rates["reason", verdict, reason].now),
                        cell(sparkline(rates["reason", verdict, reason].history, 60 if wide else 24), "cyan"),
                        number(rates["reason", verdict, reason].total),
                    ),
                )
                for verdict, reason in watch.reasons
            ]
        )
