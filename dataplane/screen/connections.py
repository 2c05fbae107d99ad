"""The connections: filtered and sorted, each with why its packets pass, and taken out after a question."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from ipaddress import ip_address
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from dataplane.live.client import RefusedError
from dataplane.screen.panes import LOOKS, Answering, Pane, Rows, cell, rate
from dataplane.screen.requests import FAILURES, LISTED, End, Told, ends, next_packet
from dataplane.terminal import counted, host_port, printable

#: So many rows are shown.
SHOWN = 500
#: What is written in the filter, and what the firewall is asked by it; any other word is looked for in the lines.
WORDS = {
    "proto": "protocol",
    "src": "source",
    "dst": "destination",
    "sport": "source_port",
    "dport": "destination_port",
    "state": "state",
    "instance": "instance",
    "origin": "origin",
}
_NUMBERS = ("source_port", "destination_port")
_SORTS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "idle": lambda connection: connection["idle"],
    "left": lambda connection: connection["expires_in"],
    "source": lambda connection: _place(ends(connection)[0]),
    "destination": lambda connection: _place(ends(connection)[1]),
    "state": lambda connection: (connection["state"], connection["idle"]),
    "instance": lambda connection: (connection["instance"], connection["idle"]),
    "rule": lambda connection: (str(connection["rule"]), connection["idle"]),
}


def _place(end: End) -> tuple[int, bytes, int]:
    """Where an end stands among others: IPv4 first, by address, then by port."""
    address, port = ip_address(end[0]), end[1]
    return address.version, address.packed, port or 0


def read_filter(text: str) -> tuple[dict[str, Any], list[str]]:
    """What the firewall is asked for, and words that a line must have. Raises ValueError for a port that is none."""
    selection: dict[str, Any] = {}
    words = []
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals or name not in WORDS:
            words.append(word.lower())
            continue
        key = WORDS[name]
        if key in _NUMBERS:
            if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= 65535:
                raise ValueError(f"{word}: a port is a number from 1 to 65535")
            selection[key] = int(value)
        else:
            selection[key] = value
    return selection, words


class ConnectionRows(Rows):
    """Connections, a row each."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "details")]


class Connections(Pane):
    """Lists what there is while it is looked at."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter"),
        Binding("s", "sort", "sort"),
        Binding("r", "reverse", "reverse"),
        Binding("d", "delete", "delete"),
        Binding("escape", "rows", "to the list", show=False),
    ]

    def __init__(self, *children: Any, **options: Any) -> None:
        super().__init__(*children, **options)
        self._found: dict[Hashable, dict[str, Any]] = {}
        self._count = 0
        self._sort = "idle"
        self._reverse = False
        self._selection: dict[str, Any] = {}
        #: The last one that the firewall took.
        self._taken: dict[str, Any] = {}
        self._words: list[str] = []
        self._trouble: str | None = None
        #: What is wrong with the filter as it is written; the list is that of the one before.
        self._mistake: str | None = None

    def compose(self) -> ComposeResult:
        yield Input(
            placeholder="proto=tcp src= dst= sport= dport=22 state= instance= origin=, or any word", id="filter"
        )
        yield Static("", id="connections-title", classes="title")
        yield ConnectionRows(
            "connections",
            ("source", "destination", "proto", "state", "idle", "left", "instance", "rule"),
            right=("idle", "left"),
            elided=("instance", "rule"),
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Who may only read is not shown how to delete."""
        return not (action == "delete" and self.top.read_only)

    # ---- the list ----

    def begin(self) -> None:
        """It is looked at."""
        self.action_rows()
        self.list_now()

    @work(thread=True, exclusive=True, group="list", exit_on_error=False)
    def list_now(self) -> None:
        """Asks for the connections and shows them."""
        selection = self._selection
        try:
            found, count = self.top.asker.connections(selection)
        except RefusedError as error:
            self.later(self._refuse, selection, str(error))
            return
        except FAILURES as error:
            self.later(self._fail, str(error))
            return
        self.later(self._take, found, count, selection)

    def _fail(self, why: str) -> None:
        self._trouble = why
        self._show()

    def _refuse(self, selection: dict[str, Any], why: str) -> None:
        """The firewall does not know what is meant: the filter of before stays in force."""
        if self._selection is selection and selection is not self._taken:
            self._selection, self._mistake = self._taken, why
            self.list_now()
            return
        self._fail(why)

    def _take(self, found: list[dict[str, Any]], count: int, selection: dict[str, Any]) -> None:
        self._trouble, self._taken = None, selection
        self._found = {_key(connection): connection for connection in found}
        self._count = count
        self._show()

    def _show(self) -> None:
        found = self._found
        kept = [key for key, connection in found.items() if not self._words or _has(connection, self._words)]
        sort = _SORTS[self._sort]
        kept.sort(key=lambda key: sort(found[key]), reverse=self._reverse)
        self.query_one("#connections", Rows).show([(key, _cells(found[key])) for key in kept[:SHOWN]])
        told = counted(self._count, "connection")
        if self._words:
            told = f"{len(kept):,} of {told}"
        if len(self._found) < self._count and self._count > LISTED:
            told += f", the first {LISTED:,} are looked through: a filter such as proto=tcp dport=22 chooses"
        elif len(kept) > SHOWN:
            told += f", {SHOWN:,} are shown"
        told += f"; by {self._sort}{', reversed' if self._reverse else ''}"
        self.query_one("#connections-title", Static).update(Text(printable(self._mistake or self._trouble or told)))

    def read(self) -> None:
        if self.top.shows(self):
            self.list_now()

    # ---- keys ----

    def action_filter(self) -> None:
        """To the line in which the filter is written."""
        self.query_one("#filter", Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        try:
            self._selection, self._words = read_filter(event.value)
        except ValueError as error:
            self._mistake = str(error)
            self._show()
            return
        self._mistake = None
        self.list_now()

    def on_input_submitted(self) -> None:
        self.action_rows()

    def action_rows(self) -> None:
        """From the filter to the list."""
        self.query_one("#connections", Rows).focus()

    def action_sort(self) -> None:
        """By the next of its columns."""
        names = list(_SORTS)
        self._sort = names[(names.index(self._sort) + 1) % len(names)]
        self._show()

    def action_reverse(self) -> None:
        """The other way round."""
        self._reverse = not self._reverse
        self._show()

    @property
    def chosen(self) -> dict[str, Any] | None:
        """The connection that the cursor is on."""
        key = self.query_one("#connections", Rows).chosen
        return self._found.get(key) if key is not None else None

    def on_data_table_row_selected(self) -> None:
        self.action_details()

    def action_details(self) -> None:
        """All that is known of the connection, and why its next packet passes or does not."""
        if connection := self.chosen:
            self.app.push_screen(Details(connection))

    def action_delete(self) -> None:
        """Takes the connection out, after a question."""
        if connection := self.chosen:

            def answered(wanted: bool | None) -> None:
                if wanted:
                    self._delete(connection)

            self.app.push_screen(Question(connection), answered)

    @work(thread=True, group="delete", exit_on_error=False)
    def _delete(self, connection: dict[str, Any]) -> None:
        try:
            gone = self.top.asker.delete(connection)
            self.later(self.app.notify, f"{counted(gone, 'connection')} deleted")
        except FAILURES as error:
            self.later(self._fail, str(error))
        self.later(self.list_now)


def _key(connection: Mapping[str, Any]) -> Hashable:
    return connection["instance"], connection["origin"], connection["protocol"], ends(connection), connection["icmp_id"]


def _cells(connection: Mapping[str, Any]) -> tuple[Text, ...]:
    source, destination = (host_port(*end) for end in ends(connection))
    cut = connection["disconnected"]
    return (
        cell(source),
        cell(destination),
        cell(connection["protocol"]),
        cell("cut" if cut else connection["state"], "bold red" if cut else ""),
        rate(round(connection["idle"], 1)),
        rate(round(connection["expires_in"], 1)),
        cell(connection["instance"]),
        cell(connection["rule"] or "-"),
    )


def _has(connection: Mapping[str, Any], words: list[str]) -> bool:
    line = " ".join(cell.plain for cell in _cells(connection)).lower()
    return all(word in line for word in words)


def _words(connection: Mapping[str, Any]) -> str:
    source, destination = (host_port(*end) for end in ends(connection))
    number = f" id {connection['icmp_id']}" if connection["icmp_id"] is not None else ""
    return printable(f"{connection['protocol']} {source} > {destination}{number}")


class Details(Answering, ModalScreen[None]):
    """A connection in full, with why."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "back")]

    def __init__(self, connection: dict[str, Any]) -> None:
        super().__init__()
        self._connection = connection

    def compose(self) -> ComposeResult:
        connection = self._connection
        facts = [
            ("state", f"{connection['state']}{', cut by a change' if connection['disconnected'] else ''}"),
            ("instance", f"{connection['instance']}, {connection['origin']}"),
            ("rule", f"{connection['rule'] or '-'} of {connection['security_group'] or '-'}"),
            ("idle", f"{connection['idle']:.1f} s"),
            ("left", f"{connection['expires_in']:.1f} s"),
        ]
        with VerticalScroll(classes="box"):
            yield Static(Text(_words(connection), "bold"))
            for name, value in facts:
                yield Static(Text.assemble((f"{name:10}", "dim"), printable(value)))
            yield Static("", id="why")
            yield Static(Text("esc: back", "dim"))

    def on_mount(self) -> None:
        self.query_one("#why", Static).update(Text("asking the firewall ...", "dim"))
        self._explain()

    @work(thread=True, exit_on_error=False)
    def _explain(self) -> None:
        try:
            told = next_packet(self.app.asker, self._connection)  # type: ignore[attr-defined]
        except FAILURES as error:
            self.later(self._show, Told("deny", (str(error),)))
            return
        self.later(self._show, told)

    def _show(self, told: Told) -> None:
        first, *more = map(printable, told.lines)
        lines = [
            Text(f"\n{first}"),
            *(Text(line, LOOKS[told.verdict] if n == 0 else "") for n, line in enumerate(more)),
        ]
        if self.is_mounted:
            self.query_one("#why", Static).update(Text("\n").join(lines))


class Question(ModalScreen[bool]):
    """Whether a connection is to be taken out."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "yes"),
        Binding("n,escape,enter,q", "dismiss(False)", "no"),
    ]

    def __init__(self, connection: dict[str, Any]) -> None:
        super().__init__()
        self._connection = connection

    def compose(self) -> ComposeResult:
        what = "Its next packet is a new one, judged by the rules."
        if self._connection["icmp_id"] is not None:
            what = f"All queries between the two go, whatever their id. {what}"
        with Vertical(classes="box"):
            yield Static(
                Text(f"Delete {_words(self._connection)} at {printable(self._connection['instance'])}?", "bold")
            )
            yield Static(what)
            yield Static(Text("y: delete   n: keep", "dim"))
