"""YAML or JSON to a Policy, or every mistake in the document at once (SPEC 2).

A valid document is checked by pydantic alone. For any other, each part is taken for itself: values that are not allowed
are set aside as `BAD`, and what is left is still asked what does not fit together, so that no mistake hides another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from dataplane.policy.base import BAD, CONFLICT, Model, fields_of
from dataplane.policy.collection import no_collection
from dataplane.policy.mistakes import Conflict, Location, Mistake, PolicyError
from dataplane.policy.reading import findings
from dataplane.policy.reading.file_kinds import configuration_told, foreign_told
from dataplane.policy.reading.source import Source, read, read_file
from dataplane.policy.rule import SecurityGroupRule

Part = Model | SecurityGroupRule

__all__ = ["PolicyError", "diagnose", "load", "load_document", "parse", "parse_document", "salvaged", "validated"]

M = TypeVar("M", bound=Model)
S = TypeVar("S", bound=Part)


def load(model: type[M], path: str | Path) -> M:
    """`Policy.load`."""
    return parse(model, *read_file(path))


def parse(model: type[M], data: str | bytes, name: str) -> M:
    """`Policy.parse`."""
    return parse_document(model, data, name)[0]


def load_document(model: type[M], path: str | Path) -> tuple[M, Source]:
    """As `load`, with the document, which knows the place of everything in it."""
    return parse_document(model, *read_file(path))


def parse_document(model: type[M], data: str | bytes, name: str) -> tuple[M, Source]:
    """As `parse`, with the document."""
    with no_collection():
        if told := configuration_told(data, name):
            raise PolicyError([Mistake(name, None, None, "", told)])
        source = read(data, name)
        if told := foreign_told(source.value):
            raise PolicyError([source.mistake((), told)])
        if source.value is None:
            raise PolicyError([source.mistake((), "the document is empty: write security_groups and instances")])
        return validated(source, model), source


def validated(source: Source, model: type[M]) -> M:
    """The document of a source as a model. Raises PolicyError with every mistake."""
    try:
        value = model.model_validate(source.value)
    except ValidationError as error:
        conflicts = diagnose(model, source.value, error, written=source.written)
        found = [source.mistake(c.location, c.message, at_key=c.at_key) for c in conflicts]
        raise PolicyError(in_order([*source.mistakes, *found])) from None
    if source.mistakes:
        raise PolicyError(in_order(source.mistakes))
    return value


def in_order(mistakes: list[Mistake]) -> list[Mistake]:
    """Mistakes by their position in the text; each once."""
    return sorted(dict.fromkeys(mistakes), key=lambda m: (m.line or 0, m.column or 0))


# ---- every mistake ----


def diagnose(
    model: type[Part],
    value: object,
    error: ValidationError,
    whole: str = "the document",
    written: Callable[[Location], str | None] = lambda location: None,
) -> Iterator[Conflict]:
    """Everything wrong with a value that is no `model`: fields by themselves, then what does not go together.

    `error` is what pydantic said about it, `whole` is what messages call the value, `written` tells how a part of it
    that is no text was written.
    """
    for finding in error.errors(include_url=False):
        # A list that lost its bad items is too short for pydantic also where it was long enough.
        lost_items = finding["type"] == "too_short" and finding["input"]
        if finding["type"] != CONFLICT and not lost_items:
            unknown_key = finding["type"] in findings.UNKNOWN_KEY
            yield Conflict(
                finding["loc"], findings.sentence(finding, model, whole, written(finding["loc"])), at_key=unknown_key
            )
    salvage = _Salvage()
    yield from salvage.conflicts(salvage.model(model, value), ())


def salvaged(model: type[S], value: object) -> S:
    """A model of what is good in a value; all else in it is `BAD`."""
    made: S = _Salvage().model(model, value)
    return made


class _Slot(NamedTuple):
    """A field as salvage sees it: `inner` is the model that it holds, or holds a list of."""

    name: str
    field: FieldInfo
    is_list: bool
    inner: type[Part] | None


class _Salvage:
    """Makes models of values with mistakes: whatever is not allowed becomes `BAD`."""

    def __init__(self) -> None:
        self._adapters: dict[tuple[type[Part], str], TypeAdapter[Any]] = {}
        self._slots: dict[type[Part], list[_Slot]] = {}

    def conflicts(self, value: Any, place: Location) -> Iterator[Conflict]:
        """The conflicts of a salvaged model and of all models in it."""
        slots = self._of(type(value))
        if all(getattr(value, slot.name) is BAD for slot in slots):
            return
        for conflict in value.conflicts():
            yield Conflict(place + conflict.location, conflict.message, conflict.at_key)
        for slot in slots:
            if slot.inner is not None:
                part = getattr(value, slot.name)
                if isinstance(part, slot.inner):
                    yield from self.conflicts(part, (*place, slot.name))
                elif slot.is_list:
                    for index, item in enumerate(part):
                        yield from self.conflicts(item, (*place, slot.name, index))

    def model(self, model: type[Any], value: object) -> Any:
        """A model of what is good in a value."""
        slots = self._of(model)
        if all(slot.inner is None for slot in slots):
            # Most parts are good as a whole, which pydantic sees fastest.
            with suppress(ValidationError):
                return model.model_validate(value)
        if isinstance(value, model):
            return value
        if not isinstance(value, dict):
            return model.model_construct(**dict.fromkeys(fields_of(model), BAD))
        values: dict[str, Any] = {}
        for slot in slots:
            if slot.name in value:
                values[slot.name] = self._part(model, slot, value[slot.name])
            elif slot.field.is_required():
                values[slot.name] = BAD
        return model.model_construct(**values)

    def _of(self, model: type[Part]) -> list[_Slot]:
        slots = self._slots.get(model)
        if slots is None:
            slots = self._slots[model] = [
                _Slot(name, field, findings.is_list(field), findings.model_at(model, (name,)))
                for name, field in fields_of(model).items()
            ]
        return slots

    def _part(self, model: type[Part], slot: _Slot, value: object) -> Any:
        if value is None and not slot.field.is_required() and (slot.inner is not None or slot.is_list):
            if slot.field.default is None and not slot.is_list:
                return None
            value = [] if slot.is_list else {}
        if slot.is_list:
            if not isinstance(value, list | tuple):
                return BAD
            if slot.inner is not None:
                return tuple(self.model(slot.inner, item) for item in value)
            return tuple(self._checked(model, slot, item) for item in value)
        if slot.inner is not None:
            return self.model(slot.inner, value)
        if value == "" and not slot.field.is_required():
            # A mistake of its own, told as that; with everything else it goes like a key that is left out.
            return slot.field.default
        return self._checked(model, slot, value)

    def _checked(self, model: type[Part], slot: _Slot, value: object) -> Any:
        """A value by its field's own checks, or as one of the items that the field lists."""
        adapter = self._adapters.get((model, slot.name))
        if adapter is None:
            field = slot.field
            kind: Any = get_args(field.annotation)[0] if slot.is_list else Annotated[field.annotation, field]
            adapter = self._adapters[model, slot.name] = TypeAdapter(kind, config=ConfigDict(strict=True))
        try:
            return adapter.validate_python(value)
        except ValidationError:
            return BAD
