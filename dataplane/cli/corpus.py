"""`dataplane replay --each`: every capture by itself, in a fresh table, and a row for each."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.text import Text

from dataplane.cli.inputs import EXIT_CAPTURE, mistakes_refused
from dataplane.cli.output import reader_may_leave, refuse, say
from dataplane.cli.replayed import Asked, Progress, replayed
from dataplane.cli.summary import VERDICT_COLOURS, figure, titled_table
from dataplane.outputs import OutputError, check_outputs
from dataplane.replay import CaptureError, Summary
from dataplane.terminal import console, print_table

if TYPE_CHECKING:
    from dataplane.cli.interrupt import Interrupt
    from dataplane.cli.progress import CorpusProgress
    from dataplane.replay.expectations import Expectations

EXIT_EXPECTATION = 1
#: Stands for a capture's name in that of an output.
NAME = "{}"
_STANDARD_INPUT = "standard-input"


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one capture: its summary, or None where it could not be opened; its fault; what it failed."""

    capture: str
    summary: Summary | None
    fault: str | None
    failed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON values."""
        told = {"capture": self.capture, "fault": self.fault, "failed_expectations": self.failed}
        return told | (self.summary.to_dict() if self.summary else {})


def replay_each(
    asked: Asked,
    captures: Sequence[str],
    expectations: Expectations | None,
    interrupt: Interrupt,
    progress: CorpusProgress,
    read: Sequence[str | Path],
    *,
    as_json: bool,
    force: bool,
) -> int:
    """Replays each capture by itself, prints a row for each and their total, and returns the exit status (SPEC 7)."""
    named = {capture: _names(asked.outputs, capture) for capture in captures}
    with mistakes_refused(OutputError):
        listed = {
            (f"--{option} of {capture}" if name != "-" else f"--{option}"): name
            for capture, outputs in named.items()
            for option, name in outputs.items()
        }
        check_outputs(listed, read, force=force)
    rows = []
    for capture in captures:
        rows.append(_row(replace(asked, outputs=named[capture]), capture, expectations, interrupt, progress.of))
        if interrupt.status:
            break
    progress.end()
    stream = sys.stderr if "-" in asked.outputs.values() else sys.stdout
    with reader_may_leave():
        if as_json:
            _print_json(rows, stream)
        else:
            _print_rows(rows, stream)
    if any(row.fault for row in rows):
        status = EXIT_CAPTURE
    else:
        status = EXIT_EXPECTATION if any(row.failed for row in rows) else 0
    return interrupt.status or status


def _names(outputs: Mapping[str, str | None], capture: str) -> dict[str, str | None]:
    """The outputs of one capture."""
    own = Path(capture).name if capture != "-" else _STANDARD_INPUT
    for option, name in outputs.items():
        if name not in (None, "-") and NAME not in str(name):
            refuse(f"{name}: --{option} is a file for each capture with --each: write {NAME} where its name goes")
    return {option: name if name is None else name.replace(NAME, own) for option, name in outputs.items()}


def _row(
    asked: Asked, capture: str, expectations: Expectations | None, interrupt: Interrupt, progress: Progress
) -> Row:
    held = expectations.again() if expectations else None
    try:
        summary = replayed(asked, [capture], held, interrupt, progress)
    except CaptureError as error:
        say(str(error), err=True)
        return Row(capture, None, error.strerror)
    for fault in summary.faults:
        say(f"{fault.name}: {fault.words}", err=True)
    failures = held.finish() if held else []
    if held and failures:
        say(f"{capture}:", err=True)
        held.print_failures(failures)
    return Row(capture, summary, summary.faults[0].words if summary.faults else None, len(failures))


def _total(rows: Sequence[Row]) -> dict[str, Any]:
    """What all captures come to."""
    summaries = [row.summary for row in rows if row.summary]
    return {
        "captures": len(rows),
        "faults": sum(row.fault is not None for row in rows),
        "failed_expectations": sum(row.failed for row in rows),
        "packets": sum(summary.packets for summary in summaries),
        "bytes": sum(summary.bytes for summary in summaries),
        "verdicts": {
            word: {
                "packets": sum(summary.verdicts[word].packets for summary in summaries),
                "bytes": sum(summary.verdicts[word].bytes for summary in summaries),
            }
            for word in VERDICT_COLOURS
        },
        "connections": sum(summary.connections.opened for summary in summaries),
        "elapsed": sum(summary.elapsed for summary in summaries),
    }


def _print_json(rows: Sequence[Row], stream: TextIO) -> None:
    from dataplane.cli.output import json_text

    stream.write(json_text({"captures": [row.to_dict() for row in rows], "total": _total(rows)}) + "\n")


def _print_rows(rows: Sequence[Row], stream: TextIO) -> None:
    words = ("packets", *VERDICT_COLOURS, "connections")
    listed = titled_table("Captures", ("capture", "left"), *((word, "right") for word in words), ("", "left"))
    for row in rows:
        listed.add_row(row.capture, *_figures(row), Text(_trouble(row), "yellow"))
    total = _total(rows)
    sums = (total["packets"], *(total["verdicts"][word]["packets"] for word in VERDICT_COLOURS), total["connections"])
    listed.add_section()
    listed.add_row(f"total of {len(rows):,}", *map(figure, sums), "")
    print_table(console(stream), listed)


def _figures(row: Row) -> Iterator[Text | str]:
    summary = row.summary
    if summary is None:
        yield from [""] * 5
        return
    yield figure(summary.packets)
    for word, colour in VERDICT_COLOURS.items():
        number = summary.verdicts[word].packets
        yield Text(figure(number), colour if number else "")
    yield figure(summary.connections.opened)


def _trouble(row: Row) -> str:
    told = [row.fault] if row.fault else []
    told += [f"{row.failed:,} expectation{'' if row.failed == 1 else 's'} failed"] if row.failed else []
    return "; ".join(told)
