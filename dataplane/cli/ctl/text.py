"""What `dataplane ctl` prints for people at a terminal."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from dataplane.cli import denied_flows
from dataplane.cli.output import say
from dataplane.terminal import console, counted, most_of, print_table, printable

_FLOWS_SHOWN = 20
#: The words before a command to the firewall that is asked unless another one is named.
_CTL = ("dataplane", "ctl")
#: What becomes of connections that a change cuts, by the policy's `on_change`.
_AFTER = {
    "hold": "What is disconnected stays so until its timeout, whatever the new rules allow; with conntrack.on_change:"
    " reevaluate in the policy they decide.",
    "reevaluate": "What is disconnected goes on where the new rules allow the next packet of who opened it"
    " (conntrack.on_change: reevaluate).",
}


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under a head, numbers to the right; nothing where there are none. Text is folded where a terminal ends."""
    from rich.table import Table

    cells = list(rows)
    if not cells:
        return
    made = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for i, name in enumerate(columns):
        is_number = all(isinstance(row[i], int) for row in cells)
        made.add_column(name, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    for row in cells:
        made.add_row(*(f"{cell:,}" if isinstance(cell, int) else printable(str(cell)) for cell in row))
    say("")
    print_table(console(sys.stdout), made, indent=2)


def _print_store(store: Mapping[str, Any]) -> None:
    """How far this host is in the store that it shares with others."""
    behind = store["newest"] - store["change"]
    newer = f"; {counted(behind, 'newer change')} there" if behind > 0 else ""
    since = f", away since {moment(store['away_since'])}" if store["away_since"] else ""
    say(f"  change {store['change']} of the store is in force{newer}{since}")
    if store["error"]:
        say(f"  {store['error']}")


def print_status(status: Mapping[str, Any], *, command: Sequence[str] = _CTL) -> None:
    """The firewall at a glance; `command` is before each command to the same firewall."""
    ctl = shlex.join(command)
    uptime = timedelta(seconds=round(status["uptime"]))
    loaded = moment(status["loaded"])
    unsaved = status["unsaved_changes"]
    refused = f" ({status['io_uring_error']})" if status["io_uring_error"] else ""
    say(
        f"dataplane {status['version']}, pid {status['pid']}, up {uptime}, {counted(status['workers'], 'worker')}"
        f" {'with' if status['io_uring'] else 'without'} io_uring{refused}"
    )
    say(f"policy {status['policy']}, generation {status['generation']}, loaded {loaded}")
    if unsaved:
        say(f"  not in this file: {counted(unsaved, 'change')} since then; {_kept(status['policy'], unsaved, ctl)}")
    if status.get("held_back"):
        say(f"  this file is not in force: its last reload was not confirmed; {ctl} reload puts it in force")
    if store := status.get("store"):
        _print_store(store)
    if waiting := status.get("waiting"):
        by = ", ".join(f"{name} {value}" for name, value in waiting["by"].items())
        say(f"  to be confirmed, else taken back {_until(waiting)}: {waiting['change']} (by {by})")
    say(
        f"{counted(status['instances'], 'instance')}, {counted(status['security_groups'], 'security group')}, "
        f"{counted(status['rules'], 'rule')}"
    )
    say(
        f"{counted(status['connections'], 'connection')} of at most {status['connections_limit']:,}"
        + (f", {status['early_drops']:,} dropped early to make room" if status["early_drops"] else "")
    )
    if replication := status.get("replication"):
        say(_replication(replication))
    refused, reason = status["refused_system_calls"], status["unfiltered_because"]
    if status.get("shadow"):
        say(f"beside it judges {status['shadow']['policy']}: `{ctl} shadow report` says what it would change")
    say(f"{refused} system calls are forbidden to it" if refused else f"system calls are not filtered: {reason}")
    table(
        "Ports",
        ("port", "kind", "behind it", "state"),
        [
            (
                port["port"],
                port["kind"],
                port["instance"] or port["load_balancer"] or "(uplink)",
                port["error"] or "up",
            )
            for port in status["ports"]
        ]
        + [(name, "-", "-", "missing: served once it is there") for name in status["missing_interfaces"]],
    )


def _replication(side: Mapping[str, Any]) -> str:
    """How a standby stands, or this firewall as one."""
    other = "; it has another policy: load the same in both" if side.get("same_policy") is False else ""
    if side["role"] == "standby":
        held = sum(side["received"].get(word, 0) for word in ("taken", "updated"))
        heard = (
            f"of {side['peer']}, heard {side['lag']:.1f} s ago"
            if side["connected"]
            else "and nobody replicates to here"
        )
        return f"standby {heard}; {held:,} tellings of connections taken{other}"
    if not side["connected"]:
        return f"the standby {side['peer']} cannot be reached: it is tried again"
    lost = f"; {side['lost']:,} deletions lost" if side["lost"] else ""
    return f"the standby {side['peer']} is {side['lag']:.1f} s behind{lost}{other}"


def _kept(file: str, unsaved: int, ctl: str) -> str:
    """What becomes of changes that are in memory only."""
    them = "it" if unsaved == 1 else "them"
    return f"a reload or a restart takes {them} back; `{ctl} policy {shlex.quote(file)}` keeps {them}"


def print_change(answer: Mapping[str, Any], *, command: Sequence[str] = _CTL) -> None:
    """What a change, or a reload, did or would do; `command` is before each command to the same firewall."""
    ctl = shlex.join(command)
    cut, dry = answer["disconnected"], answer["dry_run"]
    if taken_back := answer.get("taken_back"):
        are = "would be" if dry else "is" if taken_back == 1 else "are"
        say(f"{counted(taken_back, 'change')} in memory {are} taken back")
    for warning in answer.get("warnings", ()):
        say(f"warning: {warning}", err=True)
    for rule in answer.get("new_rules", ()):
        say(f"rule {rule}")
    if not answer["changed"]:
        say("Nothing changes." if dry else "Nothing changed.")
        return
    print_cut(cut, "would be disconnected" if dry else "disconnected", answer.get("on_change"))
    if waiting := answer.get("waiting"):
        say(f"It is taken back {_until(waiting)}, unless it is confirmed: {ctl} confirm")
    if not dry and "policy_file" in answer:
        unsaved, file = answer["unsaved_changes"], answer["policy_file"]
        if not unsaved:
            say(f"It is kept in {file}{' once it is confirmed' if waiting else ''}.")
            return
        what = "This change is" if unsaved == 1 else f"This change and {counted(unsaved - 1, 'change')} before it are"
        say(f"{what} in memory only, not in {file}: {_kept(file, unsaved, ctl)}.")


def print_cut(cut: Mapping[str, Any], verb: str, on_change: str | None = None) -> None:
    """How many connections were, or would be, disconnected, and what becomes of them (SPEC 5.3, 5.7)."""
    say(f"{counted(cut['total'], 'connection')} {verb}")
    for instance, number in most_of(cut["by_instance"]):
        say(f"  {instance}: {number:,}")
    if cut["revoked"]:
        say(f"  by a changed remote group: {cut['revoked']:,}")
    if cut["total"] and on_change:
        say(_AFTER[on_change])


def _until(waiting: Mapping[str, Any]) -> str:
    return f"in {waiting['seconds_left']:.0f} s, at {moment(waiting['until'])}"


def print_confirmation(answer: Mapping[str, Any]) -> None:
    """What became of a change that waited for its confirmation."""
    for warning in answer["warnings"]:
        say(f"warning: {warning}", err=True)
    if answer["confirmed"]:
        say(f"Confirmed: {answer['change']}")
        return
    say(f"Taken back: {answer['change']}")
    cut = answer["disconnected"]
    say(f"{counted(cut['total'], 'connection')} disconnected")
    for instance, number in most_of(cut["by_instance"]):
        say(f"  {instance}: {number:,}")


def print_difference(found: Mapping[str, Any]) -> None:
    """What a change would do to live connections."""
    for warning in found["warnings"]:
        say(f"warning: {warning}", err=True)
    changed = found["connections"]["changed"]
    print_cut(found["disconnected"], "would be disconnected")
    say(f"{counted(changed, 'connection')} would stay, and the new rules would deny {'it' if changed == 1 else 'them'}")
    table(
        "By rule",
        ("admitted by", "new rule", "stay", "disconnected"),
        [
            (pair["old"] or "-", pair["new"] or "(none matches)", pair["connections"], pair["disconnected"])
            for pair in found["rules"]
        ],
    )
    table(
        "Connections that stay and would be denied",
        ("instance", "connection", "admitted by", "new rule"),
        [
            (flow["instance"], flow["flow"], flow["old"]["rule"] or "-", flow["new"]["rule"] or "(none matches)")
            for flow in found["flows"][:_FLOWS_SHOWN]
        ],
    )
    if changed > _FLOWS_SHOWN:
        say(f"  and {changed - _FLOWS_SHOWN:,} more")


def print_counters(counters: Mapping[str, Any]) -> None:
    """All counters that are not 0; a firewall of before has fewer."""
    table(
        "Packets",
        ("verdict", "packets", "bytes"),
        [(word, c["packets"], c["bytes"]) for word, c in counters["verdicts"].items()],
    )
    table(
        "Checks by reason",
        ("verdict", "reason", "packets", "bytes"),
        [(c["verdict"], c["reason"], c["packets"], c["bytes"]) for c in counters["checks"]],
    )
    before = counters.get("consequences", {})
    table(
        "Invalid or malformed because of",
        ("cause", "packets", "bytes", "of flows denied before"),
        [(word, c["packets"], c["bytes"], before.get(word, 0)) for word, c in counters["causes"].items()],
    )
    table(
        "Checks by state",
        ("state", "packets", "bytes"),
        [(word, c["packets"], c["bytes"]) for word, c in counters.get("states", {}).items()],
    )
    # `limit` is `max_entries` too.
    connections = [item for item in counters["connections"].items() if item[0] != "limit"]
    table("Connections", ("what", "number"), [(name.replace("_", " "), number) for name, number in connections])
    floods = {word: found for word, found in counters.get("floods", {}).items() if any(found.values())}
    told = list(dict.fromkeys(name for found in floods.values() for name in found))
    table(
        "Full table",
        ("kind", *(name.replace("_", " ") for name in told)),
        [(word, *found.values()) for word, found in floods.items()],
    )
    table("Fragments", ("what", "number"), [item for item in counters.get("fragments", {}).items() if item[1]])
    table("Shadow", ("verdict", "packets"), list(counters.get("shadow", {}).items()))
    flow_records = counters.get("flow_records", {})
    lost = [(f"lost, {cause}", number) for cause, number in flow_records.get("lost", {}).items()]
    table("Flow records", ("what", "number"), [("told", flow_records.get("told", 0)), *lost] if flow_records else [])
    if counters.get("time_backwards"):
        table("Time", ("what", "packets"), [("ran backwards", counters["time_backwards"])])
    table(
        "Ports",
        ("port", "packets received", "bytes received", "packets sent", "bytes sent", "drops"),
        [
            (
                port["port"],
                *(port[way][what] for way in ("received", "sent") for what in ("packets", "bytes")),
                ", ".join(f"{word} {number:,}" for word, number in port["drops"].items()) or "-",
            )
            for port in counters["ports"]
        ],
    )
    table(
        "Rules",
        ("rule", "security group", "hits", "packets", "bytes"),
        [(r["rule"], r["security_group"], r["hits"], r["packets"], r["bytes"]) for r in counters["rules"]],
    )
    table("Flows denied most", denied_flows.COLUMNS, [row.cells for row in denied_flows.rows(counters["denied_flows"])])


def print_stations(stations: Sequence[Mapping[str, Any]]) -> None:
    """The switch's table."""
    table(
        "Stations",
        ("mac", "port", "vlan", "known for"),
        [(s["mac"], s["port"], str(s["vlan"] or "-"), "always" if s["fixed"] else f"{s['age']} s") for s in stations],
    )


def moment(seconds: float) -> str:
    """A time in seconds since 1970, as the clock here shows it."""
    return datetime.fromtimestamp(seconds).isoformat(sep=" ", timespec="seconds")
