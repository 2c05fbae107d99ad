"""What the parts of a document have in common: they are immutable, and nothing in them is coerced or left unchecked."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from dataplane.policy.mistakes import Conflict

CONFLICT = "conflict"


class _Bad:
    """Stands for a value that is not allowed; where that should be a list, nothing is in it."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


BAD: Final[Any] = _Bad()


def good(items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """The items that are good, with their index."""
    for index, item in enumerate(items):
        if item is not BAD:
            yield index, item


def fields_of(part: type) -> Mapping[str, FieldInfo]:
    """The fields of a model, or of a dataclass of pydantic's, by name."""
    found: Mapping[str, FieldInfo] = part.__pydantic_fields__  # type: ignore[attr-defined]
    return found


def without_default(schema: dict[str, Any]) -> None:
    """The default of some fields is no value that a document can have."""
    schema.pop("default", None)


def refuse_any(part: type, conflicts: Iterable[Conflict]) -> None:
    """Raises pydantic's ValidationError for a part of which something does not go together."""
    found = [
        InitErrorDetails(
            type=PydanticCustomError(CONFLICT, conflict.message),
            loc=conflict.location,
            input=None,
        )
        for conflict in conflicts
    ]
    if found:
        raise ValidationError.from_exception_data(part.__name__, found)


class Model(BaseModel):
    """A part of the document: immutable, without unknown keys, and nothing is coerced."""

    # Each model's validator is built when it is first needed: most are only ever parts of a Policy.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    def conflicts(self) -> Iterable[Conflict]:
        """What in here does not go together; also asked of a part with mistakes, where these are `BAD`."""
        return ()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields replaced by values that are known to be valid; nothing is checked again.

        Unlike pydantic's own it leaves behind what was worked out from the old fields.
        """
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    def __getstate__(self) -> dict[Any, Any]:
        """What a copy in another process is made from: the fields alone, as `model_copy` has them."""
        state: dict[Any, Any] = super().__getstate__()
        fields = type(self).model_fields
        return state | {"__dict__": {name: value for name, value in self.__dict__.items() if name in fields}}


class CheckedModel(Model):
    """A model whose fields must also go together."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        refuse_any(type(self), self.conflicts())
        return self
