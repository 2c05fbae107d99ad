"""A policy that is put together from another system's document, and what of it could not be.

Rules are checked one by one, so that one that our model refuses is listed and the others stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from dataplane.policy.document import AddressGroup, Instance
from dataplane.policy.mistakes import PolicyError, shown
from dataplane.policy.model import Policy
from dataplane.policy.reading.load import diagnose
from dataplane.policy.rule import REMOTES, SecurityGroupRule
from dataplane.policy.write import as_yaml, document

Values = Mapping[str, Any]


class FormatError(ValueError):
    """A document that is not of the format it should be; the text says what was looked for."""


class Draft:
    """Groups, rules, address groups and instances as they are found.

    `left_out` are sentences about what cannot be expressed, each with its place, in the order of the document.
    `place` is where in the document its reader is, "" before the first part.
    """

    def __init__(self) -> None:
        self.left_out: list[str] = []
        self.place = ""
        self._groups: dict[str, dict[str, Any]] = {}
        self._rules: dict[str, list[tuple[str, SecurityGroupRule]]] = {}
        self._address_groups: dict[str, AddressGroup] = {}
        self._instances: list[tuple[str, Instance]] = []
        self._seen: set[tuple[str, object]] = set()

    # ---- what is found ----

    def each(self, items: Any, place: str) -> Iterator[tuple[Any, str]]:
        """The items of a list (none of None) with the place of each, where the reader then is. Raises TypeError."""
        self.place = place
        if not isinstance(items, list | None):
            raise TypeError
        for number, item in enumerate(items or ()):
            self.place = f"{place}[{number}]"
            yield item, self.place

    def leave_out(self, place: str, why: str) -> None:
        """Lists what cannot be expressed; what is found twice, as of two families, once."""
        sentence = f"{place}: {why}"
        if sentence not in self.left_out:
            self.left_out.append(sentence)

    def leave_out_pages(self, place: str, kind: str) -> None:
        """Lists that the document is one page of several and ends before the last."""
        self.leave_out(place, f"it is a page of several: the {kind} behind it are not in the document")

    def add_group(self, group: object, name: object = None, description: object = None) -> str:
        """A security group, which may be told of several times; its id."""
        known = self._groups.setdefault(str(group), {"id": str(group)})
        for key, text in (("name", name), ("description", description)):
            if isinstance(text, str) and text:
                known.setdefault(key, text)
        return str(group)

    def add_rule(self, group: object, values: Values, place: str) -> None:
        """A rule of a group in our words; a value of None or "" is as an absent one. A rule told twice stands once."""
        given = {key: value for key, value in values.items() if value not in (None, "")}
        rule = self._checked(SecurityGroupRule, given, place)
        if rule is None:
            return
        twice = (str(group), rule.id or rule.effect)
        if twice not in self._seen:
            self._seen.add(twice)
            self._rules.setdefault(self.add_group(group), []).append((place, rule))

    def add_address_group(self, values: Values, place: str) -> None:
        """An address group in our words."""
        group = self._checked(AddressGroup, {k: v for k, v in values.items() if v not in (None, "")}, place)
        if group:
            self._address_groups[group.id] = group

    def family_of(self, address_group: object) -> str | None:
        """The ethertype of an address group that was found; None for one that was not."""
        found = self._address_groups.get(str(address_group))
        return f"IPv{found.ip_version}" if found else None

    def add_instance(self, values: Values, place: str) -> None:
        """An instance in our words."""
        instance = self._checked(Instance, {k: v for k, v in values.items() if v not in (None, "", [])}, place)
        if instance:
            self._instances.append((place, instance))

    def _checked(self, model: Any, values: dict[str, Any], place: str) -> Any:
        try:
            return model.model_validate(values)
        except ValidationError as error:
            for conflict in diagnose(model, values, error):
                self.leave_out(place, conflict.message)
            return None

    # ---- what comes of it ----

    def finish(self) -> str:
        """The document, as YAML: without what refers to something that is not there, which is listed."""
        groups = [{**about, "security_group_rules": list(self._kept(key))} for key, about in self._groups.items()]
        made = {
            "security_groups": groups,
            "address_groups": list(self._address_groups.values()),
            "instances": list(self._members()),
        }
        try:
            policy = Policy.model_validate(made)
        except ValidationError as error:
            conflicts = diagnose(Policy, _plain(made), error)
            raise FormatError("; ".join(conflict.message for conflict in conflicts)) from None
        text = as_yaml(document(policy))
        try:
            Policy.parse(text, "the imported policy")
        except PolicyError as error:
            raise FormatError(str(error)) from None
        return text

    def _kept(self, group: str) -> Iterable[SecurityGroupRule]:
        known: dict[str, tuple[str, Iterable[str]]] = {
            "remote_group_id": ("security group", self._groups),
            "remote_address_group_id": ("address group", self._address_groups),
        }
        for place, rule in self._rules.get(group, ()):
            missing = [
                f"its {key} is the {what} {shown(remote)}, which is not in the document"
                for key in REMOTES
                if key in known and (remote := getattr(rule, key))
                for what, there in [known[key]]
                if remote not in there
            ]
            if missing:
                self.leave_out(place, missing[0])
            else:
                yield rule

    def _members(self) -> Iterable[Instance]:
        for place, instance in self._instances:
            missing = [group for group in instance.security_groups if group not in self._groups]
            if missing:
                self.leave_out(place, f"its security group {shown(missing[0])} is not in the document")
            else:
                yield instance


def _plain(made: Mapping[str, Any]) -> dict[str, Any]:
    """The parts as JSON values, from which mistakes are told."""
    return {
        "security_groups": [
            {**g, "security_group_rules": [r.model_dump(mode="json") for r in g["security_group_rules"]]}
            for g in made["security_groups"]
        ],
        "address_groups": [g.model_dump(mode="json") for g in made["address_groups"]],
        "instances": [i.model_dump(mode="json") for i in made["instances"]],
    }
