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

from bnlab.records import DETAILS


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
    model: Literal["convnet", "convnet_5x5", "resnet20", "autoencoder", "sequence"]
    widths: OneOrMore[Positive]
    samples: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    xla_up_to: Annotated[int, Field(ge=0)]
    bias: bool | None = None
    deviation: Annotated[float, Field(gt=0)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    frames: Positive | None = None
    freeze: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _details_fit_the_network(self) -> Task:
        if self.dropout and self.model in ("autoencoder", "sequence"):
            raise ValueError(f"task.dropout must be 0 for model {self.model}, got {self.dropout:g}")
        if (self.frames is None) == (self.model == "sequence"):
            raise ValueError(f"task.frames is for model sequence alone, got {self.frames} for {self.model}")
        return self

    @property
    def details(self) -> tuple[tuple[str, Any], ...]:
        """What differs from the network's defaults, sorted by name."""
        values = {name: getattr(self, name) for name in sorted(DETAILS)}
        return tuple((name, value) for name, value in values.items() if value != DETAILS[name])


class NoNorm(_Group):
    """`norm=none` has no options."""

    name: Literal["none"]


class _Norm(_Group):
    epsilon: Annotated[float, Field(gt=0)] = 1e-3
    center: bool = True
    scale: bool = True


class BatchNorm(_Norm):
    """Options of `norm=batch`."""

    name: Literal["batch"]


class GhostNorm(_Norm):
    """Options of `norm=ghost`."""

    name: Literal["ghost"]
    virtual_batch_size: Positive


class BatchRenorm(_Norm):
    """Options of `norm=batch_renorm`; the ramp's ends are shares of the run."""

    name: Literal["batch_renorm"]
    r_max: Annotated[float, Field(ge=1)]
    d_max: Annotated[float, Field(ge=0)]
    momentum: Decay
    warm_up: Annotated[float, Field(ge=0, lt=1)]
    r_ramp: Annotated[float, Field(gt=0, le=1)]
    d_ramp: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _ramps_follow_the_warm_up(self) -> BatchRenorm:
        for name in ("r_ramp", "d_ramp"):
            if getattr(self, name) <= self.warm_up:
                raise ValueError(
                    f"norm.{name} must end after norm.warm_up={self.warm_up:g}, got {getattr(self, name):g}"
                )
        return self


class _PerImage(_Norm):
    beta_initializer: str | None = None
    gamma_initializer: str | None = None
    beta_regularizer: str | None = None
    gamma_regularizer: str | None = None
    beta_constraint: str | None = None
    gamma_constraint: str | None = None


class GroupNorm(_PerImage):
    """Options of `norm=group`; words are Keras's own, such as `ones`, `l2` and `non_neg`."""

    name: Literal["group"]
    groups: Positive


class LayerNorm(_PerImage):
    """Options of `norm=layer`: group normalization with one group."""

    name: Literal["layer"]


class InstanceNorm(_PerImage):
    """Options of `norm=instance`: group normalization with one group per channel."""

    name: Literal["instance"]


Norm: TypeAlias = BatchNorm | GhostNorm | BatchRenorm | GroupNorm | LayerNorm | InstanceNorm | NoNorm


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


Drill: TypeAlias = Literal[
    "intact", "not_saved", "overwritten", "renamed", "other_epsilon", "not_run", "text"
]


class Measure(_Group):
    """What is measured on a trial's checkpoints."""

    points: Annotated[int, Field(ge=1, le=1000)] = 12
    images: Positive = 512
    batch_size: Positive | None = None
    final: Literal["test", "train"] = "test"
    drills: Annotated[
        tuple[Drill, ...], BeforeValidator(lambda value: tuple(_listed(value))), AfterValidator(_distinct)
    ] = ()
    histograms: bool = False
    new_process: bool = False


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
    norm: Annotated[Norm, Field(discriminator="name")]
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
            if groups > width:
                raise ValueError(
                    f"norm.groups must not exceed the channels of any layer: {groups} groups are more than "
                    f"{width} channels (task.widths={list(self.task.widths)})"
                )
            if width % groups:
                raise ValueError(
                    f"norm.groups must divide the channels of every layer: {groups} groups do not divide "
                    f"{width} channels (task.widths={list(self.task.widths)})"
                )
        return self

    @model_validator(mode="after")
    def _virtual_batches_divide_the_batch(self) -> Settings:
        size = getattr(self.norm, "virtual_batch_size", self.batch_size)
        if self.batch_size > size and self.batch_size % size:
            raise ValueError(
                f"norm.virtual_batch_size must divide batch_size or exceed it: {size} does not divide "
                f"{self.batch_size}"
            )
        return self

    @property
    def together(self) -> int:
        """Images that share their statistics in training."""
        return min(self.batch_size, getattr(self.norm, "virtual_batch_size", self.batch_size))

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
        return rule if rule.startswith(("at most", "adam", "norm.", "task.")) else f"{key} {rule}"
    rule = error["msg"].replace("Input should be", "must be").replace("Field required", "is missing")
    return f"{key} {rule}, got {error['input']!r}"


def _without_tag(location: tuple) -> tuple:
    """Drop the normalizer's name that pydantic puts into the path of its options."""
    return (location[0], *location[2:]) if location[:1] == ("norm",) else location
