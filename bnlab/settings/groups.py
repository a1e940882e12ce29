"""The groups of a config: task, data, device, train, measure, track, report."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from bnlab.records import DETAILS
from bnlab.settings.types import Decay, Group, InOrder, Many, OneOrMore, Positive, distinct

# Pixels along an image's side.
_SIDES = {"mnist": 28, "cifar": 32}


class Task(Group):
    """What is learned: a data set, a network for it, and how long it trains by default."""

    name: str
    data: Literal["mnist", "cifar"]
    model: Literal["convnet", "convnet_5x5", "resnet20", "autoencoder", "sequence"]
    widths: InOrder[Positive]
    samples: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    xla_up_to: Annotated[int, Field(ge=0)]
    multiply_adds: Annotated[float, Field(gt=0)] = 1e6
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
        if self.model == "autoencoder" and _SIDES[self.data] % 2 ** len(self.widths):
            raise ValueError(
                f"task.widths must halve the image's side of {_SIDES[self.data]} without a rest, got "
                f"{len(self.widths)} widths"
            )
        if (self.frames is None) == (self.model == "sequence"):
            rule = "must be given for" if self.model == "sequence" else "must be null for"
            raise ValueError(f"task.frames {rule} model {self.model}, got {self.frames}")
        return self

    @property
    def details(self) -> tuple[tuple[str, Any], ...]:
        """What differs from the network's defaults, sorted by name."""
        values = {name: getattr(self, name) for name in sorted(DETAILS)}
        return tuple((name, value) for name, value in values.items() if value != DETAILS[name])


class Data(Group):
    """Where images come from."""

    root: str | None = None
    source: Literal["auto", "real"] = "auto"
    download: bool = True
    timeout: Annotated[float, Field(gt=0, le=600)] = 5.0


# Which of the replicas' moving statistics a checkpoint keeps: `bnlab.science.replicas.KEPT`.
Kept: TypeAlias = Literal["first", "mean", "merged"]


class Device(Group):
    """What trains, and how many of it; which of their statistics come to inference."""

    name: Literal["auto", "cpu", "gpu"] = "auto"
    replicas: Positive = 1
    statistics: OneOrMore[Kept] = ("first",)


class Train(Group):
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
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    fresh: bool = False
    freeze_statistics_at: Annotated[float, Field(gt=0, lt=1)] | None = None
    freeze_decay: Decay = 0.99

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

    @model_validator(mode="after")
    def _what_is_half_is_rounded(self) -> Train:
        if self.xla and self.precision != "float32":
            raise ValueError(
                f"train.xla must not be true with train.precision={self.precision}, whose roundings XLA may "
                "leave out; set train.xla=null"
            )
        return self


Drill: TypeAlias = Literal[
    "intact", "not_saved", "overwritten", "renamed", "other_epsilon", "not_run", "text"
]


Remedy: TypeAlias = Literal[
    "population", "zero_debias", "best_decay", "test_statistics", "mixed", "eval_norm"
]


class Measure(Group):
    """What is measured on a trial's checkpoints."""

    points: Annotated[int, Field(ge=1, le=1000)] = 12
    images: Positive = 512
    batch_size: Positive | None = None
    final: Literal["test", "train"] = "test"
    drills: Many[Drill] = ()
    histograms: bool = False
    new_process: bool = False
    explain: bool = True
    population_samples: Annotated[int, Field(ge=16)] = 4096
    attribution: Literal["batch", "population"] | None = None
    remedy: Many[Remedy] = ()
    remedy_samples: OneOrMore[Annotated[int, Field(ge=16)] | None] = (None,)
    remedy_batch: OneOrMore[Annotated[int, Field(ge=2)] | None] = (None,)

    @model_validator(mode="after")
    def _samples_fill_a_batch(self) -> Measure:
        samples = min(given or self.population_samples for given in self.remedy_samples)
        batch = max((given for given in self.remedy_batch if given), default=0)
        if batch > samples:
            raise ValueError(
                f"measure.remedy_batch must not exceed the samples of any remedy, got {batch} of {samples}"
            )
        return self

    @property
    def remedies(self) -> tuple[str, ...]:
        """Name every remedy that is asked for, `population` with its options: once for each combination."""
        sizes = product(self.remedy_samples, self.remedy_batch)
        each = [
            "population" + (f" n{samples or self.population_samples}") + (f" b{batch}" if batch else "")
            for samples, batch in sizes
        ]
        names = (name for remedy in self.remedy for name in (each if remedy == "population" else [remedy]))
        return distinct(tuple(names))


class Track(Group):
    """Where readings go."""

    uri: str | None = None
    experiment: Annotated[str, Field(min_length=1)] = "bnlab"
    later: bool = False
    cells: bool = True


class Report(Group):
    """Whether and where a report is written."""

    pdf: bool = True
    histograms: bool = False
    folder: str = "reports"
