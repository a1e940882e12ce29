"""What moving statistics are a mixture of: shares fitted by the distance that they leave.

An average that still holds something else than the population - its start, a dummy pass, the last classes
of a sorted epoch - is (1 - a) population + a other, with one share a in all layers and channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from bnlab.science.moments import Moments

Layers: TypeAlias = Mapping[str, Moments]
SHARES = np.concatenate(
    [[0.0], np.geomspace(1e-3, 0.2, 24), np.linspace(0.22, 0.98, 39), 1 - np.geomspace(0.018, 1e-4, 16)]
)
"""Shares that are tried: fine near 0 and near 1, where a small difference of one decides."""


class Mixture(NamedTuple):
    """How much of something else statistics hold.

    Attributes:
        share: in [0, 1].
        explained: share of the squared distance from the population that it takes away.
    """

    share: float
    explained: float


def apart(statistics: Layers, reference: Layers, epsilons: Mapping[str, float]) -> float:
    """Measure the mean squared distance of two sets of statistics, over layers and channels.

        d^2 = (m - r_m)^2 / mean variance + log(v / r_v)^2 / 2

    For small differences it is twice the divergence of the Gaussians; unlike that it is symmetric, and a
    channel that hardly varies does not outweigh the others. Each layer counts the same.

    >>> one, two = {"a": Moments(np.zeros(1), np.ones(1))}, {"a": Moments(np.ones(1), np.ones(1))}
    >>> apart(one, two, {"a": 0.0})
    1.0
    """
    return float(np.mean([squares(statistics[k], reference[k], epsilons[k]).mean() for k in reference]))


def squares(statistics: Moments, reference: Moments, epsilon: float) -> np.ndarray:
    """Measure the squared distance of each channel, as of `apart`: (channels,)."""
    variance = np.asarray(statistics.variance, np.float64) + epsilon
    true = np.asarray(reference.variance, np.float64) + epsilon
    shift = np.asarray(statistics.mean, np.float64) - reference.mean
    with np.errstate(all="ignore"):  # statistics may be anything
        return shift**2 / ((variance + true) / 2) + np.log(variance / true) ** 2 / 2


def mixed(population: Layers, other: Layers, share: float) -> Layers:
    """Mix averages: (1 - share) population + share other, of means and of variances."""
    return blend([population, other], [1 - share, share])


def fit(statistics: Layers, population: Layers, other: Layers, epsilons: Mapping[str, float]) -> Mixture:
    """Fit the share of something else in statistics, one for all layers.

    Args:
        statistics, population, other: layer -> moments, (channels,) each.
        epsilons: layer -> its epsilon.

    >>> one, other = {"a": Moments(np.full(1, 4.0), np.full(1, 9.0))}, {"a": Moments(np.zeros(1), np.ones(1))}
    >>> found = fit(mixed(one, other, 0.5), one, other, {"a": 0.0})
    >>> round(found.share, 2), round(found.explained, 2)
    (0.5, 1.0)
    """
    whole = apart(statistics, population, epsilons)
    left = [apart(statistics, mixed(population, other, share), epsilons) for share in SHARES]
    best = int(np.argmin(left))
    return Mixture(float(SHARES[best]), 1 - left[best] / whole if whole > 0 else 0.0)


def blend(parts: Sequence[Layers], weights: Sequence[float]) -> Layers:
    """Average several sets of statistics, as a moving average does over batches of each."""
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    return {
        key: Moments(*(np.tensordot(shares, np.stack([part[key][i] for part in parts]), 1) for i in (0, 1)))
        for key in parts[0]
    }


def weigh(statistics: Layers, parts: Sequence[Layers], epsilons: Mapping[str, float]) -> np.ndarray:
    """Fit weights >= 0 that add up to 1, with which parts make up statistics, by least squares of the means.

    Channels count in deviations of the parts' mean; each layer counts the same.
    """
    from scipy.optimize import nnls  # TensorFlow's own dependency is not: see pyproject.toml

    rows, seen = [], []
    for key, (mean, variance) in statistics.items():
        scale = np.sqrt((np.asarray(variance, np.float64) + epsilons[key]) * len(mean))
        rows.append(np.stack([np.asarray(part[key].mean) / scale for part in parts], axis=1))
        seen.append(np.asarray(mean) / scale)
    strong = 1e3  # makes the weights add up to 1
    a = np.concatenate([*rows, np.full((1, len(parts)), strong)])
    weights, _ = nnls(a, np.concatenate([*seen, [strong]]))
    return weights / max(weights.sum(), 1e-12)
