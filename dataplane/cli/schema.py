"""`dataplane schema`: the JSON Schema of policy documents, by which editors complete and check them."""

from __future__ import annotations

import json

import typer


def schema() -> None:
    """Print the JSON Schema of policy documents."""
    from dataplane.policy import Policy

    described = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Policy.model_json_schema()}
    typer.echo(json.dumps(described, indent=2))
