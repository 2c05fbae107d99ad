"""The last changes of the policy, who made them, and what each cut."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.widgets import Static

from dataplane.screen.panes import Pane, Rows, cell, number
from dataplane.terminal import counted, printable


class Changes(Pane):
    """Changes, the latest first; below them, the one that the cursor is on in full."""

    def compose(self) -> ComposeResult:
        yield Static("", id="changes-title", classes="title")
        yield Rows("changes", ("no.", "time", "cut", "what", "by"), right=("no.", "cut"))
        yield Static("", id="change", classes="told")

    def read(self) -> None:
        status = self.top.seen.status
        made = status.get("changes", [])
        generation = f"Policy {printable(status['policy'])}, generation {status['generation']}"
        held = [f"{counted(status['unsaved_changes'], 'change')} in memory only"] if status["unsaved_changes"] else []
        if waiting := status.get("waiting"):
            held.append(
                f"taken back in {waiting['seconds_left']:.0f} s unless confirmed: {printable(waiting['change'])}"
            )
        none = [] if made else ["none was changed since the start"]
        self.query_one("#changes-title", Static).update(Text("; ".join([generation, *held, *none])))
        self.query_one("#changes", Rows).show(
            [(change["generation"], _row(change, max(self.size.width - 48, 30))) for change in reversed(made)]
        )
        self._tell()

    def on_data_table_row_highlighted(self) -> None:
        if self.top.seen.status:
            self._tell()

    def _tell(self) -> None:
        chosen = self.query_one("#changes", Rows).chosen
        made = self.top.seen.status.get("changes", [])
        change = next((change for change in made if change["generation"] == chosen), None)
        self.query_one("#change", Static).update(Text("\n".join(_sentences(change)) if change else ""))


def _row(change: dict[str, Any], width: int) -> tuple[Text, ...]:
    cut = change["disconnected"]["total"]
    return (
        number(change["generation"]),
        cell(datetime.fromtimestamp(change["time"]).strftime("%H:%M:%S")),
        cell(f"{cut:,}", "bold red" if cut else ""),
        cell(_shortened((change["differences"] or ["-"])[0], width)),
        cell(_by(change)),
    )


def _sentences(change: dict[str, Any]) -> list[str]:
    cut = change["disconnected"]
    by = [f"{printable(instance)}: {n:,}" for instance, n in cut["by_instance"].items()]
    by += [f"by a changed remote group: {cut['revoked']:,}"] if cut["revoked"] else []
    told = "; ".join([f"{counted(cut['total'], 'connection')} disconnected", *by])
    return [told, *map(printable, change["differences"])]


def _by(change: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in change["by"].items()) or "the firewall"


def _shortened(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: most - 1]}…"
