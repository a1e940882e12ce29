"""Examine a model: is there a gap, where does it come from, what is its cause, what mends it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bnlab.data import DataError
from bnlab.doctor.chart import Chart, Split
from bnlab.doctor.data import Data
from bnlab.doctor.diagnosis import Diagnosis, Gap, Layer
from bnlab.doctor.findings import Findings, examine_signs
from bnlab.doctor.fitting import fits
from bnlab.doctor.mending import best_of, tried
from bnlab.doctor.parts import attributed, parts
from bnlab.doctor.subject import Layers, Structure, Subject, length, take
from bnlab.doctor.summary import advised, remarks, summarized, too_few, untouched
from bnlab.doctor.suspect import Suspect
from bnlab.doctor.suspects import epsilon_of, ranked, suspects
from bnlab.doctor.verdict import complaints
from bnlab.science.gap import METRICS, gap
from bnlab.science.moments import distance
from bnlab.science.probe import named_layers

if TYPE_CHECKING:
    import keras

_SAMPLES, _FEWEST, _SECONDS = 1024, 64, 1.0
# Fewer samples than these show no gap that is not a disaster, so a model is not called healthy for them.
_TELLING = 32
_BATCH_SIZE = 32
# Keras prints its messages bold.
_ESCAPE = re.compile(r"\x1b\[\d*m")


@dataclass(frozen=True)
class Examination:
    """A diagnosis, and what it takes to mend the model.

    Attributes:
        diagnosis: what was found.
        mendings: remedy -> the statistics that it puts in.
        best: the remedy to write; None where none makes a difference that matters.
        batch_size, samples: that the model was examined with.
    """

    diagnosis: Diagnosis
    mendings: Mapping[str, Layers] = field(default_factory=dict)
    best: str | None = None
    batch_size: int = _BATCH_SIZE
    samples: int = _SAMPLES


def examine(
    model: keras.Model,
    x_train: Structure,
    y_train: Any = None,  # noqa: ANN401
    x_test: Structure = None,
    y_test: Any = None,  # noqa: ANN401
    *,
    batch_size: int | None = None,
    samples: int | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """Diagnose a model; it comes back exactly as it was given, also after an exception.

    Args:
        model: any Keras model that can be called on `x_train`.
        x_train: inputs as training fed them (before layers of the model that augment), an array or a nest of
            arrays with one length: at least 8 samples, a thousand are better.
        y_train: their labels: numbers of classes, one-hot rows, 0 and 1, or values; None: there are none.
        x_test, y_test: inputs as inference gets them.
        batch_size: samples that shared their statistics in training; 32 unless told.
        samples: most samples to estimate from and to score on; by default as many, up to 1,024, as keep a
            small model under a minute.
        facts: of training: `iterations`, the steps that were made; read from a compiled model's optimizer.

    Returns:
        The diagnosis; `bnlab.doctor.diagnosis` says what is in it.

    Raises:
        DataError: the data do not fit the model, or one another.
        ScoringError: labels do not fit the outputs.
    """
    data = fits(Data(*map(_several, (x_train, y_train, x_test, y_test))), model)
    return examined(model, data, batch_size=batch_size, samples=samples, facts=facts).diagnosis


def examined(
    model: keras.Model,
    data: Data,
    *,
    batch_size: int | None = None,
    samples: int | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Examination:
    """Diagnose a model, and keep what mends it; arguments as of `examine`."""
    began = time.monotonic()
    size = _size(batch_size, data)
    with _subject(model, data, size) as subject:
        if not subject.layers:
            return Examination(_nothing(model))
        count = samples or _affordable(subject, data.x_train)
        found = _examined(Chart(subject, data, count, facts or _facts(model)))
    seconds = time.monotonic() - began
    return replace(found, diagnosis=replace(found.diagnosis, seconds=seconds), batch_size=size, samples=count)


def measured(model: keras.Model, data: Data, batch_size: int, samples: int) -> tuple[Gap, ...]:
    """Measure the gaps of a model, and nothing else."""
    with Subject(model, data.x_train, _size(batch_size, data)) as subject:
        chart = Chart(subject, data, samples, {})
        return tuple(own for split in chart.splits for own in _gaps(chart, split))


def _several(value: Any) -> Any:  # noqa: ANN401
    """Take a list of arrays for several inputs or outputs, as Keras does."""
    is_nest = isinstance(value, list) and value and all(isinstance(own, np.ndarray) for own in value)
    return tuple(value) if is_nest else value


def _subject(model: keras.Model, data: Data, size: int) -> Subject:
    """Look at a model; one of somebody's own class may stumble on any inputs."""
    try:
        return Subject(model, data.x_train, size)
    except Exception as error:
        raise DataError(f"{model.name} cannot be called on x_train: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Find the line that says why, between those in which Keras says where."""
    lines = _ESCAPE.sub("", str(error)).partition("Arguments received by")[0].splitlines()
    told = (line.strip() for line in lines if line.strip() and not line.startswith("Exception encountered"))
    return next(told, type(error).__name__)[:300]


def _size(batch_size: int | None, data: Data) -> int:
    return max(1, min(batch_size or _BATCH_SIZE, length(data.x_train)))


def _examined(chart: Chart) -> Examination:
    found = examine_signs(chart)
    named, missed = suspects(chart, found)
    wrong = complaints(chart, found, named)
    notes = (*missed, *remarks(chart, found), *(() if wrong else untouched(chart, found)))
    if not wrong:
        few = len(chart.train) < _TELLING
        verdict, said = (
            ("unclear", tuple(too_few(chart))) if few else ("healthy", tuple(summarized(chart, ())))
        )
        return Examination(_diagnosis(chart, found, named, verdict=verdict, summary=said, notes=notes))
    causes, unexplained = ranked(named)
    outcomes = [] if found.broken else list(tried(chart, epsilon_of(named)))
    remedies = sorted((own for own, _ in outcomes), key=lambda own: (own.split != "train", own.gap))
    mendings = {own.name: statistics for own, statistics in outcomes}
    best = best_of(chart, remedies, mendings)
    diagnosis = _diagnosis(
        chart, found, named, verdict="sick", summary=tuple(summarized(chart, causes)), notes=notes,
        parts=tuple(own for split in chart.splits for own in parts(chart, split, found.leaks)),
        causes=causes, unexplained=unexplained, remedies=tuple(remedies),
        advice=advised(causes, remedies, best),
    )  # fmt: skip
    return Examination(diagnosis, mendings, best)


def _diagnosis(chart: Chart, found: Findings, named: Sequence[Suspect], **own: Any) -> Diagnosis:  # noqa: ANN401
    """Put together what every diagnosis has."""
    return Diagnosis(
        model=_model(chart),
        data=_data(chart),
        gaps=tuple(own for split in chart.splits for own in _gaps(chart, split)),
        disagreement={split.name: _disagreement(chart, split) for split in chart.splits},
        layers=tuple(_layers(chart, own["verdict"] == "sick")),
        evidence={**asdict(found), "strengths": {own.name: own.strength for own in named}},
        **own,
    )


def _gaps(chart: Chart, split: Split) -> Iterator[Gap]:
    moving, batch = chart.under(split, chart.moving), chart.with_batch(split)
    metrics = METRICS if chart.scorer(split).labelled else ("rmse", "accuracy")
    for metric in metrics:
        before, after = getattr(moving, metric), getattr(batch, metric)
        if np.isnan(after):
            continue
        own = gap(moving, batch, chart.size)[metric]
        called = metric if chart.scorer(split).labelled or metric == "rmse" else "agreement"
        yield Gap(split.name, called, before, after, float(own.value), float(own.standard_error), len(split))


def _disagreement(chart: Chart, split: Split) -> float:
    moving, batch = chart.outputs(split, chart.moving), chart.in_batches(split)
    return chart.scorer(split).disagreement(moving, batch)


def _layers(chart: Chart, sick: bool) -> Iterator[Layer]:
    subject = chart.subject
    found = attributed(chart) if sick else None
    shares = {} if found is None else {own.layer: own.part["rmse"] for own in found.layers}
    outputs = subject.output_differences(chart.train.x, chart.moving)
    for key, layer in named_layers(subject.model).items():
        known = {
            "name": key,
            "channels": layer.moving_mean.shape[0],
            "momentum": layer.momentum,
            "epsilon": layer.epsilon,
        }
        if key not in subject.named:
            yield Layer(**known, frozen=True)
            continue
        apart = distance(chart.moving[key], chart.fed[key], layer.epsilon)
        part = shares.get(key)
        yield Layer(
            **known, frozen=False, calls=subject.calls[key], mean_shift=_finite(apart.mean_shift),
            log_variance=_finite(apart.log_variance), kl=_finite(apart.kl), output=outputs.get(key),
            part=part and float(part.value), standard_error=part and float(part.standard_error),
        )  # fmt: skip


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _model(chart: Chart) -> dict[str, Any]:
    model, subject = chart.subject.model, chart.subject
    return {
        "name": model.name,
        "parameters": int(sum(np.prod(weight.shape) for weight in model.weights)),
        "normalization layers": len(named_layers(model)),
        "frozen": len(named_layers(model)) - len(subject.layers),
        "stochastic": chart.is_stochastic,
        **{key: value for key, value in chart.facts.items() if value is not None},
    }


def _data(chart: Chart) -> dict[str, Any]:
    return {
        "train": length(chart.data.x_train),
        "test": 0 if chart.test is None else length(chart.data.x_test),
        "labels": chart.train.y is not None,
        "kinds": list(chart.scorer(chart.train).kinds),
        "batch_size": chart.size,
        "estimated_from": length(chart.x),
        "scored_on": len(chart.train),
    }


def _facts(model: keras.Model) -> dict[str, Any]:
    """Read of a compiled model how far it was trained."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return {}
    return {
        "iterations": int(np.asarray(optimizer.iterations)),
        "optimizer": type(optimizer).__name__,
        "learning_rate": float(np.asarray(optimizer.learning_rate)),
    }


def _affordable(subject: Subject, x: Structure) -> int:
    """Find how many samples a model of this speed can be examined on in good time."""
    own, some = subject.own(), np.arange(2 * subject.batch_size) % length(x)
    few = take(x, some)
    subject.fixed(few, own)
    began = time.monotonic()
    subject.fixed(few, own)
    each = (time.monotonic() - began) / len(some)
    return int(np.clip(_SECONDS / each, _FEWEST, _SAMPLES))


def _nothing(model: keras.Model) -> Diagnosis:
    frozen = len(named_layers(model))
    why = (
        f"All {frozen} batch normalization layers of the model {model.name} are frozen"
        if frozen
        else f"The model {model.name} has no batch normalization layers"
    )
    summary = (f"{why}: both phases are the same.",)
    return Diagnosis("nothing to examine", summary, model={"name": model.name})
