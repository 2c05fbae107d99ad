"""The man pages and completions that packages carry: made from the commands, whole, and readable by man."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from dataplane.cli import app

ROOT = Path(__file__).parents[2]
MANUAL = runpy.run_path(str(ROOT / "package" / "manual.py"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manual")
    MANUAL["main"](folder)
    return folder


def test_every_command_has_a_page_with_all_its_options(made: Path) -> None:
    root = typer.main.get_command(app)
    commands = list(MANUAL["commands"](root, typer.Context(root, info_name="dataplane")))
    assert len(commands) > 40
    for command, context in commands:
        text = (made / "man1" / f"{context.command_path.replace(' ', '-')}.1").read_text().replace("\\-", "-")
        for parameter in command.get_params(context):
            shown = [option for option in parameter.opts if option.startswith("--")]
            assert all(option in text for option in shown), (context.command_path, shown)
        if not hasattr(command, "list_commands"):
            assert re.search(r"\.SH EXAMPLES\n\.nf\n.*dataplane ", text), context.command_path


def test_every_name_is_one_line_that_whatis_knows(made: Path) -> None:
    for page in made.glob("man1/*.1"):
        section = re.search(r"\.SH NAME\n(.*)\n\.SH SYNOPSIS", page.read_text())
        assert section, page.name
        assert section[1].startswith(page.stem.replace("-", "\\-") + " \\- ")


def test_man_has_nothing_against_them(made: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("needs mandoc")
    pages = sorted(map(str, made.glob("man1/*.1")))
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *pages], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


def test_a_text_is_no_request() -> None:
    """roff takes lines that begin with a dot or an apostrophe for requests, and backslashes for escapes."""
    assert MANUAL["escaped"](".SH\n'x \\n a-b") == "\\&.SH\n\\(aqx \\en a\\-b"


def test_completions_are_those_of_the_commands(made: Path) -> None:
    assert "complete -o default -F _dataplane_completion dataplane" in (made / "bash/dataplane").read_text()
    assert (made / "zsh/_dataplane").read_text().startswith("#compdef dataplane\n")
    assert "complete --command dataplane" in (made / "fish/dataplane.fish").read_text()
