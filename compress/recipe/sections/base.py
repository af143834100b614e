"""The base class of all sections of a recipe, and common types of settings."""

from __future__ import annotations

from enum import Enum
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

Positive = Annotated[int, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


class UndeclaredSettingError(Exception):
    """A stage reads a setting that its record does not declare. This is a mistake in the program, not of the user."""


class Content(Enum):
    """Marks a setting that names something outside the recipe. The result depends on its content, not only on its name."""

    FILE = "file"
    MODEL = "model"  # an embedded model, a directory or a hub id
    DATASET = "dataset"  # a hub id or a directory
    INIT = "init"  # a special name, a directory or a hub id
    BANK = "bank"  # "embedded", or a file of texts
    GENOTYPE = "genotype"  # a special name, or a file


def content_of(annotation: Any) -> Content | None:
    """The mark inside a type annotation, if there is one."""
    found = [mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Content)]
    return next(chain(found, filter(None, map(content_of, get_args(annotation)))), None)


def _has_truth_for_number(value: Any, annotation: Any) -> bool:
    """Whether a value is, or has in its list, true or false, which the setting's type has no place for."""
    kinds = _types_in(annotation)
    return (
        any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value]))
        and bool not in kinds
        and (int in kinds or float in kinds)
    )


def _types_in(annotation: Any) -> list[Any]:
    """What a type annotation is made of, such as [int, None] for Annotated[int, Field(gt=0)] | None."""
    inner = get_args(annotation)
    return [kind for part in inner for kind in _types_in(part)] if inner else [annotation]


class Section(BaseModel):
    """A table of the recipe. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _check_numbers(cls, values: Any) -> Any:
        """Refuse true and false where a number belongs: pydantic reads them as 1 and 0."""
        if isinstance(values, dict):
            wrong = PydanticCustomError("number", "must be a number")
            errors = [
                InitErrorDetails(type=wrong, loc=(name,), input=value)
                for name, value in values.items()
                if name in cls.model_fields and _has_truth_for_number(value, cls.model_fields[name].annotation)
            ]
            if errors:
                raise ValidationError.from_exception_data(cls.__name__, errors)
        return values

    @classmethod
    def contents(cls) -> dict[str, Content]:
        """The settings that name something outside the recipe, by name."""
        named = {
            name: content_of(field.annotation) or next((m for m in field.metadata if isinstance(m, Content)), None)
            for name, field in cls.model_fields.items()
        }
        return {name: content for name, content in named.items() if content is not None}

    if not TYPE_CHECKING:  # otherwise mypy would accept every misspelt attribute

        def __getattr__(self, name: str) -> Any:
            """Called only if there is no such attribute; see `compress.recipe.keys.restricted`."""
            if name in type(self).model_fields:
                raise UndeclaredSettingError(f"{type(self).__name__}.{name}: the stage's record does not declare it")
            return super().__getattr__(name)
