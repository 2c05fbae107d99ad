"""What a command reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dataplane.cli.completion import ids
from dataplane.cli.output import refuse

if TYPE_CHECKING:
    from dataplane.replay.window import Part

EXIT_CAPTURE = 3

CapturesArgument = Annotated[
    list[str],
    typer.Argument(
        help="pcap or pcapng files, also compressed, directories of them, or URLs; - is standard input. Merged by time."
    ),
]
AtOption = Annotated[
    str | None,
    typer.Option(
        metavar="INSTANCE",
        help="The captures were taken at this instance's interface.",
        autocompletion=ids("instances_by_id"),
    ),
]
TimeOption = Annotated[
    str | None,
    typer.Option(metavar="FROM..TO", help="Read only packets of this time: seconds since the first, or RFC 3339."),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="OLD=NEW", help="Judge OLD, an address or prefix, as NEW; may be repeated."),
]
OnOption = Annotated[
    str | None,
    typer.Option(
        metavar="dask|SCHEDULER",
        help="Judge on a cluster, with the same result: dask is processes of this machine, SCHEDULER such as "
        "tcp://10.0.0.5:8786.",
    ),
]
#: Captures of more MiB than these are worth being read several times.
CUT_ABOVE = 256.0
CutOption = Annotated[
    float,
    typer.Option(
        "--cut", metavar="MIB", min=0, help="With --on: captures larger than this are judged in parts, by instance."
    ),
]


def part_of(time: str | None, mapped: Sequence[str] | None) -> Part:
    """What of captures is read, and with which addresses; ends the command where that cannot be told."""
    from dataplane.replay.window import WHOLE, Part, Window, WindowError, read_mappings

    if time is None and not mapped:
        return WHOLE
    try:
        window = None if time is None else Window.read(time)
    except WindowError as error:
        refuse(f"--time {error}")
    try:
        return Part(window, read_mappings(mapped or ()))
    except WindowError as error:
        refuse(f"--map {error}")


def refuse_standard_input_twice(names: Iterable[str | Path | None]) -> None:
    """Ends the command where standard input is named twice among what it reads: the second reader would find nothing.

    None stands for an option that is not given.
    """
    if sum(str(name) == "-" for name in names) > 1:
        refuse("-: standard input can be read only once: name it once")


@contextmanager
def mistakes_refused(*also: type[Exception]) -> Iterator[None]:
    """Ends the command in sentences where what it reads cannot be taken: 3 for a capture, 2 for all else (SPEC 7).

    `also` are errors besides those of policies, changes, captures and files, whose text is the sentence.
    """
    from dataplane.policy.mistakes import ChangeError, PolicyError
    from dataplane.replay import CaptureError
    from dataplane.replay.ports import UnknownInstanceError

    refused: tuple[type[Exception], ...] = (PolicyError, ChangeError, ModuleNotFoundError, *also)
    try:
        yield
    except refused as error:
        refuse(str(error))
    except UnknownInstanceError as error:
        refuse(f"--at: {error}")
    except CaptureError as error:
        refuse(str(error), EXIT_CAPTURE)
    except OSError as error:
        refuse(f"{error.filename}: {error.strerror}")
