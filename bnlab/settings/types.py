"""Kinds of values that settings share, and what every group of settings is."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _listed(value: Any) -> Any:  # noqa: ANN401
    return value if isinstance(value, list | tuple) else [value]


def distinct(values: tuple) -> tuple:
    """Drop repeats."""
    return tuple(dict.fromkeys(values))


def _below_one(decay: float) -> float:
    if not 0 <= decay < 1:
        raise ValueError(f"must lie in [0, 1), got {decay:g}; it is the share of the old value that is kept")
    return decay


Item = TypeVar("Item")
Positive: TypeAlias = Annotated[int, Field(ge=1)]
Decay: TypeAlias = Annotated[float, AfterValidator(_below_one)]
# One value or a list; values given twice count once.
OneOrMore: TypeAlias = Annotated[
    tuple[Item, ...],
    BeforeValidator(lambda value: tuple(_listed(value))),
    Field(min_length=1),
    AfterValidator(distinct),
]
# One value or a list; their order and repeats count.
InOrder: TypeAlias = Annotated[
    tuple[Item, ...], BeforeValidator(lambda value: tuple(_listed(value))), Field(min_length=1)
]
# A list, possibly empty; values given twice count once.
Many: TypeAlias = Annotated[
    tuple[Item, ...],
    BeforeValidator(lambda value: tuple(_listed(value))),
    AfterValidator(distinct),
]


class Group(BaseModel):
    """A group of settings: frozen, strict about types, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
