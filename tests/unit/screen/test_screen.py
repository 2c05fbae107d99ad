"""The screen (docs/top.md), driven by keys against a control service at a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, TabbedContent

from dataplane._core import lib
from dataplane.live.client import UnreachableError
from dataplane.screen.app import Top
from dataplane.screen.connections import read_filter
from dataplane.screen.panes import Rows
from dataplane.screen.requests import Asker
from tests.unit.live.scene import filled
from tests.unit.live.served import Served, serving

ROOT = Path(__file__).resolve().parents[3]
INTERVAL = 0.15
SECONDS = 20.0


@contextlib.contextmanager
def firewall(folder: Path) -> Iterator[Served]:
    """A firewall that answers, until all who asked have left: its loop ends only then."""
    with serving(folder, filled()) as made:
        yield made
        ends = time.monotonic() + SECONDS
        while _clients(made.socket) > 1 and time.monotonic() < ends:
            time.sleep(INTERVAL)


def _clients(socket: Path) -> int:
    """How many sockets there are of this name: the one that listens, and one for each client."""
    return Path("/proc/net/unix").read_text().count(f" {socket}\n")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with firewall(tmp_path) as made:
        yield made


def driven(
    socket: Path,
    story: Callable[[Pilot[None], Top], Awaitable[None]],
    *,
    size: tuple[int, int] = (80, 24),
    **options: Any,
) -> None:
    """Has a story happen to a screen."""

    async def run() -> None:
        app = Top(str(socket), interval=INTERVAL, **options)
        async with app.run_test(size=size) as pilot:
            await story(pilot, app)

    asyncio.run(run())


def seen(app: Top) -> str:
    """What is on the screen."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


async def until(pilot: Pilot[None], app: Top, *words: str) -> str:
    """Waits until all these words are on the screen."""
    for _ in range(round(SECONDS / INTERVAL)):
        if all(word in seen(app) for word in words):
            return seen(app)
        await pilot.pause(INTERVAL)
    raise AssertionError(f"{words} did not come:\n{seen(app)}")


async def until_gone(pilot: Pilot[None], app: Top, word: str) -> None:
    for _ in range(round(SECONDS / INTERVAL)):
        if word not in seen(app):
            return
        await pilot.pause(INTERVAL)
    raise AssertionError(f"{word} stays:\n{seen(app)}")


async def chosen(pilot: Pilot[None], app: Top, text: str) -> None:
    """The one connection that a filter leaves, with the cursor on it."""
    await pilot.press("2")
    await until(pilot, app, "5 connections;", "details")
    await pilot.press("slash")
    app.query_one("#filter", Input).value = text
    await pilot.press("enter")
    await until(pilot, app, "1 connection;", "details")


def sources(app: Top) -> list[str]:
    """The first column of the connections."""
    table = app.query_one("#connections", Rows)
    return [str(table.get_row_at(row)[0]) for row in range(table.row_count)]


def test_the_panes_say_what_the_firewall_says(served: Served) -> None:
    """At 80 by 24: status in the head, a pane for each number, and the keys at the foot."""

    async def story(pilot: Pilot[None], app: Top) -> None:
        first = await until(pilot, app, "generation 1", "5 of 1,048,576 connections", "1 Traffic", "q quit")
        assert all(len(line) <= 80 for line in first.splitlines())
        await pilot.press("4")
        rules = await until(pilot, app, "5 rules by hits", "listed")
        for rule in ("web", "in6", "self", "out"):
            assert rule in rules
        await pilot.press("5")
        await until(pilot, app, "none was changed since the start")
        served.change({"update_rule": {"id": "web", "multiport": "443"}})
        told = await until(pilot, app, "generation 2, 1 unsaved", "2 connections disconnected; a: 2")
        assert "rule web of security group sg updated" in told
        await pilot.press("1")
        await until(pilot, app, "Ports, packets a second")

    driven(served.socket, story)


def test_connections_are_sorted_and_filtered(served: Served) -> None:
    """By words that the firewall is asked for, and by any that a line has."""

    async def story(pilot: Pilot[None], app: Top) -> None:
        await pilot.press("2")
        await until(pilot, app, "5 connections; by idle")
        by_source = ["10.0.0.1", "10.0.0.1:5353", "192.0.2.9:40000", "192.0.2.9:40000", "[fd00::9]:40000"]
        assert sorted(sources(app)) == sorted(by_source)
        await pilot.press("s", "s")
        await until(pilot, app, "by source")
        assert sources(app) == by_source
        await pilot.press("r")
        await until(pilot, app, "by source, reversed")
        assert sources(app) == by_source[::-1]
        await pilot.press("slash", *"proto=tcp")
        await until(pilot, app, "3 connections")
        app.query_one("#filter", Input).value += " listed"
        await until(pilot, app, "1 of 3 connections")
        app.query_one("#filter", Input).value = "dport=0"
        await until(pilot, app, "dport=0: a port is a number from 1 to 65535")
        app.query_one("#filter", Input).value = "state=NONSENSE"
        await until(pilot, app, "NONSENSE")
        await pilot.press("escape", "5")
        assert app.query_one(TabbedContent).active == "pane-changes"

    driven(served.socket, story)


def test_a_filter_that_the_firewall_refuses_leaves_the_list_as_it_was(served: Served) -> None:
    """It says why, goes on listing by the filter of before, and shows what was deleted meanwhile."""

    async def story(pilot: Pilot[None], app: Top) -> None:
        await pilot.press("2")
        await until(pilot, app, "5 connections; by idle")
        app.query_one("#filter", Input).value = "proto=tcp"
        await until(pilot, app, "3 connections")
        for refused, why in (("dport=22", "a port needs a protocol"), ("proto=foo", "foo"), ("src=x", "x")):
            app.query_one("#filter", Input).value = refused
            await until(pilot, app, why)
            assert len(sources(app)) == 3
        served.call("conntrack", action="delete", selection={"protocol": "tcp", "destination": "fd00::1"})
        for _ in range(round(SECONDS / INTERVAL)):
            if len(sources(app)) == 2:
                break
            await pilot.pause(INTERVAL)
        assert len(sources(app)) == 2
        await until(pilot, app, "x")
        app.query_one("#filter", Input).value = ""
        await until(pilot, app, "4 connections")

    driven(served.socket, story)


def test_a_connection_is_explained(served: Served) -> None:
    """As `ctl explain` does: what becomes of its next packet, and why."""

    async def story(pilot: Pilot[None], app: Top) -> None:
        await chosen(pilot, app, "proto=tcp dport=80 src=192.0.2.9 instance=a")
        await pilot.press("enter")
        await until(
            pilot, app, "its next packet, tcp 192.0.2.9:40000 > 10.0.0.1:80 A", "allow: it belongs to a connection"
        )
        await pilot.press("escape")
        await until(pilot, app, "by idle")
        served.change({"delete_rule": {"id": "web"}})
        await until(pilot, app, " cut ")
        await pilot.press("enter")
        await until(pilot, app, "cut by a change", "deny: its connection was cut by a change of the policy")

    driven(served.socket, story)


def test_a_connection_is_deleted_after_a_question(served: Served) -> None:
    """Only that one, and only where the answer is yes."""

    async def story(pilot: Pilot[None], app: Top) -> None:
        await chosen(pilot, app, "proto=udp")
        await pilot.press("d")
        await until(pilot, app, "Delete udp 10.0.0.1:5353 > 192.0.2.53:53 at a?")
        await pilot.press("n")
        await until_gone(pilot, app, "Delete udp")
        assert served.call("conntrack", action="count")["count"] == 5
        await pilot.press("d")
        await until(pilot, app, "Delete udp")
        await pilot.press("y")
        await until(pilot, app, "0 connections;")
        assert served.call("conntrack", action="count")["count"] == 4

    driven(served.socket, story)


def test_who_may_only_read_changes_nothing(served: Served) -> None:
    """The head says so, the foot does not have the key, and the key does nothing."""

    async def story(pilot: Pilot[None], app: Top) -> None:
        await until(pilot, app, "read only")
        await chosen(pilot, app, "proto=udp")
        assert "d delete" not in seen(app)
        await pilot.press("d", "y")
        await pilot.pause(4 * INTERVAL)
        assert len(app.screen_stack) == 1
        assert served.call("conntrack", action="count")["count"] == 5

    driven(served.socket, story, size=(120, 24), read_only=True)


def test_denied_packets_come_as_they_are_denied(served: Served) -> None:
    """While the pane is looked at; they are held by space."""
    from dataplane._core import ffi

    def denied() -> None:
        item = ffi.new("struct dp_feed_item *")
        item.kind, item.record.verdict, item.record.checks = lib.DP_FEED_DENIED, lib.DP_DENY, 1
        check = item.record.check[0]
        check.zone, check.verdict, check.reason = 0, lib.DP_DENY, lib.DP_REASON_NO_RULE_MATCHED
        item.flow.family, item.flow.protocol, item.flow.transport = 4, 6, True
        item.flow.source[0:4], item.flow.destination[0:4] = [192, 0, 2, 66], [10, 0, 0, 1]
        item.flow.source_port, item.flow.destination_port = 4000, 23
        for subscription in list(served.operations.feed._subscriptions):
            subscription.offer(item)

    async def story(pilot: Pilot[None], app: Top) -> None:
        await pilot.press("3")
        await until(pilot, app, "Denied packets", "space hold")
        for _ in range(round(SECONDS / INTERVAL)):
            if served.operations.feed._subscriptions:
                break
            await pilot.pause(INTERVAL)
        served.service._control.submit(denied).result()
        told = await until(pilot, app, "tcp 192.0.2.66:4000 > 10.0.0.1:23  no-rule-matched  ingress a")
        assert told.count("192.0.2.66") == 1
        await pilot.press("space")
        await until(pilot, app, "held: space goes on")
        await pilot.press("1")
        for _ in range(round(SECONDS / INTERVAL)):
            if not served.operations.feed._subscriptions:
                break
            await pilot.pause(INTERVAL)
        assert not served.operations.feed._subscriptions

    driven(served.socket, story)


def test_a_firewall_that_is_gone_is_waited_for(tmp_path: Path) -> None:
    """One that is not there yet, one that ends, and one that is there again."""

    async def story(pilot: Pilot[None], app: Top) -> None:
        await until(pilot, app, "listens at the control socket", "trying again")
        for generation in (1, 2):
            with serving(tmp_path, filled()) as served:
                if generation == 2:
                    served.change({"delete_rule": {"id": "web"}})
                await until(pilot, app, f"generation {generation}", "of 1,048,576 connections")
            await until(pilot, app, "trying again", "below is what it said last")

    driven(tmp_path / "control", story)


def test_names_are_no_markup(tmp_path: Path) -> None:
    """What policies say is text, and stays on its line."""
    name = "[bold red]x[/]"
    with firewall(tmp_path) as served:
        served.change(
            {"add_rule": {"security_group": "sg", "rule": {"id": name, "direction": "ingress", "protocol": "gre"}}}
        )

        async def story(pilot: Pilot[None], app: Top) -> None:
            await pilot.press("4")
            await until(pilot, app, "[bold red]x[/]")
            await pilot.press("5")
            await until(pilot, app, "rule [bold red]x[/] added")

        driven(served.socket, story, size=(100, 24))


def test_figures_stay_on_the_screen_beside_a_long_id(tmp_path: Path) -> None:
    """At 80 columns: an id gives way in its middle, so that two that begin alike are told apart."""
    name = f"copy-of-{'6f9619ff-8b86-d011-b42d-00c04fc964ff-' * 3}"
    with firewall(tmp_path) as served:
        for last in ("one", "two"):
            rule = {"id": f"{name}{last}", "direction": "ingress", "protocol": "gre"}
            served.change({"add_rule": {"security_group": "sg", "rule": rule}})

        async def story(pilot: Pilot[None], app: Top) -> None:
            await pilot.press("4")
            told = await until(pilot, app, "7 rules by hits", "hits", "packets", "a second", "before")
            rows = [line for line in told.splitlines() if line.strip().startswith("copy-of-")]
            assert all("…" in line and " sg " in line for line in rows)
            assert [line.split()[0][-3:] for line in rows] == ["one", "two"]
            await pilot.resize_terminal(250, 24)
            await until(pilot, app, f"{name}one", f"{name}two")

        driven(served.socket, story)


@pytest.mark.parametrize("answer", [{}, {"pid": 1, "started": 2.0, "version": "9"}, {"pid": [], "ports": 5}])
def test_an_answer_of_another_version_is_told_in_a_sentence(
    served: Served, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    """By the screen, which goes on, and by `ctl`; nobody sees Python's own words alone."""
    monkeypatch.setattr(served.service, "status", lambda: answer)

    async def story(pilot: Pilot[None], app: Top) -> None:
        await until(pilot, app, "cannot be understood", "another version", "trying again")
        monkeypatch.undo()
        await until(pilot, app, "generation 1")

    driven(served.socket, story)
    monkeypatch.setattr(served.service, "status", lambda: answer)
    command = [sys.executable, "-m", "dataplane", "ctl", "--socket", str(served.socket), "status"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"the answer of the firewall cannot be understood \([^\n]+\): it is of another[^\n]+\n", done.stderr
    )


@pytest.mark.parametrize(
    ("text", "selection", "words"),
    [
        ("", {}, []),
        (
            "proto=tcp dport=22 src=10.0.0.0/8 web",
            {"protocol": "tcp", "destination_port": 22, "source": "10.0.0.0/8"},
            ["web"],
        ),
        (
            "state=ESTABLISHED origin=inbound instance=a sport=1 dst=::1",
            {"state": "ESTABLISHED", "origin": "inbound", "instance": "a", "source_port": 1, "destination": "::1"},
            [],
        ),
        ("other=1 FD00", {}, ["other=1", "fd00"]),
    ],
)
def test_a_filter(text: str, selection: dict[str, Any], words: list[str]) -> None:
    assert read_filter(text) == (selection, words)


# ---- the command ----


def test_it_needs_a_terminal(served: Served) -> None:
    """One sentence, with what to do instead."""
    done = subprocess.run(
        [sys.executable, "-m", "dataplane", "top", "--socket", str(served.socket)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("top needs a terminal: ")


def test_it_runs_at_a_terminal_and_ends_at_once(served: Served) -> None:
    """Also where the firewall does not answer: the screen does not wait for it to leave."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dataplane", "top", "--socket", str(served.socket)],
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
    )
    os.close(theirs)
    told = b""
    try:
        while b"generation 1" not in told:
            told += os.read(ours, 1 << 16)
        # The control thread is busy from here on.
        busy = served.service._control.submit(process.wait, 60)
        os.write(ours, b"q")
        while True:
            try:
                if not os.read(ours, 1 << 16):
                    break
            except OSError:
                break
        assert process.wait(60) == 0
        assert busy.result() == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_who_waits_for_a_firewall_that_is_busy_is_let_go(served: Served) -> None:
    """Whatever was asked, and nothing is asked anew."""
    asker = Asker(str(served.socket))
    asker.reading()
    free = threading.Event()
    busy = served.service._control.submit(free.wait, 60)
    requests: list[Callable[[], object]] = [asker.reading, lambda: asker.connections({}), lambda: asker.call("status")]
    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(request) for request in requests]
        asker.abort()
        for one in waiting:
            with pytest.raises(UnreachableError):
                one.result(SECONDS)
    with pytest.raises(UnreachableError):
        asker.reading()
    free.set()
    assert busy.result()
