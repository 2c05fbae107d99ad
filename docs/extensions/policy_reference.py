"""The directive ``policy-reference``: every field of a policy, from the schema that `dataplane schema` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

_HEAD = ("field", "what it holds", "if left out", "meaning")


def reference(schema: dict[str, Any]) -> Iterator[str]:
    """Lines of Markdown: a section for the document and for each kind of thing in it."""
    yield from _section("The document", "policy-document", schema)
    for name, definition in schema["$defs"].items():
        yield from _section(name, f"policy-{name.lower()}", definition)


def _section(title: str, anchor: str, definition: dict[str, Any]) -> Iterator[str]:
    yield from (f"({anchor})=", f"## {title}", "", definition.get("description", ""), "")
    yield f"| {' | '.join(_HEAD)} |"
    yield f"|{'---|' * len(_HEAD)}"
    required = definition.get("required", [])
    for field, told in definition["properties"].items():
        default = "required" if field in required else _default(told.get("default"))
        text = told.get("description", "").replace("|", "\\|")
        yield f"| `{field}` | {_type(told)} | {default} | {text} |"
    yield ""


def _default(value: Any) -> str:
    return "" if value in (None, [], {}) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(told: dict[str, Any]) -> str:
    if name := told.get("$ref"):
        kind = name.rpartition("/")[2]
        return f"[{kind}](#policy-{kind.lower()})"
    if values := told.get("enum"):
        return " or ".join(f"`{value}`" for value in values)
    if "const" in told:
        return f"`{told['const']}`"
    for key in ("anyOf", "oneOf"):
        if key in told:
            kinds = dict.fromkeys(_type(part) for part in told[key] if part.get("type") != "null")
            return ", or ".join(kind for kind in kinds if kind)
    if told.get("type") == "array":
        return f"list of {_type(told.get('items', {})) or 'values'}"
    if told.get("type") in ("integer", "number"):
        least, most = told.get("minimum", told.get("exclusiveMinimum")), told.get("maximum")
        bounds = f" from {least:,}" * (least is not None) + f" to {most:,}" * (most is not None)
        return {"integer": "whole number", "number": "number"}[told["type"]] + bounds
    return {"string": "text", "boolean": "true or false", "object": "mapping"}.get(told.get("type", ""), "")


class PolicyReference(SphinxDirective):
    """Takes nothing; the sections stand where it does."""

    def run(self) -> list[nodes.Node]:
        from dataplane.policy import Policy

        text = "\n".join(reference(Policy.model_json_schema()))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("policy-reference", PolicyReference)
    return {"parallel_read_safe": True}
