"""Denied packets as they come, and the flows denied most."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import RichLog, Static

from dataplane.live.client import ControlClient, RefusedError, UnreachableError
from dataplane.screen.panes import Pane, Rows, cell, number
from dataplane.terminal import host_port, printable

#: So many are taken a second, and so many lines kept.
RATE, KEPT = 50.0, 1000
_AGAIN_SECONDS = 1.0


class Drops(Pane):
    """Asks for denied packets only while it is looked at."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "hold", "hold"), Binding("c", "clear", "clear")]

    def __init__(self, *children: Any, **options: Any) -> None:
        super().__init__(*children, **options)
        self._held = False
        self._client: ControlClient | None = None
        self._stopped = threading.Event()

    def compose(self) -> ComposeResult:
        yield Static("Flows denied most", classes="title")
        yield Rows("denied", ("instance", "flow", "why", "packets"), right=("packets",), elided=("instance",))
        yield Static("Denied packets", id="drops-title", classes="title")
        yield RichLog(id="drops", max_lines=KEPT, wrap=True, min_width=20, markup=False, highlight=False)

    def read(self) -> None:
        found = self.top.seen.counters["denied_flows"]
        self.query_one("#denied", Rows).show(
            [
                (
                    number_of,
                    (
                        cell(flow["instance"]),
                        cell(flow_words(flow)),
                        cell(flow["cause"] or flow["reason"]),
                        number(flow["packets"]),
                    ),
                )
                for number_of, flow in enumerate(found)
            ]
        )

    # ---- as they come ----

    def begin(self) -> None:
        """It is looked at."""
        self.end()
        self._stopped = threading.Event()
        self._follow(self._stopped)

    def end(self) -> None:
        """It is not looked at any more."""
        self._stopped.set()
        if client := self._client:
            client.abort()

    def on_unmount(self) -> None:
        self.end()

    @work(thread=True, group="drops", exit_on_error=False)
    def _follow(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            try:
                with ControlClient(self.top.asker.socket) as client:
                    self._client = client
                    # Whoever stopped it may not have seen the client yet.
                    if not stopped.is_set():
                        for drop in client.stream("drops", rate=RATE):
                            self.later(self._show, drop)
            except (UnreachableError, RefusedError):
                # The head of the screen says why; it is tried again.
                stopped.wait(_AGAIN_SECONDS)

    def _show(self, drop: dict[str, Any]) -> None:
        if self._held:
            return
        log = self.query_one("#drops", RichLog)
        when = datetime.fromtimestamp(drop["time"]).strftime("%H:%M:%S.%f")[:-3]
        why = drop["cause"] or drop["reason"] or "-"
        named = f" by {drop['rule']}" if drop["rule"] else ""
        at = f"{drop['direction']} {drop['instance']}" if drop["instance"] else drop["port"]
        more = f" (and {drop['suppressed']:,} more before it)" if drop.get("suppressed") else ""
        log.write(Text(printable(f"{when} {flow_words(drop)}  {why}{named}  {at}{more}")))

    def action_hold(self) -> None:
        """Holds what is there, or goes on."""
        self._held = not self._held
        held = " (held: space goes on)" if self._held else ""
        self.query_one("#drops-title", Static).update(f"Denied packets{held}")

    def action_clear(self) -> None:
        """Takes away what is there."""
        self.query_one("#drops", RichLog).clear()


def flow_words(flow: dict[str, Any]) -> str:
    """A flow of the control socket as packets are written."""
    if flow["protocol"] is None:
        return "no IP"
    source, destination = (host_port(flow[side], flow[f"{side}_port"] or None) for side in ("source", "destination"))
    return f"{flow['protocol']} {source} > {destination}"
