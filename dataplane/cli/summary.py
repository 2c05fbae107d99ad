"""A replay's summary for a person at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.table import Table
from rich.text import Text

from dataplane.cli import denied_flows
from dataplane.policy import times
from dataplane.replay.run import disconnected_words
from dataplane.terminal import console as terminal
from dataplane.terminal import counted, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from dataplane.replay.summary import Summary

VERDICT_COLOURS = {"allow": "green", "deny": "red", "bypass": "yellow"}


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
        console.print(Text(sentence, "yellow"))


def titled_table(title: str, *columns: tuple[str, str]) -> Table:
    """A table; columns are names with the side that they keep to."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, side in columns:
        table.add_column(name, justify="right" if side == "right" else "left", overflow="fold")
    return table


def figure(number: int) -> str:
    """A number for people."""
    return f"{number:,}"


def _print_verdicts(console: Console, summary: Summary) -> None:
    table = titled_table("Packets", ("verdict", "left"), ("packets", "right"), ("bytes", "right"), ("share", "right"))
    for word in ("allow", "deny", "bypass"):
        traffic = summary.verdicts[word]
        share = f"{traffic.packets / summary.packets:.1%}" if summary.packets else "-"
        table.add_row(Text(word, VERDICT_COLOURS[word]), figure(traffic.packets), figure(traffic.bytes), share)
    print_table(console, table)


def _print_reasons(console: Console, summary: Summary) -> None:
    if not summary.reasons:
        return
    table = titled_table(
        "Checks by reason", ("verdict", "left"), ("reason", "left"), ("packets", "right"), ("bytes", "right")
    )
    for count in summary.reasons:
        table.add_row(
            Text(count.verdict, VERDICT_COLOURS[count.verdict]),
            count.reason,
            figure(count.packets),
            figure(count.bytes),
        )
    print_table(console, table)
    if summary.causes:
        words = ", ".join(f"{cause} {figure(traffic.packets)}" for cause, traffic in summary.causes.items())
        console.print(f"Invalid or malformed because of: {words}\n")


def _print_connections(console: Console, summary: Summary) -> None:
    c = summary.connections
    states = ", ".join(f"{state} {figure(number)}" for state, number in c.by_state.items()) or "none"
    words = [f"{figure(c.opened)} opened", f"{figure(c.expired)} expired"]
    for number, word in (
        (c.replaced, "replaced by a new one on the same ports"),
        (c.disconnected, "disconnected by changes"),
        (c.resynchronised, "times resynchronised"),
        (c.early_drops, "dropped early to make room"),
    ):
        if number:
            words.append(f"{figure(number)} {word}")
    console.print(Text("Connections", "bold"))
    console.print(f"{', '.join(words)}; live at the end: {states}")
    if c.table_full:
        console.print(
            Text(
                f"The connection table was full: {figure(c.table_full)} new connections were denied as table-full "
                f"(conntrack.max_entries is {figure(c.max_entries)}).",
                "bold red",
            )
        )
    for word, flood in summary.floods.items():
        if flood.dropped_early or flood.refused:
            console.print(
                f"Full table, {word}: {figure(flood.dropped_early)} dropped early, {figure(flood.refused)} refused "
                f"({figure(flood.refused_over_share)} beyond the instance's share)",
            )
    fragments = summary.fragments
    if fragments.datagrams_evicted or fragments.evicted or fragments.expired or fragments.refused:
        console.print(
            f"Fragments: {figure(fragments.datagrams_evicted)} datagrams gave way to others; of fragments that waited, "
            f"{figure(fragments.evicted)} were denied with them, {figure(fragments.expired)} after 30 s, "
            f"{figure(fragments.refused)} for want of room",
        )
    console.print()


def _print_rules(console: Console, summary: Summary, top: int) -> None:
    hit = summary.counted_rules
    if hit:
        table = titled_table(
            "Rules",
            ("rule", "left"),
            ("security group", "left"),
            ("hits", "right"),
            ("packets", "right"),
            ("bytes", "right"),
        )
        for rule in hit[:top]:
            table.add_row(rule.rule, rule.security_group, figure(rule.hits), figure(rule.packets), figure(rule.bytes))
        print_table(console, table)
        if len(hit) > top:
            console.print(f"and {figure(len(hit) - top)} more {'rule' if len(hit) == top + 1 else 'rules'} with hits\n")
    never = [rule for rule, _ in summary.never_hit]
    if never:
        more = f" and {figure(len(never) - top)} more" if len(never) > top else ""
        console.print(f"Never hit ({figure(len(never))}): {', '.join(never[:top])}{more}\n")


def _print_denied(console: Console, summary: Summary) -> None:
    if not summary.denied_flows:
        return
    sides = ("left", "left", "left", "left", "right", "right")
    table = titled_table("Flows denied most", *zip(denied_flows.COLUMNS, sides, strict=True))
    for row in denied_flows.rows(flow.to_dict() for flow in summary.denied_flows):
        about = "≤ " if row.at_most else ""
        table.add_row(*row[:4], about + figure(row.packets), figure(row.bytes))
    print_table(console, table)


def _print_changes(console: Console, summary: Summary) -> None:
    if not summary.changes:
        return
    table = titled_table("Changes", ("at", "right"), ("change", "left"), ("effect", "left"))
    for applied in summary.changes:
        table.add_row(times.words(applied.change.at), applied.change.change.summary, disconnected_words(applied.result))
    print_table(console, table)


def _print_speed(console: Console, summary: Summary) -> None:
    captures = len(summary.captures)
    console.print(
        f"{counted(summary.packets, 'packet')}, {counted(summary.bytes, 'byte')} from {counted(captures, 'capture')} "
        f"in {summary.elapsed:.3f} s: "
        f"{summary.packets_per_second / 1e6:.2f} million packets/s",
    )
    for capture in summary.captures:
        for link in capture.strange_links:
            console.print(
                f"{capture.name}: {figure(link.packets)} packet{'' if link.packets == 1 else 's'} "
                f"of link type {link.link_type} ({link.name or 'unknown'}), which is not supported: bypass",
            )
    if summary.time_backwards:
        console.print(
            f"{counted(summary.time_backwards, 'packet')} came with a time before an earlier packet's, judged at "
            "the latest time seen",
        )
