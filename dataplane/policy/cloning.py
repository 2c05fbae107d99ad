"""A copy of a security group put into the text of a document, which otherwise stays as it is, comments and all."""

from __future__ import annotations

from typing import Any

from dataplane.policy.mistakes import PolicyError
from dataplane.policy.model import Policy
from dataplane.policy.reading.load import parse
from dataplane.policy.write import as_yaml, document


def with_group(text: str, name: str, policy: Policy, group: str) -> str | None:
    """The text of a YAML document, with a group of `policy` more than it has behind its other groups.

    None where the text has its groups in a form that no lines can be added to, such as JSON.
    """
    import yaml

    added: dict[str, Any] = next(item for item in document(policy)["security_groups"] if item["id"] == group)
    try:
        place = _end_of_groups(yaml.compose(text, Loader=yaml.CSafeLoader))
    except yaml.YAMLError:
        return None
    if place is None:
        return None
    line, column = place
    lines = text.splitlines(keepends=True)
    item = as_yaml({"security_groups": [added]}).splitlines()[1:]
    if lines and not lines[line - 1].endswith("\n"):
        lines[line - 1] += "\n"
    lines[line:line] = [f"{' ' * column}{part}\n" for part in item]
    made = "".join(lines)
    try:
        return made if parse(Policy, made, name) == policy else None
    except PolicyError:
        return None


def _end_of_groups(root: Any) -> tuple[int, int] | None:
    """The line behind the last group's last value, and the column of the groups' dashes; None for another form."""
    import yaml

    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        return None
    for key, value in root.value:
        if key.value == "security_groups" and isinstance(value, yaml.SequenceNode) and not value.flow_style:
            return _last_line(value), value.start_mark.column
    return None


def _last_line(node: Any) -> int:
    """The number of lines up to the end of a value; a block's end mark stands behind comments that follow it."""
    import yaml

    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return int(node.end_mark.line)
    return int(node.end_mark.line) + 1
