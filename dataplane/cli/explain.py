"""`dataplane explain`: why a packet gets its verdict, and what change would turn it (SPEC 8.3)."""

from __future__ import annotations

import gc
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from dataplane.cli.inputs import (
    EXIT_CAPTURE,
    AtOption,
    MapOption,
    TimeOption,
    mistakes_refused,
    part_of,
    refuse_standard_input_twice,
)
from dataplane.cli.output import leave, reader_may_leave, refuse, say

if TYPE_CHECKING:
    from dataplane.insight.replayed_packet import NoSuchPacketError

EXIT_USAGE = 2


def explain(
    policy: Annotated[Path, typer.Argument(help="The policy document (YAML or JSON).")],
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="PACKET|CAPTURE...",
            help="A packet in quotes, PROTOCOL SRC[:PORT] > DST[:PORT] [FLAGS|TYPE[/CODE]]; or captures as for replay,"
            " with --packet.",
        ),
    ],
    packet: Annotated[
        int | None, typer.Option(min=1, help="Explain this packet of the captures, counted from 1 as in --verdicts.")
    ] = None,
    changes: Annotated[Path | None, typer.Option(help="A YAML list of changes of the policy, as for replay.")] = None,
    at: AtOption = None,
    time: TimeOption = None,
    mapped: MapOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the explanation as JSON.")] = False,
) -> None:
    """Explain a packet's verdict: the rules tried, the connection's history, and what change would turn it.

    A packet that is written out is judged as the first that the firewall sees; one of a capture as in its replay.

    \b
    Examples:
      dataplane explain policy.yaml "tcp 10.0.0.5:4000 > 192.168.0.10:22 S"
      dataplane explain policy.yaml a.pcap --packet 12 --changes changes.yaml
    """
    # The policy lives as long as the process: looking for garbage in it only takes time.
    gc.disable()
    from dataplane.cli.repeatable import repeatable
    from dataplane.insight.explain import as_capture
    from dataplane.insight.explain import explain as explanation_of
    from dataplane.insight.packet_text import PacketTextError, parse_packet
    from dataplane.insight.replayed_packet import NoSuchPacketError, Replayed
    from dataplane.policy.expiry import next_expiry
    from dataplane.policy.model import Policy

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    refuse_standard_input_twice([policy, *what, changes])
    if packet is not None and any(" > " in name and not Path(name).exists() for name in what):
        refuse("--packet is the number of a packet in captures: a packet that is written out takes none")
    if packet is None:
        _refuse_captures(what, changes, {"--at": at, "--time": time, "--map": mapped[0] if mapped else None})
    part = part_of(time, mapped)
    with ExitStack() as stack:
        with mistakes_refused(PacketTextError):
            if packet is None:
                written = parse_packet(" ".join(what))
            loaded = Policy.load(policy)
            if packet is None:
                # Of rules that end by themselves, those count that are in force now.
                at_ns = time_ns() if next_expiry(loaded) else 0
                paths = [stack.enter_context(as_capture([written], [at_ns]))]
            schedule = []
            if packet is not None:
                paths = stack.enter_context(repeatable(what))
                if changes:
                    from dataplane.policy.schedule import load_changes

                    schedule = load_changes(changes, loaded)
            try:
                explanation = explanation_of(Replayed(loaded, paths, schedule, at, part), packet or 1)
            except NoSuchPacketError as error:
                _refuse_number(error, packet or 1)
        with reader_may_leave():
            if as_json:
                typer.echo(json.dumps(explanation.to_dict(), indent=2))
            else:
                from dataplane.cli.explanation import print_explanation

                print_explanation(explanation, str(written) if packet is None else None, sys.stdout)
    leave(0)


def _refuse_captures(what: Sequence[str], changes: Path | None, options: Mapping[str, str | None]) -> None:
    """Captures need the number of a packet, and changes and what is said of captures need them."""
    for name in what:
        if name == "-" or Path(name).exists():
            refuse(f"{name}: which packet of it? Give its number, as --packet 12")
    for option, value in options.items():
        if value is not None:
            refuse(f"{option} {value} goes with captures: name them, and the number of a packet with --packet")
    if changes:
        refuse(f"{changes}: --changes goes with captures: name them, and the number of a packet with --packet")


def _refuse_number(error: NoSuchPacketError, packet: int) -> NoReturn:
    for capture in error.faults:
        say(f"{capture.name}: {capture.words}", err=True)
    if error.left_out:
        refuse(f"--packet {packet}: {error.left_out}")
    have = "1 packet" if error.packets == 1 else f"{error.packets:,} packets"
    refuse(
        f"--packet {packet}: the captures have {have}: give a number from 1 to {error.packets}"
        if error.packets
        else f"--packet {packet}: the captures have no packet",
        EXIT_CAPTURE if error.faults else EXIT_USAGE,
    )
