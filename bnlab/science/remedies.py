"""Remedies that need no training: other statistics for the same weights, all behind one small interface.

A remedy looks at a `Case` and gives a `Cure`: what every image is to be normalized by. Nothing here knows
where a case comes from; a model of somebody's own makes as good a one as a trial.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from bnlab.science.moments import Moments, merged

Layers: TypeAlias = Mapping[str, Moments]

DECAYS = (0.0, *(float(f"{1 - 10 ** (-power / 4):.6g}") for power in range(1, 17)))
"""Candidates of `best_decay`: 0, and averages of a length that grows by a factor of 1.8 to 10,000 updates."""
WEIGHTS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
"""Candidates of `mixed`."""


@dataclass(frozen=True)
class Cure:
    """What normalizes at inference.

    Attributes:
        statistics: layer -> moments.
        weight: in [0, 1], of each image's own moments, mixed in as two distributions are
            (`bnlab.science.probe.Blend`).
    """

    statistics: Layers
    weight: float = 0.0


@dataclass(frozen=True)
class Case:
    """What a remedy may look at. Images are only ever reached through these functions.

    Attributes:
        moving: the statistics that the model has now.
        debiased: the same without what they hold of their start; None: they hold nothing else.
        batch_size: images that shared their statistics in training.
        samples: training images to estimate from, unless a remedy is told otherwise.
        in_batches: (samples, batch size) -> layer -> moments of every batch of training images, phase true.
        average: moments of every batch -> what a moving average comes to (`bnlab.science.moments.averaged`).
        population: samples -> population statistics of training images, layer by layer.
        of_test: () -> population statistics of the evaluated images.
        replayed: decay -> the moving statistics that training would have left; None: there is no tape.
        held_out: cures -> RMSE of each on training images that no step has seen.
    """

    moving: Layers
    debiased: Layers | None
    batch_size: int
    samples: int
    in_batches: Callable[[int, int], Layers]
    average: Callable[[Layers], Layers]
    population: Callable[[int], Layers]
    of_test: Callable[[], Layers]
    replayed: Callable[[float], Layers] | None
    held_out: Callable[[Sequence[Cure]], Sequence[float]]


def population(case: Case, samples: int | None = None, batch: int | None = None) -> Cure:
    """Replace the average by statistics of the training data at the final weights ("precise" statistics).

    Estimates mean and variance of what each layer sees when all layers before it are normalized by their own
    population's: in one batch of all samples, or, with `batch`, by the one-pass estimator of Wu & Johnson,
    arXiv 2105.07576, section 3 and algorithm 1: layers see what batches of that size give, and the moments
    are merged. That one is biased: earlier layers carry the noise of small batches.

    Works when the average lags, is noisy, stale, lost or poisoned; not against a shift at inference. The
    paper finds 10^3 to 10^4 samples and batches of 100 or more enough.
    """
    count = samples or case.samples
    if batch is None:
        return Cure(case.population(count))
    return Cure({layer: merged(moments) for layer, moments in case.in_batches(count, batch).items()})


def zero_debias(case: Case) -> Cure:
    """Take the start value out of the average: (v - decay^n start) / (1 - decay^n).

    Estimates the weighted mean of the moments that training saw. Works when the average has not arrived, once
    it has seen a few batches; it does nothing against noise or a shift. Kingma & Ba, arXiv 1412.6980,
    section 3. An average that was never updated stays what it is.
    """
    return Cure(case.debiased or case.moving)


def best_decay(case: Case) -> Cure:
    """Replay the tape at the decay that is best on held-out training images.

    Estimates what a moving average can do at its best: fast enough to arrive and to follow the weights, slow
    enough to be quiet. Needs the tape of a training. Chosen by RMSE among `DECAYS`.

    Raises:
        ValueError: there is no tape.
    """
    if case.replayed is None:
        raise ValueError("best_decay needs the moments that training saw, and there is no tape")
    cures = [Cure(case.replayed(decay)) for decay in DECAYS]
    return _best(case, cures)


def test_statistics(case: Case) -> Cure:
    """Re-estimate population statistics on the evaluated inputs themselves: transductive.

    Estimates the population at inference. The one remedy here against a shift of the inputs; it needs them
    all beforehand, so it ranks apart. Wu & Johnson, arXiv 2105.07576, section 5 and table 4.
    """
    return Cure(case.of_test())


def mixed(case: Case) -> Cure:
    """Mix each image's own moments into the moving ones, with the weight that is best on held-out images.

    Estimates nothing: it gives inference back some of the dependence on the image that training had. Works a
    little at small training batches. Summers & Dinneen, arXiv 1906.03548, "inference example weighing".
    Chosen among `WEIGHTS`, 0 among them.
    """
    return _best(case, [Cure(case.moving, weight) for weight in WEIGHTS])


def eval_norm(case: Case) -> Cure:
    """Normalize by what a training batch would have been expected to have, given that this image is in it.

    A batch of n images has this one's moments with weight 1/n, and those of n - 1 others:

        E[mean_B | image] = m_i / n + (1 - 1/n) E[mean_B]
        E[var_B | image] = v_i / n + (1 - 1/n) E[var_B] + (1/n)(1 - 1/n) (m_i - E[mean_B])^2

    exact for one layer of independent images, so a mixture of weight 1/n with the *mean batch moments* - not
    with the population's. Works at small training batches, where this image made much of its own statistics.
    The idea is EvalNorm's (Singh & Shrivastava, arXiv 1904.06031), which fits such weights to training
    batches; here they follow from the batch size.
    """
    means = case.average(case.in_batches(case.samples, case.batch_size))
    return Cure(means, 1 / case.batch_size)


def _best(case: Case, cures: Sequence[Cure]) -> Cure:
    errors = np.asarray(case.held_out(cures), np.float64)
    return cures[int(np.argmin(np.where(np.isnan(errors), np.inf, errors)))]


Remedy: TypeAlias = Callable[[Case], Cure]
REMEDIES: Mapping[str, Callable[..., Cure]] = {
    "population": population,
    "zero_debias": zero_debias,
    "best_decay": best_decay,
    "test_statistics": test_statistics,
    "mixed": mixed,
    "eval_norm": eval_norm,
}
OF_THE_AVERAGE = ("zero_debias", "mixed")
"""Those whose outcome depends on the decay of the moving statistics."""


def remedy(name: str) -> Remedy:
    """Find a remedy by its name and options: `population n1000 b32` takes 1,000 samples in batches of 32.

    Raises:
        ValueError: there is no such remedy, or no such option.

    >>> remedy("population n1000 b32").keywords
    {'samples': 1000, 'batch': 32}
    """
    word, *options = name.split()
    if word not in REMEDIES:
        raise ValueError(f"a remedy must be one of {', '.join(REMEDIES)}, got {name!r}")
    given = [found for option in options if (found := re.fullmatch(r"([nb])(\d+)", option))]
    if len(given) < len(options) or (options and word != "population"):
        raise ValueError(f"options must be like n1000 and b32, and are of population alone, got {name!r}")
    return partial(REMEDIES[word], **{_OPTIONS[found[1]]: int(found[2]) for found in given})


_OPTIONS = {"n": "samples", "b": "batch"}
