"""The list of commands in a help: each with its first sentence, whole, in as many lines as it takes."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class ListedCommands(TyperGroup):
    """A command with others below it."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the list."""
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [
            (name, _first_sentence(command.help or "")) for name, command in found if command and not command.hidden
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def _first_sentence(text: str) -> str:
    return " ".join(text.strip().split("\n\n")[0].split()).partition(". ")[0].removesuffix(".")
