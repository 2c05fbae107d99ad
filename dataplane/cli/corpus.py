"""`dataplane replay --each`: every capture by itself, in a fresh table, and a row for each."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.text import Text

from dataplane.cli.inputs import EXIT_CAPTURE
from dataplane.cli.joined import JOINED, NAME, CaptureOutputs
from dataplane.cli.output import reader_may_leave, refuse, say
from dataplane.cli.replayed import Asked, replayed
from dataplane.cli.row import Row
from dataplane.cli.summary import VERDICT_COLOURS, figure, titled_table
from dataplane.outputs import check_outputs
from dataplane.replay import CaptureError
from dataplane.terminal import console, print_table

if TYPE_CHECKING:
    from dataplane.cli.cluster.workers import Workers
    from dataplane.cli.interrupt import Interrupt
    from dataplane.cli.progress import CorpusProgress
    from dataplane.replay.expectations import Expectations

EXIT_EXPECTATION = 1
_STANDARD_INPUT = "standard-input"


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
    workers: Workers | None = None,
    cut_above: float,
) -> int:
    """Replays each capture by itself, prints a row for each and their total, and returns the exit status (SPEC 7).

    Raises OutputError for a file that cannot be written.
    """
    named = {capture: _names(asked.outputs, capture) for capture in captures}
    with ExitStack() as stack:
        listed = {
            (f"--{option} of {capture}" if _is_own(asked.outputs[option]) else f"--{option}"): name
            for capture, outputs in named.items()
            for option, name in outputs.items()
        }
        check_outputs(listed, read, force=force)
        outputs = CaptureOutputs(stack, asked.outputs, named)
        if workers:
            from dataplane.cli.cluster.corpus import rows_there

            found = rows_there(workers, asked, captures, expectations, interrupt, outputs, cut_above)
        else:
            found = _rows_here(asked, captures, expectations, interrupt, progress, outputs)
        rows = _told(found, expectations)
        progress.end()
        # Of a cluster's work that was given up, any captures may be missing: what was there before is better.
        if not (workers and interrupt.status):
            outputs.keep()
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


def _is_own(name: str | None) -> bool:
    """Whether each capture has a file of its own for an option."""
    return name is not None and NAME in name


def _names(outputs: Mapping[str, str | None], capture: str) -> dict[str, str | None]:
    """The outputs of one capture."""
    own = Path(capture).name if capture != "-" else _STANDARD_INPUT
    for option, name in outputs.items():
        if name is None or name == "-" or _is_own(name):
            continue
        if option not in JOINED or Path(name).suffix.lower() != ".parquet":
            also = ", or a file that ends in .parquet, which takes all" if option in JOINED else ""
            refuse(f"{name}: --{option} is a file for each capture with --each: write {NAME} where its name goes{also}")
    return {option: name if name is None else name.replace(NAME, own) for option, name in outputs.items()}


def _rows_here(
    asked: Asked,
    captures: Sequence[str],
    expectations: Expectations | None,
    interrupt: Interrupt,
    progress: CorpusProgress,
    outputs: CaptureOutputs,
) -> Iterator[tuple[int, Row]]:
    """The rows of captures that this process judges."""
    for position, capture in enumerate(captures):
        with outputs.of(capture) as names:
            row = _row(replace(asked, outputs=names), capture, expectations, interrupt, progress)
        yield position, row
        if interrupt.status:
            return


def _row(
    asked: Asked, capture: str, expectations: Expectations | None, interrupt: Interrupt, progress: CorpusProgress
) -> Row:
    held = expectations.again() if expectations else None
    try:
        summary = replayed(asked, [capture], held, interrupt, progress.of)
    except CaptureError as error:
        return Row(capture, None, error.strerror, [str(error)])
    return Row.of(capture, summary, held.finish() if held else ())


def _told(found: Iterator[tuple[int, Row]], expectations: Expectations | None) -> list[Row]:
    """Rows in the order of their captures; of each is said what has to be, once all before it are there."""
    rows = dict[int, Row]()
    told = 0
    for position, row in found:
        rows[position] = row
        while told in rows:
            _tell(rows[told], expectations)
            told += 1
    ordered = sorted(rows)
    for position in ordered[told:]:
        _tell(rows[position], expectations)
    return [rows[position] for position in ordered]


def _tell(row: Row, expectations: Expectations | None) -> None:
    for sentence in row.told:
        say(sentence, err=True)
    if expectations and row.failures:
        say(f"{row.capture}:", err=True)
        expectations.print_failures(row.failures)


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
