"""A Policy as a document again, which reads back as the same policy: another one that disconnects nothing.

What a document may leave out and a Policy has is written: ids of rules, so that they keep them wherever they stand, and
the group `default`. Defaults, and whatever comments there were, are not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataplane.atomic import replacing
from dataplane.terminal import printable_lines

if TYPE_CHECKING:
    from dataplane.policy.model import Policy

_WIDTH = 118


def document(policy: Policy) -> dict[str, Any]:
    """A policy as JSON values, in the order of the schema."""
    return policy.model_dump(mode="json", exclude_defaults=True)


def as_yaml(document: dict[str, Any]) -> str:
    """A document as YAML, with a line for each rule."""
    import yaml

    from dataplane.policy.reading.composer import plain

    class Dumper(yaml.SafeDumper):
        """Repeats what is there twice; quotes what does not print, or is no text in the core schema of YAML 1.2."""

        def ignore_aliases(self, data: object) -> bool:
            return True

        def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
            return super().represent_mapping(tag, mapping, flow_style=_is_leaf(mapping.values()))

        def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
            return super().represent_sequence(tag, sequence, flow_style=_is_leaf(sequence))

        def represent_text(self, value: str) -> yaml.ScalarNode:
            quotes = "'" if value.isprintable() else '"'
            style = None if plain(value) == value and value.isprintable() else quotes
            return self.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, Dumper.represent_text)
    text = str(yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH))
    # What does not print stands between double quotes, where Python's escapes are those of YAML.
    return printable_lines(text)


def _is_leaf(values: Iterable[object]) -> bool:
    return not any(isinstance(value, dict | list) for value in values)


def put(path: Path, text: str) -> None:
    """Gives a file another content, as a whole or not at all; owner and mode stay. Raises OSError."""
    with replacing(path) as file:
        file.write(text.encode())
        try:
            before = path.stat()
        except FileNotFoundError:
            os.fchmod(file.fileno(), 0o644)
        else:
            os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), before.st_mode & 0o777)
