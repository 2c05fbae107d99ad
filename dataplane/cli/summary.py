"""A replay's summary for a person at a terminal."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.table import Table
from rich.text import Text

from dataplane.cli import denied_flows
from dataplane.policy import times
from dataplane.replay.run import disconnected_words
from dataplane.terminal import console as terminal

if TYPE_CHECKING:
    from rich.console import Console

    from dataplane.replay.summary import Summary

_COLOURS = {"allow": "green", "deny": "red", "bypass": "yellow"}


def print_summary(summary: Summary, stream: TextIO, *, top: int) -> None:
    """Prints all parts of a summary that have something to say."""
    console = terminal(stream)
    _print_verdicts(console, summary)
    _print_reasons(console, summary)
    _print_connections(console, summary)
    _print_rules(console, summary, top)
    _print_denied(console, summary)
    _print_changes(console, summary)
    _print_speed(console, summary)
    for sentence in summary.advice:
        console.print(Text(sentence, "yellow"), soft_wrap=True)


def _table(title: str, *columns: tuple[str, str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, side in columns:
        table.add_column(name, justify="right" if side == "right" else "left", overflow="fold")
    return table


def _count(number: int) -> str:
    return f"{number:,}"


def _print_verdicts(console: Console, summary: Summary) -> None:
    table = _table("Packets", ("verdict", "left"), ("packets", "right"), ("bytes", "right"), ("share", "right"))
    for word in ("allow", "deny", "bypass"):
        traffic = summary.verdicts[word]
        share = f"{traffic.packets / summary.packets:.1%}" if summary.packets else "-"
        table.add_row(Text(word, _COLOURS[word]), _count(traffic.packets), _count(traffic.bytes), share)
    console.print(table)


def _print_reasons(console: Console, summary: Summary) -> None:
    if not summary.reasons:
        return
    table = _table(
        "Checks by reason", ("verdict", "left"), ("reason", "left"), ("packets", "right"), ("bytes", "right")
    )
    for count in summary.reasons:
        table.add_row(
            Text(count.verdict, _COLOURS[count.verdict]), count.reason, _count(count.packets), _count(count.bytes)
        )
    console.print(table)
    if summary.causes:
        words = ", ".join(f"{cause} {_count(traffic.packets)}" for cause, traffic in summary.causes.items())
        console.print(f"Invalid or malformed because of: {words}\n")


def _print_connections(console: Console, summary: Summary) -> None:
    c = summary.connections
    states = ", ".join(f"{state} {_count(number)}" for state, number in c.by_state.items()) or "none"
    words = [f"{_count(c.opened)} opened", f"{_count(c.expired)} expired"]
    for number, word in (
        (c.replaced, "replaced by a new one on the same ports"),
        (c.disconnected, "disconnected by changes"),
        (c.resynchronised, "times resynchronised"),
        (c.early_drops, "dropped early to make room"),
    ):
        if number:
            words.append(f"{_count(number)} {word}")
    console.print(Text("Connections", "bold"))
    console.print(f"{', '.join(words)}; live at the end: {states}")
    if c.table_full:
        console.print(
            Text(
                f"The connection table was full: {_count(c.table_full)} new connections were denied as table-full "
                f"(conntrack.max_entries is {_count(c.max_entries)}).",
                "bold red",
            )
        )
    for word, flood in summary.floods.items():
        if flood.dropped_early or flood.refused:
            console.print(
                f"Full table, {word}: {_count(flood.dropped_early)} dropped early, {_count(flood.refused)} refused "
                f"({_count(flood.refused_over_share)} beyond the instance's share)",
                soft_wrap=True,
            )
    fragments = summary.fragments
    if fragments.datagrams_evicted or fragments.evicted or fragments.expired or fragments.refused:
        console.print(
            f"Fragments: {_count(fragments.datagrams_evicted)} datagrams gave way to others; of fragments that waited, "
            f"{_count(fragments.evicted)} were denied with them, {_count(fragments.expired)} after 30 s, "
            f"{_count(fragments.refused)} for want of room",
            soft_wrap=True,
        )
    console.print()


def _print_rules(console: Console, summary: Summary, top: int) -> None:
    hit = summary.counted_rules
    if hit:
        table = _table(
            "Rules",
            ("rule", "left"),
            ("security group", "left"),
            ("hits", "right"),
            ("packets", "right"),
            ("bytes", "right"),
        )
        for rule in hit[:top]:
            table.add_row(rule.rule, rule.security_group, _count(rule.hits), _count(rule.packets), _count(rule.bytes))
        console.print(table)
        if len(hit) > top:
            console.print(f"and {_count(len(hit) - top)} more {'rule' if len(hit) == top + 1 else 'rules'} with hits\n")
    never = [rule for rule, _ in summary.never_hit]
    if never:
        more = f" and {_count(len(never) - top)} more" if len(never) > top else ""
        console.print(f"Never hit ({_count(len(never))}): {', '.join(never[:top])}{more}\n", soft_wrap=True)


def _print_denied(console: Console, summary: Summary) -> None:
    if not summary.denied_flows:
        return
    sides = ("left", "left", "left", "left", "right", "right")
    table = _table("Flows denied most", *zip(denied_flows.COLUMNS, sides, strict=True))
    for row in denied_flows.rows(map(asdict, summary.denied_flows)):
        about = "≤ " if row.at_most else ""
        table.add_row(*row[:4], about + _count(row.packets), _count(row.bytes))
    console.print(table)


def _print_changes(console: Console, summary: Summary) -> None:
    if not summary.changes:
        return
    table = _table("Changes", ("at", "right"), ("change", "left"), ("effect", "left"))
    for applied in summary.changes:
        table.add_row(times.words(applied.change.at), applied.change.change.summary, disconnected_words(applied.result))
    console.print(table)


def _print_speed(console: Console, summary: Summary) -> None:
    captures = len(summary.captures)
    console.print(
        f"{_count(summary.packets)} packets, {_count(summary.bytes)} bytes from {captures} "
        f"capture{'' if captures == 1 else 's'} in {summary.elapsed:.3f} s: "
        f"{summary.packets_per_second / 1e6:.2f} million packets/s",
        soft_wrap=True,
    )
    for capture in summary.captures:
        for link in capture.strange_links:
            console.print(
                f"{capture.name}: {_count(link.packets)} packet{'' if link.packets == 1 else 's'} "
                f"of link type {link.link_type} ({link.name or 'unknown'}), which is not supported: bypass",
                soft_wrap=True,
            )
    if summary.time_backwards:
        console.print(
            f"{_count(summary.time_backwards)} packets have a time before an earlier packet's; they were judged at the "
            "latest time seen",
            soft_wrap=True,
        )
