"""The screen as a whole: its head, its panes, and the readings that they show."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Static, TabbedContent, TabPane

from dataplane.live.client import NOT_UNDERSTOOD, RefusedError, UnreachableError, another_version
from dataplane.screen.changes import Changes
from dataplane.screen.connections import Connections
from dataplane.screen.drops import Drops
from dataplane.screen.panes import Answering, Pane
from dataplane.screen.requests import Asker
from dataplane.screen.rules import Rules
from dataplane.screen.traffic import Traffic
from dataplane.screen.watch import Watch, figure
from dataplane.terminal import printable

PANES: dict[str, tuple[str, type[Pane]]] = {
    "traffic": ("Traffic", Traffic),
    "connections": ("Connections", Connections),
    "drops": ("Drops", Drops),
    "rules": ("Rules", Rules),
    "changes": ("Changes", Changes),
}


class Top(Answering, App[None]):
    """A running firewall, read every `interval` seconds; with `read_only` nothing can be changed from here.

    A firewall that is gone is waited for: the head of the screen says so, and what was read last stays.
    """

    TITLE = "dataplane top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 2; padding: 0 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; }
    #head.gone { background: $error; color: $text; height: auto; max-height: 4; text-wrap: wrap; }
    TabbedContent { height: 1fr; }
    TabPane { padding: 0; }
    .title { padding: 0 1; text-style: bold; height: auto; max-height: 3; }
    .told { padding: 0 1; height: auto; max-height: 8; }
    Rows { height: auto; max-height: 1fr; }
    #ports, #denied { max-height: 45%; }
    #reasons, #connections, #rules, #changes, #drops { height: 1fr; max-height: 1fr; }
    #filter { height: 1; border: none; padding: 0 1; }
    ModalScreen { align: center middle; }
    .box { width: 90%; max-width: 100; height: auto; max-height: 90%; padding: 1 2; background: $surface;
           border: round $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(key), f"pane('{name}')", title, show=False)
            for key, (name, (title, _)) in enumerate(PANES.items(), 1)
        ),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, socket: str, *, interval: float = 1.0, read_only: bool = False) -> None:
        super().__init__()
        self.asker = Asker(socket)
        self.seen = Watch()
        self.read_only = read_only
        self._interval = interval
        self._ending = threading.Event()
        self._gone: str | None = None

    def compose(self) -> ComposeResult:
        yield Static("", id="head")
        with TabbedContent(initial="pane-traffic"):
            for number, (name, (title, pane)) in enumerate(PANES.items(), 1):
                with TabPane(f"{number} {title}", id=f"pane-{name}"):
                    yield pane()
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self._head()
        self._read_on()

    def on_unmount(self) -> None:
        self._ending.set()
        self.asker.abort()

    # ---- readings ----

    @work(thread=True, exit_on_error=False)
    def _read_on(self) -> None:
        while not self._ending.is_set():
            try:
                reading = self.asker.reading()
            except (UnreachableError, RefusedError) as error:
                self.later(self._lost, str(error))
            else:
                self.later(self._take, *reading)
            self._ending.wait(self._interval)
        self.asker.close()

    def _take(self, status: dict[str, Any], counters: dict[str, Any], at: float) -> None:
        if self._ending.is_set():
            return
        try:
            self._gone = None
            self.seen.read(status, counters, at)
            self._head()
            self._pane.read()
        except NOT_UNDERSTOOD as error:
            self.seen = Watch()
            self._lost(another_version(error))

    def _lost(self, why: str) -> None:
        if not self._ending.is_set():
            self._gone = why
            self._head()

    def _head(self) -> None:
        head = self.query_one("#head", Static)
        head.set_class(self._gone is not None, "gone")
        status = self.seen.status
        if self._gone is not None:
            before = "; below is what it said last" if status else ""
            head.update(Text(f"{printable(self._gone)}\ntrying again every {self._interval:g} s{before}"))
            return
        if not status:
            head.update("asking the firewall ...")
            return
        rates = self.seen.rates
        uptime = timedelta(seconds=round(status["uptime"]))
        unsaved = f", {status['unsaved_changes']} unsaved" if status["unsaved_changes"] else ""
        # What is too long is at the end.
        policy = f"generation {status['generation']}{unsaved}  {status['policy']}"
        first = f"dataplane {status['version']}  up {uptime}  {policy}"
        second = Text.assemble(
            (f"{figure(rates['verdict', 'allow'].now)}/s allowed", "green"),
            "  ",
            (f"{figure(rates['verdict', 'deny'].now)}/s denied", "bold red"),
            f"  {status['connections']:,} of {status['connections_limit']:,} connections",
            f"  {figure(rates['connections', 'opened'].now)}/s new",
            "  read only" if self.read_only else "",
        )
        head.update(Text("\n").join([Text(printable(first), no_wrap=True, overflow="ellipsis"), second]))

    # ---- panes ----

    @property
    def _pane(self) -> Pane:
        return self.query_one(TabbedContent).get_pane(self.query_one(TabbedContent).active).query_one(Pane)

    def shows(self, pane: Pane) -> bool:
        """Whether this pane is the one that is looked at."""
        return self._pane is pane

    def action_pane(self, name: str) -> None:
        """To another pane."""
        # Where the focus is would bring its own pane back.
        self.set_focus(None)
        self.query_one(TabbedContent).active = f"pane-{name}"

    def on_tabbed_content_tab_activated(self, event: TabbedContent.TabActivated) -> None:
        pane = self._pane
        if event.pane is not pane.parent:
            # Another one was asked for meanwhile.
            return
        drops = self.query_one(Drops)
        if pane is drops:
            drops.begin()
        else:
            drops.end()
        if self.seen.status:
            pane.read()
        if isinstance(pane, Connections):
            pane.begin()
        elif pane.query("Rows, RichLog"):
            pane.query("Rows, RichLog").last().focus()
