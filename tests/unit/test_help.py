"""Each command of the command line: its help has two examples, and what it prints is there as JSON too."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import pytest
import typer

from dataplane.cli import app

#: What prints no answer for people: a log, frames, a JSON document anyway, a screen.
_NO_ANSWER = {"run", "api", "schema", "ctl capture", "ctl conntrack export", "top"}


def _leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The commands of the tree that are not groups of others, by what is written behind `dataplane`."""
    if not hasattr(command, "list_commands"):
        yield " ".join(path), command
        return
    context = typer.Context(command)
    for name in command.list_commands(context):
        yield from _leaves(command.get_command(context, name), (*path, name))


COMMANDS = dict(_leaves(typer.main.get_command(app)))


def _examples(name: str) -> list[str]:
    context = typer.Context(COMMANDS[name], info_name=f"dataplane {name}", terminal_width=80)
    told = COMMANDS[name].get_help(context).partition("\n")[2]
    told = re.sub(r" \\\n +", " ", told)
    return re.findall(r"^\s+(?:.*(?:\||&&) )?(dataplane .*)$", told, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_has_two_examples(name: str) -> None:
    """Lines that are that command, each another one, whose options it has."""
    examples = _examples(name)
    assert len(set(examples)) >= 2, name
    known = {option for parameter in COMMANDS[name].params for option in (*parameter.opts, *parameter.secondary_opts)}
    for example in examples:
        lexer = shlex.shlex(example, posix=True, punctuation_chars=True)
        words = list(takewhile(lambda word: word not in ("|", ">"), lexer))
        if "--socket" in words:
            # It stands before the command.
            at = words.index("--socket")
            del words[at : at + 2]
        assert words[1 : 1 + len(name.split())] == name.split(), example
        given = {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)}
        assert given <= known, example


def _groups(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "list_commands"):
        yield " ".join(path), command
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from _groups(command.get_command(context, name), (*path, name))


GROUPS = dict(_groups(typer.main.get_command(app)))


@pytest.mark.parametrize("name", [*COMMANDS, *GROUPS])
def test_help_fits_a_terminal_and_uses_a_wide_one(name: str) -> None:
    """At 80 columns, examples too; no sentence in a list of commands is cut off."""
    command = COMMANDS.get(name) or GROUPS[name]
    told = {}
    for width in (80, 200):
        settings = {"terminal_width": width, "max_content_width": 200}
        told[width] = command.get_help(typer.Context(command, info_name=f"dataplane {name}".strip(), **settings))
        assert max(map(len, told[width].splitlines())) <= width
        _, _, listed = told[width].partition("Commands:\n")
        assert "..." not in listed
    assert len(told[200].splitlines()) <= len(told[80].splitlines())


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - _NO_ANSWER))
def test_each_command_that_answers_people_answers_programs(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert options & {"--json", "--output", "--format"}, name
    # One way to ask for it everywhere in `ctl`.
    assert not name.startswith("ctl ") or "--json" in options, name


def test_all_commands_are_looked_at() -> None:
    assert {"check", "replay", "run", "new", "clone", "ctl status", "ctl conntrack list", "ctl rule fast-add"} <= set(
        COMMANDS
    )
