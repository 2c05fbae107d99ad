"""Instances without groups: a policy document of which only these matter, or a list of them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataplane.policy.mistakes import Location, Mistake, PolicyError
from dataplane.policy.model import Policy
from dataplane.policy.reading.load import validated
from dataplane.policy.reading.source import Source, read, read_file


class _ListSource:
    """A list of instances as the document that holds them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.value: Any = {"instances": source.value}
        self.mistakes = source.mistakes

    def written(self, location: Location) -> str | None:
        return self._source.written(location[1:])

    def mistake(self, location: Location, message: str, *, at_key: bool = False) -> Mistake:
        return self._source.mistake(location[1:], message, at_key=at_key)


def load_instances(path: str | Path) -> Policy:
    """Reads the instances of a file. Where it has no security groups, those that instances name are passed over.

    Raises PolicyError with every mistake, also where there is no instance.
    """
    read_source = read(*read_file(path))
    source: Any = _ListSource(read_source) if isinstance(read_source.value, list) else read_source
    value = source.value
    if isinstance(value, dict) and "security_groups" not in value and isinstance(value.get("instances"), list):
        source.value = {**value, "instances": [_without_groups(item) for item in value["instances"]]}
    policy = validated(source, Policy)
    if not policy.instances:
        raise PolicyError([read_source.mistake((), "there are no instances: write the list `instances`")])
    return policy


def _without_groups(item: Any) -> Any:
    return {k: v for k, v in item.items() if k != "security_groups"} if isinstance(item, dict) else item
