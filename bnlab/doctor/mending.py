"""What mends a model without training: remedies tried on it, on samples that they were not estimated from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from bnlab.doctor.chart import Chart, Split
from bnlab.doctor.diagnosis import Remedy
from bnlab.doctor.harm import better
from bnlab.doctor.parts import debiased
from bnlab.doctor.subject import Layers, length, take
from bnlab.science.gap import METRICS, Difference, gap
from bnlab.science.scores import Scores

MENDINGS: Mapping[str, str] = {
    "population": "statistics of the training data at these weights, dropout and the like off",
    "mean_moments": "mean moments of training batches: what a moving average would come to",
    "zero_debias": "the moving statistics without what they hold of their start",
    "epsilon": "variances corrected for an epsilon of training that is another than the layers'",
    "test_statistics": "statistics of the test inputs themselves",
}
"""Remedies, all of them fixed statistics, and what each puts in."""
TRANSDUCTIVE = ("test_statistics",)


def candidates(chart: Chart, epsilon: float | None) -> dict[str, Callable[[], Layers | None]]:
    """Name the statistics that may mend; each is estimated when it is asked for.

    Args:
        chart: of the model.
        epsilon: that of training, where the evidence speaks for another than the layers'.
    """
    subject, test = chart.subject, chart.test
    found: dict[str, Callable[[], Layers | None]] = {
        # Estimated anew, for what it costs is told.
        "population": lambda: subject.population(chart.x),
        "mean_moments": lambda: chart.average(subject.moments(chart.x, chart.size, stochastic=True)),
        "zero_debias": lambda: debiased(chart),
    }
    if epsilon is not None:
        found["epsilon"] = lambda: with_epsilon(chart, chart.moving, epsilon)
    if test is not None:
        found["test_statistics"] = lambda: subject.population(take(test.x, slice(0, length(chart.x))))
    return found


def with_epsilon(chart: Chart, statistics: Layers, epsilon: float) -> Layers:
    """Correct variances so that variance + the layer's epsilon is what it was with another epsilon."""
    return {
        key: own._replace(variance=np.maximum(own.variance + epsilon - chart.subject.epsilons[key], 0.0))
        for key, own in statistics.items()
    }


def tried(chart: Chart, epsilon: float | None) -> Iterator[tuple[Remedy, Layers]]:
    """Try every remedy on every split; those that leave the statistics as they are are left out."""
    for name, estimate in candidates(chart, epsilon).items():
        began = time.monotonic()
        statistics = estimate()
        seconds = time.monotonic() - began
        if (
            statistics is None
            or not _finite(statistics)
            or (name == "zero_debias" and _same(statistics, chart.moving))
        ):
            continue
        for split in chart.splits:
            if name not in TRANSDUCTIVE or split.name == "test":
                yield _outcome(chart, name, split, statistics, seconds), statistics


def best_of(chart: Chart, remedies: Sequence[Remedy], mendings: Mapping[str, Layers]) -> str | None:
    """Choose the first of the table that is not noticeably worse than the best; None if it is no use."""
    own = {one.name: one.metrics.get("rmse", np.inf) for one in remedies if one.split == "train"}
    names = [name for name in MENDINGS if name in own and name not in TRANSDUCTIVE]
    if not names:
        return None
    best = min(names, key=lambda name: own[name])
    name = next((n for n in names if not _matters(chart, mendings[n], mendings[best])), best)
    return name if _matters(chart, chart.moving, mendings[name]) else None


def _matters(chart: Chart, one: Layers, other: Layers) -> bool:
    return any(better(chart, split, one, other).matters for split in chart.splits)


def _outcome(chart: Chart, name: str, split: Split, statistics: Layers, seconds: float) -> Remedy:
    scores, batch, before = (
        chart.under(split, statistics),
        chart.with_batch(split),
        chart.under(split, chart.moving),
    )
    opened, left = (gap(own, batch, chart.size)["rmse"] for own in (before, scores))
    closed = _closed(opened, left)
    return Remedy(name, split.name, _metrics(scores), left.value, closed, True, seconds)


def _closed(opened: Difference, left: Difference) -> float | None:
    """Share of a gap that is closed; None where there is none to close."""
    if not np.isfinite(opened.value):  # outputs are numbers again, or are not
        return 1.0 if np.isfinite(left.value) else None
    return 1 - left.value / opened.value if opened.value > 2 * opened.standard_error else None


def _metrics(scores: Scores) -> dict[str, float]:
    return {metric: value for metric in METRICS if np.isfinite(value := getattr(scores, metric))}


def _finite(statistics: Layers) -> bool:
    return all(np.isfinite(part).all() for own in statistics.values() for part in own)


def _same(one: Layers, other: Layers) -> bool:
    return all(np.array_equal(a, b) for key in one for a, b in zip(one[key], other[key], strict=True))
