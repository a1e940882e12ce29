"""Typed settings: every key, its range, and the one-line error when a value is out of it.

A composed Hydra config becomes a `Settings`; nothing later in the line checks a range again.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)


class SettingsError(Exception):
    """A setting is unknown or out of range; the message is one line for a person."""


def _listed(value: Any) -> Any:  # noqa: ANN401
    return value if isinstance(value, list | tuple) else [value]


def _distinct(values: tuple) -> tuple:
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
    AfterValidator(_distinct),
]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Task(_Group):
    """What is learned: a data set, a network for it, and how long it trains by default."""

    name: str
    data: Literal["mnist", "cifar"]
    model: Literal["convnet", "resnet20"]
    widths: OneOrMore[Positive]
    samples: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    xla_up_to: Annotated[int, Field(ge=0)]


class _Norm(_Group):
    epsilon: Annotated[float, Field(gt=0)] = 1e-3
    center: bool = True
    scale: bool = True


class BatchNorm(_Norm):
    """Options of `norm=batch`."""

    name: Literal["batch"]


class GroupNorm(_Norm):
    """Options of `norm=group`."""

    name: Literal["group"]
    groups: Positive


class Data(_Group):
    """Where images come from."""

    root: str | None = None
    source: Literal["auto", "real"] = "auto"
    download: bool = True
    timeout: Annotated[float, Field(gt=0, le=600)] = 5.0


class Device(_Group):
    """What trains."""

    name: Literal["auto", "cpu", "gpu"] = "auto"


class Train(_Group):
    """How a trial trains."""

    optimizer: Literal["sgd", "adam"]
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    reference_batch: Positive | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    schedule: Literal["cosine", "constant"] = "cosine"
    samples: Positive | None = None
    epochs: Annotated[float, Field(gt=0)] | None = None
    threads: Positive = 1
    xla: bool | None = None
    fresh: bool = False

    @model_validator(mode="after")
    def _one_duration(self) -> Train:
        if self.samples is not None and self.epochs is not None:
            raise ValueError(
                f"at most one of samples and epochs may be given, got samples={self.samples} and "
                f"epochs={self.epochs:g}; set one of them to null"
            )
        if self.optimizer == "adam" and self.momentum is not None:
            raise ValueError(f"adam has no momentum, got {self.momentum:g}; set train.momentum=null")
        return self


class Measure(_Group):
    """What is measured on a trial's checkpoints."""

    points: Annotated[int, Field(ge=1, le=1000)] = 12
    images: Positive = 512
    batch_size: Positive | None = None


class Track(_Group):
    """Where readings go."""

    uri: str | None = None
    experiment: Annotated[str, Field(min_length=1)] = "bnlab"


class Report(_Group):
    """Whether and where a report is written."""

    pdf: bool = True
    folder: str = "reports"


class Settings(_Group):
    """One job, checked: a trial and the decays and phases to measure it under."""

    task: Task
    norm: Annotated[BatchNorm | GroupNorm, Field(discriminator="name")]
    data: Data
    device: Device
    train: Train
    measure: Measure
    track: Track
    report: Report
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
    batch_size: Positive
    decay: OneOrMore[Decay]
    phase: OneOrMore[bool]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    store: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _groups_divide_channels(self) -> Settings:
        groups = getattr(self.norm, "groups", 1)
        for width in self.task.widths:
            if width % groups:
                raise ValueError(
                    f"norm.groups must divide the channels of every layer: {groups} groups do not divide "
                    f"{width} channels (task.widths={list(self.task.widths)})"
                )
        return self

    @property
    def folder(self) -> Path:
        """The store as an absolute path."""
        return Path(self.store).expanduser().absolute()

    @property
    def tracking_uri(self) -> str:
        """The tracking address, the default one written out."""
        return self.track.uri or f"sqlite:///{self.folder}/mlflow.db"


def dotted(settings: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Flatten settings to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings:
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, BaseModel) else {prefix + key: value}
    return flat


def parse(config: object) -> Settings:
    """Check a composed config, as plain dicts and lists and without `hydra`, and return it typed.

    Raises:
        SettingsError: one line: the key, the rule, the value received.
    """
    try:
        return Settings.model_validate(config)
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from None


def nearest(word: str, choices: list[str]) -> str:
    """Phrase a suggestion: the nearest valid word, or all of them."""
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"valid are: {', '.join(sorted(choices))}"


def _one_line(error: ValidationError) -> str:
    first, *more = error.errors(include_url=False)
    text = _described(first)
    return f"{text} (and {len(more)} more)" if more else text


def _described(error: Any) -> str:  # noqa: ANN401
    """Turn one pydantic error into: key, rule, value received."""
    key = ".".join(str(part) for part in _without_tag(error["loc"]) if not isinstance(part, int))
    if error["type"] == "extra_forbidden":
        group = ".".join(map(str, error["loc"][:-1])).replace(".", "=")
        hint = "remove it" if group else nearest(key, list(Settings.model_fields))
        return f"{key} is not a setting{' of ' + group if group else ''}; {hint}"
    if error["type"] == "value_error":
        rule = str(error["ctx"]["error"])
        return rule if rule.startswith(("at most", "adam", "norm.")) else f"{key} {rule}"
    rule = error["msg"].replace("Input should be", "must be").replace("Field required", "is missing")
    return f"{key} {rule}, got {error['input']!r}"


def _without_tag(location: tuple) -> tuple:
    """Drop the normalizer's name that pydantic puts into the path of its options."""
    return (location[0], *location[2:]) if location[:1] == ("norm",) else location
