"""Where a gap comes from: its parts along the chain of statistics, and the layers that have a part in it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bnlab.doctor.chart import Chart, Split
from bnlab.doctor.diagnosis import Part
from bnlab.doctor.findings import Leak
from bnlab.doctor.subject import Layers
from bnlab.science.attribution import Attribution, attribute
from bnlab.science.decomposition import decompose
from bnlab.science.mixtures import apart, fit, mixed
from bnlab.science.moments import Moments
from bnlab.science.scores import Scores
from bnlab.science.tape import START_MEAN, START_VARIANCE

LINKS = {
    "deployment": "what runs in inference is not the network with its moving statistics",
    "lag": "the moving average still holds its start, mean 0 and variance 1",
    "noise": "the average is of few batches, of other data, or of weights that have changed since",
    "bias": "the mean of batch variances is not the population's variance",
    "dropout": "dropout, noise or augmentation layers that are off in inference",
    "shift": "the test samples are others than the training samples",
    "batch": "the batch's own statistics are noisy: what normalizing by few samples does",
}
"""What each link of the chain takes away, in order."""
# A share of the start that is all there is, and what a hypothesis must explain to be taken.
_ALL, _MOST = 0.999, 0.5
_START = (START_MEAN, START_VARIANCE)
# Samples on which layers are put, one after another, on batch statistics; fewer for many layers.
_SAMPLES, _EVALUATIONS = 256, 2**15
# Time that all of it may take.
_SECONDS = 30.0


def start(chart: Chart) -> dict[str, Moments]:
    """Statistics of before the first update."""
    return {
        key: Moments(np.full(len(own.mean), START_MEAN), np.full(len(own.mean), START_VARIANCE))
        for key, own in chart.moving.items()
    }


def held(chart: Chart) -> dict[str, float] | None:
    """Share of the start that steps leave in each layer; None where the file does not tell them.

    A layer that one step calls several times is updated as often.
    """
    if not (steps := chart.facts.get("iterations")):
        return None
    named, calls = chart.subject.named, chart.subject.calls
    return {key: float(layer.momentum ** (steps * max(1, calls[key]))) for key, layer in named.items()}


def as_held(chart: Chart, shares: Mapping[str, float]) -> dict[str, Moments]:
    """Give the population mixed with shares of the start: moving statistics of resting weights."""
    first = start(chart)
    return {key: mixed({key: own}, {key: first[key]}, shares[key])[key] for key, own in chart.fed.items()}


def debiased(chart: Chart) -> dict[str, Moments] | None:
    """Moving statistics without what they hold of their start; None where they hold nothing else.

    The shares are those that the steps of training leave, if they explain most of the distance from the
    population, else the one that fits best, if that does; else the average is taken to have arrived.
    """
    found = fit(chart.moving, chart.fed, start(chart), chart.subject.epsilons)
    shares = dict.fromkeys(chart.moving, found.share)
    if (own := held(chart)) is not None and explains(chart, as_held(chart, own)) > _MOST:
        shares = own
    if found.share > _ALL:
        return None
    if found.explained < _MOST or found.share < 1 - _ALL:
        return dict(chart.moving)
    return {key: _without(moments, shares[key]) for key, moments in chart.moving.items()}


def explains(chart: Chart, hypothesis: Layers) -> float:
    """Say what share of the moving statistics' squared distance from the population is explained."""
    epsilons = chart.subject.epsilons
    return 1 - apart(chart.moving, hypothesis, epsilons) / max(
        apart(chart.moving, chart.fed, epsilons), 1e-12
    )


def _without(moments: Moments, share: float) -> Moments:
    mean, variance = ((own - share * first) / (1 - share) for own, first in zip(moments, _START, strict=True))
    return Moments(mean, np.maximum(variance, 0.0))


def parts(chart: Chart, split: Split, leaks: Sequence[Leak]) -> Iterator[Part]:
    """Split the RMSE gap of a split along the chain."""
    average = debiased(chart)
    links = {
        "lag": chart.moving,
        "noise": chart.means if average is None else average,
        "bias": chart.means,
        "dropout": chart.fed,
        "shift": chart.population,
        "batch": chart.of_test if split.name == "test" else chart.population,
    }
    chain = {link: chart.under(split, own) for link, own in links.items()}
    if leaks:
        chain = {"deployment": chart.scorer(split).scores(chart.deployed(split, leaks[0].phase)), **chain}
    for cause, own in decompose(chain, chart.with_batch(split), chart.size).items():
        yield Part(split.name, cause, *map(float, own["rmse"]))


def attributed(chart: Chart) -> Attribution | None:
    """Find each layer's part of the RMSE gap: layers are put on batch statistics in turn.

    A gap has some four evaluations per layer; None where they would take too long.
    """
    subject, layers = chart.subject, chart.subject.layers
    most = max(chart.size * 2, min(_SAMPLES, _EVALUATIONS // (4 * len(layers)) // chart.size * chart.size))
    split = chart.some(np.arange(min(most, len(chart.train))))
    scorer, none = chart.scorer(split), np.zeros(len(layers))
    subject.blended(split.x, chart.moving, none)
    began = time.monotonic()
    subject.blended(split.x, chart.moving, none)
    if 4 * len(layers) * (time.monotonic() - began) > _SECONDS:
        return None

    def intervene(rows: np.ndarray) -> Sequence[Scores]:
        return [scorer.scores(subject.blended(split.x, chart.moving, row)) for row in rows]

    return attribute(intervene, layers, chart.size)
