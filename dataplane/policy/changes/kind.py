"""What all kinds of change are alike in: a value with words, that a policy has something against or that makes another.

A kind is one class. Its fields are what a file of changes, the control socket and the library say; `kind` is its name
there, `command` and `placed` make the command of `dataplane ctl`; its docstring tells people what it does. `objections`
are the reasons against it, `made` is the policy that it leads to.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar, cast

from pydantic import Field, create_model

from dataplane.policy import fields
from dataplane.policy.base import CheckedModel, Model, fields_of, without_default
from dataplane.policy.consistency import fitting_conflicts
from dataplane.policy.defaults import completed
from dataplane.policy.mistakes import Conflict, shown, unknown
from dataplane.policy.model import Policy
from dataplane.policy.reading.findings import is_list
from dataplane.policy.structural_sharing import following

#: How many of those that use something are named one by one.
_USERS_SHOWN = 10

P = TypeVar("P", bound=Model)


@dataclass(frozen=True, slots=True)
class Reference:
    """A field of a change that names a `thing` which must be there, by its id in a `lookup` of the policy."""

    field: str
    thing: str
    lookup: str


@dataclass(frozen=True, slots=True)
class Section:
    """A list of the document whose items have ids."""

    name: str
    thing: str
    lookup: str

    def named_by(self, field: str) -> Reference:
        """A field that names an item."""
        return Reference(field, self.thing, self.lookup)

    def items(self, policy: Policy) -> tuple[Any, ...]:
        """The items of a policy."""
        found: tuple[Any, ...] = getattr(policy, self.name)
        return found

    def item(self, policy: Policy, item_id: str) -> Any:
        """The item with this id. Raises KeyError."""
        return getattr(policy, self.lookup)[item_id]


@dataclass(frozen=True, slots=True)
class Use:
    """Who uses something: what they are, what one of them does with it, and what several do."""

    noun: str
    one: str
    many: str
    users: list[str]

    def __str__(self) -> str:
        if len(self.users) == 1:
            return f"{self.noun} {shown(self.users[0])} {self.one}"
        more = len(self.users) - _USERS_SHOWN
        named = ", ".join(map(shown, self.users[:_USERS_SHOWN])) + (f" and {more:,} more" if more > 0 else "")
        return f"{self.noun}s {named} {self.many}"


GROUPS = Section("security_groups", "security group", "groups_by_id")
ADDRESS_GROUPS = Section("address_groups", "address group", "address_groups_by_id")
INSTANCES = Section("instances", "instance", "instances_by_id")
BALANCERS = Section("load_balancers", "load balancer", "load_balancers_by_id")


class Change(CheckedModel):
    """A change of a policy."""

    #: Its name in files of changes and requests.
    kind: ClassVar[str]
    #: Noun and verb of `dataplane ctl`, and the fields that are given there by their place; others are FIELD=VALUE.
    command: ClassVar[tuple[str, ...]] = ()
    placed: ClassVar[tuple[str, ...]] = ("id",)
    #: The field that FIELD=VALUE are fields of; None: of the change itself.
    within: ClassVar[str | None] = None
    #: What follows the command in an example.
    example: ClassVar[str] = ""
    references: ClassVar[tuple[Reference, ...]] = ()

    @property
    @abstractmethod
    def summary(self) -> str:
        """The change in a few words."""

    def objections(self, policy: Policy) -> Iterator[Conflict]:
        """All that a policy has against it; of a change with values that are not allowed, which are `BAD`, too."""
        unknown_names = list(self._unknown_names(policy))
        yield from unknown_names
        if not unknown_names and all(isinstance(getattr(self, r.field), str) for r in self.references):
            yield from self._misfits(policy)

    @abstractmethod
    def made(self, policy: Policy) -> Policy:
        """The policy with the change made, which it has nothing against; itself where that changes nothing."""

    def _misfits(self, policy: Policy) -> Iterable[Conflict]:
        """What a policy that has all that the change refers to has against it."""
        return ()

    def _unknown_names(self, policy: Policy) -> Iterator[Conflict]:
        for reference in self.references:
            name, known = getattr(self, reference.field), getattr(policy, reference.lookup)
            if isinstance(name, str) and name not in known:
                yield Conflict((reference.field,), f"{shown(name)} {unknown(reference.thing, name, known)}")


class Create(Change):
    """A new item at the end of a section, as the document would have it."""

    section: ClassVar[Section]
    part: ClassVar[type[Model]]

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"create {self.section.thing} {self.__dict__['id']}"

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        item: Any = part_of(self, self.part)
        taken = [*id_conflicts(policy, self.section, item.id)]
        yield from taken or item_conflicts(policy, self.section, item)

    def made(self, policy: Policy) -> Policy:
        items = (*self.section.items(policy), part_of(self, self.part))
        sections: dict[str, Any] = {self.section.name: items}
        return following(policy, **sections | completed(policy.model_copy(update=sections)))


class Delete(Change):
    """An item is taken out of its section; refused while it is used."""

    section: ClassVar[Section]

    id: fields.Id = Field(description="Its id.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"delete {self.section.thing} {self.id}"

    def uses(self, policy: Policy) -> Iterable[Use]:
        """Who uses it."""
        return ()

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        if found := [str(use) for use in self.uses(policy) if use.users]:
            text = (
                f"{self.section.thing} {shown(self.id)} is still used: {', and '.join(found)}: take it out there first"
            )
            yield Conflict(("id",), text)

    def made(self, policy: Policy) -> Policy:
        item = self.section.item(policy, self.id)
        return following(policy, **{self.section.name: tuple(i for i in self.section.items(policy) if i is not item)})


class Update(Change):
    """New values for the named fields of something; the others stay."""

    thing: ClassVar[str]
    part: ClassVar[type]

    @property
    def summary(self) -> str:
        """The change in a few words."""
        named = [name for name in type(self).model_fields if name in self.model_fields_set and name != "id"]
        return f"update {self.thing} {self.__dict__['id']}: {', '.join(named) or 'nothing'}"

    @property
    def named(self) -> dict[str, Any]:
        """The fields that are given another value."""
        known = fields_of(self.part)
        # An empty text where one is needed is told as that, and else is as if the field were not named.
        return {
            name: value
            for name in known
            if name in self.model_fields_set and name != "id"
            for value in [self.__dict__[name]]
            if value is not None or known[name].default is None
        }


class UpdateItem(Update):
    """An update of an item of a section."""

    section: ClassVar[Section]

    def with_named(self, policy: Policy) -> Any:
        """The item with the named fields."""
        return self.section.item(policy, self.__dict__["id"]).model_copy(update=self.named)

    def completed(self, policy: Policy) -> Any:
        """The same with what its author may leave out."""
        return self.with_named(policy)

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        updated = self.with_named(policy)
        yield from updated.conflicts()
        if self.named.keys() - {"name", "description"}:
            yield from item_conflicts(policy, self.section, updated)

    def made(self, policy: Policy) -> Policy:
        item, updated = self.section.item(policy, self.__dict__["id"]), self.completed(policy)
        return policy if updated == item else following(policy, **replaced(self.section, policy, item, updated))


def updating(part: type, base: type[Update] = UpdateItem) -> Any:
    """The base of updates of a part of the document: its fields, of which none need be named.

    It is a `base`, which a type checker cannot see: classes are made from it with `type: ignore[misc]`.
    """
    made: dict[str, Any] = {}
    for name, field in fields_of(part).items():
        annotation: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        # The default is never a value: whether a field is named is known.
        default = () if is_list(field) else None
        made[name] = (
            annotation,
            Field(default=default, description=field.description, json_schema_extra=without_default),
        )
    return create_model(f"_{part.__name__}Fields", __base__=base, **made)


def part_of(change: Model, part: type[P]) -> P:
    """The part of a document whose fields a change has."""
    made: Any = part.model_construct(**{name: getattr(change, name) for name in fields_of(part)})
    return cast("P", made)


# ---- items of a section ----


def id_conflicts(policy: Policy, section: Section, item_id: object) -> Iterator[Conflict]:
    """Whether the id of a new item is taken."""
    if isinstance(item_id, str) and item_id in getattr(policy, section.lookup):
        yield Conflict(("id",), f"{section.thing} id {shown(item_id)} is used already")


def item_conflicts(policy: Policy, section: Section, item: Any) -> Iterator[Conflict]:
    """What the document has against an item that is new in a section, or takes the place of that with its id.

    Places are counted from the item; what comes up elsewhere is told with the name of where it is.
    """
    others = tuple(other for other in section.items(policy) if other.id != item.id)
    # The item comes last, so that others of its kind are right and it is wrong.
    candidate = policy.model_copy(update={section.name: (*others, item)})
    here = (section.name, len(others))
    for conflict in fitting_conflicts(candidate):
        if conflict.location[:2] == here:
            yield Conflict(conflict.location[2:], conflict.message, conflict.at_key)
        else:
            yield Conflict((), f"{_whose(candidate, conflict)}: {conflict.message}")


_SECTIONS = {section.name: section.thing for section in (GROUPS, ADDRESS_GROUPS, INSTANCES, BALANCERS)}


def _whose(policy: Policy, conflict: Conflict) -> str:
    section, index, *rest = conflict.location
    item = getattr(policy, str(section))[index]
    if rest[:1] == ["security_group_rules"]:
        return f"rule {shown(item.security_group_rules[rest[1]].id)}"
    if section == "uplinks":
        return "uplink"
    return f"{_SECTIONS[str(section)]} {shown(item.id)}"


def replaced(section: Section, policy: Policy, item: Any, by: Any) -> Mapping[str, tuple[Any, ...]]:
    """A section with another item in the place of one."""
    return {section.name: tuple(by if other is item else other for other in section.items(policy))}
