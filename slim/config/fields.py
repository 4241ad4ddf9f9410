"""Field types of the configuration: strict scalars, lists, and the frozen section they live in.

YAML 1.1, as PyYAML reads it, leaves ``1e-05`` and ``1.5e3`` as text and knows no fractions, while
PaddleOCR's files hold both (``scale: 1./255.``). The types below read those forms and nothing else
that is text: ``batch_size: "8"`` stays an error. Nothing is ever evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    model_validator,
)
from pydantic.types import Strict

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d{1,3}")
_DECIMAL = r"(\d{1,12}\.?\d{0,12}|\.\d{1,12})"
_FRACTION = re.compile(rf"{_DECIMAL}\s*/\s*{_DECIMAL}")


def as_number(value: Any) -> Any:
    """``"1e-05"`` -> 1e-05; everything else unchanged, for the type check that follows."""
    if isinstance(value, str) and _EXPONENT.fullmatch(value.strip()):
        return float(value)
    return value


def as_integer(value: Any) -> Any:
    """``"1e3"`` -> 1000; a number that is not whole stays as it is and fails the type check."""
    number = as_number(value)
    if isinstance(value, str) and isinstance(number, float) and number.is_integer():
        return int(number)
    return value


def as_fraction(value: Any) -> Any:
    """``"1./255."`` -> 0.00392...; division by zero stays text and fails the type check."""
    match = _FRACTION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return as_number(value)
    top, bottom = (float(part) for part in match.groups())
    return top / bottom if bottom else value


def as_list(value: Any) -> Any:
    """One value where a list may stand -> a list of one; null stays null."""
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


Number = Annotated[float, Strict(), AllowInfNan(False), BeforeValidator(as_number)]
Integer = Annotated[int, Strict(), BeforeValidator(as_integer)]
Fraction = Annotated[float, Strict(), AllowInfNan(False), BeforeValidator(as_fraction)]
Flag = StrictBool
Text = StrictStr
Positive = Annotated[Integer, Field(ge=1)]
Count = Annotated[Integer, Field(ge=0)]
Share = Annotated[Number, Field(ge=0.0, le=1.0)]
Above0 = Annotated[Number, Field(gt=0.0)]
From0 = Annotated[Number, Field(ge=0.0)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(as_list)]
Numbers = Annotated[tuple[Number, ...], BeforeValidator(as_list)]
Pair = Annotated[tuple[Number, ...], Field(min_length=2, max_length=2)]
Sides = Annotated[tuple[Positive, ...], Field(min_length=2, max_length=2)]
ImageShape = Annotated[
    tuple[Positive, ...], Field(min_length=3, max_length=3, description="channels, height, width")
]
PerChannel = Annotated[tuple[Number, ...], Field(min_length=3, max_length=3)]


class Section(BaseModel):
    """A mapping of the configuration: unknown keys are errors, values cannot be changed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), defer_build=True, hide_input_in_errors=True
    )

    def plain(self) -> dict[str, Any]:
        """The section as plain JSON data, without the keys that are null."""
        return self.model_dump(mode="json", exclude_none=True)


class OneOf(Section):
    """An entry of a list that is a mapping of one name to its arguments; exactly one field is set."""

    ENTRY: ClassVar[str] = "entries"

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, data: Any) -> Any:
        if isinstance(data, str):
            raise ValueError(f"is the text {data!r}, write '{data}:' with a colon, as a mapping of one name")
        if isinstance(data, Mapping) and len(data) != 1:
            raise ValueError(f"names {len(data)} {cls.ENTRY}, each entry must name one")
        if isinstance(data, Mapping):
            return {name: {} if args is None else args for name, args in data.items()}
        return data

    @property
    def name(self) -> str:
        """The one name, as the file spells it."""
        return next(iter(self.model_fields_set))

    @property
    def args(self) -> Section:
        """Its arguments, with the defaults filled in."""
        args = getattr(self, self.name)
        assert isinstance(args, Section)
        return args
