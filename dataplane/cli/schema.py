"""`dataplane schema`: the JSON Schema of a file format, by which editors complete and check it."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer


class Format(StrEnum):
    """The files that people write."""

    policy = "policy"
    changes = "changes"
    expect = "expect"
    suite = "suite"


def schema(
    of: Annotated[
        Format,
        typer.Argument(
            metavar="[policy|changes|expect|suite]",
            help="Of policy documents, of what `replay --changes` and `replay --expect` read, or of `*.test.yaml`.",
            show_default=True,
        ),
    ] = Format.policy,
) -> None:
    """Print the JSON Schema of policy documents, or of the files of changes, expectations and cases.

    \b
    Examples:
      dataplane schema policy >policy.schema.json
      dataplane schema changes
    """
    described = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_described(of)}
    typer.echo(json.dumps(described, indent=2, ensure_ascii=False))


def _described(of: Format) -> dict[str, Any]:
    from pydantic import TypeAdapter

    if of is Format.policy:
        from dataplane.policy import Policy

        return Policy.model_json_schema()
    if of is Format.changes:
        from dataplane.policy.schedule import TimedItem

        return TypeAdapter(list[TimedItem]).json_schema()
    if of is Format.suite:
        from dataplane.insight.cases import WrittenSuite

        return WrittenSuite.model_json_schema()
    from dataplane.replay.expectation import Expectation

    return TypeAdapter(list[Expectation]).json_schema()
