"""Fields that several kinds of items have, and lists of items are chosen by."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from dataplane.control.rest.changing import Body
from dataplane.control.rest.pages import any_of

if TYPE_CHECKING:
    from dataplane.policy.document import AddressGroup, SecurityGroup

#: The enterprise project of what is given none.
_DEFAULT_PROJECT = "0"
#: What stands for every enterprise project where a list is chosen by it.
_EVERY = "all_granted_eps"


def _no_tags(text: str) -> str:
    if "<" in text or ">" in text:
        raise ValueError("it must not have < or >")
    return text


def _name(text: str) -> str:
    if not all(c.isalnum() or c in "_-." for c in text):
        raise ValueError("letters, digits and _-. are allowed")
    return text


Id = Annotated[str, Field(min_length=1, max_length=255)]
Name = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_name)]
Description = Annotated[str, Field(max_length=255), AfterValidator(_no_tags)]


class TagBody(Body):
    """A tag."""

    key: Annotated[str, Field(min_length=1, max_length=128)]
    value: Annotated[str, Field(max_length=255)] = ""


def tags_of(group: SecurityGroup | AddressGroup) -> list[dict[str, str]]:
    """The tags of a group as they are read back."""
    return [{"key": tag.key, "value": tag.value} for tag in group.tags]


def enterprise_project(group: SecurityGroup | AddressGroup) -> str:
    """The enterprise project that a group is in."""
    return group.enterprise_project_id or _DEFAULT_PROJECT


def in_enterprise_project(wanted: str | None) -> Callable[[SecurityGroup | AddressGroup], bool]:
    """Whether a group is in the enterprise project that a list is chosen by; all are where none is named."""
    among = any_of(None if wanted in (None, _EVERY) else [wanted])
    return lambda group: among(enterprise_project(group))
