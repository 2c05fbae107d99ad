"""YAML or JSON to a Policy, or every mistake in the document at once (SPEC 2).

A valid document is checked by pydantic alone. For any other, each part is taken for itself: values that are not allowed
are set aside as `BAD`, and what is left is still asked what does not fit together, so that no mistake hides another.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from dataplane.policy import wording
from dataplane.policy.consistency import BAD
from dataplane.policy.mistakes import Conflict, Location, Mistake, PolicyError
from dataplane.policy.source import Source, read, read_file

if TYPE_CHECKING:
    from dataplane.policy.model import Model, Policy

__all__ = ["PolicyError", "diagnose", "load", "parse", "validated"]

P = TypeVar("P", bound="Policy")
M = TypeVar("M", bound="Model")


def load(model: type[P], path: str | Path) -> P:
    """`Policy.load`."""
    return parse(model, *read_file(path))


def parse(model: type[P], data: str | bytes, name: str) -> P:
    """`Policy.parse`."""
    with _no_collection():
        source = read(data, name)
        if source.value is None:
            raise PolicyError([source.mistake((), "the document is empty: write at least security_groups or instances")])
        return validated(source, model)


def validated(source: Source, model: type[M]) -> M:
    """The document of a source as a model. Raises PolicyError with every mistake."""
    try:
        value = model.model_validate(source.value)
    except ValidationError:
        found = [source.mistake(c.location, c.message, at_key=c.at_key) for c in diagnose(model, source.value)]
        raise PolicyError(in_order([*source.mistakes, *found])) from None
    if source.mistakes:
        raise PolicyError(in_order(source.mistakes))
    return value


def in_order(mistakes: list[Mistake]) -> list[Mistake]:
    """Mistakes by their position in the text; each once."""
    return sorted(dict.fromkeys(mistakes), key=lambda m: (m.line or 0, m.column or 0))


@contextmanager
def _no_collection() -> Iterator[None]:
    """A document is many small objects that all stay: looking for garbage among them while they are made is in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# ---- every mistake ----


def diagnose(model: type[Model], value: object, whole: str = "the document") -> Iterator[Conflict]:
    """Everything wrong with a value that should be a `model`: fields by themselves, then what does not go together.

    `whole` is what messages call the value.
    """
    from dataplane.policy.model import CONFLICT

    try:
        model.model_validate(value)
    except ValidationError as error:
        for finding in error.errors(include_url=False):
            if finding["type"] != CONFLICT:
                unknown_key = finding["type"] == wording.UNKNOWN_KEY
                yield Conflict(finding["loc"], wording.sentence(finding, model, whole), at_key=unknown_key)
        yield from _conflicts(_Salvage().model(model, value), ())


def _conflicts(value: Any, place: Location) -> Iterator[Conflict]:
    """The conflicts of a model and of all models in it."""
    from dataplane.policy.model import Model

    if isinstance(value, Model):
        for conflict in value.conflicts():
            yield Conflict(place + conflict.location, conflict.message, conflict.at_key)
        for name in type(value).model_fields:
            yield from _conflicts(value.__dict__.get(name), (*place, name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            if isinstance(item, Model):
                yield from _conflicts(item, (*place, index))


class _Salvage:
    """Makes models of values with mistakes: whatever is not allowed becomes `BAD`."""

    def __init__(self) -> None:
        self._adapters: dict[tuple[type[Model], str, bool], TypeAdapter[Any]] = {}

    def model(self, model: type[Model], value: object) -> Any:
        """A model, or BAD."""
        if isinstance(value, model):
            return value
        if not isinstance(value, dict):
            return BAD
        values: dict[str, Any] = {}
        for name, field in model.model_fields.items():
            if name in value:
                values[name] = self._field(model, name, field, value[name])
            elif field.is_required():
                values[name] = BAD
        return model.model_construct(**values)

    def _field(self, model: type[Model], name: str, field: FieldInfo, value: object) -> Any:
        inner = wording.model_at(model, (name,))
        is_list = wording.is_list(field)
        if value is None and not field.is_required() and (inner is not None or is_list):
            value = [] if is_list else {}
        if is_list:
            return self._items(model, name, inner, value)
        if inner is not None:
            return self.model(inner, value)
        return self._checked(model, name, value, item=False)

    def _items(self, model: type[Model], name: str, inner: type[Model] | None, value: object) -> Any:
        if not isinstance(value, list | tuple):
            return BAD
        if inner is not None:
            return tuple(self.model(inner, item) for item in value)
        return tuple(self._checked(model, name, item, item=True) for item in value)

    def _checked(self, model: type[Model], name: str, value: object, *, item: bool) -> Any:
        """A value by its field's own checks, or as one of the items that the field lists."""
        adapter = self._adapters.get((model, name, item))
        if adapter is None:
            field = model.model_fields[name]
            kind = get_args(field.annotation)[0] if item else Annotated[field.annotation, field]
            adapter = self._adapters[model, name, item] = TypeAdapter(kind, config=ConfigDict(strict=True))
        try:
            return adapter.validate_python(value)
        except ValidationError:
            return BAD
