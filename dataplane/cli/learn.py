"""`dataplane learn`: the narrowest policy under which the answered connections of captures pass (SPEC 8.7)."""

from __future__ import annotations

import gc
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dataplane.cli.inputs import MapOption, TimeOption, part_of
from dataplane.cli.output import leave, reader_may_leave, refuse, say, say_aside
from dataplane.terminal import counted

if TYPE_CHECKING:
    from dataplane.insight.learn import Learned
    from dataplane.policy.model import Policy

EXIT_CAPTURE = 3


def learn(
    captures: Annotated[
        list[str],
        typer.Argument(help="pcap or pcapng files, also compressed, or directories of them. Merged by time."),
    ],
    instances: Annotated[
        Path,
        typer.Option(
            metavar="FILE|POLICY", help="The instances: a policy document, or a list of them alone (YAML or JSON)."
        ),
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="POLICY", help="Write the policy here: a new file, or -.")
    ] = None,
    time: TimeOption = None,
    mapped: MapOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a file even if it is a capture or a policy.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was learned, and the policy, as JSON.")] = False,
) -> None:
    """Learn a policy from captures: the narrowest rules under which every connection that was answered passes.

    Each instance gets a group of its own; the rules of a POLICY do not matter. The description of each rule says what
    it was learned from.

    \b
    Examples:
      dataplane learn capture.pcap --instances instances.yaml -o learned.yaml
      dataplane learn monday.pcap tuesday.pcap --instances policy.yaml --json
    """
    # What is learned lives as long as the process.
    gc.disable()
    from dataplane.insight.learn import learn as learned_from
    from dataplane.outputs import OutputError, OutputFile, check_outputs, check_writable
    from dataplane.policy.mistakes import PolicyError
    from dataplane.policy.write import as_yaml
    from dataplane.replay import CaptureError
    from dataplane.replay.folder import captures_of

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    file = None if output in (None, "-", "/dev/stdout") else output
    if as_json and output is not None and file is None:
        refuse("-: --json and -o would both write to standard output: name a file, or leave -o out")
    part = part_of(time, mapped)
    try:
        paths = captures_of(captures, say_aside)
        for path in paths:
            if path == "-" or (not Path(path).is_file() and Path(path).exists()):
                refuse(f"{path}: captures are read several times: name regular files")
        check_outputs({"-o": file}, [instances, *paths], force=force)
        policy = _instances(instances)
        if file:
            check_writable(file)
        learned = learned_from(policy, paths, part=part)
        written = OutputFile(file) if file else None
    except (PolicyError, OutputError, ModuleNotFoundError) as error:
        refuse(str(error))
    except CaptureError as error:
        refuse(str(error), EXIT_CAPTURE)
    except OSError as error:
        refuse(f"{error.filename}: {error.strerror}")
    text = as_yaml(learned.document)
    if written:
        try:
            with written.open() as opened:
                opened.write(text.encode())
            written.keep()
        except OSError as error:
            written.discard()
            refuse(f"{file}: {error.strerror}: the policy could not be written")
    with reader_may_leave():
        if as_json:
            _print_json(learned)
        elif not written:
            sys.stdout.write(text)
    leave(_conclude(learned))


def _instances(path: Path) -> Policy:
    """The instances of a file, and what else a policy says besides its groups. Raises PolicyError."""
    from dataplane.policy.instances import load_instances

    return load_instances(path)


def _print_json(learned: Learned) -> None:
    import json

    sys.stdout.write(json.dumps(learned.to_dict(), ensure_ascii=True) + "\n")


def _conclude(learned: Learned) -> int:
    """Says on standard error what was learned, and which capture could not be read; the exit status."""
    rules, connections = counted(learned.rules, "rule"), counted(learned.answered, "connection")
    were, others = ("was" if number == 1 else "were" for number in (learned.answered, learned.left_out))
    say(f"Learned {rules} from {connections} that {were} answered; {learned.left_out:,} {others} not.", err=True)
    for sentence in (*learned.notes, *(learned.summary.advice if not learned.answered else ())):
        say(sentence, err=True)
    for capture in learned.summary.faults:
        say(f"{capture.name}: {capture.words}", err=True)
    return EXIT_CAPTURE if learned.summary.faults else 0
