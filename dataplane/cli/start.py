"""`dataplane new` and `dataplane clone`: a policy to begin with, and a group to try a change on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dataplane.cli import completion
from dataplane.cli.output import reader_may_leave, refuse, say

_YAML = (".yaml", ".yml")
_IN_A_FOLDER = "policy.yaml"


def new(
    place: Annotated[
        str,
        typer.Argument(
            metavar="[FILE|DIR]", help="The policy to write, or the folder of policy.yaml.", show_default="here"
        ),
    ] = ".",
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What it is for: web, ssh, database and others; list prints them.",
            autocompletion=completion.presets,
        ),
    ] = "web",
    source: Annotated[
        str | None, typer.Option("--from", metavar="CIDR", help="Whom its services are for, in place of the preset's.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written, or the presets, as JSON.")] = False,
) -> None:
    """Begin a policy, with tests beside it that dataplane test runs.

    \b
    Examples:
      dataplane new --preset web
      dataplane new firewall/db.yaml --preset database --from 10.0.0.0/8
    """
    from dataplane.policy.beginning import beginning
    from dataplane.policy.services import preset as preset_of

    if preset == "list":
        _print_presets(as_json=as_json)
        return
    try:
        chosen = preset_of(preset)
    except ValueError as error:
        refuse(f"--preset: {error}; dataplane new --preset list prints them")
    policy, tests = _places(place)
    try:
        made = beginning(chosen, policy_file=policy.name, source=source)
    except ValueError as error:
        refuse(f"--preset {preset}: it {error}")
    _write({policy: made.policy, tests: made.tests}, force=force)
    with reader_may_leave():
        if as_json:
            _print_json({"preset": preset, "policy": str(policy), "tests": str(tests)})
        else:
            say(f"{policy} is {chosen.title}; {tests} says what it does: dataplane test {tests}")


def _places(place: str) -> tuple[Path, Path]:
    """The policy and its tests."""
    given = Path(place)
    if given.suffix.lower() not in _YAML or given.is_dir():
        if given.suffix.lower() == ".json":
            refuse(f"{place}: a policy to begin with is YAML, which has room for comments: name a .yaml file")
        if given.exists() and not given.is_dir():
            refuse(f"{place}: it is no folder, and its name is no policy's: name a .yaml file or a folder")
        given = given / _IN_A_FOLDER
    return given, given.with_name(f"{given.stem}.test{given.suffix}")


def _write(files: dict[Path, str], *, force: bool) -> None:
    """Writes all files or, where one is there and not to be overwritten, none."""
    from dataplane.outputs import OutputFile

    there = [str(path) for path in files if path.exists()]
    if there and not force:
        verb = "is" if len(there) == 1 else "are"
        refuse(f"{' and '.join(there)} {verb} there already: name another file or folder, or add --force")
    written: list[OutputFile] = []
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            written.append(OutputFile(path))
            with written[-1].open() as file:
                file.write(text.encode())
        for output in written:
            output.keep()
    except OSError as error:
        refuse(f"{error.filename or path}: it cannot be written: {error.strerror}")
    finally:
        for output in written:
            output.discard()


def _print_presets(*, as_json: bool) -> None:
    from dataclasses import asdict

    from dataplane.policy.services import PRESETS

    with reader_may_leave():
        if as_json:
            _print_json({name: asdict(preset) for name, preset in PRESETS.items()})
        else:
            for name, preset in PRESETS.items():
                say(f"{name:12} {preset.title}")


def _print_json(value: object) -> None:
    import json

    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def clone(
    policy: Annotated[Path, typer.Argument(help="The policy document (YAML or JSON); - is standard input.")],
    group: Annotated[
        str,
        typer.Argument(
            metavar="GROUP", help="Id of the security group.", autocompletion=completion.ids("groups_by_id")
        ),
    ],
    new_id: Annotated[str, typer.Argument(metavar="NEWID", help="Id of the copy, which no instance is in yet.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Write the policy here; left out: print it.")
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", "-i", help="Write it into POLICY.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE even if it is a policy.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write the policy as JSON.")] = False,
) -> None:
    """Clone a security group of a policy: its rules under another id, to try changes on; comments stay.

    Rules of the copy have ids of their own, and those that name the group itself name the copy.

    \b
    Examples:
      dataplane clone policy.yaml web web-test -o trial.yaml
      dataplane clone policy.yaml web web-2 --in-place
    """
    from dataplane.cli.inputs import mistakes_refused
    from dataplane.outputs import OutputError, check_outputs
    from dataplane.policy.changes import apply, parse_change
    from dataplane.policy.model import Policy
    from dataplane.policy.reading.load import parse
    from dataplane.policy.reading.source import read_file

    if in_place and (output is not None or str(policy) == "-"):
        refuse("--in-place writes into POLICY: name a file there, and leave -o out")
    file = str(policy) if in_place else None if output in (None, "-", "/dev/stdout") else output
    with mistakes_refused(OutputError):
        if not in_place:
            check_outputs({"-o": file}, [policy], force=force)
        data, name = read_file(policy)
        before = parse(Policy, data, name)
        after = apply(before, parse_change({"clone_group": {"security_group": group, "id": new_id}}, before))
    as_json |= (file or "").endswith(".json") or (file is None and data.lstrip()[:1] == b"{")
    text, kept = _text(data, name, after, new_id, as_json=as_json)
    if not kept:
        say("the document is written anew: ids of rules are in it, and comments are not", err=True)
    if file is None:
        sys.stdout.write(text)
        return
    _write({Path(file): text}, force=True)
    say(f"{file} has the security group {new_id}, a copy of {group}")


def _text(data: bytes, name: str, policy: object, new_id: str, *, as_json: bool) -> tuple[str, bool]:
    """The document with the copy; and whether all else in it is as it was written."""
    import json

    from dataplane.policy.cloning import with_group
    from dataplane.policy.model import Policy
    from dataplane.policy.write import as_yaml, document

    assert isinstance(policy, Policy)
    if as_json:
        # A document in JSON has no comments.
        return json.dumps(document(policy), indent=2) + "\n", data.lstrip()[:1] == b"{"
    written = with_group(data.decode("utf-8-sig"), name, policy, new_id)
    return (written, True) if written is not None else (as_yaml(document(policy)), False)
