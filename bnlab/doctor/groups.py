"""What moving statistics would be if batches had been of one kind each, such as of one class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from keras import tree

from bnlab.doctor.chart import Chart
from bnlab.doctor.subject import Layers, length, take
from bnlab.science.mixtures import apart, blend, weigh
from bnlab.science.moments import Moments

_FEWEST, _STRETCHES, _MOST_KINDS = 8, 10, 20


class Grouped(NamedTuple):
    """How well batches of one kind each explain moving statistics.

    Attributes:
        by: `class`, `stretch of the file` or `kind`.
        names: of the groups.
        weights: of each in the average, fitted.
        explained: share of the squared distance from the population that goes.
    """

    by: str
    names: tuple[str, ...]
    weights: np.ndarray
    explained: float


def homogeneous(chart: Chart) -> Iterator[Grouped]:
    """Try every way to sort the samples."""
    for by, labels in _sorted(chart).items():
        names, parts = _parts(chart, labels)
        if len(parts) < 2:
            continue
        weights = weigh(chart.moving, parts, chart.subject.epsilons)
        equal = np.full(len(parts), 1 / len(parts))
        yield max(
            (_explained(chart, by, names, parts, own) for own in (weights, equal)),
            key=lambda own: own.explained,
        )


def _explained(chart: Chart, by: str, names: list[str], parts: list[Layers], weights: np.ndarray) -> Grouped:
    epsilons = chart.subject.epsilons
    whole = apart(chart.moving, chart.fed, epsilons)
    left = apart(chart.moving, blend(parts, list(weights)), epsilons)
    numbers = 2 * sum(len(own.mean) for own in chart.moving.values())
    spent = numbers / max(1, numbers - len(parts))  # more weights explain more by chance
    return Grouped(by, tuple(names), weights, 1 - left / whole * spent if whole > 0 else 0.0)


def _sorted(chart: Chart) -> dict[str, np.ndarray]:
    found = {
        "stretch of the file": np.digitize(
            chart.rows, np.linspace(0, chart.rows.max() + 1, _STRETCHES + 1)[1:-1]
        )
    }
    if (classes := _classes(chart)) is not None:
        found["class"] = classes
    found["kind"] = _kinds(chart)
    return found


def _classes(chart: Chart) -> np.ndarray | None:
    if chart.data.y_train is None or "classes" not in chart.scorer(chart.train).kinds:
        return None
    y = np.asarray(tree.flatten(chart.data.y_train)[0])[chart.rows]
    y = y.argmax(-1) if y.ndim > 1 and y.shape[-1] > 1 else y.reshape(len(y), -1)
    return y[:, 0] if y.ndim > 1 else y


def _kinds(chart: Chart) -> np.ndarray:
    """Sort samples into two kinds by what the first layer sees of each."""
    from sklearn.cluster import KMeans

    first = chart.subject.layers[0]
    seen = chart.subject.moments(chart.x, 1)[first]
    calls = len(seen.mean) // length(chart.x)
    signs = seen.mean[: len(seen.mean) // calls]
    scale = np.sqrt(chart.population[first].variance + chart.subject.epsilons[first])
    return KMeans(2, n_init=4, random_state=0).fit_predict(signs / scale)


def _parts(chart: Chart, labels: np.ndarray) -> tuple[list[str], list[Layers]]:
    """Estimate what an average over batches of each group comes to, from as many batches of each."""
    found, counts = np.unique(labels, return_counts=True)
    kept, fewest = found[counts >= _FEWEST], int(counts[counts >= _FEWEST].min(initial=length(chart.x)))
    if not 2 <= len(kept) <= _MOST_KINDS:
        return [], []
    size = min(chart.size, fewest)
    each = fewest // size * size
    rows = np.concatenate([np.flatnonzero(labels == own)[:each] for own in kept])
    seen = chart.subject.moments(take(chart.x, rows), size, stochastic=True)
    return [str(own) for own in kept], [
        _of_group(chart, seen, number, len(kept)) for number in range(len(kept))
    ]


def _of_group(chart: Chart, seen: Layers, number: int, groups: int) -> Layers:
    """Average the batches of one group; rows of a shared layer's calls lie one call after another."""
    own = {}
    for key, batches in seen.items():
        calls = chart.subject.calls[key]
        mean, variance = (part.reshape(calls, groups, -1, part.shape[-1])[:, number] for part in batches)
        own[key] = Moments(mean.reshape(-1, mean.shape[-1]), variance.reshape(-1, variance.shape[-1]))
    return chart.average(own)
