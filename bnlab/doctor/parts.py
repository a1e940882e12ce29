"""Where a gap comes from: its parts along the chain of statistics, and the layers that have a part in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bnlab.doctor.chart import Chart, Split
from bnlab.doctor.diagnosis import Part
from bnlab.doctor.findings import Leak
from bnlab.science.attribution import Attribution, attribute
from bnlab.science.decomposition import decompose
from bnlab.science.mixtures import fit
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
# Samples on which layers are put, one after another, on batch statistics; fewer for many layers.
_SAMPLES, _EVALUATIONS = 256, 2**15


def start(chart: Chart) -> dict[str, Moments]:
    """Statistics of before the first update."""
    return {
        key: Moments(np.full(len(own.mean), START_MEAN), np.full(len(own.mean), START_VARIANCE))
        for key, own in chart.moving.items()
    }


def debiased(chart: Chart) -> dict[str, Moments] | None:
    """Moving statistics without what they hold of their start; None where they hold nothing else.

    The share is the one that fits best, if it explains most of the distance from the population; else the
    average is taken to have arrived.
    """
    found = fit(chart.moving, chart.fed, start(chart), chart.subject.epsilons)
    if found.share > 0.999:
        return None
    if found.explained < 0.5 or found.share < 1e-3:
        return dict(chart.moving)
    kept = 1 - found.share
    return {
        key: Moments(
            (own.mean - found.share * START_MEAN) / kept,
            np.maximum((own.variance - found.share * START_VARIANCE) / kept, 0.0),
        )
        for key, own in chart.moving.items()
    }


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


def attributed(chart: Chart) -> Attribution:
    """Find each layer's part of the RMSE gap: layers are put on batch statistics in turn."""
    subject, layers = chart.subject, chart.subject.layers
    most = max(chart.size * 2, min(_SAMPLES, _EVALUATIONS // (4 * len(layers)) // chart.size * chart.size))
    some = np.arange(min(most, len(chart.train)))
    split = chart.some(some)

    def intervene(rows: np.ndarray) -> Sequence[Scores]:
        scorer = chart.scorer(split)
        return [scorer.scores(subject.blended(split.x, chart.moving, row)) for row in rows]

    return attribute(intervene, layers, chart.size)
